"""Ways to run an engine on a device, inputs and outputs staying there: PyTorch, ONNX Runtime, TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from benchmarks.device import Device
from cocoer.network.model import CocoER
from export.models.graphs import build_graph
from export.models.specs import EngineSpec
from export.plans.builder import plan_path
from export.publishing.repository import engine_path
from export.verification.verify import onnx_session

Arrays = dict[str, np.ndarray]


class Runner:
    """A way to run engines; keeps the one it ran last.

    Args:
        device: where.
        repository: of built engines.
        precision: they were built with.
    """

    name = ""

    def __init__(self, device: Device, repository: Path, precision: str) -> None:
        self.device, self.repository, self.precision = device, repository, precision
        self._kept: tuple[str, Any] = ("", None)

    def engine(self, spec: EngineSpec) -> Any:
        """An engine, loaded."""
        if self._kept[0] != spec.name:
            self._kept = ("", None)  # its memory first
            self._kept = (spec.name, self.load(spec))
        return self._kept[1]

    def load(self, spec: EngineSpec) -> Any:
        """Load an engine onto the device."""
        raise NotImplementedError

    def prepare(self, spec: EngineSpec, inputs: Arrays) -> Callable[[], Any]:
        """A call that runs one batch, whose inputs are on the device already."""
        raise NotImplementedError

    def outputs(self, spec: EngineSpec, inputs: Arrays) -> Arrays:
        """Outputs of one batch, by name."""
        raise NotImplementedError


class TorchRunner(Runner):
    """The modules that are exported, in PyTorch."""

    name = "PyTorch"

    def __init__(self, device: Device, repository: Path, precision: str, model: CocoER) -> None:
        super().__init__(device, repository, precision)
        self.model = model

    def load(self, spec: EngineSpec) -> torch.nn.Module:
        return build_graph(spec.name, self.model, "bgr", self.precision).to(self.device.torch)

    def prepare(self, spec: EngineSpec, inputs: Arrays) -> Callable[[], Any]:
        module = self.engine(spec)
        tensors = [torch.from_numpy(array).to(self.device.torch) for array in inputs.values()]

        @torch.inference_mode()
        def run() -> Any:
            return module(*tensors)

        return run

    def outputs(self, spec: EngineSpec, inputs: Arrays) -> Arrays:
        found = self.prepare(spec, inputs)()
        found = found if isinstance(found, tuple) else (found,)
        return {tensor.name: value.cpu().numpy() for tensor, value in zip(spec.outputs, found)}


class OnnxRunner(Runner):
    """ONNX Runtime, with CUDA on a GPU."""

    name = "ONNX Runtime"

    @staticmethod
    def available(device: Device) -> bool:
        return not device.is_gpu or "CUDAExecutionProvider" in ort.get_available_providers()

    def load(self, spec: EngineSpec) -> ort.InferenceSession:
        providers = [("CUDAExecutionProvider", {"use_tf32": "0"})] if self.device.is_gpu else []
        return onnx_session(engine_path(self.repository, spec.name), self.precision, providers)

    def _binding(self, spec: EngineSpec, inputs: Arrays) -> Any:
        binding = self.engine(spec).io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, self.device.torch.type, 0))
        for tensor in spec.outputs:
            binding.bind_output(tensor.name, self.device.torch.type)
        return binding

    def prepare(self, spec: EngineSpec, inputs: Arrays) -> Callable[[], Any]:
        binding = self._binding(spec, inputs)
        return lambda: self.engine(spec).run_with_iobinding(binding)

    def outputs(self, spec: EngineSpec, inputs: Arrays) -> Arrays:
        binding = self._binding(spec, inputs)
        self.engine(spec).run_with_iobinding(binding)
        return dict(zip([tensor.name for tensor in spec.outputs], binding.copy_outputs_to_cpu()))


class TensorRTRunner(Runner):
    """Plans beside the engines, by Polygraphy."""

    name = "TensorRT"

    def load(self, spec: EngineSpec) -> Any:
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        runner = TrtRunner(EngineFromBytes(plan_path(self.repository, spec.name).read_bytes()))
        runner.activate()
        return runner

    def prepare(self, spec: EngineSpec, inputs: Arrays) -> Callable[[], Any]:
        tensors = {name: torch.from_numpy(array).to(self.device.torch) for name, array in inputs.items()}
        return lambda: self.engine(spec).infer(tensors, copy_outputs_to_host=False, check_inputs=False)

    def outputs(self, spec: EngineSpec, inputs: Arrays) -> Arrays:
        return {name: np.array(value) for name, value in self.engine(spec).infer(inputs).items()}
