"""The gateway's metrics: what is counted, with labels of a fixed number."""

import doctest
import os
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cocoer_client.web import admission, arguments, guard, metrics, origins
from cocoer_client.web.admission import Admission
from cocoer_client.web.metrics import Metrics
from cocoer_client.web.protocol import Connections
from cocoer_client.web.settings import Settings
from tests.asgi import opened
from tests.fake_server import FakeServer
from tests.pages import read


def samples(text):
    """Name and labels -> value."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def scraped():
    """Figures after some requests."""
    server = FakeServer(lambda image, now: {"persons": []})
    server.start()
    with opened(url=server.url) as client:
        for _ in range(2):
            assert client.post("/v1/recognise", content=b"image").status_code == 200
        client.post("/v1/recognise?nonsense=1", content=b"image")
        client.get("/v1/recognise")
        for path in ("/secret-1", "/v1/secret-2", "/page/secret-3.js", "/docs"):
            client.get(path)
        client.request("SECRET", "/v1/model")
        answer = client.get("/metrics")
        client.app.state.metrics.sample(Connections(3, 5, 7, 9), Admission(Settings()))
        client.app.state.metrics.sample(Connections(2, 6, 7, 9), Admission(Settings()))
        sampled = client.get("/metrics")
    server.kill()
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return answer.text, samples(answer.text), samples(sampled.text)


def test_requests(scraped):
    _, figures, _ = scraped
    assert figures["cocoer_web_requests_total", "/v1/recognise", "", "200"] == 2
    assert figures["cocoer_web_requests_total", "/v1/recognise", "parameter", "400"] == 1
    assert figures["cocoer_web_requests_total", "/v1/recognise", "method", "405"] == 1
    assert figures["cocoer_web_requests_total", "/v1/model", "method", "405"] == 1
    assert figures["cocoer_web_requests_total", "other", "not-found", "404"] == 2
    assert figures["cocoer_web_requests_total", "/page", "not-found", "404"] == 1
    assert figures["cocoer_web_requests_total", "/docs", "", "200"] == 1
    assert figures["cocoer_web_request_seconds_count", "/v1/recognise"] == 4
    assert figures["cocoer_web_part_seconds_count", "/v1/recognise", "triton"] == 2
    assert figures["cocoer_web_received_bytes_total", "/v1/recognise"] == 3 * len(b"image")
    assert figures["cocoer_web_sent_bytes_total", "/v1/recognise"] > 30
    assert figures["cocoer_web_requests_in_flight",] == 1, "the one that asks"


def test_what_asks_can_not_choose_labels(scraped):
    text, _, _ = scraped
    assert "secret" not in text.lower()
    assert "_created" not in text


def test_series_are_there_from_the_start():
    figures = samples(Metrics().text().decode())
    for endpoint in metrics.ASKING:
        assert figures["cocoer_web_requests_total", endpoint, "", "200"] == 0
    assert [name for name in figures if name[0] == "cocoer_web_build_info"]


def test_connections_are_looked_at(scraped):
    _, _, figures = scraped
    assert figures["cocoer_web_connections",] == 2
    cut = {why: figures["cocoer_web_connections_cut_total", why] for why in ("full", "idle", "malformed")}
    assert cut == {"full": 6, "idle": 7, "malformed": 9}


def test_the_page_has_every_metric(scraped):
    text, _, _ = scraped
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert len(names) > 8
    page = read("docs/web.md")
    assert [name for name in names if f"`{name}`" not in page] == []


def test_processes_add_up(tmp_path):
    """Each has its own figures, in a directory that they share."""
    code = (
        "import sys\n"
        "from cocoer_client.web.metrics import Metrics\n"
        "from cocoer_client.web.log import Line\n"
        "metrics = Metrics()\n"
        "metrics.count(Line('', 'GET', '', 200), '/v1/model', 0.1, {'triton': 0.1})\n"
        "metrics.in_flight.inc()\n"
        "sys.stdout.write(metrics.text().decode())"
    )
    environment = {**os.environ, metrics.SHARED: str(tmp_path)}
    run = [sys.executable, "-c", code]
    printed = [subprocess.run(run, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    first, second = (samples(one.stdout) for one in printed)
    for figures, expected in ((first, 1), (second, 2)):
        assert figures["cocoer_web_requests_total", "/v1/model", "", "200"] == expected
        assert figures["cocoer_web_request_seconds_count", "/v1/model"] == expected
    assert [value for name, value in second.items() if name[0] == "cocoer_web_build_info"] == [1]


@pytest.mark.parametrize("module", [metrics, guard, origins, arguments, admission], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0
