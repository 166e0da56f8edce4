"""The Helm chart, rendered by the real helm, and what its objects are."""

from __future__ import annotations

import importlib.util
import io
import os
import stat
import subprocess
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import CACHE, PROJECT

CHART = PROJECT / "serving" / "deploy" / "helm" / "cocoer"
LAYER = "package/lib/layer.zip"


@cache
def helm() -> Path:
    """The program, unpacked from a package that carries it for AWS Lambda."""
    program = CACHE / "kubernetes" / "helm"
    if not program.is_file():
        spec = importlib.util.find_spec("aws_cdk")
        assert spec is not None
        assert spec.submodule_search_locations
        (archive,) = Path(next(iter(spec.submodule_search_locations))).glob("lambda_layer_kubectl_*/_jsii/*.tgz")
        with tarfile.open(archive) as package:
            layer = package.extractfile(LAYER)
            assert layer is not None
            content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
        program.parent.mkdir(parents=True, exist_ok=True)
        part = program.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(content)
        part.chmod(part.stat().st_mode | stat.S_IXUSR)
        part.replace(program)
    return program


def run_helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(), *map(str, arguments)], capture_output=True, text=True, check=False)


@cache
def _rendered(name: str, settings: tuple[str, ...]) -> str:
    flags = [flag for setting in settings for flag in ("--set", setting)]
    result = run_helm("template", name, CHART, "--namespace", "vision", *flags)
    assert result.returncode == 0, result.stderr
    return result.stdout


def render(*settings: str, name: str = "cocoer") -> list[dict[str, Any]]:
    """The chart's objects with some values set, as the cluster would get them."""
    return [thing for thing in yaml.load_all(_rendered(name, settings), Loader=yaml.CSafeLoader) if thing]


def the(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """One of them."""
    (found,) = [x for x in objects if x["kind"] == kind and x["metadata"]["name"] == name]
    return found
