"""The report of ``benchmarks/pipeline.py``: medians, ranges, and the bound that they set for a GPU."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.pipeline_parts import ALL, PILLOW
from benchmarks.pipeline_server import GIVEN, NOBODY, TARGET
from benchmarks.tables import markdown
from benchmarks.turns import spread, verdict

OWN = "this checkout"
"""Of the servers, the one that the target is of."""
TARGET_MS, TARGET_WAY = 5.0, TARGET.name
"""Processor time per image of all processes, at most."""
CORES = 16
"""Of a GPU machine, for the bound."""
STAND_IN = "stand-in"


def totals(turns: Sequence[Mapping[str, Any]], without: Sequence[str] = ()) -> list[float]:
    """Milliseconds per image of each turn, over all parts but some.

    >>> totals([{"cpu_ms": {"cocoer": 3.0, "stand-in": 2.0}}], without=["stand-in"])
    [3.0]
    """
    return [sum(ms for part, ms in turn["cpu_ms"].items() if part not in without) for turn in turns]


def bound(cpu_ms: float, cores: int = CORES) -> float:
    """Images per second that so many cores can't exceed where each image takes this much of them.

    >>> bound(8.0)
    2000.0
    """
    return 1000 * cores / cpu_ms


def to_markdown(report: Mapping[str, Any]) -> str:
    """The tables, and how to read them."""
    described, plan = report["machine"], report["plan"]
    lines = [
        f"# The pipeline without networks: {described['cpu']}, {described['cores']} cores",
        "",
        f"{report['time']}, {report['command']}; a 640x480 JPEG in which constant models find two persons; medians of "
        f"{plan['rounds']} turns of {plan['images']} images, with the lowest and the highest, all in turn, after one "
        "that does not count.",
        "",
        "Milliseconds are processor time per image, of all processes of the server and none of the client's. `cocoer`: "
        "the processes of the Python model that clients call (decoding, crops, JSON, and handing tensors on). "
        "`stand-in`: those that run the models where Triton has no native ONNX Runtime backend, a Python process for "
        "each; with the native backend, which has not been measured, they are not there, and Triton itself does a part "
        "of their work. Images per run: as many as `cocoer` took up together, which share its calls. The last column "
        "is no measurement but a bound: what so many cores can't exceed, were they as fast as these, at that cost and "
        "with a GPU that is never waited for; to the left with the stand-in, to the right without it.",
        "",
    ]
    for name, ways in report["measured"].items():
        if len(report["measured"]) > 1:
            lines += [f"{name[0].upper()}{name[1:]}:", ""]
        lines += [_table(ways), ""]
    target = report["measured"][OWN][TARGET_WAY]
    whole, native = (
        f"{spread(ms, 1)} {of}, {verdict(ms, '<=', TARGET_MS)}"
        for ms, of in (
            (totals(target), "of all processes"),
            (totals(target, [STAND_IN]), "without the stand-in's"),
        )
    )
    lines += [
        f"The target is {TARGET_MS:g} ms with {TARGET_WAY}: {whole}; {native}.",
        "",
        "Where it goes, milliseconds per image. What `cocoer` does alone was measured in the same rounds, in one "
        "thread of another process that runs the served code without Triton. The rest is what requests differ by that "
        f"leave something out ({NOBODY.name}; {GIVEN.name}; {TARGET_WAY}), and what `cocoer` took more in the server "
        "than alone.",
        "",
        _where(report["measured"][OWN], report["parts"]),
        "",
        _of_pillow(report["parts"]),
        "",
    ]
    return "\n".join(lines)


def _where(ways: Mapping[str, Sequence[Mapping[str, Any]]], parts: Sequence[Mapping[str, float]]) -> str:
    """A row for each part of what an image takes; they add up to the whole."""
    rows = [(f"`cocoer`: {name}", [one[name] for one in parts]) for name in parts[0] if name not in (ALL, PILLOW)]
    taken = {
        part: {way: [turn["cpu_ms"][part] for turn in ways[way]] for way in (NOBODY.name, GIVEN.name, TARGET_WAY)}
        for part in ("cocoer", "triton", STAND_IN)
    }
    calls = _differences(taken["cocoer"][TARGET_WAY], [one[ALL] for one in parts])
    rows.append(("`cocoer`: tensors to and from Triton, two calls, threads", calls))
    for part, name in (("triton", "Triton"), (STAND_IN, "stand-in")):
        nobody, given, found = taken[part].values()
        if part == "triton":  # the stand-in has no part in it
            rows.append((f"{name}: gRPC, queue and the call of `cocoer`", nobody))
        rows += [
            (f"{name}: the call of `recognition`, six models", _differences(given, nobody)),
            (f"{name}: the call of `detection`, two models", _differences(found, given)),
        ]
    rows += [("launcher", [turn["cpu_ms"]["launcher"] for turn in ways[TARGET_WAY]])]
    whole = statistics.median(totals(ways[TARGET_WAY]))
    told = [(name, spread(values), _share(values, whole)) for name, values in rows]
    return markdown(
        ("part", "ms", "of all"), [*told, ("all, as measured", spread(totals(ways[TARGET_WAY]), 1), "100%")]
    )


def _differences(more: Sequence[float], less: Sequence[float]) -> list[float]:
    """Round by round, for these were measured beside each other.

    >>> _differences([3.0, 4.0], [1.0, 1.5])
    [2.0, 2.5]
    """
    return [one - other for one, other in zip(more, less)]


def _share(values: Sequence[float], whole: float) -> str:
    return f"{100 * statistics.median(values) / whole:.0f}%"


def _of_pillow(rounds: Sequence[Mapping[str, float]]) -> str:
    """What the crops would take if the build had not compiled them."""
    return (
        f"Where no C compiler was there for the build, Pillow makes {PILLOW.removesuffix(' by Pillow')}: "
        f"{spread([one[PILLOW] for one in rounds], 1)} ms."
    )


def _table(ways: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    header = (
        "sent",
        "all, ms",
        "without stand-in, ms",
        "cocoer, ms",
        "Triton, ms",
        "stand-in, ms",
        "images per run",
        "images/s",
        "images/s per core of CPU",
        f"bound: images/s on {CORES} cores",
    )
    rows = []
    for way, turns in ways.items():
        whole, native = totals(turns), totals(turns, [STAND_IN])
        parts = [spread([turn["cpu_ms"][part] for turn in turns], 1) for part in ("cocoer", "triton", STAND_IN)]
        per_core = statistics.median(bound(ms, 1) for ms in whole)
        bounds = " / ".join(f"{bound(statistics.median(values)):.0f}" for values in (whole, native))
        rates = spread([turn["images_per_second"] for turn in turns], 1)
        together = spread([turn["images_per_run"] for turn in turns], 1)
        rows.append((way, spread(whole, 1), spread(native, 1), *parts, together, rates, f"{per_core:.0f}", bounds))
    return markdown(header, rows)
