"""The ``tritonserver`` command of the environment: a real Triton if there is one, else the one in a wheel.

Every flag goes through to Triton. What is added, where the user does not say otherwise: loopback addresses, and for
the wheel's binary the backends (Python, and ``onnxruntime`` from ``serving/backends``) and its libraries.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

CONTAINER_BINARY = Path("/opt/tritonserver/bin/tritonserver")
BACKENDS = Path(__file__).resolve().parent / "backends"
ADDRESS_FLAGS = ("--http-address", "--grpc-address", "--metrics-address")
PYTHON_BACKENDS = ("python", "onnxruntime")


class LauncherError(Exception):
    """Triton can't be started; the message says why and what to do."""


def has_flag(arguments: Sequence[str], flag: str) -> bool:
    """Whether a command line sets ``--flag value`` or ``--flag=value``.

    >>> has_flag(["--http-port=1"], "--http-port"), has_flag(["--http-port", "1"], "--http")
    (True, False)
    """
    return any(argument == flag or argument.startswith(f"{flag}=") for argument in arguments)


def loopback_arguments(arguments: Sequence[str]) -> list[str]:
    """Address flags to add so that no port is open to the network unless asked for.

    >>> loopback_arguments(["--http-address", "0.0.0.0"])
    ['--grpc-address=127.0.0.1', '--metrics-address=127.0.0.1']
    """
    # Triton's metrics follow the HTTP address unless told otherwise, also when that one is opened on purpose.
    return [f"{flag}=127.0.0.1" for flag in ADDRESS_FLAGS if not has_flag(arguments, flag)]


def find_installed(search_path: str | None = None) -> Path | None:
    """A real Triton: NVIDIA's container's, or another ``tritonserver`` on PATH than this command."""
    if CONTAINER_BINARY.is_file():
        return CONTAINER_BINARY
    own = {Path(sys.argv[0]).resolve(), Path(sysconfig.get_path("scripts")).resolve() / "tritonserver"}
    for directory in (search_path if search_path is not None else os.environ.get("PATH", "")).split(os.pathsep):
        candidate = Path(directory) / "tritonserver"
        if directory and os.access(candidate, os.X_OK) and candidate.is_file() and candidate.resolve() not in own:
            return candidate
    return None


class WheelTriton:
    """The Triton 2.51 of nvidia-pytriton's wheel: Python backend only, CPU, for development and small machines."""

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
                f"--backend-config={name},shm-region-prefix-name=cocoer{os.getpid()}_{name}" for name in PYTHON_BACKENDS
            ]
        return added


def _stop_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when the launcher dies, however it dies (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def run_and_forward(command: list[str], environment: dict[str, str]) -> int:
    """Run a child, pass it the signals that ask for a stop, and give its exit code (128 + n if signal n killed it)."""
    process: subprocess.Popen[bytes] | None = None
    pending: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if process is None:
            pending.append(number)
        else:
            process.send_signal(number)

    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(stop, forward)
    # Its own session: a Ctrl-C at the terminal reaches it once, through us.
    process = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_stop_with_parent)
    for number in pending:
        process.send_signal(number)
    code = process.wait()
    return code if code >= 0 else 128 - code


def main() -> int:
    """Entry point of the console script; takes ``sys.argv``."""
    given = sys.argv[1:]
    installed = find_installed()
    if installed is not None:
        os.execv(installed, [str(installed), *given, *loopback_arguments(given)])
    try:
        triton = WheelTriton()
    except LauncherError as error:
        print(f"tritonserver: {error}", file=sys.stderr)
        return 1
    directory = Path(tempfile.mkdtemp(prefix="cocoer-backends-"))
    try:
        triton.copy_backends(directory)
        added = [*loopback_arguments(given), *triton.arguments(directory, given)]
        return run_and_forward([str(triton.binary), *given, *added], triton.environment())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
