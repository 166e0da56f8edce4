"""The report of ``benchmarks/photos.py``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import ratios
from benchmarks.photos_drift import to_rows
from benchmarks.photos_memory import LARGEST
from benchmarks.photos_ways import COMPILED, FAST, PLAIN, SERVED
from benchmarks.tables import markdown
from benchmarks.turns import spread, verdict
from cocoer_bls.images import CROP
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS

TARGETS = {SERVED: 0.6, COMPILED: 0.6, FAST: 0.25}
"""Of the processor time that Pillow takes, at most, for 12 megapixels."""


def shares(ways: Mapping[str, Sequence[float]], way: str) -> list[float]:
    """A way's share of the measure's time, turn by turn.

    >>> shares({PLAIN: [10.0, 20.0], SERVED: [5.0, 8.0]}, SERVED)
    [0.5, 0.4]
    """
    return list(ratios(ways[way], ways[PLAIN]))


def to_markdown(report: Mapping[str, Any]) -> str:
    """The report as people read it."""
    described = report["machine"]
    lines = [
        f"# Photos: {described['cpu']}, {described['cores']} cores",
        "",
        f"{report['time']}, `{report['command']}`; Pillow {report['pillow']}.",
        "",
        f"Processor time of one process, ms a photo, from the file to the crops of two persons (five of {CROP}x{CROP}, "
        f"BGR). Each of {report['turns']} turns has every way {report['calls']} times, every other turn in the "
        "opposite order: medians of the turns, and their range. All ways but fast_decode gave the same bytes. The "
        "share is of the first way in the same turn. For 12 megapixels the targets are "
        f"{TARGETS[SERVED]} at most, and {TARGETS[FAST]} with fast_decode; where the range has both sides of a target, "
        "it is within noise.",
        "",
        markdown(("photo", "way", "ms", "share"), _times(report["time_ms"], report["factors"])),
        "",
        *_drift(report["drift"], report["weights"]),
        f"Memory at the peak of decoding {LARGEST[0]}x{LARGEST[1]} pixels, beyond what the process has before, MB (and "
        "bytes a pixel); one image, and a batch of eight, within `max_batch_pixels` of "
        f"{DEFAULT_LIMITS.max_batch_pixels:,}:",
        "",
        markdown(("format", "one", "eight"), _peaks(report["peak_bytes"])),
        "",
    ]
    return "\n".join(lines)


def _times(photos: Mapping[str, Mapping[str, Sequence[float]]], factors: Mapping[str, int]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, ways in photos.items():
        for way, ms in ways.items():
            told = ""
            if way != PLAIN:
                share = shares(ways, way)
                judged = way in TARGETS and name.startswith("12 ")
                told = spread(share) + (f", {verdict(share, '<=', TARGETS[way])}" if judged else "")
            whole = way == FAST and factors[name] == 1
            rows.append((name, f"{way} (whole: its heads are too small)" if whole else way, spread(ms, 1), told))
    return rows


def _drift(found: Mapping[str, Any], weights: str) -> list[str]:
    """How far fast_decode is off, as Markdown."""
    if not found["changes"]:
        return []
    header = (
        *("decoded", "level", "crops, mean", "worst photograph's", "99th percentile"),
        *("probabilities, mean", "largest", "labels changed"),
    )
    said = f"What fast_decode changes of photographs ({', '.join(found['photographs'])}), two "
    said += "persons at a time, against the same ones decoded whole, whose crops were Pillow's byte for byte: grey "
    said += (
        f"levels of the crops, and probabilities ({weights}); labels whose final probability came to the other side "
    )
    said += f"of {DEFAULT_OPTIONS.final_threshold}. The rows of what was saved once more are a yardstick."
    return [said, "", markdown(header, to_rows(found["changes"])), ""]


def _peaks(peaks: Mapping[str, Mapping[str, int]]) -> list[tuple[str, ...]]:
    pixels = LARGEST[0] * LARGEST[1]
    return [
        (form, *(f"{count[size] / 1e6:.0f} ({count[size] / pixels:.1f})" for size in ("1", "8")))
        for form, count in peaks.items()
    ]


def medians(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Photo -> way -> median share, for those who read the JSON."""
    return {
        name: {way: round(statistics.median(shares(ways, way)), 4) for way in ways}
        for name, ways in report["time_ms"].items()
    }
