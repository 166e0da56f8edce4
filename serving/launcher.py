"""The ``tritonserver`` command of the environment: a real Triton if there is one, else the one in a wheel.

Every flag goes through to Triton. What is added, where the user does not say otherwise: what makes it safe
(``secure_arguments``), and for the wheel's binary the backends (Python, and ``onnxruntime`` from ``serving/backends``)
and its libraries. A supervisor starts a server anew that has lost a model's process.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from serving.flags import LauncherError, check_exposure, drain_of, secure_arguments
from serving.supervisor import Supervisor
from serving.wheel import SHARED_MEMORY, WheelTriton

logger = logging.getLogger(__name__)

CONTAINER_BINARY = Path("/opt/tritonserver/bin/tritonserver")
MIN_SHARED_MEMORY = 256 << 20


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


def installed_release() -> str:
    """Release of an installed Triton ("26.03"), as NVIDIA's containers tell it; empty where nothing does."""
    return os.environ.get("NVIDIA_TRITON_SERVER_VERSION", "")


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
        warn_of_small_shared_memory()
        installed = find_installed()
        if installed is not None:
            arguments = [*given, *secure_arguments(given)]
            check_exposure(installed_release(), arguments)
            return Supervisor([str(installed), *arguments], os.environ, drain_of(arguments)).run()
        return run_wheel(WheelTriton(), given)
    except (LauncherError, OSError) as error:
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
