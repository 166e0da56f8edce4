"""A build in the making: what belongs in it beside ONNX files and plans, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from cocoer.labels import EMOTIC_LABELS
from cocoer_bls import manifest
from cocoer_bls.manifest import LABELS_FILE
from cocoer_bls.plans import PLAN_FILE, SIDECAR_FILE
from export import MODEL_CODE
from export.files import known_digest, read_json, write_bytes, write_json, write_text
from export.options import Options
from export.publishing.compiling import compiled, library_path
from export.publishing.configs import all_configs, to_text
from export.publishing.layout import ONNX_FILE, RECORD_FILE, build_path

PLAN_FILES = (PLAN_FILE, SIDECAR_FILE)
MODEL_FILE = f"""\
# What Triton's Python backend loads.
import sys
from pathlib import Path

# Triton looks in the directory that the server was started in, and in Python's packages, before it looks here: a
# checkout of another version may be there.
sys.path.insert(0, str(Path(__file__).parent))
from {MODEL_CODE.name}.model import TritonPythonModel
"""


class NotWhole(Exception):
    """A build's files on disk are not those that were verified."""


def complete(options: Options, build: dict[str, Any]) -> str:
    """Write everything but ONNX files and plans: configurations, labels, the BLS and what it should know of the build.

    Returns its ``identity``.

    What else lies there, of an attempt with other options, is removed.

    Args:
        options: of the build; its ``repository`` is the directory of the build in the making.
        build: ``build.json`` but for the files.
    """
    repository, configs = options.repository, all_configs(options)
    keep = {build_path(repository)}
    for name, config in configs.items():
        made = (ONNX_FILE, RECORD_FILE, *(PLAN_FILES if config.backend == "tensorrt" else ()))
        keep |= {repository / name / "1" / own for own in made}
        for relative, text in _files(name, config).items():
            write_text(repository / name / relative, text)
            keep.add(repository / name / relative)
    if library := compiled():
        write_bytes(library_path(repository), library)
        keep.add(library_path(repository))
    _remove_others(repository, keep)
    told = {**build, "files": files_of(repository)}
    name = identity(repository, told)
    write_json(build_path(repository), {**told, "build": name})
    return name


def files_of(repository: Path) -> dict[str, str]:
    """Path -> digest of all that must fit together (``cocoer_bls.manifest``)."""
    names = (f"1/{ONNX_FILE}", *(f"1/{own}" for own in PLAN_FILES), "config.pbtxt", LABELS_FILE, f"1/{LABELS_FILE}")
    paths = [library_path(repository), *(repository / model / name for model in all_configs() for name in names)]
    return {path.relative_to(repository).as_posix(): known_digest(path) for path in paths if path.is_file()}


def identity(repository: Path, build: dict[str, Any]) -> str:
    """A name for what a build serves, the same for the same: of its files, their configurations and code."""
    texts = sorted([*repository.glob("*/config.pbtxt"), *repository.rglob("*.py")])
    digest = hashlib.sha256(json.dumps({**build, "build": None}, sort_keys=True).encode())
    for path in texts:
        digest.update(path.relative_to(repository).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def published_identity(repository: Path) -> str:
    """``identity`` of a repository as it lies there; empty where it is damaged, or no build of this version.

    Operators may have tuned it since, which makes it another.
    """
    build = read_json(build_path(repository))
    try:
        check_whole(repository)
    except NotWhole:
        return ""
    return identity(repository, build)


def check_whole(repository: Path) -> None:
    """Read every file of a build again, and compare it with what was verified.

    Raises:
        NotWhole: a file is missing, or is another one; says which.
    """
    files = read_json(build_path(repository)).get("files")
    try:
        if not isinstance(files, dict) or not manifest.check(repository, files):
            raise NotWhole(f"{repository} is not a whole build")
    except manifest.ManifestError as error:
        raise NotWhole(str(error)) from error
    for name, digest in files.items():
        file = repository / name
        record = {ONNX_FILE: RECORD_FILE, PLAN_FILE: SIDECAR_FILE}.get(file.name)
        if record and read_json(file.with_name(record)).get("sha256") != digest:
            raise NotWhole(f"{file} is not the file that was verified")


def _files(name: str, config: pb.ModelConfig) -> dict[str, str]:
    """Contents of a model's directory, but for what a build makes."""
    labels = "".join(f"{label}\n" for label in EMOTIC_LABELS)
    files = {"config.pbtxt": to_text(config)}
    if any(output.label_filename for output in config.output):
        files[LABELS_FILE] = labels
    if config.platform == "ensemble":
        # Triton wants a version directory even of an ensemble, which has nothing to put there; git and object stores
        # want a file to keep it.
        files["1/.gitkeep"] = ""
    if name == "cocoer":
        files |= {f"1/{LABELS_FILE}": labels, "1/model.py": MODEL_FILE}
        code = MODEL_CODE.rglob("*.py")
        files |= {f"1/{path.relative_to(MODEL_CODE.parent)}": path.read_text() for path in code}
    return files


def _remove_others(repository: Path, keep: set[Path]) -> None:
    for path in sorted(repository.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                shutil.rmtree(path)
        elif path not in keep and path.parent != repository:
            path.unlink()
