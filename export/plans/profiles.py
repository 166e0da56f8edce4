"""How large each input of a model can be: TensorRT's optimisation profiles, from the one table."""

from __future__ import annotations

from typing import NamedTuple

from export.models import Model

Shape = tuple[int, ...]


class Range(NamedTuple):
    """Shapes of an input: the smallest, the one to be fastest at, the largest."""

    minimum: Shape
    optimum: Shape
    maximum: Shape


def profile(model: Model) -> dict[str, Range]:
    """Input -> its shapes, leading dimension included.

    >>> from export.models import CONTEXT_GATHER
    >>> profile(CONTEXT_GATHER)["image_index"]
    Range(minimum=(1,), optimum=(32,), maximum=(128,))
    """
    return {
        tensor.name: Range(*((size, *tensor.dims) for size in (1, tensor.rows.optimum, tensor.rows.maximum)))
        for tensor in model.inputs
    }


def as_text(ranges: dict[str, Range], which: int) -> str:
    """A bound of all inputs as ONNX Runtime's TensorRT provider takes it; 0: minimum, 1: optimum, 2: maximum.

    >>> from export.models import HEAD_ENCODER
    >>> as_text(profile(HEAD_ENCODER), 2)
    'crop:128x224x224x3,box:128x4,context_tokens:128x49x256'
    """
    return ",".join(f"{name}:{'x'.join(map(str, shapes[which]))}" for name, shapes in ranges.items())
