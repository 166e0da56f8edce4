"""What names the real TensorRT has: its Python bindings, imported over empty libraries, say so without a GPU."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.conftest import CACHE, DATA

VERSIONS = ("10.16.0.72", "11.4.0.106")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""What the bindings want from the libraries at import; called, they find nothing."""

# Names of every class of the module; of an enumeration, its members' values; the module's functions; and what else is
# a member of an enumeration, as float32 is DataType.FLOAT. Class -> names of its methods' arguments can't be had:
# pybind11 keeps them in docstrings.
DUMP = """
import json, tensorrt_bindings as trt
api = {"__version__": trt.__version__, "functions": [], "constants": {}}
for name in dir(trt):
    thing = getattr(trt, name)
    if hasattr(type(thing), "__members__"):
        api["constants"][name] = f"{type(thing).__name__}.{thing.name}"
    elif callable(thing) and not isinstance(thing, type):
        api["functions"].append(name)
    if isinstance(thing, type):
        members = getattr(thing, "__members__", None)
        api[name] = {m: int(v) for m, v in members.items()} if members else [m for m in dir(thing)]
print(json.dumps(api))
"""


def shared_library(path: Path, source: str) -> None:
    """Compile C into a library whose name is its file's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), f"-Wl,-soname,{path.name}"]
    subprocess.run(command, input=source, text=True, check=True)


@cache
def api(version: str) -> dict[str, Any]:
    """Class -> its names, or an enumeration's members; ``__version__``, ``functions``, ``constants``."""
    home = CACHE / f"tensorrt-{version}"
    dump = home / f"api-{hashlib.sha256(DUMP.encode()).hexdigest()[:8]}.json"
    if not dump.is_file():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        lock = DATA / f"tensorrt-{version}.lock"
        if not (home / "tensorrt_bindings").is_dir():
            subprocess.run([*pip, "--require-hashes", "--upgrade", "--target", home, "-r", lock], check=True)
        major = version.partition(".")[0]
        source = "".join(f"void *{name}() {{ return 0; }}\n" for name in FUNCTIONS)
        for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            shared_library(home / "lib" / f"lib{library}.so.{major}", source)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(home / "lib"), "PYTHONPATH": str(home)}
        result = subprocess.run(
            [sys.executable, "-c", DUMP], env=environment, capture_output=True, text=True, check=True
        )
        dump.write_text(result.stdout)
    return json.loads(dump.read_text())


if __name__ == "__main__":  # make setup-dev, so that the unit tests need no network
    for bindings in VERSIONS:
        api(bindings)
