"""Tensors of models: name, type, shape, what their rows count, and random examples. A class for each meaning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from cocoer.labels import EMOTIC_LABELS
from cocoer_bls.images import CROP
from cocoer_bls.inputs import MAX_BATCH_IMAGES, MAX_BATCH_PERSONS

TOKENS, CHANNELS, LABELS = 49, 256, len(EMOTIC_LABELS)
"""Sizes of what goes from model to model; the same whatever the widths inside."""

T = TypeVar("T", bound="TensorSpec")


@dataclass(frozen=True)
class Rows:
    """What a leading dimension counts, and how large it can be; the smallest is 1.

    TensorRT tunes a plan for the optimum, the batches of a loaded server; fewer and more run as well.
    """

    name: str
    optimum: int
    maximum: int


IMAGES = Rows("images", optimum=8, maximum=MAX_BATCH_IMAGES)
PERSONS = Rows("persons", optimum=32, maximum=MAX_BATCH_PERSONS)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor; its example is what a standard normal distribution gives."""

    name: str
    rows: Rows
    dims: tuple[int, ...] = ()
    """Without the leading dimension."""
    dtype: str = "FP32"
    """In Triton's names."""
    labelled: bool = False
    """Whether Triton knows the 26 labels of its values."""

    def example(self, count: int, images: int, rng: np.random.Generator) -> np.ndarray:
        """Random values.

        Args:
            count: size of the leading dimension.
            images: how many images there are, for an index of them.
        """
        return rng.standard_normal((count, *self.dims), dtype=np.float32)

    def named(self: T, name: str) -> T:
        """The same tensor by another name."""
        return replace(self, name=name)


class Pixels(TensorSpec):
    """UINT8 [.., side, side, 3], BGR; over the full range."""

    def example(self, count: int, images: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 256, (count, *self.dims), dtype=np.uint8)


class Box(TensorSpec):
    """FP32 [.., 4]: (x1, y1, x2, y2), whole pixels inside the 224 square."""

    def example(self, count: int, images: int, rng: np.random.Generator) -> np.ndarray:
        corners = np.sort(rng.uniform(0, CROP, (count, 2, 2)), axis=1)
        return np.floor(corners).reshape(count, 4).astype(np.float32)


class Energy(TensorSpec):
    """FP32 [.., 1]: |a|^2 + 1 of 12,544 activations."""

    def example(self, count: int, images: int, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(2000, 6000, (count, *self.dims)).astype(np.float32)


class ImageIndex(TensorSpec):
    """INT64 [..]: the image of each person."""

    def example(self, count: int, images: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, images, (count, *self.dims), dtype=np.int64)


@dataclass(frozen=True)
class Constant(TensorSpec):
    """FP32 [.., 1]: an option of a detector, whose example is always the same."""

    value: float = 0.0

    def example(self, count: int, images: int, rng: np.random.Generator) -> np.ndarray:
        return np.full((count, *self.dims), self.value, dtype=np.float32)


def crop_of(name: str, rows: Rows) -> Pixels:
    """Crops for the network."""
    return Pixels(name, rows, (CROP, CROP, 3), "UINT8")


def letterbox_of(name: str, rows: Rows, size: int) -> Pixels:
    """Letterboxes for detectors, ``size`` pixels wide and high."""
    return Pixels(name, rows, (size, size, 3), "UINT8")


def level_state(prefix: str, rows: Rows) -> tuple[TensorSpec, ...]:
    """A level's state (``cocoer.network.levels.LevelState``); names begin with ``prefix``."""
    return (
        TensorSpec(f"{prefix}hidden", rows, (CHANNELS,)),
        TensorSpec(f"{prefix}logits", rows, (LABELS,)),
        Energy(f"{prefix}energy", rows, (1,)),
    )


def tokens_of(name: str, rows: Rows) -> TensorSpec:
    """A context's tokens, row-major."""
    return TensorSpec(name, rows, (TOKENS, CHANNELS))


IMAGE_INDEX = ImageIndex("image_index", PERSONS, dtype="INT64")
