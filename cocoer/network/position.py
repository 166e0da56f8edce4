"""Learned grid positions, and their sampling inside a person's box (the paper's RoI positions)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cocoer.network.architecture import CHANNELS, GRID

CELL = 32
"""Pixels of the 224 square on each side of a cell."""


class GridPosition(nn.Module):
    """``concat(col_embed[col], row_embed[row])`` for each of the 7x7 cells; 256 channels."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(GRID, channels // 2)
        self.col_embed = nn.Embedding(GRID, channels // 2)

    def grid(self) -> Tensor:
        """FP32 [7, 7, 256], indexed [row, column]."""
        columns = self.col_embed.weight[None].expand(GRID, -1, -1)
        rows = self.row_embed.weight[:, None].expand(-1, GRID, -1)
        return torch.cat([columns, rows], dim=-1)

    def tokens(self) -> Tensor:
        """Positions of the context's tokens: FP32 [1, 49, 256]."""
        return self.grid().reshape(1, GRID * GRID, -1)

    def roi_tokens(self, box: Tensor) -> Tensor:
        """Positions of the tokens of a head or body crop.

        Args:
            box: FP32 [N, 4], (x1, y1, x2, y2) in the 224 square.

        Returns:
            FP32 [N, 49, 256], row-major.
        """
        y0, y1, wy0, wy1 = _axis_taps((box[:, 1] + box[:, 3]) / 2, box[:, 3] - box[:, 1])
        x0, x1, wx0, wx1 = _axis_taps((box[:, 0] + box[:, 2]) / 2, box[:, 2] - box[:, 0])
        grid = self.grid()

        def corner(row: Tensor, column: Tensor, row_weight: Tensor, column_weight: Tensor) -> Tensor:
            weight = row_weight[:, :, None] * column_weight[:, None, :]
            return grid[row[:, :, None], column[:, None, :]] * weight[..., None]

        sampled = (
            corner(y0, x0, wy0, wx0) + corner(y1, x0, wy1, wx0) + corner(y0, x1, wy0, wx1) + corner(y1, x1, wy1, wx1)
        )
        return sampled.flatten(1, 2)


def _axis_taps(centre: Tensor, extent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bilinear taps of the seven sample points along one axis.

    As in the release, there is no half-cell shift, and both neighbours are clamped to the grid *before* the
    weights are formed: weights can leave [0, 1], and a point past the last cell gets weights that tend to zero.

    Args:
        centre, extent: FP32 [N], in pixels of the 224 square.

    Returns:
        lower and upper cell INT64 [N, 7]; weight of the lower and of the upper cell FP32 [N, 7].
    """
    steps = (torch.arange(GRID, device=centre.device, dtype=centre.dtype) + 0.5) / GRID - 0.5
    point = (centre[:, None] + steps * extent[:, None]) / CELL
    lower = torch.floor(point)
    upper = (lower + 1).clamp(0, GRID - 1)
    lower = lower.clamp(0, GRID - 1)
    return lower.long(), upper.long(), upper - point, point - lower
