"""What a repository in bf16 asks of the machine that serves it, and of the one that builds it: a CPU and a package."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from serving.flags import LauncherError, flag_values

CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Either multiplies bf16: Intel's since Cooper Lake and Sapphire Rapids, AMD's since Zen 4."""
CPUINFO = Path("/proc/cpuinfo")
INSTALL = "pip install --require-hashes -r requirements-openvino.lock (make setup-openvino)"


def multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16.

    OpenVINO's own word is not asked: it also offers bf16 where AVX-512 has to imitate it, slower than FP32.
    """
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("flags") and not CPU_FLAGS.isdisjoint(line.split()) for line in lines)


def has_openvino() -> bool:
    """Whether this Python has the package."""
    return importlib.util.find_spec("openvino") is not None


def why_not_bf16(needs_package: bool = True) -> str:
    """Why bf16 can't be had here, with what to do about it; empty where it can.

    Args:
        needs_package: whether the package ``openvino`` is what runs it. Triton's native backend brings the library.
    """
    if not multiplies_bf16():
        return (
            f"bf16 needs a CPU with {' or '.join(sorted(CPU_FLAGS))}, and {CPUINFO} has neither: build with "
            "--precision fp32 or int8"
        )
    if needs_package and not has_openvino():
        return f"bf16 needs the package openvino: {INSTALL}"
    return ""


def check_repositories_in_bf16(arguments: Sequence[str], needs_package: bool) -> None:
    """Refuse to serve in bf16 where that can't be; slowly imitated, it would look like any other server.

    Args:
        arguments: Triton's command line.
        needs_package: as ``why_not_bf16`` takes it.

    Raises:
        LauncherError: a repository is a build in bf16, and this machine can't run it.
    """
    for path in flag_values(arguments, "--model-repository"):
        if precision_of_build(Path(path)) == "bf16" and (problem := why_not_bf16(needs_package)):
            raise LauncherError(f"{path} was built with --precision bf16, which can't be served here: {problem}")


def precision_of_build(repository: Path) -> str:
    """What a repository was built in (``precision`` of its ``build.json``); empty where it does not say."""
    for manifest in sorted(repository.glob("cocoer/*/build.json")):
        try:
            return str(json.loads(manifest.read_text()).get("precision", ""))
        except (OSError, ValueError, AttributeError):
            continue  # the server itself refuses it, and says why
    return ""
