"""Who imports whom: read from the source, imports inside functions too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import PROJECT

ROOTS = {
    "cocoer": "cocoer",
    "cocoer_bls": "cocoer_bls",
    "cocoer_client": "client/cocoer_client",
    "export": "export",
    "serving": "serving",
    "benchmarks": "benchmarks",
    "tests": "tests",
    "tools": "tools",
}
"""Import name -> directory of a package."""
ALLOWED: dict[str, set[str]] = {
    "cocoer": set(),
    "cocoer_bls": set(),
    "cocoer_client": set(),
    "export": {"cocoer", "cocoer_bls", "serving"},
    "serving": set(),
    "benchmarks": {"cocoer", "cocoer_bls", "cocoer_client", "export", "serving"},
    "tools": {"cocoer", "cocoer_bls", "export"},
}
"""Of ours, what a package may import beside itself."""
NOT_YET = {("cocoer.checkpoints.synthetic", "export.detectors.synthetic")}
"""To be removed with the import."""
SERVED = {"numpy", "cv2", "PIL", "simplejpeg", "pillow_heif"}
"""What a stock container is given for the Python model."""
SCRIPT_FOLDERS = ("benchmarks", "client", "export", "tools")
"""Scripts there are started by their path, so that the folder comes first on sys.path."""


@dataclass(frozen=True)
class Import:
    """One imported module, absolute; ``module`` is as far as it is a module of ours, else as written."""

    where: str
    line: int
    module: str
    at_start: bool
    """Run when the importing module is imported: not in a function, not for type checkers alone."""

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.where}:{self.line} imports {self.module}"


@cache
def files() -> dict[str, Path]:
    """Dotted name -> every tracked Python file; those of no package go by their path."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return {name_of(Path(name)): Path(name) for name in filter(None, listed.split("\0")) if (PROJECT / name).exists()}


def name_of(file: Path) -> str:
    """
    >>> name_of(Path("client/cocoer_client/video/__init__.py")), name_of(Path("client/infer.py"))
    ('cocoer_client.video', 'client/infer.py')
    """
    for package, directory in ROOTS.items():
        if file.is_relative_to(directory):
            parts = file.relative_to(directory).with_suffix("").parts
            if package == "serving" and "backends" in parts:  # loaded by Triton, by its path
                break
            return ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))
    return file.as_posix()


def is_for_types(node: ast.stmt) -> bool:
    """``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(body: list[ast.stmt], at_start: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """All of them, however deep, and whether importing the module runs them."""
    for node in body:
        yield node, at_start
        inside = at_start and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not is_for_types(node)
        for field in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, field, []), inside if field == "body" else at_start)
        for block in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
            yield from statements(block.body, inside)


def imports_of(text: str, name: str, is_package: bool, known: Mapping[str, object]) -> list[Import]:
    """What a module imports."""
    found = []
    for node, at_start in statements(ast.parse(text).body):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: len(name.split(".")) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            # ``from package import module`` imports both.
            modules = [origin, *(f"{origin}.{a.name}" for a in node.names if f"{origin}.{a.name}" in known)]
        else:
            continue
        found += [Import(name, node.lineno, module, at_start) for module in modules]
    return found


@cache
def imports() -> dict[str, list[Import]]:
    """Module -> its imports."""
    return {
        name: imports_of((PROJECT / path).read_text(), name, path.name == "__init__.py", files())
        for name, path in files().items()
    }


def of_package(package: str) -> list[Import]:
    return [one for name, found in imports().items() if name.split(".")[0] == package for one in found]


def told(found: list[Import]) -> list[str]:
    return [str(one) for one in found]


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of an import circle; none: empty."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def at_start(found: Mapping[str, list[Import]]) -> dict[str, set[str]]:
    """Module -> what its import imports. A package is there when its modules are imported: that makes no circle."""
    return {
        name: {
            one.module
            for one in own
            if one.at_start and one.module in found and one.module != name and not name.startswith(one.module + ".")
        }
        for name, own in found.items()
    }


def read(modules: dict[str, str]) -> dict[str, list[Import]]:
    packages = {name.rpartition(".")[0] for name in modules}
    return {name: imports_of(text, name, name in packages, modules) for name, text in modules.items()}


def test_the_reader_sees_what_there_is():
    """Each form of import, in each place."""
    found = read(
        {
            "a": "",
            "a.b": "from . import c\nfrom .c import x\nimport os.path as p\nif True:\n    import json\n",
            "a.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import b\n"
            "def f():\n    try:\n        import sys\n    except ImportError:\n        import re\n",
        }
    )
    assert [(one.module, one.at_start) for one in found["a.b"]] == [
        ("a", True),
        ("a.c", True),
        ("a.c", True),
        ("os.path", True),
        ("json", True),
    ]
    late = {one.module for one in found["a.c"] if not one.at_start}
    assert late == {"a", "a.b", "sys", "re"}
    assert circle(at_start(found)) == []
    found["a.c"] += read({"a.b": "", "a.c": "import a.b"})["a.c"]
    assert set(circle(at_start(found))) == {"a.b", "a.c"}


def test_every_package_is_read():
    assert {package for package in ROOTS if len(of_package(package)) > 3} == set(ROOTS)


@pytest.mark.parametrize("package", ALLOWED)
def test_direction(package):
    others = set(ROOTS) - ALLOWED[package] - {package}
    found = [one for one in of_package(package) if one.top in others and (one.where, one.module) not in NOT_YET]
    assert told(found) == []


def test_the_network_knows_nothing_of_onnx_or_triton():
    forbidden = {"onnx", "onnxruntime", "onnxscript", "tritonclient", "triton_python_backend_utils", "tensorrt"}
    assert told([one for one in of_package("cocoer") if one.top in forbidden]) == []


def test_serving_needs_pythons_own_library_alone():
    allowed = sys.stdlib_module_names | {"serving"}
    assert told([one for one in of_package("serving") if one.top not in allowed]) == []


def test_the_served_model_needs_what_a_container_has():
    allowed = sys.stdlib_module_names | SERVED | {"cocoer_bls"}
    model = imports()["cocoer_bls.model"]
    assert told([one for one in model if one.top not in allowed | {"triton_python_backend_utils"}]) == []
    others = [one for one in of_package("cocoer_bls") if one.where != "cocoer_bls.model"]
    assert told([one for one in others if one.top not in allowed]) == []
    backend = imports()["serving/backends/onnxruntime/model.py"]
    own = {"numpy", "onnxruntime", "triton_python_backend_utils"}
    assert told([one for one in backend if one.top not in sys.stdlib_module_names | own]) == []


def test_scripts_of_the_client_are_the_clients():
    scripts = [one for name, found in imports().items() if name.startswith("client/") for one in found]
    assert scripts
    assert told([one for one in scripts if one.top not in sys.stdlib_module_names | {"cocoer_client"}]) == []


def test_no_circle():
    """Of what is run when a module is imported."""
    assert circle(at_start(imports())) == []


def test_nobody_changes_the_path():
    """The editable install maps what is needed."""
    changes = []
    for name, path in files().items():
        for node in ast.walk(ast.parse((PROJECT / path).read_text())):
            is_path = isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"
            by_name = (
                isinstance(node, ast.ImportFrom) and node.module == "sys" and "path" in {a.name for a in node.names}
            )
            site = isinstance(node, ast.Attribute) and ast.unparse(node) == "site.addsitedir"
            if is_path or by_name or site:
                changes.append(f"{name}:{ast.unparse(node)}")
    assert changes == []


def test_no_script_folder_hides_a_module():
    """``python export/x.py`` puts export/ first on sys.path: a module there would hide a package of its name."""
    known = {name.lower() for name in sys.stdlib_module_names | set(packages_distributions())}
    hidden = []
    for folder in SCRIPT_FOLDERS:
        for entry in (PROJECT / folder).iterdir():
            name = entry.stem if entry.suffix == ".py" else entry.name
            importable = entry.suffix == ".py" or (entry.is_dir() and any(entry.glob("*.py")))
            if importable and name != "__init__" and name.lower() in known - set(ROOTS):
                hidden.append(f"{folder}/{entry.name}")
    assert hidden == []
