"""The ``tritonserver`` command of the environment: a real Triton if there is one, else the one in a wheel.

Every flag goes through to Triton. What is added, where the user does not say otherwise: what makes it safe
(``secure_arguments``), and for the wheel's binary the backends (Python, and ``onnxruntime`` from ``serving/backends``)
and its libraries. A supervisor starts a server anew that has lost a model's process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from serving.flags import (
    HEALTH_VARIABLE,
    RELEASE_VARIABLE,
    LauncherError,
    check_bf16,
    check_exposure,
    check_repositories,
    drain_of,
    health_address,
    probe_of,
    secure_arguments,
)
from serving.health import told_of
from serving.supervisor import Supervisor
from serving.threads import thread_arguments, thread_environment
from serving.wheel import SHARED_MEMORY, WheelTriton

logger = logging.getLogger(__name__)

NAME = "tritonserver"
CONTAINER_BINARY = Path("/opt/tritonserver/bin") / NAME
ELF = b"\x7fELF"
STARTED_VARIABLE = "COCOER_TRITON_BINARY"
"""Set for the server: which binary it is."""
MIN_SHARED_MEMORY = 256 << 20


def find_installed(search_path: str | None = None) -> Path | None:
    """A real Triton: NVIDIA's container's, or the first on PATH; None where there is none.

    Args:
        search_path: directories as PATH has them; PATH itself if None.
    """
    directories = (search_path if search_path is not None else os.environ.get("PATH", "")).split(os.pathsep)
    candidates = [CONTAINER_BINARY, *(Path(directory) / NAME for directory in directories if directory)]
    return next(filter(is_triton, candidates), None)


def is_triton(candidate: Path) -> bool:
    """Whether a file called ``tritonserver`` is Triton's binary.

    Every launcher of ours, this environment's and another checkout's, is a script, and so is a shim of pyenv. Other
    managers link each command to one binary of theirs, which has another name. All of these lead back to a launcher.
    """
    if not (candidate.is_file() and os.access(candidate, os.X_OK)):
        return False
    binary = candidate.resolve()
    try:
        with binary.open("rb") as file:
            return binary.name.startswith(NAME) and file.read(len(ELF)) == ELF
    except OSError:
        return False


def check_not_nested() -> None:
    """Refuse to run as the server of another launcher.

    Raises:
        LauncherError: another launcher has started this one for Triton.
    """
    if taken := os.environ.get(STARTED_VARIABLE):
        raise LauncherError(
            f"{taken} was started as Triton and led back to CocoER's own tritonserver command; remove it from PATH, or "
            f"if this is meant to be a server inside a server, unset {STARTED_VARIABLE}"
        )


def installed_release() -> str:
    """Release of an installed Triton ("26.03"), as NVIDIA's containers tell it; empty where nothing does."""
    return os.environ.get(RELEASE_VARIABLE, "")


def warn_of_small_shared_memory() -> None:
    """Tensors travel between Triton and its Python models in /dev/shm; Docker gives it 64 MB."""
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < MIN_SHARED_MEMORY:
        logger.warning(
            "%s has only %d MB free; requests may fail. In a container: --shm-size=1g", SHARED_MEMORY, free >> 20
        )


def main() -> int:
    """Entry point of the console script; takes ``sys.argv``."""
    logging.basicConfig(format="tritonserver: %(message)s", level=logging.WARNING)
    given = sys.argv[1:]
    try:
        check_not_nested()
        warn_of_small_shared_memory()
        installed = find_installed()
        return run_wheel(WheelTriton(), given) if installed is None else run_installed(installed, given)
    except (LauncherError, OSError) as error:
        logger.error("%s", error)
        return 1


def supervise(supervisor: Supervisor) -> int:
    """Run a server, and tell orchestrators of it where they may ask; its exit code.

    Raises:
        LauncherError: they can't be told.
    """
    with contextlib.ExitStack() as stack:
        if address := health_address():
            if supervisor.probe is None:
                raise LauncherError(f"{HEALTH_VARIABLE} needs Triton's HTTP endpoint, and --allow-http turns it off")
            try:
                stack.enter_context(told_of(address, supervisor.not_ready))
            except OSError as error:
                host, port = address
                raise LauncherError(f"{HEALTH_VARIABLE}: can't listen on {host}:{port} ({error.strerror})") from error
        return supervisor.run()


def run_installed(binary: Path, given: Sequence[str]) -> int:
    """Serve with a Triton that is installed; its exit code.

    Raises:
        LauncherError: it would be exposed, or is to serve in bf16 what this CPU can't.
    """
    check_bf16(given, needs_package=False)
    command = [str(binary), *given, *secure_arguments(given), *thread_arguments(given)]
    check_exposure(installed_release(), command)
    environment = {**os.environ, **thread_environment(command), STARTED_VARIABLE: str(binary)}
    return supervise(Supervisor(command, environment, drain_of(command), probe=probe_of(command)))


def run_wheel(triton: WheelTriton, given: Sequence[str]) -> int:
    """Serve with the wheel's Triton; its exit code.

    Raises:
        LauncherError: it would be exposed, there is nothing to serve, nothing here that serves bf16, or no room for its
            backends.
    """
    check_repositories(given)
    check_bf16(given, needs_package=True)
    added = [*secure_arguments(given), *thread_arguments(given)]
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
        environment = {**triton.environment(), **thread_environment(command), STARTED_VARIABLE: str(triton.binary)}
        return supervise(
            Supervisor(command, environment, drain_of(command), triton.remove_shared_memory, probe_of(command))
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
