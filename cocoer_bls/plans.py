"""TensorRT plans beside this model: whether they fit the TensorRT and the GPUs that are here.

A plan runs on the TensorRT and the kind of GPU it was built with. The export writes down both beside each plan
(``model.plan.json``), and they are compared here before anything is served, in every Triton that loads this model.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PLAN_FILE, SIDECAR_FILE = "model.plan", "model.plan.json"
LIBRARIES = tuple(f"libnvinfer.so.{major}" for major in (12, 11, 10))
DRIVER = "libcuda.so.1"
MAJOR_ATTRIBUTE, MINOR_ATTRIBUTE = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, ..._MINOR."""
HardwareCompatibility = Literal["none", "same-compute-capability", "ampere+"]
"""How far a plan may travel (TensorRT's HardwareCompatibilityLevel)."""
SHOWN = 3
"""Problems named in one message."""

Version = tuple[int, ...]


class PlanError(Exception):
    """A plan does not fit this machine; names it, both sides, and the command that rebuilds it."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process sees."""

    name: str
    compute_capability: str
    """"9.0" for an H100."""


@dataclass(frozen=True)
class Machine:
    """What plans would run on."""

    tensorrt: Version | None
    """Major, minor, patch; None: no TensorRT here."""
    gpus: tuple[Gpu, ...]


def parse_version(text: str) -> Version:
    """Major, minor, patch of a TensorRT version.

    >>> parse_version("10.16.0.72")
    (10, 16, 0)
    """
    return tuple(int(part) for part in text.split(".")[:3])


def this_machine() -> Machine:
    """Ask the libraries that Triton's backend uses itself; without them, nothing is found and nothing raised."""
    return Machine(_tensorrt_version(), tuple(_gpus()))


def _tensorrt_version() -> Version | None:
    for name in LIBRARIES:
        try:
            number = ctypes.CDLL(name).getInferLibVersion()  # 10.16.2 is 101602
        except (OSError, AttributeError):
            continue
        return number // 10000, number // 100 % 100, number % 100
    return None


def _gpus() -> list[Gpu]:
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return []
    count, device, major, minor = (ctypes.c_int() for _ in range(4))
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(256)
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(name, len(name), device)
        driver.cuDeviceGetAttribute(ctypes.byref(major), MAJOR_ATTRIBUTE, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), MINOR_ATTRIBUTE, device)
        found.append(Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}"))
    return found


def misfit(sidecar: Mapping[str, Any], machine: Machine) -> str:
    """Why a plan can't run on a machine; empty where it can.

    Args:
        sidecar: ``tensorrt`` ("10.16.0.72"), ``version_compatible``, ``compute_capability`` ("9.0"),
            ``hardware_compatibility`` (a ``HardwareCompatibility``), ``gpu``.
        machine: where it is to run.

    >>> h100 = Machine((10, 16, 0), (Gpu("NVIDIA H100", "9.0"),))
    >>> built = {"tensorrt": "10.13.3.9", "version_compatible": False, "compute_capability": "9.0",
    ...          "hardware_compatibility": "none", "gpu": "NVIDIA H100"}
    >>> misfit(built, h100)
    'was built by TensorRT 10.13.3.9, and this is 10.16.0'
    >>> misfit({**built, "version_compatible": True}, h100)
    ''
    """
    if machine.tensorrt is None:
        return "is a TensorRT plan, and there is no TensorRT here"
    built, running = parse_version(sidecar["tensorrt"]), machine.tensorrt
    newer_of_same_major = built[0] == running[0] and built <= running
    if built != running and not (sidecar["version_compatible"] and newer_of_same_major):
        return f"was built by TensorRT {sidecar['tensorrt']}, and this is {'.'.join(map(str, running))}"
    level = sidecar["hardware_compatibility"]
    for gpu in machine.gpus:
        same = gpu.compute_capability == sidecar["compute_capability"]
        ampere = level == "ampere+" and float(gpu.compute_capability) >= 8.0
        if not (same or ampere):
            return (
                f"was built for compute capability {sidecar['compute_capability']} ({sidecar['gpu']}), and here is "
                f"{gpu.compute_capability} ({gpu.name})"
            )
    return ""


def read_sidecar(path: Path) -> dict[str, Any]:
    """A plan's sidecar.

    Raises:
        PlanError: missing, damaged, or without what ``misfit`` reads.
    """
    try:
        sidecar = json.loads(path.read_text())
        misfit(sidecar, Machine((0, 0, 0), ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"{path} can't be read ({type(error).__name__}: {error})") from None
    return sidecar


def check(repository: Path, models: Sequence[str], machine: Machine | None = None) -> list[str]:
    """Compare the plans of a repository with this machine.

    Args:
        repository: the directory of the models.
        models: names of those that run a plan.
        machine: None: this one.

    Returns:
        warnings: plans of another GPU model of the same compute capability, which run, but not at their best.

    Raises:
        PlanError: at least one can't run here; names the command that rebuilds them.
    """
    if not models:
        return []
    machine = machine or this_machine()
    problems, strangers, command = [], set(), "python export/build_engines.py --backend tensorrt"
    for name in models:
        try:
            sidecar = read_sidecar(repository / name / "1" / SIDECAR_FILE)
        except PlanError as error:
            problems.append(str(error))
            continue
        command = sidecar.get("command", command)
        if problem := misfit(sidecar, machine):
            problems.append(f"{name}'s plan {problem}")
        elif sidecar["hardware_compatibility"] == "none":
            strangers |= {(sidecar["gpu"], gpu.name) for gpu in machine.gpus if gpu.name != sidecar["gpu"]}
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise PlanError(f"{'; '.join(problems[:SHOWN])}{more}. Build them here: {command}")
    return [
        f"plans were built on {built}, this is {here}: they run, but not at their best" for built, here in strangers
    ]
