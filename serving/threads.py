"""ONNX Runtime's threads where a repository was built for a machine with other cores than this one.

A configuration gives each model its threads (``intra_op_thread_count``) for the cores that the build was told of.
Elsewhere these would be too many, which spin and take the cores from each other, or too few. What the command line can
say of it, by the native backend's README, is a pool of threads that all models share; it replaces the counts of the
configurations.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.cores import cores
from serving.flags import flag_values

logger = logging.getLogger(__name__)

BACKEND_CONFIG = "--backend-config"
POOL, THREADS = "enable-global-threadpool", "intra_op_thread_count"
"""Of ``--backend-config=onnxruntime,...``."""
WORDS_VARIABLE = "COCOER_ONNXRUNTIME_CONFIG"
"""Tells the Python-based backend, which Triton hands no command line, what the command line says to it (as JSON)."""


def words_of(arguments: Sequence[str]) -> dict[str, str]:
    """What a command line says to the ONNX Runtime backend.

    >>> words_of(["--backend-config=onnxruntime,intra_op_thread_count=3", "--backend-config", "python,a=b"])
    {'intra_op_thread_count': '3'}
    """
    words = {}
    for value in flag_values(arguments, BACKEND_CONFIG):
        backend, _, setting = value.partition(",")
        if backend == "onnxruntime":
            name, _, text = setting.partition("=")
            words[name] = text
    return words


def thread_arguments(arguments: Sequence[str]) -> list[str]:
    """Flags to add: a shared pool, where the repository is for other cores and the user does not speak of threads."""
    if {POOL, THREADS} & set(words_of(arguments)):
        return []
    built_for = {
        count for path in flag_values(arguments, "--model-repository") if (count := cores_of_build(Path(path)))
    }
    here = cores()
    if not built_for - {here}:
        return []
    # Two models run at once, and each one's calling thread works too. A pool's size counts one caller: then as many
    # threads are busy as there are cores.
    threads = max(1, here - 1)
    logger.warning(
        "the repository was built for %s cores, and this machine has %d: all models share a pool of %d threads; "
        "a build with --cores %d gives each model its own",
        *(" and ".join(map(str, sorted(built_for))), here, threads, here),
    )
    return [f"{BACKEND_CONFIG}=onnxruntime,{name}={value}" for name, value in ((POOL, 1), (THREADS, threads))]


def thread_environment(arguments: Sequence[str]) -> Mapping[str, str]:
    """The variable that tells the Python-based backend of a command line."""
    return {WORDS_VARIABLE: json.dumps(words_of(arguments))}


def cores_of_build(repository: Path) -> int | None:
    """What a repository was built for (``cores`` of its ``build.json``); None where it does not say, as on GPUs."""
    for manifest in sorted(repository.glob("cocoer/*/build.json")):
        try:
            count = json.loads(manifest.read_text()).get("cores")
        except (OSError, ValueError, AttributeError):
            continue  # the server itself refuses it, and says why
        if isinstance(count, int) and count > 0:
            return count
    return None
