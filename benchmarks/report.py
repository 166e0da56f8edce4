"""A report as Markdown: ratios first, for they are the result; absolute times belong to the machine named.

    python benchmarks/report.py [results/<machine>]

writes report.md, the plots and the README's three lines again, from report.json.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.figures import IN_FLIGHT, TARGETS, Report, Values
from benchmarks.plots import PLOTS, parts_of, stage_parts, write_plots
from benchmarks.tables import markdown
from benchmarks.turns import percentile, spread, verdict
from export.files import write_json, write_text
from export.verification.drift import describe

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
README_RESULTS = PROJECT / "benchmarks" / "results" / "amd-epyc-2-cores"
"""The report that the README shows."""
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"

REQUEST_HEADER = ("request", "in flight", "requests", "p50, ms", "p95", "p99", "images/s", "persons/s")
LADDER_HEADER = ("ms of a single request", "1 given", "4 given", "detected")


def to_markdown(report: Report) -> str:
    """The whole report."""
    machine = report["machine"]
    lines = [
        f"# {machine['cpu']}, {machine['cores']} cores",
        "",
        f"{report['time']}, {report['command']}; synthetic weights, FP32 where nothing else is said.",
        "",
        *([report["note"], ""] if "note" in report else []),
        f"Turns: {report['turns']}. In each, everything was measured once, every other turn in the opposite order. "
        "Shown are medians over the turns, with their range in brackets; ratios are of the same turn. A target is met "
        "or missed if it is in every turn, otherwise it lies within noise.",
        "",
        markdown(("what", "measured", "target", ""), [_target_row(report, *target) for target in TARGETS]),
        "",
        "What each step gains, from the release's way to the server:",
        "",
        markdown(LADDER_HEADER, ladder(report)),
        "",
        *_rates(report),
        "",
        "Served:",
        "",
        markdown(REQUEST_HEADER, _request_rows(report)),
        "",
        "A percentile is shown where at least five requests lie beyond it.",
        "",
        *_schedules(report),
        *_precisions(report),
        "Where a single request's time goes, ms (means):",
        "",
        _stage_table(report),
        "",
        "Triton's statistics of the same requests, ms per image: queue / input / infer / output (models side by "
        "side overlap):",
        "",
        _model_table(report),
        "",
        *_memory(report),
        *(f"![{name}]({name}.png)" for name in PLOTS),
    ]
    return "\n".join(lines) + "\n"


def ladder(report: Report) -> list[list[str]]:
    """What users would run, from the release to the server: rows of medians and ranges."""
    names = LADDER_HEADER[1:]
    steps: tuple[tuple[str, Callable[[str], Values]], ...] = (
        ("the release's way", lambda name: report["release_ms"][name]),
        (
            "plain PyTorch port: no gradients but for the step, persons in one batch",
            lambda name: report.get("port_ms", {}).get(name, []),
        ),
        (
            "PyTorch modules: V-I layer folded, coordination in closed form",
            lambda name: report.get("modules_ms", {}).get(name, []),
        ),
        ("ONNX Runtime in-process, best schedule", lambda name: figures.in_process_ms(report, name, 1)[1]),
        ("served (p50)", lambda name: figures.p50(report, name)),
    )
    return [[step, *(spread(values(name), 0) for name in names)] for step, values in steps if values(names[0])]


def _rates(report: Report) -> list[str]:
    """The rates that a target would take, and those that are reached: operations and time of the same thing."""
    release, gflop = statistics.median(report["release_ms"]["4 given"]), report["gflop"]
    return [
        f"25 times the release's way for 4 persons would take {gflop['4 given'] / (release / 25) * 1000:.0f} GFLOP/s; "
        f"a ResNet-50 trunk alone ({gflop['trunk']:.1f} GFLOP) reaches {spread(figures.trunk_rate(report), 0)} here, a "
        f"large matrix product {spread(report['sgemm_gflops'], 0)}.",
    ]


def _request_rows(report: Report) -> list[list[str]]:
    return [
        [name, concurrency, *_load_cells(loads), _rate(loads), _rate(loads, report["persons"][name])]
        for name, by_concurrency in report["served"].items()
        for concurrency, loads in sorted(by_concurrency.items(), key=lambda pair: int(pair[0]))
    ]


def _load_cells(loads: Sequence[Mapping[str, Any]]) -> list[str]:
    """Requests, p50, p95, p99 of a load in all turns; percentiles beyond the median are of all requests together."""
    times = [time for load in loads for time in load["latencies_ms"]]
    beyond = [percentile(times, percent) for percent in (95, 99)]
    cells = [f"{value:.0f}" if value is not None else "" for value in beyond]
    return [str(len(times) or ""), spread([load["p50"] for load in loads], 0), *cells]


def _rate(loads: Sequence[Mapping[str, Any]], persons: int = 1) -> str:
    return spread([load["images_per_second"] * persons for load in loads])


def _schedules(report: Report) -> list[str]:
    """The same models without a server, in every way that was tried."""
    names = [name for name, requests in report["in_process"].items() if str(IN_FLIGHT) in requests]
    if not names:
        return []
    schedules = report["in_process"][names[0]][str(IN_FLIGHT)]
    rows = [
        [
            schedule,
            *(
                spread([1000 * IN_FLIGHT / ms for ms in report["in_process"][name][str(IN_FLIGHT)][schedule]])
                for name in names
            ),
        ]
        for schedule in schedules
    ]
    served = ["served", *(spread(figures.rate(report, name)) for name in names)]
    return [
        f"The same models in-process, {IN_FLIGHT} requests at a time, images/s. The best of them is what the server is "
        "compared with; it is no limit, for more schedules can be thought of:",
        "",
        markdown(("schedule", *names), [*rows, served]),
        "",
    ]


def _precisions(report: Report) -> list[str]:
    """Precisions side by side, each pair of lines in the same turns and with as many requests in flight."""
    fp32 = report["served"]["1 given"]
    rows = []
    for concurrency in sorted(fp32, key=int):
        rows.append(["FP32", concurrency, *_load_cells(fp32[concurrency])[1:], _rate(fp32[concurrency]), ""])
        for precision, by_concurrency in report.get("precisions", {}).items():
            loads = by_concurrency.get(concurrency, [])
            below = figures.rate(report, "1 given", int(concurrency))
            gain = figures.ratios(figures.precision_rate(report, precision, int(concurrency)), below)
            if loads:
                rows.append([precision, concurrency, *_load_cells(loads)[1:], _rate(loads), spread(gain)])
    lines = ["Precisions, 1 given:", ""]
    lines += [markdown(("models", "in flight", "p50, ms", "p95", "p99", "images/s", "times FP32's"), rows), ""]
    for precision, problem in report.get("left_out", {}).items():
        lines += [f"{precision} was not measured here: {problem}.", ""]
    for drift in report.get("drift", {}).values():
        lines += ["```", *describe(drift), "```", ""]
    return lines


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


def _memory(report: Report) -> list[str]:
    """The most that was seen, by kind of request."""
    memory, light = report["memory"], report["server"]["memory_mb"]
    if not memory["kinds"]:
        return []
    return [
        f"Memory (PSS of all processes, read {memory['readings']} times while requests were answered): "
        f"{spread(light, 0)} MB at rest after a start's first requests. The most "
        f"seen, {memory['each']} requests of each kind one after the other on one server:",
        "",
        markdown(
            ("request", "in flight", "most, MB"),
            [[name, str(memory["in_flight"][name]), f"{mb:.0f}"] for name, mb in memory["kinds"].items()],
        ),
        "",
        f"Then, in each eighth of {memory['requests']} requests with 1 given: "
        f"{', '.join(f'{mb:.0f}' for mb in memory['endurance_mb'])} MB.",
        "",
    ]


def readme_section(report: Report) -> str:
    """What stands between the README's marks: three lines, and a link to the report that has the rest."""
    machine = report["machine"]
    names = ("1 given", "4 given", "detected")
    times = {name: spread(figures.speedup(report, name), 1) for name in names}
    p50 = {name: f"{statistics.median(figures.p50(report, name)):.0f} ms" for name in names}
    verdicts = [_target_row(report, *target)[-1] for target in TARGETS]
    counts = [f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts)]
    share, gain = figures.throughput_share(report), figures.int8_gain(report)
    against = f", {statistics.median(share):.0%} of the best in-process schedule's" if share else ""
    memory = "".join(f"{gb:.2f} GB of memory at most, " for gb in figures.most_memory_gb(report))
    lines = [
        BEGIN,
        f"{machine['cpu']}, {machine['cores']} cores, no GPU, FP32, against the release's way on the same machine "
        f"(`{report['command']}`, {report['time'][:10]}):",
        *(["", report["note"]] if "note" in report else []),
        "",
        f"- Latency: {times['1 given']} times as fast for one person with boxes given ({p50['1 given']}), "
        f"{times['4 given']} times for four ({p50['4 given']}), {times['detected']} times with detection "
        f"({p50['detected']}).",
        f"- Throughput: {spread(figures.rate(report, '1 given'), 1)} images/s with {IN_FLIGHT} requests in flight"
        f"{against}; INT8, opt-in, {spread(gain, 1)} times that.",
        f"- {memory}{statistics.median(report['server']['ready_s']):.1f} s from start to ready. Of {len(verdicts)} "
        f"targets: {', '.join(counts)}: "
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


def _target_row(report: Report, what: str, values: Callable[[Report], Values], sign: str, target: float) -> list[str]:
    measured = values(report)
    return [what, spread(measured), f"{sign} {target:g}", verdict(measured, sign, target)]


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else README_RESULTS
    write_report(json.loads((chosen / "report.json").read_text()), chosen)
