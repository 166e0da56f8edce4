"""What a repository in bf16 asks of the machine that serves it, and of the one that builds it: a CPU and a package."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Either multiplies bf16: Intel's since Cooper Lake and Sapphire Rapids, AMD's since Zen 4."""
CPUINFO = Path("/proc/cpuinfo")
INSTALL = "make setup-openvino, or pip install --no-deps --require-hashes -r requirements-openvino.lock"


def multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16.

    The kernel's word, so that no package is needed to know.
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


def precision_of_build(repository: Path) -> str:
    """What a repository was built in (``precision`` of its ``build.json``); empty where it does not say."""
    for manifest in sorted(repository.glob("cocoer/*/build.json")):
        try:
            return str(json.loads(manifest.read_text()).get("precision", ""))
        except (OSError, ValueError, AttributeError):
            continue  # the server itself refuses it, and says why
    return ""
