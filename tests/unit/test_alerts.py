"""The alerts and scrape configurations: taken by Prometheus's own promtool, and each alert fires when it should."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import render, the
from tests.conftest import PROJECT
from tools.prometheus import install

MONITORING = PROJECT / "serving" / "deploy" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    _, program = install()
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Case:
    """Series as promtool writes them, a value each minute, and when the alert is quiet and when it fires (minutes)."""

    series: dict[str, str]
    quiet: int
    fires: int
    instance: str = "a:8002"


ASKED = 'cocoer_web_requests_total{endpoint="/v1/recognise", instance='
UP = 'up{job="cocoer", instance="a:8002"}'
STAGE = 'cocoer_stage_seconds_bucket{stage="recognition", instance="a:8002", le='
CASES = {
    "CocoerGone": Case({'up{job="cocoer", instance="a:8002"}': "1x10 _x30"}, 15, 21, instance=""),
    "CocoerDown": Case({UP: "1x5 0x10", 'up{job="other", instance="b:8002"}': "0x20"}, 6, 8),
    "CocoerFails": Case(
        {
            'cocoer_failed_total{reason="internal", instance="a:8002"}': "0x10 1+1x20",
            'cocoer_failed_total{reason="cancelled", instance="b:8002"}': "0+9x30",
        },
        10,
        18,
    ),
    "CocoerProbesFail": Case(
        {
            'cocoer_probes_total{outcome="failed", instance="a:8002"}': "0x10 1x30",
            'cocoer_probes_total{outcome="answered", instance="b:8002"}': "0+6x30",
        },
        10,
        18,
    ),
    "CocoerRefusesForLackOfRoom": Case(
        {
            'nv_inference_request_failure{model="cocoer", reason="REJECTED", instance="a:8002"}': "0x10 5+5x20",
            'nv_inference_request_failure{model="cocoer", reason="OTHER", instance="b:8002"}': "0+9x30",
            'nv_inference_request_failure{model="fusion", reason="REJECTED", instance="c:8002"}': "0+9x30",
        },
        10,
        18,
    ),
    "CocoerSlow": Case(
        {
            f'{STAGE}"5"}}': "0+60x10 600x20",
            f'{STAGE}"10"}}': "0+60x10 660+60x20",
            f'{STAGE}"+Inf"}}': "0+60x10 660+60x20",
        },
        10,
        25,
    ),
    "CocoerWebDown": Case({'up{job="cocoer-web", instance="a:8080"}': "1x5 0x10", UP: "0x20"}, 6, 8, "a:8080"),
    "CocoerWebFails": Case(
        {
            f'{ASKED}"a:8080", status="200", reason=""}}': "0+60x40",
            f'{ASKED}"a:8080", status="503", reason="unavailable"}}': "0x10 6+6x20",
            # One in forty fails here, and here many are turned away.
            f'{ASKED}"b:8080", status="200", reason=""}}': "0+39x40",
            f'{ASKED}"b:8080", status="500", reason="internal"}}': "0+1x40",
            f'{ASKED}"c:8080", status="200", reason=""}}': "0+60x40",
            f'{ASKED}"c:8080", status="503", reason="busy"}}': "0+60x40",
        },
        10,
        25,
        "a:8080",
    ),
    "CocoerWebRefusesForLackOfRoom": Case(
        {
            f'{ASKED}"a:8080", status="503", reason="busy"}}': "0x10 5+5x20",
            f'{ASKED}"b:8080", status="429", reason="caller"}}': "0+9x30",
        },
        10,
        18,
        "a:8080",
    ),
}


def test_every_alert_is_tested_and_has_a_severity():
    assert set(CASES) == set(RULES)
    assert {rule["labels"]["severity"] for rule in RULES.values()} == {"critical", "warning"}


def written(path: Path, name: str, case: Case, fires: int) -> Path:
    """A file for ``promtool test rules``."""
    summary = RULES[name]["annotations"]["summary"].replace("{{ $labels.instance }}", case.instance)
    labels = RULES[name]["labels"] | ({"instance": case.instance} if case.instance else {})
    if job := re.search(r'up\{job="([\w-]+)"\}', RULES[name]["expr"]):
        labels = labels | {"job": job[1]}
    fired = [{"exp_labels": labels, "exp_annotations": {"summary": summary}}]
    test = {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": f"{case.quiet}m", "alertname": name, "exp_alerts": []},
            {"eval_time": f"{fires}m", "alertname": name, "exp_alerts": fired},
        ],
    }
    # JSON is YAML.
    path.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    return path


@pytest.mark.parametrize("name", CASES)
def test_it_fires_when_it_should_and_not_before(name, tmp_path):
    case = CASES[name]
    result = promtool("test", "rules", written(tmp_path / "test.yml", name, case, case.fires))
    assert result.returncode == 0, result.stdout + result.stderr
    wrong = promtool("test", "rules", written(tmp_path / "test.yml", name, case, case.quiet))  # the test can fail
    assert wrong.returncode != 0


@pytest.mark.parametrize("file", ["prometheus.yml", "compose-prometheus.yml"])
def test_prometheus_takes_the_configuration(file):
    result = promtool("check", "config", MONITORING / file)
    assert result.returncode == 0, result.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in result.stdout


def test_prometheus_takes_the_rules_of_the_chart(tmp_path):
    """What Prometheus Operator hands on; and it is this file, all of it."""
    spec = the(render("monitoring.rules.enabled=true"), "PrometheusRule", "cocoer")["spec"]
    assert spec == yaml.safe_load(ALERTS.read_text())
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(spec))
    result = promtool("check", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr
    path.write_text(yaml.safe_dump(spec).replace("absent(", "absence("))
    assert promtool("check", "rules", path).returncode != 0
