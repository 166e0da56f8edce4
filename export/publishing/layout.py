"""Where the files of a repository lie."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from cocoer_bls.manifest import BUILD_FILE

REPORT_FILE = "build_report.json"
ONNX_FILE = "model.onnx"
RECORD_FILE = "engine.json"
MARKER = ".in-the-making"
"""Lies in a build until it is published, and is removed right afterwards."""


def onnx_path(repository: Path, name: str) -> Path:
    """A model's ONNX file."""
    return repository / name / "1" / ONNX_FILE


def record_path(repository: Path, name: str) -> Path:
    """What is known of an ONNX file: fingerprint, build time, parity."""
    return repository / name / "1" / RECORD_FILE


def build_path(repository: Path) -> Path:
    """What the BLS should know of the build; it refuses to load without."""
    return repository / "cocoer" / "1" / BUILD_FILE


def link_file(source: Path, target: Path) -> None:
    """Let ``target``, which must not exist, be the same file as ``source``; a copy where there are no hard links.

    Without a source nothing happens.
    """
    if not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            shutil.copy2(source, target)
