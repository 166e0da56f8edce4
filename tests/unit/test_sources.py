"""Which code makes engines stale when it changes."""

import ast

from export import repository
from tests.conftest import PROJECT

MAKERS = {"graphs", "onnx_export", "detector", "detector_reference", "quantise", "calibration", "verify"}
"""What ``Builder`` writes and verifies engines with."""


def imported(module):
    """Names of the modules of ``export`` that a module imports."""
    tree = ast.parse((PROJECT / "export" / f"{module}.py").read_text())
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {name.removeprefix("export.") for name in names if name.startswith("export.")}


def test_nothing_that_makes_engines_is_left_out():
    found, new = set(), set(MAKERS)
    while new:
        found |= new
        new = set().union(*map(imported, new)) - found
    assert not found & repository.NOT_OF_ENGINES
    assert "specs" in found


def test_what_is_left_out_exists():
    assert {path.stem for path in (PROJECT / "export").glob("*.py")} >= repository.NOT_OF_ENGINES


def test_a_change_is_seen_where_it_matters(tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "PROJECT", tmp_path)
    for directory in ("cocoer", "export"):
        (tmp_path / directory).mkdir()
    (tmp_path / "cocoer" / "model.py").write_text("a")
    before = repository.sources_digest()
    (tmp_path / "export" / "configs.py").write_text("a")
    assert repository.sources_digest() == before
    (tmp_path / "export" / "new.py").write_text("a")
    assert repository.sources_digest() != before
