"""What each folder of the client imports: the library none of the commands' folders, and all only what is declared."""

import ast
import os
import subprocess
import sys

import pytest

import cocoer_client
from tests.builds import PROJECT

PACKAGE = PROJECT / "client" / "cocoer_client"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
LIBRARY = "cocoer_client"
MAY = {
    LIBRARY: {LIBRARY},
    "sources": {LIBRARY, "sources"},
    "drawing": {LIBRARY, "drawing"},
    "video": {LIBRARY, "sources", "video"},
    "timeline": {LIBRARY, "drawing", "timeline"},
    "sinks": {LIBRARY, "sinks"},
    "pipeline": {LIBRARY, "sources", "drawing", "video", "sinks", "pipeline"},
    "infer": {LIBRARY, "sources", "drawing", "pipeline", "sinks", "timeline", "infer"},
    "batch": {LIBRARY, "sources", "batch"},
    "web": {LIBRARY, "drawing", "web"},
    "vlm": {LIBRARY, "sources", "drawing", "vlm"},
}
"""Folder of the importing module -> those it may import from."""
NEEDED = {"PIL", "jinja2", "numpy", "pydantic", "shtab", "tqdm", "tritonclient"}
"""Import names of what client/pyproject.toml asks for."""
OPTIONAL = {
    "exports.py": {"pandas", "supervision"},
    "results.py": {"pandas", "supervision"},  # for types
    "tables.py": {"pyarrow"},
    "sources": {"fsspec", "pyarrow"},
    "batch": {"fsspec", "pyarrow", "ray"},
    "sinks": {"pyarrow"},
    "vlm": {"openai"},
    "web": {"fastapi", "fastapi_swagger", "prometheus_client", "python_multipart", "starlette", "uvicorn"},
}
"""Module or folder -> what its extra brings."""
FOR_TYPES = {"typing_extensions"}


def imported(module):
    """Names of modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield node.module


def folder_of(module):
    return module.parts[0] if len(module.parts) > 1 else LIBRARY


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_directions(module):
    for name in imported(module):
        top, *rest = name.split(".")
        if top == LIBRARY:
            folder = rest[0] if rest and (PACKAGE / rest[0]).is_dir() else LIBRARY
            assert folder in MAY[folder_of(module)], name
        elif top not in sys.stdlib_module_names:
            extra = OPTIONAL.get(module.name, set()) | OPTIONAL.get(folder_of(module), set())
            assert top in NEEDED | FOR_TYPES | extra, name


def test_every_folder_says_what_is_in_it():
    folders = {path.parent for path in MODULES}
    assert {folder.name or LIBRARY for folder in folders} == set(MAY)
    for folder in folders:
        assert len(ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text())).splitlines()) > 1


def test_every_name_of_the_package_is_there():
    for name in cocoer_client.__all__:
        assert getattr(cocoer_client, name).__name__ == name
    assert set(cocoer_client.__all__) <= set(dir(cocoer_client))
    with pytest.raises(AttributeError, match="module 'cocoer_client' has no attribute 'Nonsense'"):
        _ = cocoer_client.Nonsense


@pytest.mark.parametrize("command", ["infer", "batch", "web", "vlm"])
def test_a_command_silences_grpc_before_it_is_imported(command):
    """gRPC looks at its variable when it is imported."""
    code = (
        "import os, sys\n"
        f"import cocoer_client.{command}\n"
        "assert 'grpc' not in sys.modules\n"
        f"import cocoer_client.{command}.command\n"
        "print(os.environ['GRPC_VERBOSITY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("NONE\n", "")
