"""A real Prometheus scrapes the real server, with the configuration, the alerts and the dashboard of the project."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cocoer_client import CocoerClient
from serving.server import TritonServer, free_ports
from tests.conftest import PROJECT
from tests.waiting import PATIENCE, until
from tools.prometheus import install

MONITORING = PROJECT / "serving" / "deploy" / "monitoring"


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
            content = json.load(answer)
        assert content["status"] == "success"
        return content["data"]

    def value(self, query: str) -> float | None:
        """Of the first series; None where there is none."""
        found = self.get("/api/v1/query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
def prometheus(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Changed are the server's port and the pauses alone."""
    directory = tmp_path_factory.mktemp("prometheus")
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["127.0.0.1:8002"]
    job |= {"scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{server.metrics_port}"]}]}
    configuration |= {"global": {"evaluation_interval": "1s"}, "rule_files": [str(MONITORING / "alerts.yml")]}
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    program, _ = install()
    (port,) = free_ports(1)
    arguments = [f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        running = Prometheus(port)

        def has_scraped() -> bool:
            assert process.poll() is None, (directory / "log").read_text()
            with contextlib.suppress(OSError):
                return running.value('up{job="cocoer"}') is not None
            return False

        until(has_scraped)
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_the_server_is_up_and_no_alert_is_ill(prometheus):
    assert prometheus.value('up{job="cocoer"}') == 1
    until(lambda: all(rule["health"] == "ok" for rule in rules(prometheus)))
    assert {rule["name"] for rule in rules(prometheus) if rule["state"] == "firing"} == set()


def rules(prometheus: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]


def test_what_is_asked_is_counted(prometheus: Prometheus, client: CocoerClient, sample_bytes: bytes) -> None:
    before = prometheus.value("cocoer_images_total") or 0
    client.infer_raw(sample_bytes, [])
    until(lambda: (prometheus.value("cocoer_images_total") or 0) == before + 1)


def test_prometheus_answers_every_query_of_the_dashboard(prometheus):
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(queries) >= 5
    for query in queries:
        query = query.replace("$__rate_interval", "1m").replace("$instance", ".*")
        assert not re.search(r"\$", query), query
        prometheus.get("/api/v1/query", query=query)
    with pytest.raises(urllib.error.HTTPError):
        prometheus.get("/api/v1/query", query=queries[0] + ")")  # it can fail
