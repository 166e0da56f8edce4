"""The ``tritonserver`` command of the environment: a real Triton if there is one, else the one in a wheel.

Every flag goes through to Triton. What is added, where the user does not say otherwise: what makes it safe
(``secure_arguments``), and for the wheel's binary the backends (Python, and ``onnxruntime`` from ``serving/backends``)
and its libraries. A supervisor starts a server anew that has lost a model's process.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
import re
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from serving.drain import Drain
from serving.supervisor import Supervisor

logger = logging.getLogger(__name__)

CONTAINER_BINARY = Path("/opt/tritonserver/bin/tritonserver")
BACKENDS = Path(__file__).resolve().parent / "backends"
ADDRESS_FLAGS = ("--http-address", "--grpc-address", "--metrics-address")
PYTHON_BACKENDS = ("python", "onnxruntime")
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY = 256 << 20
MOST_DRAIN = 20.0
"""Seconds for what is running when the server is asked to stop; Triton's default for all of stopping is 30."""

RESTRICTED = "shared-memory,model-repository,trace,logging"
"""Protocols that change a running server."""
KEY_HEADER, KEY_VARIABLE = "triton-admin-key", "COCOER_ADMIN_KEY"
FIXED_RELEASE = (26, 3)
KNOWN_CVES = ("CVE-2025-23310", "CVE-2025-23311", "CVE-2025-23316", "CVE-2025-23319", "CVE-2026-24207")
"""The gravest that releases before ``FIXED_RELEASE`` have; NVIDIA's bulletins have them all."""
ACCEPT_VARIABLE = "COCOER_ACCEPT_VULNERABLE_TRITON"


class LauncherError(Exception):
    """Triton can't be started; the message says why and what to do."""


def has_flag(arguments: Sequence[str], flag: str) -> bool:
    """Whether a command line sets ``--flag value`` or ``--flag=value``.

    >>> has_flag(["--http-port=1"], "--http-port"), has_flag(["--http-port", "1"], "--http")
    (True, False)
    """
    return any(argument == flag or argument.startswith(f"{flag}=") for argument in arguments)


def flag_value(arguments: Sequence[str], flag: str) -> str:
    """What a command line sets a flag to, the last time; empty where it doesn't.

    >>> flag_value(["--http-port", "1", "--http-port=2"], "--http-port")
    '2'
    """
    value = ""
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            value = arguments[index + 1]
        elif argument.startswith(f"{flag}="):
            value = argument.partition("=")[2]
    return value


def secure_arguments(arguments: Sequence[str]) -> list[str]:
    """Flags to add, each where the user does not set it.

    No port is open to the network; all models load at the start, or the server does not; and what changes a running
    server (shared memory, models, logging, tracing) wants a header with a key that nobody has, unless
    ``COCOER_ADMIN_KEY`` gives it.
    """
    key = os.environ.get(KEY_VARIABLE) or secrets.token_urlsafe(32)
    defaults = {
        # Triton's metrics follow the HTTP address unless told otherwise, also when that one is opened on purpose.
        **dict.fromkeys(ADDRESS_FLAGS, "127.0.0.1"),
        "--model-control-mode": "none",
        "--exit-on-error": "true",
        "--strict-readiness": "true",
        "--http-restricted-api": f"{RESTRICTED}:{KEY_HEADER}={key}",
        "--grpc-restricted-protocol": f"{RESTRICTED}:{KEY_HEADER}={key}",
    }
    return [f"{flag}={value}" for flag, value in defaults.items() if not has_flag(arguments, flag)]


def drain_of(arguments: Sequence[str]) -> Drain:
    """How to let the server of this command line finish before it stops.

    >>> drain_of(["--http-port=1", "--http-address", "0.0.0.0", "--allow-metrics=false"])
    Drain(http=('127.0.0.1', 1), metrics=None, seconds=20.0)
    """

    def endpoint(name: str, port: int) -> tuple[str, int] | None:
        if flag_value(arguments, f"--allow-{name}").lower() in ("false", "0"):
            return None
        address = flag_value(arguments, f"--{name}-address")
        given = flag_value(arguments, f"--{name}-port")
        return "127.0.0.1" if address in ("", "0.0.0.0") else address, int(given) if given.isdecimal() else port

    # Triton gives up waiting for connections after its own time, and calls that a failure.
    limit = flag_value(arguments, "--exit-timeout-secs")
    seconds = min(MOST_DRAIN, max(0.0, float(limit) - 5)) if limit.isdecimal() else MOST_DRAIN
    return Drain(endpoint("http", 8000), endpoint("metrics", 8002), seconds)


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


def installed_release() -> str:
    """Release of an installed Triton ("26.03"), as NVIDIA's containers tell it; empty where nothing does."""
    return os.environ.get("NVIDIA_TRITON_SERVER_VERSION", "")


def check_exposure(release: str, arguments: Sequence[str]) -> None:
    """Keep a Triton with known vulnerabilities off the network.

    Raises:
        LauncherError: an address that is not loopback, and an old release.
    """
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if not numbers or (int(numbers[1]), int(numbers[2])) >= FIXED_RELEASE or os.environ.get(ACCEPT_VARIABLE) == "1":
        return
    exposed = [address for flag in ADDRESS_FLAGS if not is_loopback(address := flag_value(arguments, flag))]
    if exposed:
        raise LauncherError(
            f"Triton {release} has known vulnerabilities ({', '.join(KNOWN_CVES)}), so it may not listen on "
            f"{exposed[0]}. Use NVIDIA's container {FIXED_RELEASE[0]}.{FIXED_RELEASE[1]:02d} or later; or, if only you "
            f"can reach that address, set {ACCEPT_VARIABLE}=1"
        )


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def warn_of_small_shared_memory() -> None:
    """Tensors travel between Triton and its Python models in /dev/shm; Docker gives it 64 MB."""
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < LEAST_SHARED_MEMORY:
        logger.warning(
            "%s has only %d MB free; requests may fail. In a container: --shm-size=1g", SHARED_MEMORY, free >> 20
        )


def main() -> int:
    """Entry point of the console script; takes ``sys.argv``."""
    logging.basicConfig(format="tritonserver: %(message)s", level=logging.WARNING)
    given = sys.argv[1:]
    try:
        warn_of_small_shared_memory()
        installed = find_installed()
        if installed is not None:
            arguments = [*given, *secure_arguments(given)]
            check_exposure(installed_release(), arguments)
            return Supervisor([str(installed), *arguments], os.environ, drain_of(arguments)).run()
        return run_wheel(WheelTriton(), given)
    except LauncherError as error:
        logger.error("%s", error)
        return 1


def run_wheel(triton: WheelTriton, given: Sequence[str]) -> int:
    """Serve with the wheel's Triton; its exit code.

    Raises:
        LauncherError: it would be exposed, or there is no room for its backends.
    """
    added = secure_arguments(given)
    check_exposure(triton.release, [*given, *added])
    directory = Path(tempfile.mkdtemp(prefix="cocoer-backends-"))
    try:
        try:
            triton.copy_backends(directory)
        except (OSError, shutil.Error) as error:
            raise LauncherError(
                f"can't copy Triton's backends to {directory}: {error}; TMPDIR chooses another place"
            ) from error
        command = [str(triton.binary), *given, *added, *triton.arguments(directory, given)]
        return Supervisor(command, triton.environment(), drain_of(command), triton.remove_shared_memory).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
