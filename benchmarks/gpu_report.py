"""The GPU report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import markdown
from export.files import write_json, write_text

Report = Mapping[str, Any]
TRUNK_BATCH = 32
IMAGES_TARGET, SHARE_TARGET = 1000, 0.6


def trunk_share(report: Report, precision: str) -> tuple[float, int]:
    """The best of the person encoders' FLOP/s, as a share of the measured matrix product's; and its batch size.

    At batch 32, or at the largest that was measured where that is less.
    """
    best, at = 0.0, 0
    for runner in report["precisions"][precision]["runners"].values():
        for name in ("head_encoder", "body_encoder"):
            row = [row for row in runner["engines"][name] if row["batch"] <= TRUNK_BATCH][-1]
            rate = report["gflop"][name] * row["per_second"] / 1000
            share = rate / report["ceilings"][f"{precision}_tflops"]
            best, at = max((best, at), (share, row["batch"]))
    return best, at


def to_markdown(report: Report) -> str:
    """The whole report."""
    machine, ceilings = report["machine"], report["ceilings"]
    lines = [
        f"# {machine['name']}",
        "",
        f"{report['time']}, `python benchmarks/run.py --gpu --device {machine['device']}`, {report['seconds']:.0f} s "
        f"and {report['build_seconds']:.0f} s of building models; "
        f"{machine['cpu']}, {machine['cores']} cores; synthetic weights.",
    ]
    if machine["device"] == "cpu":
        lines += ["", "**Not a GPU.** This proves the script; its figures are of no use."]
    lines += ["", _targets(report), ""]
    half, full, copy = (ceilings[key] for key in ("fp16_tflops", "fp32_tflops", "copy_gb_per_second"))
    one, every = (report["decode"][key] for key in ("one core", "all cores"))
    lines += [
        f"Ceilings, measured: {half:.3g} TFLOP/s FP16 and {full:.3g} FP32 (matrix product), {copy:.0f} GB/s (copy). "
        f"The CPU decodes and cuts out crops of {one:.0f} images per second on a core, {every:.0f} on all.",
        "",
    ]
    for precision, found in report["precisions"].items():
        lines += [f"## {precision.upper()}", "", _parity(found), "", *_end_to_end(found), ""]
        if any(found.get("plans", {}).values()):
            lines += [plans_table(found["plans"]), ""]
        for name, runner in found["runners"].items():
            lines += [f"{name}, rows per second (latency, ms):", "", _models(runner["engines"]), ""]
    return "\n".join(lines)


def _targets(report: Report) -> str:
    measured = [found["end_to_end"] for found in report["precisions"].values() if "end_to_end" in found]
    images = max(one["images_per_second"] for one in measured)
    share, batch = trunk_share(report, "fp16")
    fast, full = images >= IMAGES_TARGET, share >= SHARE_TARGET and batch == TRUNK_BATCH
    rows = [
        ("images/s end to end, two persons each", f"{images:.1f}", f">= {IMAGES_TARGET}", _met(fast)),
        (
            f"encoders' FLOP/s at batch {batch}, share of the FP16 ceiling",
            f"{share:.2f}",
            f">= {SHARE_TARGET}",
            _met(full),
        ),
    ]
    return markdown(("what", "measured", "target", ""), rows)


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _parity(found: Report) -> str:
    header = ("parity with the official code", "largest error on logits", "allowed", "exclusion order", "")
    rows = []
    for name, runner in found["runners"].items():
        p = runner["parity"]
        order, verdict = "same" if p["same_order"] else "differs", "pass" if p["passed"] else "FAIL"
        rows.append((name, f"{max(p['errors'].values()):.1e}", f"{p['tolerance']:.0e}", order, verdict))
    return markdown(header, rows)


def plans_table(variants: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """What building the plans took, how far each is from ONNX Runtime, and what TensorRT says its layers put out."""
    header = ("plan", "kind", "MB", "built in, s", "error against ONNX Runtime", "allowed", "layers", "")
    table = []
    for variant, rows in variants.items():
        for row in rows:
            parity, precisions = row["parity"], row["sidecar"].get("layer_precisions", {})
            errors = (f"{parity['max_error']:.1e}", f"{parity['tolerance']:.0e}") if parity else ("", "")
            layers = ", ".join(f"{count} {kind}" for kind, count in sorted(precisions.items()))
            verdict = "pass" if row["status"] in ("built", "kept") else row["problem"] or row["status"]
            cells = (row["name"], variant, f"{row['megabytes']:.1f}", f"{row['seconds']:.0f}")
            table.append((*cells, *errors, layers, verdict.replace("|", "/")))
    return markdown(header, table)


def _end_to_end(found: Report) -> Iterator[str]:
    if (e := found.get("end_to_end")) is None:
        return
    yield (
        f"End to end in one process (PyTorch; JPEG 640x480, two persons given): {e['images_per_second']:.1f} images/s, "
        f"{e['persons_per_second']:.1f} persons/s, over {e['images']:.0f} images."
    )


def _models(models: Mapping[str, list[Mapping[str, float]]]) -> str:
    batches = sorted({int(row["batch"]) for rows in models.values() for row in rows})
    table = []
    for name, rows in models.items():
        cells = {int(row["batch"]): f"{row['per_second']:.0f} ({row['ms']:.2f})" for row in rows}
        table.append([name, *(cells.get(batch, "") for batch in batches)])
    return markdown(("batch", *map(str, batches)), table)


def slug(report: Report) -> str:
    """A name for the report's directory."""
    return "gpu-" + re.sub(r"[^a-z0-9]+", "-", str(report["machine"]["name"]).lower()).strip("-")


def write(report: Report, directory: Path) -> None:
    """report.json and report.md."""
    write_json(directory / "report.json", report)
    write_text(directory / "report.md", to_markdown(report))
