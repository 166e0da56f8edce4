"""The Triton that comes in a wheel: its binary, its libraries, and a directory of backends for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from serving.flags import LauncherError, has_flag

BACKENDS = Path(__file__).resolve().parent / "backends"
PYTHON_BACKENDS = ("python", "onnxruntime", "openvino")
SHARED_MEMORY = Path("/dev/shm")


class WheelTriton:
    """The Triton 2.51 of nvidia-pytriton's wheel: Python backend only, CPU, for development and small machines."""

    release = "24.10"

    def __init__(self) -> None:
        spec = importlib.util.find_spec("pytriton")
        if spec is None or not spec.submodule_search_locations:
            raise LauncherError(
                "no Triton found: neither a tritonserver on PATH nor the package nvidia-pytriton; run 'make setup'"
            )
        package = Path(spec.submodule_search_locations[0])
        self.home = package / "tritonserver"
        self.libraries = package.parent / "nvidia_pytriton.libs"
        self.binary = self.home / "bin" / "tritonserver"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.stub = self.home / "python_backend_stubs" / version / "triton_python_backend_stub"
        for path in (self.binary, self.libraries, self.stub):
            if not path.exists():
                raise LauncherError(
                    f"{path} not found: this nvidia-pytriton does not fit Python {version}; reinstall with 'make setup'"
                )

    def copy_backends(self, directory: Path) -> None:
        """Fill a backend directory: the wheel's Python backend with this interpreter's stub, and ours.

        Copies: Triton refuses a backend library that a link leads out of the directory.
        """
        python = directory / "python"
        shutil.copytree(self.home / "backends" / "python", python, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(self.stub, python)
        shutil.copytree(BACKENDS, directory, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)

    def environment(self) -> dict[str, str]:
        """This process's environment, with the wheel's libraries and this interpreter's packages reachable."""
        environment = dict(os.environ)
        # The stub's interpreter ignores PYTHONPATH, and takes for its home whatever python3 is first on PATH.
        search = [str(Path(sys.executable).parent), environment.get("PATH", "")]
        libraries = [self.libraries, sysconfig.get_config_var("LIBDIR"), environment.get("LD_LIBRARY_PATH")]
        environment["PATH"] = os.pathsep.join(filter(None, search))
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(dict.fromkeys(str(path) for path in libraries if path))
        # Weights are 120 MB a model, read once per run: in huge pages that is a few percent faster.
        environment.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
        # Model directories are not ours to write bytecode into.
        environment.setdefault("PYTHONDONTWRITEBYTECODE", "1")
        return environment

    def arguments(self, directory: Path, given: Sequence[str]) -> list[str]:
        """Flags to add to the user's."""
        added = [] if has_flag(given, "--backend-directory") else [f"--backend-directory={directory}"]
        if not any("shm-region-prefix-name" in argument for argument in given):
            # Two servers on one machine must not share regions.
            added += [
                f"--backend-config={name},shm-region-prefix-name={self.region_prefix}_{name}"
                for name in PYTHON_BACKENDS
            ]
        return added

    @property
    def region_prefix(self) -> str:
        """How this server's regions in shared memory are called."""
        return f"cocoer{os.getpid()}"

    def remove_shared_memory(self) -> None:
        """Remove the regions that a killed server left behind."""
        for region in SHARED_MEMORY.glob(f"{self.region_prefix}_*"):
            region.unlink(missing_ok=True)
