"""What the outputs of an SCRFD file mean at a size of the letterbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

MIN_SIZE, MAX_SIZE, SIZE_STEP = 128, 2560, 32
"""Of the letterbox: at the smallest every layout still has the 256 rows that a detector returns, at the largest a batch
of eight letterboxes takes 160 MB; the steps are the coarsest stride of the usual files."""
WIDTHS = {"scores": 1, "boxes": 4, "keypoints": 10}
"""Kinds of outputs in their order, and the numbers in a row of each."""


def is_detector_size(size: int) -> bool:
    """Whether a letterbox can have this side.

    >>> [is_detector_size(size) for size in (96, 128, 640, 650, 2560, 2592)]
    [False, True, True, False, True, False]
    """
    return MIN_SIZE <= size <= MAX_SIZE and size % SIZE_STEP == 0


@dataclass(frozen=True)
class ScrfdLayout:
    """What the outputs of an SCRFD file mean; boxes and scores come first, keypoints are not used.

    Args:
        strides: pixels between cells, of each level.
        anchors: in each cell.
        size: side of the letterbox, pixels.
    """

    strides: tuple[int, ...]
    anchors: int
    size: int

    def rows(self, stride: int) -> int:
        return (self.size // stride) ** 2 * self.anchors

    def centres(self) -> np.ndarray:
        """FP32 [N, 2], (x, y) of each anchor in the letterbox: (column, row) * stride, no half-cell offset."""
        grids = []
        for stride in self.strides:
            side = self.size // stride
            row, column = np.mgrid[:side, :side].astype(np.float32)
            cells = np.stack([column, row], axis=-1).reshape(-1, 2) * stride
            grids.append(np.repeat(cells, self.anchors, axis=0))
        return np.concatenate(grids)

    def stride_of_row(self) -> np.ndarray:
        """FP32 [N, 1]."""
        return np.concatenate([np.full((self.rows(s), 1), s, dtype=np.float32) for s in self.strides])

    def difference(self, names: Sequence[str], outputs: Sequence[np.ndarray]) -> str:
        """How outputs for one image are not these; empty if they are.

        Args:
            names: of all outputs.
            outputs: [rows, width] or [1, rows, width].
        """
        for index, (name, output) in enumerate(zip(names, outputs)):
            kind, stride = list(WIDTHS)[index // len(self.strides)], self.strides[index % len(self.strides)]
            shape = (self.rows(stride), WIDTHS[kind])
            if output.shape not in (shape, (1, *shape)):
                return (
                    f"output {index + 1} of {len(outputs)} ({name}) is {list(output.shape)} "
                    f"at {self.size}x{self.size}, where SCRFD has {list(shape)}, {kind} at stride {stride}"
                )
            if output.dtype != np.float32:
                return f"output {index + 1} of {len(outputs)} ({name}) is {output.dtype}, where SCRFD has float32"
        scores = [output for output, _ in zip(outputs, self.strides)]
        low, high = min(float(x.min()) for x in scores), max(float(x.max()) for x in scores)
        if not -1e-3 <= low <= high <= 1 + 1e-3:
            return f"its scores reach from {low:.2g} to {high:.2g}, where SCRFD's are probabilities (behind a Sigmoid)"
        return ""


def scrfd_layout(outputs: int, size: int) -> ScrfdLayout:
    """The layout for a number of outputs: 6 or 9 (3 strides, 2 anchors), 10 or 15 (5 strides, 1 anchor)."""
    if outputs in (6, 9):
        return ScrfdLayout((8, 16, 32), 2, size)
    assert outputs in (10, 15)
    return ScrfdLayout((8, 16, 32, 64, 128), 1, size)


def declared_shape(value: onnx.ValueInfoProto) -> list[int | str] | None:
    """The dimensions of an input or output as its file says, "?" where open; None where it says nothing."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [dim.dim_value if dim.dim_value > 0 else "?" for dim in value.type.tensor_type.shape.dim]


def set_shape(value: onnx.ValueInfoProto, dims: Sequence[int | str]) -> None:
    """Declare a tensor's dimensions: numbers, or names of those that vary."""
    shape = onnx.TensorShapeProto()
    for dim in dims:
        shape.dim.add(**{"dim_param" if isinstance(dim, str) else "dim_value": dim})
    value.type.tensor_type.shape.CopyFrom(shape)
