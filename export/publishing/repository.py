"""The directory Triton loads: what belongs in it, and writing it without ever leaving half a file."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from cocoer.files import replace_file
from cocoer.labels import EMOTIC_LABELS
from cocoer_bls.manifest import digest_of
from cocoer_bls.plans import PLAN_FILE, SIDECAR_FILE
from export import MODEL_CODE, PROJECT
from export.publishing.configs import LABELS_FILE, all_configs, to_text
from export.serving_options import Serving

logger = logging.getLogger(__name__)

REPORT_FILE = "build_report.json"
ENGINE_FILE = "model.onnx"
RECORD_FILE = "engine.json"
BUILD_FILE = "build.json"
PLAN_FILES = (PLAN_FILE, SIDECAR_FILE)
ENGINE_SOURCES = (
    "cocoer",
    "export/models",
    "export/detectors",
    "export/precision",
    "model_repository/cocoer/1/cocoer_bls/boxes.py",
    "model_repository/cocoer/1/cocoer_bls/images.py",
)
"""What decides what an engine is: a change in one of these makes engines stale, anywhere else it does not."""


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; leaves it alone if it already says so."""
    if not path.is_file() or path.read_text() != text:
        replace_file(path, lambda temporary: temporary.write_text(text))


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file or it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def engine_path(repository: Path, name: str) -> Path:
    return repository / name / "1" / ENGINE_FILE


def build_path(repository: Path) -> Path:
    """What the BLS should know of the build; it refuses to load without."""
    return repository / "cocoer" / "1" / BUILD_FILE


def record_path(repository: Path, name: str) -> Path:
    """What is known of an engine: fingerprint, build time, parity."""
    return repository / name / "1" / RECORD_FILE


def sources_digest() -> str:
    """SHA-256 over the code that decides what an engine is."""
    digest = hashlib.sha256()
    for path in sorted(path for name in ENGINE_SOURCES for path in _modules(PROJECT / name)):
        digest.update(path.relative_to(PROJECT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _modules(path: Path) -> Iterable[Path]:
    return path.rglob("*.py") if path.is_dir() else [path]


def write_repository(repository: Path, serving: Serving, build: dict[str, object] | None) -> None:
    """Write everything but the engines: configurations, labels, the BLS and what it should know of this build.

    With ``build`` None (engines are missing, or of different builds) the BLS is left without its build file, and
    refuses to load.

    Other versions and stray files in our models' directories are removed, for Triton would load them; directories of
    other models are left alone.
    """
    configs = all_configs(serving)
    for name, config in configs.items():
        files = _files(name, config)
        for relative, text in files.items():
            write_text(repository / name / relative, text)
        made = (ENGINE_FILE, RECORD_FILE, BUILD_FILE, *(PLAN_FILES if config.backend == "tensorrt" else ()))
        _remove_others(repository / name, keep={*files, *(f"1/{own}" for own in made)})
    # Last: its presence says that the rest is there, and belongs together.
    if build is None:
        build_path(repository).unlink(missing_ok=True)
    else:
        write_json(build_path(repository), {**build, "files": manifest(repository)})
    strangers = {path.name for path in repository.iterdir() if path.is_dir()} - set(configs)
    if strangers:
        logger.warning("%s also holds %s; Triton will try to load that", repository, ", ".join(sorted(strangers)))


def manifest(repository: Path) -> dict[str, str]:
    """Path -> digest of all that must fit together: engines, configurations, labels (``cocoer_bls.manifest``)."""
    names = (f"1/{ENGINE_FILE}", *(f"1/{own}" for own in PLAN_FILES), "config.pbtxt", LABELS_FILE, f"1/{LABELS_FILE}")
    paths = [repository / model / name for model in all_configs() for name in names]
    return {path.relative_to(repository).as_posix(): known_digest(path) for path in paths if path.is_file()}


def known_digest(path: Path) -> str:
    """``digest_of`` a file, which is read again only if it has changed: engines have hundreds of megabytes."""
    status = path.stat()
    return _digest_at(path, status.st_ino, status.st_size, status.st_mtime_ns)


@cache
def _digest_at(path: Path, _inode: int, _size: int, _modified: int) -> str:
    return digest_of(path)


def _files(name: str, config: pb.ModelConfig) -> dict[str, str]:
    """Contents of a model's directory, but for what a build makes."""
    labels = "".join(f"{label}\n" for label in EMOTIC_LABELS)
    files = {"config.pbtxt": to_text(config)}
    if any(output.label_filename for output in config.output):
        files[LABELS_FILE] = labels
    if config.platform == "ensemble":
        # Triton wants a version directory even of an ensemble, which has nothing to put there; git wants a file to
        # keep it.
        files["1/.gitkeep"] = ""
    if name == "cocoer":
        files[f"1/{LABELS_FILE}"] = labels
        files |= {f"1/{path.relative_to(MODEL_CODE)}": path.read_text() for path in MODEL_CODE.rglob("*.py")}
    return files


def _remove_others(directory: Path, keep: set[str]) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(directory).as_posix() not in keep:
            logger.info("removing %s", path)
            path.unlink()
    for path in directory.iterdir():
        if path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path)
