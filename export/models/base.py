"""What a kind of model is: its tensors, how it is batched, made, quantised and verified."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from torch import nn

from cocoer.network.model import CocoER
from cocoer.network.normalise import Normalise, imagenet_normalise
from cocoer_bls.inputs import Tensors
from export.graphs.comparison import Compare, Session, onnx_session, torch_comparison
from export.graphs.network import export_network
from export.models.ingredients import Ingredients, ModelOptions
from export.models.samples import Samples
from export.models.tensors import Rows, TensorSpec
from export.precision import Precision
from export.precision.bf16 import Bf16Session, scaled_first
from export.precision.calibration import Scene

P = TypeVar("P", bound=nn.Module)
"""A part of the network."""


@dataclass(frozen=True)
class Tolerances:
    """Largest allowed absolute error against the reference, by precision (on outputs of which the largest is about 10).

    INT8's are wide: they tell a broken model, the drift report tells a bad one. bf16's are 8 times FP16's where a model
    runs in it: it has 3 bits less.
    """

    fp32: float
    fp16: float
    int8: float
    bf16: float

    def of(self, precision: Precision) -> float:
        return {"fp32": self.fp32, "fp16": self.fp16, "bf16": self.bf16, "int8": self.int8}[precision]


class Tolerance(NamedTuple):
    """Largest allowed error of one model in one build, see ``Tolerances``."""

    value: float
    default: float | None = None
    """What the user set ``value`` instead of; None: the user did not set it."""


class Model(ABC):
    """A model that runs an ONNX graph: a directory of the repository."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: Rows | None
    """What Triton batches. None: nothing, for rows of images and rows of persons go in side by side."""
    tolerances: Tolerances
    has_trunk: bool
    """Whether a convolutional trunk is in it: what FP16, INT8 and TensorRT are for. Else it is the same in all."""
    fixed_work: bool
    """Whether its work depends on nothing but the batch's size, so that a GPU's launches can be recorded."""
    in_bf16: bool = False
    """Whether a build in bf16 runs it so; else it is the FP32 build's."""
    cpu_share: float = 0.0
    """Share of the cores that its threads take on a CPU, at least one: models that run side by side share them."""

    @property
    def max_batch_size(self) -> int:
        """Triton's; 0: no batching, every tensor then has a leading dimension of its own."""
        return self.batch.maximum if self.batch else 0

    def axis(self, tensor: TensorSpec) -> str:
        """The name of a tensor's leading dimension in the graph."""
        return "batch" if self.batch else tensor.rows.name

    def example_inputs(self, images: int, persons: int, seed: int = 0) -> Tensors:
        """Random inputs.

        Args:
            images, persons: rows of the tensors that count them.
            seed: of the random numbers.
        """
        rng, counts = np.random.default_rng(seed), {"images": images, "persons": persons}
        return {tensor.name: tensor.example(counts[tensor.rows.name], images, rng) for tensor in self.inputs}

    def sized(self, detector_size: int) -> Model:
        """The model as it is in a build whose detectors take letterboxes of this side; most are the same in all."""
        return self

    def is_stand_in(self, options: ModelOptions) -> bool:
        """Whether it only takes the place of a model that this build lacks; nothing calls it then."""
        return False

    def runs_in_bf16(self, options: ModelOptions) -> bool:
        """Whether OpenVINO runs it in this build, in bf16."""
        return self.in_bf16 and options.precision == "bf16" and not self.is_stand_in(options)

    def session(self, model: Path | bytes, options: ModelOptions) -> Session:
        """Its graph, by what will serve it."""
        return Bf16Session(model) if self.runs_in_bf16(options) else onnx_session(model, options.precision)

    @abstractmethod
    def sample_inputs(self, samples: Samples, batch: int) -> Tensors:
        """Real inputs of ``batch`` rows (up to 3); of persons, all in one image."""

    def calibration_inputs(self, scene: Scene) -> Iterable[Tensors]:
        """Inputs to calibrate INT8 with, a row at a time; none where there is no trunk."""
        return ()

    @abstractmethod
    def depends_on(self, made_of: Ingredients) -> dict[str, str | None]:
        """What decides its ONNX file, beside code and tools."""

    @abstractmethod
    def write(self, path: Path, made_of: Ingredients) -> None:
        """Write its ONNX file; INT8 is made of it afterwards."""

    @abstractmethod
    def comparison(self, path: Path, made_of: Ingredients) -> Compare | None:
        """Compares its ONNX file with its reference; None where there is nothing to compare."""


class NetworkModel(Model):
    """A part of the network, exported from PyTorch."""

    has_trunk = False
    fixed_work = False

    @abstractmethod
    def module(self, network: CocoER, channel_order: str, precision: Precision) -> nn.Module:
        """The module to export, with flat, named tensors and its preprocessing.

        Args:
            network: the whole.
            channel_order: "bgr" or "rgb", see ``imagenet_normalise``.
            precision: of INT8, the FP32 module that is quantised; of bf16, the one that OpenVINO runs so.
        """

    def depends_on(self, made_of: Ingredients) -> dict[str, str | None]:
        return {"weights": made_of.weights, "precision": self._precision(made_of.options)}

    def write(self, path: Path, made_of: Ingredients) -> None:
        module = self.module(made_of.network, made_of.options.channel_order, made_of.options.precision)
        inputs = self.example_inputs(images=3, persons=4)
        axes = {tensor.name: self.axis(tensor) for tensor in self.inputs}
        export_network(module, path, inputs, axes, [tensor.name for tensor in self.outputs], self.metadata(made_of))

    def metadata(self, made_of: Ingredients) -> dict[str, str]:
        """What its ONNX file says of itself."""
        return {"precision": self._precision(made_of.options), "weights": made_of.weights}

    def comparison(self, path: Path, made_of: Ingredients) -> Compare:
        module = self.module(made_of.network, made_of.options.channel_order, "fp32")
        names = [tensor.name for tensor in self.outputs]
        return torch_comparison(
            self.session(path, made_of.options), names, module, [tensor.name for tensor in self.inputs]
        )

    def _precision(self, options: ModelOptions) -> Precision:
        served_so = self.in_bf16 if options.precision == "bf16" else self.has_trunk
        return options.precision if served_so else "fp32"


class CropModel(NetworkModel, Generic[P]):
    """A part of the network that sees crops: a trunk behind UINT8 pixels, BGR, as the server holds them."""

    has_trunk = True
    fixed_work = True
    in_bf16 = True
    tolerances = Tolerances(fp32=1e-3, fp16=5e-2, int8=1.0, bf16=4e-1)
    cpu_share = 0.5  # context_encoder runs beside vi_head, head_encoder beside body_encoder

    @abstractmethod
    def part(self, network: CocoER) -> P:
        """Its part of the network."""

    @abstractmethod
    def halve(self, part: P) -> None:
        """Put the part in FP16, where it can be."""

    def suit_bf16(self, part: P) -> None:
        """Give the part the form that loses least in bf16; nothing is to be done where it never runs so."""

    @abstractmethod
    def graph(self, part: P, normalise: Normalise) -> nn.Module:
        """The module around the part: pixels to named tensors."""

    def module(self, network: CocoER, channel_order: str, precision: Precision) -> nn.Module:
        part = self.part(network)
        if precision == "fp16":
            part = copy.deepcopy(part)
            self.halve(part)
        normalise = imagenet_normalise(channel_order)
        if precision == "bf16" and self.in_bf16:
            part, normalise = copy.deepcopy(part).eval(), scaled_first(normalise)
            self.suit_bf16(part)
        return self.graph(part, normalise).eval()

    def depends_on(self, made_of: Ingredients) -> dict[str, str | None]:
        own = {"channel_order": made_of.options.channel_order, "calibration": made_of.calibration}
        return {**super().depends_on(made_of), **own}

    def metadata(self, made_of: Ingredients) -> dict[str, str]:
        return {**super().metadata(made_of), "channel_order": made_of.options.channel_order}
