"""How large each input of an engine can be: TensorRT's optimisation profiles, from the one table."""

from __future__ import annotations

from typing import NamedTuple

from export.models.specs import EngineSpec, TensorSpec

Shape = tuple[int, ...]


class Range(NamedTuple):
    """Shapes of an input: the smallest, the one to be fastest at, the largest."""

    minimum: Shape
    optimum: Shape
    maximum: Shape


def profile(spec: EngineSpec) -> dict[str, Range]:
    """Input -> its shapes, leading dimension included.

    >>> from export.models.specs import engine
    >>> profile(engine("context_gather"))["image_index"]
    Range(minimum=(1,), optimum=(32,), maximum=(128,))
    """
    return {tensor.name: _range(spec, tensor) for tensor in spec.inputs}


def _range(spec: EngineSpec, tensor: TensorSpec) -> Range:
    rows = spec.rows(tensor)
    return Range(*((size, *tensor.dims) for size in (1, rows.optimum, rows.maximum)))


def as_text(ranges: dict[str, Range], which: int) -> str:
    """A bound of all inputs as ONNX Runtime's TensorRT provider takes it; 0: minimum, 1: optimum, 2: maximum.

    >>> from export.models.specs import engine
    >>> as_text(profile(engine("head_encoder")), 2)
    'crop:128x224x224x3,box:128x4,context_tokens:128x49x256'
    """
    return ",".join(f"{name}:{'x'.join(map(str, shapes[which]))}" for name, shapes in ranges.items())
