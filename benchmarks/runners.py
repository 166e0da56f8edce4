"""Ways to run a model on a device, inputs and outputs staying there: PyTorch, ONNX Runtime, TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from benchmarks.device import Device
from cocoer.network.model import CocoER
from cocoer_bls.inputs import Tensors
from export.graphs.comparison import onnx_session
from export.models import Model
from export.models.base import NetworkModel
from export.plans.builder import plan_path
from export.plans.tensorrt import load_tensorrt
from export.precision import Precision
from export.publishing.layout import onnx_path


class Runner:
    """A way to run models; keeps the one it ran last.

    Args:
        device: where.
        repository: of built models.
        precision: they were built with.
    """

    name = ""

    def __init__(self, device: Device, repository: Path, precision: Precision) -> None:
        self.device, self.repository, self.precision = device, repository, precision
        self._kept: tuple[str, Any] = ("", None)

    def loaded(self, model: Model) -> Any:
        """A model, loaded."""
        if self._kept[0] != model.name:
            self.close()  # its memory first
            self._kept = (model.name, self.load(model))
        return self._kept[1]

    def close(self) -> None:
        """Give back the memory of the model that ran last."""
        self._kept = ("", None)

    def load(self, model: Model) -> Any:
        """Load a model onto the device."""
        raise NotImplementedError

    def prepare(self, model: Model, inputs: Tensors) -> Callable[[], Any]:
        """A call that runs one batch, whose inputs are on the device already."""
        raise NotImplementedError

    def outputs(self, model: Model, inputs: Tensors) -> Tensors:
        """Outputs of one batch, by name."""
        raise NotImplementedError


class TorchRunner(Runner):
    """The modules that are exported, in PyTorch."""

    name = "PyTorch"

    def __init__(self, device: Device, repository: Path, precision: Precision, network: CocoER) -> None:
        super().__init__(device, repository, precision)
        self.network = network

    def load(self, model: Model) -> torch.nn.Module:
        assert isinstance(model, NetworkModel), f"{model.name} is no part of the network"
        return model.module(self.network, "bgr", self.precision).to(self.device.torch)

    def prepare(self, model: Model, inputs: Tensors) -> Callable[[], Any]:
        module = self.loaded(model)
        tensors = [torch.from_numpy(array).to(self.device.torch) for array in inputs.values()]

        @torch.inference_mode()
        def run() -> Any:
            return module(*tensors)

        return run

    def outputs(self, model: Model, inputs: Tensors) -> Tensors:
        found = self.prepare(model, inputs)()
        found = found if isinstance(found, tuple) else (found,)
        return {tensor.name: value.cpu().numpy() for tensor, value in zip(model.outputs, found)}


class OnnxRunner(Runner):
    """ONNX Runtime, with CUDA on a GPU."""

    name = "ONNX Runtime"

    @staticmethod
    def available(device: Device) -> bool:
        return not device.is_gpu or "CUDAExecutionProvider" in ort.get_available_providers()

    def load(self, model: Model) -> ort.InferenceSession:
        providers = [("CUDAExecutionProvider", {"use_tf32": "0"})] if self.device.is_gpu else []
        return onnx_session(onnx_path(self.repository, model.name), self.precision, providers)

    def _binding(self, model: Model, inputs: Tensors) -> Any:
        binding = self.loaded(model).io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, self.device.torch.type, 0))
        for tensor in model.outputs:
            binding.bind_output(tensor.name, self.device.torch.type)
        return binding

    def prepare(self, model: Model, inputs: Tensors) -> Callable[[], Any]:
        binding = self._binding(model, inputs)
        return lambda: self.loaded(model).run_with_iobinding(binding)

    def outputs(self, model: Model, inputs: Tensors) -> Tensors:
        binding = self._binding(model, inputs)
        self.loaded(model).run_with_iobinding(binding)
        return dict(zip([tensor.name for tensor in model.outputs], binding.copy_outputs_to_cpu()))


class TensorRTRunner(Runner):
    """Plans beside the ONNX files, by Polygraphy."""

    name = "TensorRT"

    def load(self, model: Model) -> Any:
        load_tensorrt()
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        runner = TrtRunner(EngineFromBytes(plan_path(self.repository, model.name).read_bytes()))
        runner.activate()
        return runner

    def close(self) -> None:
        if self._kept[1] is not None:
            self._kept[1].deactivate()
        super().close()

    def prepare(self, model: Model, inputs: Tensors) -> Callable[[], Any]:
        tensors = {name: torch.from_numpy(array).to(self.device.torch) for name, array in inputs.items()}
        return lambda: self.loaded(model).infer(tensors, copy_outputs_to_host=False, check_inputs=False)

    def outputs(self, model: Model, inputs: Tensors) -> Tensors:
        return {name: np.array(value) for name, value in self.loaded(model).infer(inputs).items()}
