"""Memory at the peak of decoding: images of 50 megapixels of each format, each batch in a process of its own."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cocoer.labels import EMOTIC_LABELS
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS
from cocoer_bls.pipeline import Pipeline

ORIENTATION, PORTRAIT = 0x0112, 6
"""The EXIF tag, and what a phone writes that was held upright."""
PEAK = """
import sys
from benchmarks.photos_memory import most_memory, take
take(1, b"")
before = most_memory()
take(int(sys.argv[1]), sys.stdin.buffer.read())
print(most_memory() - before)
"""
FORMATS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("RGB", "JPEG", {}),
    "JPEG, turned by EXIF": ("RGB", "JPEG", {"exif": {ORIENTATION: PORTRAIT}}),
    "JPEG, progressive": ("RGB", "JPEG", {"progressive": True}),
    "JPEG, CMYK, progressive": ("CMYK", "JPEG", {"progressive": True}),
    "PNG": ("RGB", "PNG", {}),
    "PNG, alpha": ("RGBA", "PNG", {}),
    "PNG, palette": ("P", "PNG", {}),
    "WebP": ("RGB", "WEBP", {}),
}
"""Name -> mode, format, and how it is saved."""
LARGEST = (8000, 6250)


def take(count: int, data: bytes) -> None:
    """Have a batch decoded as ``cocoer`` does; of empty data, nothing, so that all is loaded."""

    def nothing(*_: object) -> dict[str, np.ndarray]:
        raise RuntimeError("nobody is to be recognised")

    pipeline = Pipeline(nothing, EMOTIC_LABELS, {"detection": "opencv"}, DEFAULT_LIMITS)
    pipeline.warm_up()
    nobody = np.zeros((0, 8), dtype=np.float32)
    jobs = [Job(data, DEFAULT_OPTIONS, nobody) for _ in range(count if data else 0)]
    pipeline.run(jobs)
    for job in jobs:
        if job.error:
            raise job.error


def most_memory() -> int:
    """The largest RSS of this process so far, bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def peak(form: str, count: int) -> int:
    """Bytes that ``count`` images of 50 megapixels take at the peak, in one batch, beyond what the process has."""
    mode, kind, how = FORMATS[form]
    exif = Image.Exif()
    for tag, value in how.get("exif", {}).items():
        exif[tag] = value
    stream = io.BytesIO()
    Image.new(mode, LARGEST).save(stream, kind, **{**how, "exif": exif} if "exif" in how else how)
    command = [sys.executable, "-c", PEAK, str(count)]
    run = subprocess.run(command, input=stream.getvalue(), stdout=subprocess.PIPE, check=True)
    return int(run.stdout)
