"""What the server tells of itself, scraped from its real endpoint, and the dashboard that shows it."""

import json
import re
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from cocoer_bls.errors import REASONS
from cocoer_bls.metrics import FAILURES, STAGES
from cocoer_client import InvalidRequest
from export.publishing.configs import COCOER_INSTANCES
from tests import golden as gold
from tests.conftest import PROJECT
from tests.metrics import key, scrape, series_in, settled
from tests.serving.test_served import results_of
from tests.traffic import CANCELLED, MAX_CROWD, Sender, batch_inputs, wait_for

MONITORING = PROJECT / "serving" / "deploy" / "monitoring"
METRIC = re.compile(r"\b(?:nv|cocoer)_[a-z0-9_]+")


def test_every_series_is_there_from_the_start(server):
    found = scrape(server)
    for reason in REASONS:
        assert key("cocoer_rejected_total", reason=reason) in found
    for reason in FAILURES:
        assert key("cocoer_failed_total", reason=reason) in found
    for stage in STAGES:
        assert key("cocoer_stage_seconds_count", stage=stage) in found
    for name in (
        "cocoer_images_total",
        "cocoer_persons_total",
        "cocoer_empty_results_total",
        "cocoer_requests_running",
    ):
        assert key(name) in found


def test_every_instance_tells_how_it_goes_on(server, client, sample_bytes):
    """0 again when it is done; the probe takes anything else that stands still for a hang."""
    client.infer_raw(sample_bytes, [])
    steps = {labels: value for (name, labels), value in settled(server).items() if name == "cocoer_instance_step"}
    assert {(("name", f"cocoer_0_{index}"),) for index in range(COCOER_INSTANCES)} <= set(steps)
    assert set(steps.values()) == {0}


def test_counts_are_of_what_was_sent(server, client, expected, sample_bytes):
    """One batch of two images (one bad), one without a person, one refused for its boxes, one cancelled."""
    before = scrape(server)
    rows = gold.person_rows(expected)
    with grpcclient.InferenceServerClient(server.url) as triton:
        inputs = batch_inputs([sample_bytes, b""], np.stack([rows, rows]))
        timed, _ = results_of(triton.infer("cocoer", inputs, parameters={"timing": True}))
        client.infer_raw(sample_bytes, [])
        with pytest.raises(InvalidRequest):
            client.infer_raw(sample_bytes, [{"body": [5, 5, 1, 1], "head": [1, 1, 2, 2]}])
        with pytest.raises(InvalidRequest):
            client.infer_raw(sample_bytes, final_threshold=7)
        crowd = Sender(server.url, batch_inputs([sample_bytes], np.resize(rows, (1, MAX_CROWD, 8))))
        crowd.send()
        wait_for(server, 1, key("cocoer_requests_running"))
        crowd.cancel()
        assert [answer.status for answer in crowd.wait()] == [CANCELLED]
        client.infer_raw(sample_bytes, [])  # both instances
        client.infer_raw(sample_bytes, [])
    after = settled(server)
    grown = {name: after[name] - before.get(name, 0) for name in after if name[0].startswith("cocoer_")}
    assert grown[key("cocoer_images_total")] == 4
    assert grown[key("cocoer_persons_total")] == 6
    assert grown[key("cocoer_empty_results_total")] == 3
    rejected = {reason: grown[key("cocoer_rejected_total", reason=reason)] for reason in REASONS}
    assert {reason: count for reason, count in rejected.items() if count} == {"empty": 1, "persons": 1, "parameter": 1}
    failed = {reason: grown[key("cocoer_failed_total", reason=reason)] for reason in FAILURES}
    assert failed == {"internal": 0, "memory": 0, "cancelled": 1}
    counts = {stage: grown[key("cocoer_stage_seconds_count", stage=stage)] for stage in STAGES}
    assert counts == {**dict.fromkeys(STAGES, 0), "decode": 4, "windows": 1, "recognition": 1, "result": 4}
    seconds = grown[key("cocoer_stage_seconds_sum", stage="recognition")]
    assert seconds == pytest.approx(timed["timing_ms"]["recognition"] / 1000, abs=1e-6)


def names_in(text):
    """Names of metrics in PromQL, less the suffixes that a histogram's series have."""
    return set(METRIC.findall(text))


@pytest.mark.parametrize("file", ["grafana-dashboard.json", "alerts.yml"])
def test_dashboard_and_alerts_name_what_there_is(server, web, file):
    text = (MONITORING / file).read_text()
    there = {name for name, _ in (*scrape(server), *series_in(text_of(web)))}
    assert len(names_in(text)) >= 3
    assert names_in(text) <= there, names_in(text) - there


def test_dashboard_shows_every_metric_of_ours():
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    shown = names_in(" ".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())))
    ours = {"images_total", "persons_total", "empty_results_total", "rejected_total", "failed_total"}
    assert {f"cocoer_{name}" for name in ours} | {"cocoer_requests_running", "cocoer_stage_seconds_bucket"} <= shown
    gateways = ("requests_total", "request_seconds_bucket", "requests_in_flight", "requests_working", "connections")
    sizes = ("received_bytes_total", "sent_bytes_total", "upload_bytes")
    assert {f"cocoer_web_{name}" for name in (*gateways, *sizes)} <= shown
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "instance"}


def text_of(web):
    """The gateway's metrics."""
    with urllib.request.urlopen(f"{web.url}/metrics", timeout=60) as answer:
        return answer.read().decode()


def test_labels_in_queries_exist(server, web):
    """Every label that the dashboard and the alerts select by is one of that metric's."""
    labels = {}
    for name, pairs in (*scrape(server), *series_in(text_of(web))):
        labels.setdefault(name, {"instance", "job", "le"}).update(label for label, _ in pairs)
    text = "".join((MONITORING / file).read_text() for file in ("grafana-dashboard.json", "alerts.yml"))
    for name, selector in re.findall(r"\b((?:nv|cocoer)_[a-z0-9_]+)\{([^}]*)\}", text.replace('\\"', '"')):
        for label in re.findall(r"(\w+)\s*(?:=~|!=|=)", selector):
            assert label in labels[name], (name, label)
