"""Which code decides what an ONNX file is, so that a change in it makes the file stale."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from export import PROJECT

SOURCES = (
    "cocoer",
    "export/models",
    "export/detectors",
    "export/precision",
    "export/graphs",
    # What models are calibrated and verified with is what the server makes of an image.
    "cocoer_bls/boxes.py",
    "cocoer_bls/decoding",
    "cocoer_bls/errors.py",
    "cocoer_bls/files.py",
    "cocoer_bls/images.py",
    "cocoer_bls/inputs.py",
    "cocoer_bls/resampling",
)
"""A change in one of these makes ONNX files stale, anywhere else it does not."""


def sources_digest() -> str:
    """SHA-256 over the code that decides what an ONNX file is."""
    digest = hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in _modules(PROJECT / name)):
        digest.update(path.relative_to(PROJECT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _modules(path: Path) -> Iterable[Path]:
    return path.rglob("*.py") if path.is_dir() else [path]
