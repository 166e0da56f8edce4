"""bf16 for CPUs: OpenVINO computes a model's FP32 graph in bf16, from its first product to its last.

Whatever comes after the last convolution or matrix product stays FP32, by OpenVINO's own rule: energies, decoding of
boxes, NMS. Products add up in FP32; norms and softmax between them read and write bf16. Fusion with coordination
and the V-I head run in FP32, by ONNX Runtime, as in every build (``Model.in_bf16``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from cocoer.network.normalise import Normalise
from cocoer_bls.inputs import Tensors

if TYPE_CHECKING:
    import openvino


class ScaledFirst(Normalise):
    """The same pixels as by ``Normalise``, but for the order of its two steps: ``x * scale - offset * scale``.

    A product right in front of the first convolution goes into its weights where Triton's native backend has OpenVINO
    prepare the graph, and stays where nobody does: in bf16 the two round differently.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.float().permute(0, 3, 1, 2)
        if self.reverse_channels:
            x = x.flip(1)
        return x * self.scale - self.offset * self.scale


def scaled_first(normalise: Normalise) -> ScaledFirst:
    """Another of the same kind."""
    other = ScaledFirst((0.0,) * 3, (1.0,) * 3, normalise.reverse_channels)
    other.load_state_dict(normalise.state_dict())
    return other


PROPERTIES = {"INFERENCE_PRECISION_HINT": "bf16", "NUM_STREAMS": "1"}
"""What the served configuration says (``export.publishing.configs``), by OpenVINO's names."""


class Bf16Session:
    """An ONNX file in OpenVINO, in bf16; asked as ONNX Runtime's sessions are.

    Args:
        model: the file, or what would be in it.
        properties: OpenVINO's, beside ``PROPERTIES``.
    """

    def __init__(self, model: Path | bytes, **properties: Any) -> None:
        core = openvino_package().Core()
        self.compiled: openvino.CompiledModel = core.compile_model(
            core.read_model(model), "CPU", {**PROPERTIES, **properties}
        )
        self.request = self.compiled.create_infer_request()

    @cached_property
    def input_names(self) -> list[str]:
        return [value.any_name for value in self.compiled.inputs]

    def run(self, outputs: Sequence[str], inputs: Tensors) -> list[np.ndarray]:
        """Outputs by name."""
        self.request.infer({name: inputs[name] for name in self.input_names})
        return [self.request.get_tensor(name).data.copy() for name in outputs]

    def precisions(self) -> dict[str, set[str]]:
        """What OpenVINO made of the graph: name of an ONNX node -> precisions it is computed in ("bf16", "f32").

        An operator that was fused into another has that one's.
        """
        found: dict[str, set[str]] = {}
        for operator in self.compiled.get_runtime_model().get_ordered_ops():
            told = operator.get_rt_info()
            if "originalLayersNames" in told and "runtimePrecision" in told:
                for name in told["originalLayersNames"].astype(str).split(","):
                    found.setdefault(name, set()).add(told["runtimePrecision"].astype(str))
        return found


def openvino_package() -> Any:
    """The package, imported where bf16 is asked for and not before: only builds in bf16 need it.

    Importing it tells Intel so where ``openvino-telemetry`` is installed as well, which nothing here asks for. In this
    process it is kept from that.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an import of it fails
    import openvino

    return openvino


def version() -> str:
    """OpenVINO's, which decides what a model computes."""
    return str(openvino_package().__version__)
