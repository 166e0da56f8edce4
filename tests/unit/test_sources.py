"""Which code makes ONNX files stale when it changes: what they are made with lies in the folders that count."""

import ast

import pytest

from export import sources
from tests.conftest import PROJECT

WRITERS = ("export/models/__init__.py", "export/precision/int8.py")
"""What ``OnnxBuild`` writes ONNX files with: the models, and the quantiser."""


EMPTY = {PROJECT / "export" / "__init__.py"}
"""Says where the checkout is, and nothing of what is in an ONNX file."""


def imported(path):
    """The project's modules that a module imports."""
    tree = ast.parse(path.read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = {name for node in froms for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))}
    ours = {name for name in names if name.split(".")[0] in ("cocoer_bls", "cocoer", "export")}
    places = {PROJECT / name.replace(".", "/") for name in ours}
    files = {file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")} - EMPTY
    return {file for file in files if file.is_file()}


def counts(path):
    return any((PROJECT / name) in (path, *path.parents) for name in sources.SOURCES)


def test_all_that_makes_onnx_files_counts():
    found, new = set(), {PROJECT / name for name in WRITERS}
    while new:
        found |= new
        new = set().union(*map(imported, new)) - found
    assert not [path for path in found if not counts(path)]
    assert PROJECT / "export" / "models" / "tensors.py" in found
    assert PROJECT / "export" / "detectors" / "scrfd.py" in found
    assert PROJECT / "cocoer_bls/inputs.py" in found


def test_what_counts_exists():
    assert all((PROJECT / name).exists() for name in sources.SOURCES)


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("cocoer/network/new.py", True),
        ("export/models/new.py", True),
        ("export/publishing/configs.py", False),
        ("export/plans/new.py", False),
        ("export/build_engines.py", False),
        ("export/options.py", False),
        ("export/verification/new.py", False),
        ("export/detectors/new.py", True),
        ("export/precision/new.py", True),
        ("export/graphs/new.py", True),
        ("cocoer_bls/pipeline.py", False),
        ("cocoer_bls/images.py", True),
    ],
)
def test_a_change_is_seen_where_it_matters(name, stale, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PROJECT", tmp_path)
    for source in sources.SOURCES:
        path = tmp_path / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("") if path.suffix else path.mkdir(exist_ok=True)
    before = sources.sources_digest()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("a")
    assert (sources.sources_digest() != before) == stale
