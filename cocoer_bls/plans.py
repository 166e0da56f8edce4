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
OLDEST: dict[HardwareCompatibility, float] = {"none": 0.0, "same-compute-capability": 7.5, "ampere+": 8.0}
"""The oldest compute capability that TensorRT builds such plans for (``NvInfer.h``)."""
NEXT_MAJOR = {10: 11}
"""The major version that runs version-compatible plans of an earlier one (TensorRT's support matrix, 11.4.1)."""
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
    return _version_misfit(sidecar, machine.tensorrt) or _hardware_misfit(sidecar, machine.gpus)


def _version_misfit(sidecar: Mapping[str, Any], running: Version) -> str:
    built, compatible = parse_version(sidecar["tensorrt"]), sidecar["version_compatible"]
    if built == running:
        return ""
    told = f"was built by TensorRT {sidecar['tensorrt']}, and this is {'.'.join(map(str, running))}"
    if not compatible:
        return told
    if built < running and running[0] in (built[0], NEXT_MAJOR.get(built[0])):
        return ""
    return f"{told}; a version-compatible plan runs on later TensorRT of the same major version, one of 10 also on 11"


def _hardware_misfit(sidecar: Mapping[str, Any], gpus: Sequence[Gpu]) -> str:
    built, level = sidecar["compute_capability"], sidecar["hardware_compatibility"]
    told, oldest = f"was built for compute capability {built} ({sidecar['gpu']})", OLDEST[level]
    for gpu in gpus:
        ampere = level == "ampere+" and min(float(built), float(gpu.compute_capability)) >= oldest
        if gpu.compute_capability != built and not ampere:
            return f"{told}, and here is {gpu.compute_capability} ({gpu.name})"
    return ""


def read_sidecar(path: Path) -> dict[str, Any]:
    """A plan's sidecar.

    Raises:
        PlanError: missing, damaged, or without what ``misfit`` reads.
    """
    try:
        sidecar = json.loads(path.read_text())
        _version_misfit(sidecar, (0, 0, 0))
        _hardware_misfit(sidecar, ())
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
        warnings: plans of another GPU model of the same compute capability, for which TensorRT promises nothing.

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
        f"plans were built on {built}, this is {here}: they may be slower or fail; --hardware-compatibility "
        "same-compute-capability builds plans for both"
        for built, here in strangers
    ]
