"""Which code makes engines stale when it changes: what an engine is made with lies in the folders that count."""

import ast

import pytest

from export.publishing import repository
from tests.conftest import PROJECT

WRITERS = (
    "export/models/graphs.py",
    "export/models/onnx_export.py",
    "export/detectors/scrfd.py",
    "export/precision/int8.py",
)
"""What ``Builder`` writes engines with."""


def imported(path):
    """The project's modules that a module imports."""
    tree = ast.parse(path.read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    roots = {"cocoer_bls": PROJECT / "model_repository" / "cocoer" / "1", "cocoer": PROJECT, "export": PROJECT}
    files = {
        roots[name.split(".")[0]] / (name.replace(".", "/") + ".py") for name in names if name.split(".")[0] in roots
    }
    return {file for file in files if file.is_file()}


def counts(path):
    return any((PROJECT / name) in (path, *path.parents) for name in repository.ENGINE_SOURCES)


def test_all_that_makes_engines_counts():
    found, new = set(), {PROJECT / name for name in WRITERS}
    while new:
        found |= new
        new = set().union(*map(imported, new)) - found
    assert not [path for path in found if not counts(path)]
    assert PROJECT / "export" / "models" / "specs.py" in found


def test_what_counts_exists():
    assert all((PROJECT / name).exists() for name in repository.ENGINE_SOURCES)


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("cocoer/network/new.py", True),
        ("export/models/new.py", True),
        ("export/publishing/configs.py", False),
        ("export/plans/new.py", False),
        ("export/build_engines.py", False),
    ],
)
def test_a_change_is_seen_where_it_matters(name, stale, tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "PROJECT", tmp_path)
    for source in repository.ENGINE_SOURCES:
        path = tmp_path / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("") if path.suffix else path.mkdir(exist_ok=True)
    before = repository.sources_digest()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("a")
    assert (repository.sources_digest() != before) == stale
