"""A TensorRT that builds nothing, has no name that the real one lacks, and fails where the real one would."""

from __future__ import annotations

import hashlib
import json
from enum import IntEnum
from pathlib import Path
from typing import Any

import onnx

from tests.tensorrt_api import api

MIN_WORKSPACE = 1 << 20
PHASES, STEPS = "Building Engine", 3
UNREADABLE = b"a timing cache of another TensorRT"


class FakeTensorRT:
    """The module, in a version whose names are known (``tests.tensorrt_api``)."""

    def __init__(self, version: str) -> None:
        self.api = api(version)
        self.__version__ = self.api["__version__"]
        self.built: list[dict[str, Any]] = []
        """What the plans were built from and with."""
        self.has_timing_caches = True

    def __getattr__(self, name: str) -> Any:
        names = self.api.get(name)
        if names is None:
            raise AttributeError(f"TensorRT {self.__version__} has no {name}")
        if isinstance(names, dict):
            return IntEnum(name, names)
        behaviour = {"ILogger": _Logger, "IProgressMonitor": _Monitor, "Builder": _Builder, "OnnxParser": _Parser}
        behaviour["Runtime"] = _Runtime
        made = type(name, (behaviour[name],), {"trt": self, "real": name})
        if name == "ILogger":
            for severity in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
                assert severity in names
                setattr(made, severity, severity)
        return made


class _Checked:
    """An object of TensorRT's: what is read or set must be there in the real class."""

    trt: FakeTensorRT
    real: str

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if not name.startswith("_") and name not in ("trt", "real"):
            _must_have(type(self), name, own)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            _must_have(type(self), name, {})
        object.__setattr__(self, name, value)

    def _new(self, kind: type, *arguments: Any) -> Any:
        return type(kind.__name__, (kind,), {"trt": type(self).trt})(*arguments)


def _must_have(kind: type, name: str, own: dict[str, Any]) -> None:
    trt, real = kind.trt, kind.real
    if name not in trt.api[real] and name not in own:
        raise AttributeError(f"{real} of TensorRT {trt.__version__} has no {name}")


class _Logger:
    """To be subclassed: ``log`` is called."""


class _Monitor:
    """To be subclassed."""


class _Memory(bytes):
    """IHostMemory."""


class _Network(_Checked):
    real = "INetworkDefinition"

    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._path: Path | None = None
        self._inputs: dict[str, tuple[str | int, ...]] = {}


class _Builder(_Checked):
    def __init__(self, log: Any) -> None:
        assert isinstance(log, _Logger), "a logger of TensorRT's is needed"
        self._log = log

    def create_network(self, flags: int = 0) -> _Network:
        return self._new(_Network, flags)

    def create_builder_config(self) -> _Config:
        return self._new(_Config)

    def create_optimization_profile(self) -> _Profile:
        return self._new(_Profile)

    def build_serialized_network(self, network: _Network, config: _Config) -> _Memory | None:
        problem = self._problem(network, config)
        if problem:
            self._log.log("ERROR", problem)
            return None
        monitor = config.progress_monitor
        monitor.phase_start(PHASES, None, STEPS)
        monitor.phase_start("Tactic selection", PHASES, 1)
        for step in range(STEPS):
            if not monitor.step_complete(PHASES, step):
                return None
        monitor.phase_finish(PHASES)
        settings = {
            "onnx": str(network._path),
            "sha256": hashlib.sha256(network._path.read_bytes()).hexdigest(),
            "tensorrt": self.trt.__version__,
            "flags": sorted(config._flags),
            "level": config.hardware_compatibility_level.name,
            "optimization_level": config.builder_optimization_level,
            "workspace": config._limits["WORKSPACE"],
            "strongly_typed": bool(network._flags & 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)),
            "timing_cache": config._cache._content.decode() if config._cache else None,
        }
        self.trt.built.append(settings)
        if config._cache:
            config._cache._content += b"+"
        return _Memory(json.dumps(settings).encode())

    def _problem(self, network: _Network, config: _Config) -> str:
        if network._path is None:
            return "the network is empty"
        if config._limits.get("WORKSPACE", 1 << 40) < MIN_WORKSPACE:
            return "Could not find any implementation for node conv: insufficient workspace"
        dynamic = {name for name, dims in network._inputs.items() if any(isinstance(dim, str) for dim in dims)}
        if not config._profiles:
            return f"Network has dynamic inputs {sorted(dynamic)}, but no optimization profile has been defined"
        shapes = config._profiles[0]._shapes
        for name in dynamic:
            if name not in shapes:
                return f"{name}: optimization profile is missing values"
            for shape in shapes[name]:
                dims = network._inputs[name]
                if len(shape) != len(dims) or any(a != b for a, b in zip(dims, shape) if isinstance(a, int)):
                    return f"{name}: profile {shape} does not fit {dims}"
        return ""


class _Config(_Checked):
    real = "IBuilderConfig"

    def __init__(self) -> None:
        self._flags = {"TF32"}
        self._limits: dict[str, int] = {}
        self._profiles: list[_Profile] = []
        self._cache: _TimingCache | None = None

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._limits[pool.name] = size

    def add_optimization_profile(self, profile: _Profile) -> int:
        for low, usual, high in profile._shapes.values():
            if not all(a <= b <= c for a, b, c in zip(low, usual, high)):
                return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, content: bytes) -> _TimingCache | None:
        if content == UNREADABLE or not self.trt.has_timing_caches:
            return None
        return self._new(_TimingCache, content)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        return self._cache


class _TimingCache(_Checked):
    real = "ITimingCache"

    def __init__(self, content: bytes) -> None:
        self._content = content or b"timing"

    def serialize(self) -> _Memory:
        return _Memory(self._content)


class _Profile(_Checked):
    real = "IOptimizationProfile"

    def __init__(self) -> None:
        self._shapes: dict[str, tuple] = {}

    def set_shape(self, name: str, low: tuple, usual: tuple, high: tuple) -> None:
        self._shapes[name] = (low, usual, high)


class _Parser(_Checked):
    def __init__(self, network: _Network, log: Any) -> None:
        self._network, self._errors = network, []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def parse_from_file(self, path: str) -> bool:
        model = onnx.load(path)
        pixels = {
            value.name for value in model.graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        }
        for node in model.graph.node:
            if node.op_type != "Cast" and pixels.intersection(node.input):
                self._errors.append(self._new(_ParserError, node, "UINT8 is not supported here"))
            if node.domain:
                self._errors.append(self._new(_ParserError, node, "no plugin of this name"))
        if self._errors:
            return False
        self._network._path = Path(path)
        for value in model.graph.input:
            dims = value.type.tensor_type.shape.dim
            self._network._inputs[value.name] = tuple(dim.dim_param or dim.dim_value for dim in dims)
        return True


class _ParserError(_Checked):
    real = "ParserError"

    def __init__(self, node: onnx.NodeProto, text: str) -> None:
        self._node, self._text = node, text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return self._node.name

    def node_operator(self) -> str:
        return self._node.op_type


class _Runtime(_Checked):
    def __init__(self, log: Any) -> None:
        self._log = log
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        settings = json.loads(plan)
        allowed = self.engine_host_code_allowed or "VERSION_COMPATIBLE" not in settings["flags"]
        return self._new(_Engine) if allowed and settings["tensorrt"] == self.trt.__version__ else None


class _Engine(_Checked):
    real = "ICudaEngine"

    def create_engine_inspector(self) -> _Inspector:
        return self._new(_Inspector)


class _Inspector(_Checked):
    real = "EngineInspector"

    def get_engine_information(self, form: Any) -> str:
        assert form.name == "JSON"
        outputs = [{"Name": "x", "Format/Datatype": kind} for kind in ("Half", "Half", "Float")]
        return json.dumps({"Layers": [{"Name": "layer", "Outputs": outputs}]})
