"""A TensorRT that builds nothing, has no name that the real one lacks, and fails where the real one would.

Polygraphy runs on it unchanged. What each object does is written after TensorRT's headers and Python bindings
(``NvInfer.h``, ``NvInferRuntime.h``, ``pyCore.cpp`` of 11.1): what is an error there is logged and answered by None or
False here. Plans are run by ONNX Runtime, with the products of TF32 where a plan may have them, and on a CUDA runtime
whose device memory is the host's (``tests.fake_cuda``).

``objects`` has what all objects share, ``building`` and ``running`` the rest.
"""

from __future__ import annotations

import sys
import weakref
from enum import IntEnum
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from cocoer_bls import plans
from cocoer_bls.plans import parse_version
from tests import fake_cuda
from tests.fake_tensorrt import building, objects, running
from tests.tensorrt_api import VERSIONS, api

SPECIAL = ("__enter__", "__exit__", "__bool__", "__len__", "__getitem__")
BEHAVIOUR: dict[str, type] = {
    **dict.fromkeys(
        ("ILogger", "Logger", "IProgressMonitor", "IOutputAllocator", "IDebugListener"), objects.Subclassed
    ),
    "Builder": building.Builder,
    "EngineInspector": running.Inspector,
    "IBuilderConfig": building.Config,
    "ICudaEngine": running.Engine,
    "IExecutionContext": running.Context,
    "IHostMemory": objects.Memory,
    "INetworkDefinition": building.Network,
    "IOptimizationProfile": building.Profile,
    "ITensor": objects.Tensor,
    "ITimingCache": building.Cache,
    "OnnxParser": building.Parser,
    "ParserError": building.ParserError,
    "Runtime": running.Runtime,
}


class FakeTensorRT:
    """The module, in a version whose names are known (``tests.tensorrt_api``).

    Args:
        version: one of ``VERSIONS``.
        compute_capability: of the GPU.
    """

    def __init__(self, version: str, compute_capability: str = "9.0") -> None:
        self.api = api(version)
        self.__version__, self.__spec__ = self.api["__version__"], ModuleSpec("tensorrt", None)
        self.compute_capability = compute_capability
        self.built: list[dict[str, Any]] = []
        """What the plans were built from and with."""
        self.contexts: weakref.WeakSet[Any] = weakref.WeakSet()
        """Those that hold memory of the GPU."""
        self.wrong = 0.0
        """What is added to every output."""
        self.tf32_on = False
        """Whether TF32 stays on whatever is asked for: what a build that forgets to clear it does."""

    def __getattr__(self, name: str) -> Any:
        if name in self.api["constants"]:
            kind, member = self.api["constants"][name].split(".")
            return getattr(self, kind)[member]
        if name in self.api["functions"]:
            return {"init_libnvinfer_plugins": lambda log, namespace: True}[name]
        names = self.api.get(name)
        if names is None:
            raise AttributeError(f"TensorRT {self.__version__} has no {name}")
        made: Any
        if isinstance(names, dict):
            made = IntEnum(name, names)
        else:
            behaviour = BEHAVIOUR[name]
            assert all(special in names for special in SPECIAL if special in vars(behaviour)), (name, names)
            made = type(name, (behaviour,), {"trt": self, "real": name})
            if name in ("ILogger", "Logger"):
                for severity in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
                    assert severity in names
                    setattr(made, severity, severity)
        self.__dict__[name] = made  # the same class each time: Polygraphy asks by isinstance
        return made


def install(monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRT) -> FakeTensorRT:
    """Make it the TensorRT of this process, and the stand-in for CUDA its device, until the test ends."""
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_cuda.library().parent))
    for remembered in ("polygraphy.backend.trt.util.TRT_LOGGER", "polygraphy.cuda.cuda.G_CUDA"):
        monkeypatch.setattr(remembered, None)
    for name, module in list(sys.modules.items()):
        if name.startswith("polygraphy.") and type(vars(module).get("trt")).__name__ == "LazyModule":
            object.__setattr__(vars(module)["trt"], "module", None)  # each remembers what it has imported
    return trt


def gpu_machine(monkeypatch: pytest.MonkeyPatch, version: str = VERSIONS[-1]) -> FakeTensorRT:
    """Make this process believe that it is on a machine with an H200 and a TensorRT of this version."""
    monkeypatch.setattr(plans, "_tensorrt_version", lambda: parse_version(version))
    monkeypatch.setattr(plans, "_gpus", lambda: [plans.Gpu("NVIDIA H200", "9.0")])
    return install(monkeypatch, FakeTensorRT(version))
