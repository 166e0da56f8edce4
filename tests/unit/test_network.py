"""Parts of the network against independent formulations."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cocoer.network.clip_visual import AttentionPool
from cocoer.network.normalise import imagenet_normalise
from cocoer.network.position import GridPosition
from cocoer.network.vi_head import fold_repeats


def test_folded_layer_does_the_same(rng):
    weight = torch.from_numpy(rng.standard_normal((640, 26 * 1024), dtype=np.float32))
    x = torch.from_numpy(rng.standard_normal((3, 1024), dtype=np.float32))
    wide = x.double().repeat(1, 26) @ weight.double().T
    narrow = x.double() @ fold_repeats(weight).double().T
    torch.testing.assert_close(narrow, wide, atol=1e-4, rtol=0)


def test_attention_pool_is_clips(rng):
    """CLIP computes it with PyTorch's functional attention, over all tokens."""
    pool = AttentionPool(cells=49, width=64, heads=4, out_features=32).eval()
    for parameter in pool.parameters():
        parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape, dtype=np.float32)) * 0.2
    x = torch.from_numpy(rng.standard_normal((2, 64, 7, 7), dtype=np.float32))
    tokens = x.flatten(2).permute(2, 0, 1)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pool.positional_embedding[:, None]
    expected, _ = F.multi_head_attention_forward(
        query=tokens[:1],
        key=tokens,
        value=tokens,
        embed_dim_to_check=64,
        num_heads=4,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
        training=False,
        need_weights=False,
    )
    torch.testing.assert_close(pool(x), expected[0], atol=1e-5, rtol=1e-5)


def roi_position_by_hand(grid: np.ndarray, box: list[float], i: int, j: int) -> np.ndarray:
    """One sample point, a number at a time, as the contract words it."""
    x1, y1, x2, y2 = box
    y = ((y1 + y2) / 2 + ((i + 0.5) / 7 - 0.5) * (y2 - y1)) / 32
    x = ((x1 + x2) / 2 + ((j + 0.5) / 7 - 0.5) * (x2 - x1)) / 32
    low_x, low_y = math.floor(x), math.floor(y)
    left, right = (min(max(v, 0), 6) for v in (low_x, low_x + 1))
    top, bottom = (min(max(v, 0), 6) for v in (low_y, low_y + 1))
    return (
        grid[top, left] * (right - x) * (bottom - y)
        + grid[bottom, left] * (right - x) * (y - top)
        + grid[top, right] * (x - left) * (bottom - y)
        + grid[bottom, right] * (x - left) * (y - top)
    )


@pytest.mark.parametrize(
    "box", [[41, 8, 175, 224], [0, 0, 224, 224], [200, 200, 224, 224], [3, 5, 4, 6], [-9, 0, 240, 9]]
)
def test_roi_positions(box, rng):
    position = GridPosition(8)
    for embedding in (position.row_embed, position.col_embed):
        embedding.weight.data = torch.from_numpy(rng.uniform(0, 1, embedding.weight.shape).astype(np.float32))
    grid = position.grid().detach().numpy()
    np.testing.assert_array_equal(
        grid[2, 5], np.concatenate([position.col_embed.weight[5].detach(), position.row_embed.weight[2].detach()])
    )
    tokens = position.roi_tokens(torch.tensor([box], dtype=torch.float32)).detach().numpy().reshape(7, 7, 8)
    expected = np.array([[roi_position_by_hand(grid, box, i, j) for j in range(7)] for i in range(7)])
    np.testing.assert_allclose(tokens, expected, atol=2e-5)


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_normalise_is_torchvisions(order, rng):
    pixels = rng.integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    fed = pixels if order == "bgr" else pixels[..., ::-1]
    expected = (fed.astype(np.float64) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    result = imagenet_normalise(order)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(result, expected.transpose(0, 3, 1, 2), atol=2e-6)


def test_normalise_refuses_other_orders():
    with pytest.raises(ValueError, match="'bgr' or 'rgb'"):
        imagenet_normalise("gbr")
