"""A report as Markdown: ratios first, for they are the result; absolute times belong to the machine named.

    python benchmarks/report.py [results/<machine>]

writes report.md, the plots and the README's three lines again, from report.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.plots import PLOTS, parts_of, stage_parts, write_plots
from benchmarks.tables import markdown
from export.files import write_json, write_text
from export.verification.drift import describe

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
README_RESULTS = PROJECT / "benchmarks" / "results" / "amd-epyc-2-cores"
"""The report that the README shows."""
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"

Report = Mapping[str, Any]


def _speedup(report: Report, name: str) -> float:
    return report["release_ms"][name] / report["served"][name][0]["p50"]


def _throughput_share(report: Report) -> float:
    return _four(report)["images_per_second"] / report["ceiling"]["1 given"]["images_per_second"]


def _person_cost(report: Report) -> float:
    served = report["served"]
    one_more = (served["4 given"][0]["p50"] - served["1 given"][0]["p50"]) / 3
    return one_more / (2 * report["trunk_ms"])


def _flops_share(report: Report) -> float:
    rate = report["gflop"]["4 given"] / report["served"]["4 given"][0]["p50"] * 1000
    return rate / report["machine"]["sgemm_gflops"]


def _memory_growth(report: Report) -> float:
    """Against the sample after the first eighth: by then each process has had what it needs for this load."""
    memory = report["memory"]["mb"]
    return max(memory[2:]) / memory[1]


def _int8_gain(report: Report) -> float:
    return report["int8"]["served"][1]["images_per_second"] / _four(report)["images_per_second"]


def _four(report: Report) -> Mapping[str, float]:
    return next(load for load in report["served"]["1 given"] if load["concurrency"] == 4)


TARGETS: tuple[tuple[str, Callable[[Report], float], str, float], ...] = (
    (
        "latency, 1 person with boxes given, against the release's way (times faster)",
        lambda r: _speedup(r, "1 given"),
        ">=",
        12,
    ),
    ("latency, 4 persons with boxes given (times faster)", lambda r: _speedup(r, "4 given"), ">=", 25),
    ("full pipeline with SCRFD detection, 1 person (times faster)", lambda r: _speedup(r, "detected"), ">=", 7),
    ("throughput at concurrency 4, share of the in-process ceiling", _throughput_share, ">=", 0.92),
    ("cost of one more person, against its two trunks alone in ONNX Runtime", _person_cost, "<=", 1.15),
    ("FLOP/s end to end, 4 persons, share of the measured sgemm peak", _flops_share, ">=", 0.5),
    ("INT8 (opt-in): throughput at concurrency 4, against FP32", _int8_gain, ">=", 2),
    ("memory of server and models, most seen, GB (PSS)", lambda r: max(r["memory"]["mb"]) / 1000, "<=", 2.0),
    ("memory in the endurance run, most against its first eighth", _memory_growth, "<=", 1.05),
    ("start to ready, s", lambda r: r["server"]["ready_s"], "<=", 12),
    ("first request, times the median", lambda r: r["server"]["first_ms"] / r["server"]["median_ms"], "<=", 1.5),
)


REQUEST_HEADER = (
    "request",
    "release's way, ms",
    "in-process, ms",
    "served p50, ms",
    "p95",
    "p99",
    "images/s",
    "persons/s",
)


def to_markdown(report: Report) -> str:
    """The whole report."""
    machine = report["machine"]
    lines = [
        f"# {machine['cpu']}, {machine['cores']} cores",
        "",
        f"{report['time']}, {report['command']}; FP32, synthetic weights; "
        f"sgemm peak {machine['sgemm_gflops']:.0f} GFLOP/s.",
        "",
        markdown(("what", "measured", "target", ""), [_target_row(report, *target) for target in TARGETS]),
        "",
        *_limits(report),
        "",
        markdown(
            REQUEST_HEADER,
            [_request_row(report, name, load) for name, loads in report["served"].items() for load in loads],
        ),
        "",
        "Where a single request's time goes, ms (means):",
        "",
        _stage_table(report),
        "",
        "Triton's statistics of the same requests, ms per image: queue / input / infer / output (models side by "
        "side overlap):",
        "",
        _model_table(report),
        "",
        f"Memory (PSS of all processes): {report['server']['memory_light_mb']:.0f} MB after the first requests; over "
        f"{report['memory']['requests']} requests at concurrency {report['memory']['concurrency']}, after all of the "
        f"above: {', '.join(f'{mb:.0f}' for mb in report['memory']['mb'])} MB.",
        "",
        f"INT8, 1 given: p50 {report['int8']['served'][0]['p50']:.0f} ms alone, "
        f"{report['int8']['served'][1]['images_per_second']:.1f} images/s at concurrency 4.",
        "",
        "```",
        *describe(report["int8"]["drift"]),
        "```",
        "",
        *(f"![{name}]({name}.png)" for name in PLOTS),
    ]
    return "\n".join(lines) + "\n"


def _limits(report: Report) -> list[str]:
    """Why the speed-ups end where they do: what the models do without any server, and the rate a target would take."""
    release, ceiling, gflop = report["release_ms"], report["ceiling"], report["gflop"]
    without = {name: release[name] / ceiling[name]["latency_ms"] for name in ("1 given", "4 given", "detected")}
    needed = gflop["4 given"] / (release["4 given"] / 25) * 1000
    person = (gflop["4 given"] - gflop["1 given"]) / 3
    reached = person / (2 * report["trunk_ms"]) * 1000
    return [
        f"Without any server the same models, called in-process, are {without['1 given']:.1f} times (1 person), "
        f"{without['4 given']:.1f} times (4 persons) and {without['detected']:.1f} times (with detection) as fast as "
        f"the release's way: that is the limit of these models in FP32. 25 times for 4 persons would take "
        f"{needed:.0f} GFLOP/s; a ResNet-50 trunk alone reaches about {reached:.0f} here, a large matrix product "
        f"{report['machine']['sgemm_gflops']:.0f}.",
    ]


def _stage_table(report: Report) -> str:
    columns = {name: stage_parts(breakdown) for name, breakdown in report["stages"].items()}
    parts = parts_of(list(columns.values()))
    rows = [[part, *(f"{column[part]:.1f}" if part in column else "" for column in columns.values())] for part in parts]
    rows.append(["all", *(f"{breakdown['client_ms']:.1f}" for breakdown in report["stages"].values())])
    return markdown(("stage", *columns), rows)


def _model_table(report: Report) -> str:
    columns = report["stages"]
    models = dict.fromkeys(model for breakdown in columns.values() for model in breakdown["models"])
    keys = ("queue", "compute_input", "compute_infer", "compute_output")
    rows = [
        [
            model,
            *(
                " / ".join(f"{breakdown['models'][model][key]:.1f}" for key in keys)
                if model in breakdown["models"]
                else ""
                for breakdown in columns.values()
            ),
        ]
        for model in models
    ]
    return markdown(("model", *columns), rows)


def readme_section(report: Report) -> str:
    """What stands between the README's marks: three lines, and a link to the report that has the rest."""
    machine, served = report["machine"], report["served"]
    times = {name: f"{_speedup(report, name):.1f}" for name in ("1 given", "4 given", "detected")}
    p50 = {name: f"{served[name][0]['p50']:.0f} ms" for name in times}
    verdicts = [_target_row(report, *target)[-1] for target in TARGETS]
    lines = [
        BEGIN,
        f"{machine['cpu']}, {machine['cores']} cores, no GPU, FP32, against the release's way on the same machine "
        f"(`{report['command']}`, {report['time'][:10]}):",
        "",
        f"- Latency: {times['1 given']} times as fast for one person with boxes given ({p50['1 given']}), "
        f"{times['4 given']} times for four ({p50['4 given']}), {times['detected']} times with detection "
        f"({p50['detected']}).",
        f"- Throughput: {_four(report)['images_per_second']:.1f} images/s at concurrency 4, "
        f"{_throughput_share(report):.0%} of the same models called in-process; INT8, opt-in, "
        f"{_int8_gain(report):.1f} times that.",
        f"- {max(report['memory']['mb']) / 1000:.2f} GB of memory, {report['server']['ready_s']:.1f} s from start to "
        f"ready; {verdicts.count('met')} of {len(verdicts)} targets met: "
        f"[the report]({README_RESULTS.relative_to(PROJECT)}/report.md) has every figure.",
        END,
    ]
    return "\n".join(lines)


def with_section(readme: str, section: str) -> str:
    """The README with its section replaced."""
    return readme[: readme.index(BEGIN)] + section + readme[readme.index(END) + len(END) :]


def write_report(report: Report, directory: Path) -> None:
    """Write ``report.json``, ``report.md`` and the plots; the README's lines too, if it shows this directory."""
    write_json(directory / "report.json", report)
    write_text(directory / "report.md", to_markdown(report))
    write_plots(report, directory)
    if directory.resolve() == README_RESULTS:
        write_text(README, with_section(README.read_text(), readme_section(report)))


def _target_row(report: Report, what: str, value: Callable[[Report], float], sign: str, target: float) -> list[str]:
    measured = value(report)
    met = measured >= target if sign == ">=" else measured <= target
    return [what, f"{measured:.2f}", f"{sign} {target:g}", "met" if met else "missed"]


def _request_row(report: Report, name: str, load: Mapping[str, float]) -> list[str]:
    alone = load["concurrency"] == 1
    release = report["release_ms"].get(name) if alone else None
    ceiling = report["ceiling"].get(name, {}).get("latency_ms") if alone else None
    persons = report["persons"][name]
    times = [f"{load[key]:.0f}" for key in ("p50", "p95", "p99")]
    rates = [f"{load['images_per_second']:.2f}", f"{load['images_per_second'] * persons:.2f}"]
    before = [f"{value:.0f}" if value else "" for value in (release, ceiling)]
    return [f"{name}, concurrency {load['concurrency']}", *before, *times, *rates]


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else README_RESULTS
    write_report(json.loads((chosen / "report.json").read_text()), chosen)
