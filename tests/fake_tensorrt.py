"""A TensorRT that builds nothing, has no name that the real one lacks, and fails where the real one would.

Polygraphy runs on it unchanged. What each object does is written after TensorRT's headers and Python bindings
(``NvInfer.h``, ``NvInferRuntime.h``, ``pyCore.cpp`` of 11.1): what is an error there is logged and answered by None or
False here. Plans are run by ONNX Runtime, with the products of TF32 where a plan may have them, and on a CUDA runtime
whose device memory is the host's (``tests.fake_cuda``).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
import weakref
from enum import IntEnum
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from cocoer_bls import plans
from cocoer_bls.plans import parse_version
from tests import fake_cuda
from tests.tensorrt_api import VERSIONS, api
from tests.tf32 import with_tf32_products

MIN_WORKSPACE = 1 << 20
PHASES, STEPS = "Building Engine", 3
OF_WEAK_TYPING = {"FP16", "BF16", "INT8", "FP8", "INT4", "FP4", "OBEY_PRECISION_CONSTRAINTS"}
"""Flags that choose precisions; a strongly typed network takes none."""
AMPERE = 8.0
TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}
SPECIAL = ("__enter__", "__exit__", "__bool__", "__len__", "__getitem__")


GRAPHS: dict[str, bytes] = {}
"""What the plans of this process were built from, which a real plan has in itself: SHA-256 -> ONNX file."""


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


class _Checked:
    """An object of TensorRT's: what is read or set must be there in the real class."""

    trt: FakeTensorRT
    real: str

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in ("trt", "real"):
            _must_have(type(self), name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            _must_have(type(self), name)
        object.__setattr__(self, name, value)


def _must_have(kind: type, name: str) -> None:
    trt, real = kind.trt, kind.real
    if name not in trt.api[real]:
        raise AttributeError(f"{real} of TensorRT {trt.__version__} has no {name}")


class _Subclassed:
    """Called back: ``log``, ``phase_start``, ``reallocate_output``."""


class _Memory(bytes):
    """IHostMemory."""

    @property
    def nbytes(self) -> int:
        return len(self)

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Tensor(_Checked):
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.dtype = self.trt.DataType[TYPES[value.type.tensor_type.elem_type]]
        self.shape = tuple(-1 if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim)
        self.is_shape_tensor = False


class _Network(_Checked):
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._path: Path | None = None
        self._inputs: list[Any] = []

    def __len__(self) -> int:
        return 0  # layers, of which Polygraphy asks for their precisions

    def __getitem__(self, index: int) -> Any:
        raise IndexError(index)

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags & 1 << int(flag))


class _Builder(_Checked):
    def __init__(self, log: Any) -> None:
        assert isinstance(log, self.trt.ILogger), "a logger of TensorRT's is needed"
        self._log = log

    def create_network(self, flags: int = 0) -> Any:
        known = sum(1 << int(flag) for flag in self.trt.NetworkDefinitionCreationFlag)
        if flags & ~known:
            self._log.log("ERROR", f"createNetworkV2: unknown flags {flags:b}")
            return None
        return self.trt.INetworkDefinition(flags)

    def create_builder_config(self) -> Any:
        return self.trt.IBuilderConfig(self._log)

    def create_optimization_profile(self) -> Any:
        return self.trt.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        if problem := self._problem(network, config):
            self._log.log("ERROR", problem)
            return None
        if config.progress_monitor and not _report(config.progress_monitor):
            return None
        flags = config._flags | ({"TF32"} if self.trt.tf32_on else set())
        content = network._path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        GRAPHS[digest] = content
        settings = {
            "sha256": digest,
            "tensorrt": self.trt.__version__,
            "compute_capability": self.trt.compute_capability,
            "flags": sorted(flags),
            "level": config.hardware_compatibility_level.name,
            "optimization_level": config.builder_optimization_level,
            "workspace": config._limits["WORKSPACE"],
            "strongly_typed": network.get_flag(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
            "timing_cache": config._cache._entries if config._cache else None,
            "profile": config._profiles[0]._shapes,
        }
        self.trt.built.append(settings)
        if config._cache:
            config._cache._entries += 1
        return self.trt.IHostMemory(json.dumps(settings).encode())

    def _problem(self, network: Any, config: Any) -> str:
        if network._path is None:
            return "the network is empty"
        typed = network.get_flag(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        if typed and (chosen := OF_WEAK_TYPING & config._flags):
            return f"{sorted(chosen)} can't be set for a strongly typed network"
        if config.hardware_compatibility_level.name == "AMPERE_PLUS" and float(self.trt.compute_capability) < AMPERE:
            return f"hardware compatibility with Ampere is not supported on SM {self.trt.compute_capability}"
        if config._limits.get("WORKSPACE", 1 << 40) < MIN_WORKSPACE:
            return "Could not find any implementation for node conv: insufficient workspace"
        if any(-1 in tensor.shape for tensor in network._inputs) and not config._profiles:
            return "Network has dynamic or shape inputs, but no optimization profile has been defined."
        return ""


def _report(monitor: Any) -> bool:
    """Tell a monitor of a build; whether it lets the build go on."""
    monitor.phase_start(PHASES, None, STEPS)
    monitor.phase_start("Tactic selection", PHASES, 1)
    going_on = all(monitor.step_complete(PHASES, step) for step in range(STEPS))
    monitor.phase_finish(PHASES)
    return going_on


class _Config(_Checked):
    def __init__(self, log: Any) -> None:
        self._log, self._flags, self._cache = log, {"TF32"}, None
        self._limits: dict[str, int] = {}
        self._profiles: list[Any] = []
        self.DLA_core, self.default_device_type = -1, self.trt.DeviceType.GPU
        self.hardware_compatibility_level = self.trt.HardwareCompatibilityLevel.NONE
        self.builder_optimization_level = 3
        self.progress_monitor = None

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def get_flag(self, flag: Any) -> bool:
        return self.trt.BuilderFlag(flag).name in self._flags

    def set_flag(self, flag: Any) -> None:
        self._flags.add(self.trt.BuilderFlag(flag).name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(self.trt.BuilderFlag(flag).name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._limits[pool.name] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._limits.get(pool.name, 0)

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        """None of what TensorRT of this version has not written."""
        entries = _Cache.read(bytes(content), self.trt.__version__)
        if entries is None:
            self._log.log("WARNING", "The timing cache is of another version, or damaged; it is not used.")
            return None
        return self.trt.ITimingCache(*entries) if content else self.trt.ITimingCache(self.trt.compute_capability, 0)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if not isinstance(cache, self.trt.ITimingCache):
            raise TypeError(f"set_timing_cache(): incompatible function arguments: {cache}")
        if cache._gpu != self.trt.compute_capability and not ignore_mismatch:
            self._log.log("WARNING", f"The timing cache is of SM {cache._gpu}; it is not used.")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class _Cache(_Checked):
    def __init__(self, gpu: str, entries: int) -> None:
        self._gpu, self._entries = gpu, entries

    @staticmethod
    def read(content: bytes, version: str) -> tuple[str, int] | None:
        try:
            found, gpu, entries = content.decode().split() if content else (version, "", "0")
            return (gpu, int(entries)) if found == version else None
        except ValueError:
            return None

    def combine(self, other: Any, ignore_mismatch: bool) -> bool:
        if other._gpu != self._gpu and not ignore_mismatch:
            return False
        self._entries += other._entries
        return True

    def serialize(self) -> Any:
        return self.trt.IHostMemory(f"{self.trt.__version__} {self._gpu} {self._entries}".encode())


class _Profile(_Checked):
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._shapes)

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        if len({len(min), len(opt), len(max)}) > 1 or not all(a <= b <= c for a, b, c in zip(min, opt, max)):
            raise RuntimeError("Shape provided for opt is inconsistent with other shapes.")
        self._shapes[input] = (min, opt, max)


class _Parser(_Checked):
    def __init__(self, network: Any, log: Any) -> None:
        self._network, self._log, self._errors = network, log, []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def parse_from_file(self, model: str) -> bool:
        graph = onnx.load(model).graph
        pixels = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
        for node in graph.node:
            if node.op_type != "Cast" and pixels.intersection(node.input):
                self._errors.append(self.trt.ParserError(node, "UINT8 is not supported here"))
            if node.domain:
                self._errors.append(self.trt.ParserError(node, "no plugin of this name"))
        for error in self._errors:
            self._log.log("ERROR", str(error))
        if self._errors:
            return False
        self._network._path = Path(model)
        self._network._inputs = [self.trt.ITensor(value) for value in graph.input]
        return True


class _ParserError(_Checked):
    def __init__(self, node: onnx.NodeProto, text: str) -> None:
        self._text = f"In node 0 with name: {node.name} and operator: {node.op_type} (parse): INVALID_NODE: {text}"

    def __str__(self) -> str:
        return self._text


class _Runtime(_Checked):
    def __init__(self, log: Any) -> None:
        self._log = log
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        try:
            settings = json.loads(bytes(serialized_engine))
        except ValueError:
            self._log.log("ERROR", "deserializeCudaEngine: magic tag does not match")
            return None
        compatible = "VERSION_COMPATIBLE" in settings["flags"]
        built, running = parse_version(settings["tensorrt"]), parse_version(self.trt.__version__)
        if compatible and not self.engine_host_code_allowed:
            self._log.log("ERROR", "deserializeCudaEngine: the plan has host code, which is not allowed")
            return None
        if built > running or (built != running and not compatible):
            self._log.log("ERROR", f"deserializeCudaEngine: the plan is of version {built}, this is {running}")
            return None
        if settings["compute_capability"] != self.trt.compute_capability and settings["level"] != "AMPERE_PLUS":
            self._log.log("ERROR", f"deserializeCudaEngine: the plan is for SM {settings['compute_capability']}")
            return None
        return self.trt.ICudaEngine(settings, self._log)


class _Engine(_Checked):
    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        self._settings, self._log = settings, log
        model = onnx.load_from_string(GRAPHS[settings["sha256"]])
        self._inputs = {value.name: self.trt.ITensor(value) for value in model.graph.input}
        self._outputs = {value.name: self.trt.ITensor(value) for value in model.graph.output}
        self._tensors = {**self._inputs, **self._outputs}
        if "TF32" in settings["flags"]:
            model = with_tf32_products(model)
        self._session = ort.InferenceSession(model.SerializeToString())

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name in self._inputs else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def get_tensor_format(self, name: str, profile: int = 0) -> Any:
        return self.trt.TensorFormat.LINEAR

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_aliased_input_tensor(self, name: str) -> None:
        return None

    def create_execution_context(self) -> Any:
        return self.trt.IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        return self.trt.EngineInspector()


class _Context(_Checked):
    def __init__(self, engine: Any) -> None:
        self.engine, self.active_optimization_profile = engine, 0
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._allocators: dict[str, Any] = {}
        self.trt.contexts.add(self)

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        return True

    def set_debug_listener(self, listener: Any) -> bool:
        return isinstance(listener, self.trt.IDebugListener)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes.get(name, self.engine.get_tensor_shape(name))

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine._settings["profile"][name]
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high)):
            self.engine._log.log("ERROR", f"setInputShape: {name} is {shape}, the profile has {low} to {high}")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._allocators[name] = output_allocator
        return isinstance(output_allocator, self.trt.IOutputAllocator)

    def execute_async_v3(self, stream_handle: int) -> bool:
        feed = {}
        for name, tensor in self.engine._inputs.items():
            if name not in self._addresses or -1 in self.get_tensor_shape(name):
                self.engine._log.log("ERROR", f"enqueueV3: {name} has no address or no shape")
                return False
            array = np.empty(self.get_tensor_shape(name), _numpy_type(tensor.dtype))
            ctypes.memmove(array.ctypes.data, self._addresses[name], array.nbytes)
            feed[name] = array
        for name, value in zip(self.engine._outputs, self.engine._session.run(None, feed)):
            found = np.ascontiguousarray(value + value.dtype.type(self.trt.wrong) if self.trt.wrong else value)
            allocator = self._allocators[name]
            address = allocator.reallocate_output_async(name, 0, found.nbytes, 256, stream_handle)
            ctypes.memmove(address, found.ctypes.data, found.nbytes)
            allocator.notify_shape(name, found.shape)
        return True


def _numpy_type(dtype: Any) -> Any:
    return {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64}[
        dtype.name
    ]


class _Inspector(_Checked):
    def get_engine_information(self, format: Any) -> str:
        assert format.name == "JSON"
        outputs = [{"Name": "x", "Format/Datatype": kind} for kind in ("Half", "Half", "Float")]
        return json.dumps({"Layers": [{"Name": "layer", "Outputs": outputs}]})


BEHAVIOUR: dict[str, type] = {
    **dict.fromkeys(("ILogger", "Logger", "IProgressMonitor", "IOutputAllocator", "IDebugListener"), _Subclassed),
    "Builder": _Builder,
    "EngineInspector": _Inspector,
    "IBuilderConfig": _Config,
    "ICudaEngine": _Engine,
    "IExecutionContext": _Context,
    "IHostMemory": _Memory,
    "INetworkDefinition": _Network,
    "IOptimizationProfile": _Profile,
    "ITensor": _Tensor,
    "ITimingCache": _Cache,
    "OnnxParser": _Parser,
    "ParserError": _ParserError,
    "Runtime": _Runtime,
}
