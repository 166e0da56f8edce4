"""Synthetic checkpoints: every tensor a function of (seed, key, shape) alone.

They have the official files' names, keys, shapes and cost, and no meaning: their predictions are noise. Each file
carries a ``synthetic`` entry, which the export passes on to every result.

    python -m cocoer.checkpoints.synthetic --seed 0 --out checkpoints
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cocoer.checkpoints.keys import CLIP_FILE, CLIP_PREFIX, GWT_FILE, VI_FILE, manifest
from cocoer.files import replace_file
from cocoer.network.architecture import ARCHITECTURES, RELEASE, Architecture

NOTICE = "synthetic weights (random numbers): predictions mean nothing"

# Gains that keep logits a few units wide through the very wide layers.
_GAINS = {"VI_ffn.1.weight": 4.0, "VI_ffn.3.weight": 4.0, "VI_ffn.5.weight": 8.0}
_GAINS["cls_global_all.8.weight"] = 4.0
_GAINS |= {f"cls_HFE_{level}.4.weight": 4.0 for level in ("head", "body", "ctx")}


def synthetic_array(seed: int, key: str, shape: list[int]) -> np.ndarray:
    """One tensor, by the first rule that fits its name and rank.

    Args:
        seed: the tree's seed.
        key: the name in the manifest; CLIP's with ``clip.`` in front.
        shape: the tensor's shape.

    Returns:
        float32 (int64 for batch counters).
    """
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
    module, _, leaf = key.rpartition(".")
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if leaf == "running_mean":
        return _f32(0.1 * rng.standard_normal(shape))
    if leaf == "running_var":
        return _f32(rng.uniform(0.5, 1.5, shape))
    if leaf == "weight" and len(shape) == 1:
        weight = rng.uniform(0.8, 1.2, shape)
        # Small last norms of residual branches: fifty layers of noise would grow without bound.
        damped = module.endswith("bn3") and ("layer" in key or ".4." in key)
        return _f32(weight * 0.3 if damped else weight)
    if leaf == "bias":
        return _f32(0.05 * rng.standard_normal(shape))
    if key.endswith(("row_embed.weight", "col_embed.weight")):
        return _f32(rng.uniform(0, 1, shape))
    if len(shape) < 2:
        return _f32(rng.standard_normal(shape))
    # CLIP's embedding is a unit vector, so that the matrix behind it wants a standard deviation of 1.
    gain = shape[1] if key == "W.weight" else _GAINS.get(key, 2.0 if len(shape) == 4 else 1.0)
    std = np.float32(math.sqrt(gain / math.prod(shape[1:])))
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= std
    return values


def _f32(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def synthetic_tensors(seed: int, part: str, architecture: Architecture = RELEASE) -> Iterator[tuple[str, Tensor]]:
    """Key and tensor of ``part`` ("GWT" or "CLIP_RN50"; of CLIP only the image tower)."""
    prefix = {"GWT": "", "CLIP_RN50": "clip."}[part]
    for key, shape in manifest(architecture)[part].items():
        if part == "GWT" or key.startswith(CLIP_PREFIX):
            yield key, torch.from_numpy(synthetic_array(seed, prefix + key, shape))


def write_checkpoints(seed: int, out: Path, architecture: Architecture = RELEASE) -> list[Path]:
    """Write ``GWT.pth``, ``VI_weights/w.pth`` and ``clip/RN50.pt`` below ``out``; returns their paths.

    About 1.4 GB for the release's architecture, 70 MB for the tiny one. Each file is written under a temporary name,
    then renamed.
    """
    mark: dict[str, Any] = {"seed": seed, "notice": NOTICE}
    if architecture != RELEASE:
        mark["architecture"] = asdict(architecture)
    gwt = dict(synthetic_tensors(seed, "GWT", architecture))
    clip = dict(synthetic_tensors(seed, "CLIP_RN50", architecture))
    files = {
        GWT_FILE: {"model": gwt, "synthetic": mark},
        VI_FILE: {"model": {"W.weight": gwt["W.weight"]}, "synthetic": mark},
        CLIP_FILE: {"model": clip, "synthetic": mark},
    }
    return [replace_file(out / name, partial(torch.save, content)) for name, content in files.items()]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cocoer.checkpoints.synthetic", description=NOTICE.capitalize() + "."
    )
    parser.add_argument("--seed", type=int, default=0, help="any integer (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("checkpoints"), help="directory to write (default: checkpoints)"
    )
    parser.add_argument(
        "--architecture",
        choices=tuple(ARCHITECTURES),
        default=RELEASE.name,
        help="release: CocoER's own sizes, 1.4 GB (default); tiny: the same graph, to try things quickly",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    args = parser.parse_args(argv)
    present = [name for name in (GWT_FILE, VI_FILE, CLIP_FILE) if (args.out / name).exists()]
    if present and not args.force:
        print(f"error: {args.out} already holds {', '.join(present)}; --force overwrites", file=sys.stderr)
        return 1
    for path in write_checkpoints(args.seed, args.out, ARCHITECTURES[args.architecture]):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    print(f"Seed {args.seed}: {NOTICE}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
