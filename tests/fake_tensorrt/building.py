"""Building: the network and its parser, the configuration, the cache of timings, plans that are settings alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from tests.fake_tensorrt.objects import Checked

MIN_WORKSPACE = 1 << 20
PHASES, STEPS = "Building Engine", 3
OF_WEAK_TYPING = {"FP16", "BF16", "INT8", "FP8", "INT4", "FP4", "OBEY_PRECISION_CONSTRAINTS"}
"""Flags that choose precisions; a strongly typed network takes none."""
AMPERE = 8.0
GRAPHS: dict[str, bytes] = {}
"""What the plans of this process were built from, which a real plan has in itself: SHA-256 -> ONNX file."""


class Network(Checked):
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


class Builder(Checked):
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


class Config(Checked):
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
        entries = Cache.read(bytes(content), self.trt.__version__)
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


class Cache(Checked):
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


class Profile(Checked):
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._shapes)

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        if len({len(min), len(opt), len(max)}) > 1 or not all(a <= b <= c for a, b, c in zip(min, opt, max)):
            raise RuntimeError("Shape provided for opt is inconsistent with other shapes.")
        self._shapes[input] = (min, opt, max)


class Parser(Checked):
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


class ParserError(Checked):
    def __init__(self, node: onnx.NodeProto, text: str) -> None:
        self._text = f"In node 0 with name: {node.name} and operator: {node.op_type} (parse): INVALID_NODE: {text}"

    def __str__(self) -> str:
        return self._text
