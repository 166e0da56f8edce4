"""What each folder of the client imports: the library none of the commands' folders, and all only what is declared."""

import ast
import sys

import pytest

from tests.builds import PROJECT

PACKAGE = PROJECT / "client" / "cocoer_client"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
LIBRARY = "cocoer_client"
MAY = {
    LIBRARY: {LIBRARY},
    "drawing": {LIBRARY, "drawing"},
    "video": {LIBRARY, "video"},
    "infer": {LIBRARY, "drawing", "video", "infer"},
    "batch": {LIBRARY, "batch"},
}
"""Folder of the importing module -> those it may import from."""
NEEDED = {"PIL", "jinja2", "numpy", "pydantic", "shtab", "tqdm", "tritonclient"}
"""Import names of what client/pyproject.toml asks for."""
OPTIONAL = {"optional.py": {"cv2"}, "batch": {"fsspec", "pyarrow", "ray"}}
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
