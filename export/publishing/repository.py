"""The directory Triton loads: what belongs in it, and writing it without ever leaving half a file."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from cocoer.labels import EMOTIC_LABELS
from cocoer_bls.manifest import BUILD_FILE, LABELS_FILE
from cocoer_bls.plans import PLAN_FILE, SIDECAR_FILE
from export import MODEL_CODE
from export.files import known_digest, write_json, write_text
from export.options import Options
from export.publishing.configs import all_configs, to_text

logger = logging.getLogger(__name__)

REPORT_FILE = "build_report.json"
ONNX_FILE = "model.onnx"
RECORD_FILE = "engine.json"
PLAN_FILES = (PLAN_FILE, SIDECAR_FILE)


def onnx_path(repository: Path, name: str) -> Path:
    """A model's ONNX file."""
    return repository / name / "1" / ONNX_FILE


def record_path(repository: Path, name: str) -> Path:
    """What is known of an ONNX file: fingerprint, build time, parity."""
    return repository / name / "1" / RECORD_FILE


def link_onnx_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Give a repository ONNX files of another, which its build then keeps where they fit."""
    for name in names:
        for path in (onnx_path, record_path):
            link = path(target, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            os.link(path(source, name), link)


def build_path(repository: Path) -> Path:
    """What the BLS should know of the build; it refuses to load without."""
    return repository / "cocoer" / "1" / BUILD_FILE


def write_repository(options: Options, build: dict[str, object] | None) -> None:
    """Write everything but ONNX files and plans: configurations, labels, the BLS and what it should know of this build.

    With ``build`` None (ONNX files are missing, or of different builds) the BLS is left without its build file, and
    refuses to load.

    Other versions and stray files in our models' directories are removed, for Triton would load them; directories of
    other models are left alone.
    """
    repository, configs = options.repository, all_configs(options)
    for name, config in configs.items():
        files = _files(name, config)
        for relative, text in files.items():
            write_text(repository / name / relative, text)
        made = (ONNX_FILE, RECORD_FILE, BUILD_FILE, *(PLAN_FILES if config.backend == "tensorrt" else ()))
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
    """Path -> digest of all that must fit together (``cocoer_bls.manifest``)."""
    names = (f"1/{ONNX_FILE}", *(f"1/{own}" for own in PLAN_FILES), "config.pbtxt", LABELS_FILE, f"1/{LABELS_FILE}")
    paths = [repository / model / name for model in all_configs() for name in names]
    return {path.relative_to(repository).as_posix(): known_digest(path) for path in paths if path.is_file()}


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
