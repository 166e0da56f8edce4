"""The keys of the official files: which there are, what of them the network reads, and where each goes.

``data/checkpoint_keys.json`` lists every key and shape of ``GWT.pth`` and of CLIP RN50.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cocoer.network.architecture import RELEASE, Architecture
from cocoer.network.model import CocoER
from cocoer.network.vi_head import REPEATS

KEYS_FILE = Path(__file__).parent / "data" / "checkpoint_keys.json"
GWT_FILE, VI_FILE, CLIP_FILE = "GWT.pth", "VI_weights/w.pth", "clip/RN50.pt"

Shapes = dict[str, list[int]]

CLIP_PREFIX = "visual."
"""Of CLIP's keys, the image tower's; no other is read."""
CLIP_TOWER = "attnpool.positional_embedding"
"""A key of the image tower, without the prefix."""
FOLDED = "VI_ffn.1.weight"
"""Its columns repeat the embedding once for each label; the network has their sum (``fold_repeats``)."""

# Present in the official GWT.pth, never read by its forward pass.
UNUSED_GWT = (
    "encoder_head.",
    "encoder_body.",
    "encoder_ctx.",
    "decoder_",
    "query_embedding",
    "en_pos_gwt.",
    "shar_after.",
    "cls_en_all.",
)


def _level_prefixes(level: str, encoder: str, classifier: str) -> dict[str, str]:
    return {
        f"backbone.{level}.": "trunk.",
        f"{level}_proj.": "proj.",
        "en_pos.": "position.",
        f"{encoder}.": "blocks.",
        "ln_after.": "norm.",
        f"{classifier}.": "classifier.",
    }


PARTS: dict[str, dict[str, str]] = {
    "head_encoder": _level_prefixes("head", "encoder1", "cls_HFE_head"),
    "body_encoder": _level_prefixes("body", "encoder2", "cls_HFE_body"),
    "context_encoder": _level_prefixes("context", "encoder3", "cls_HFE_ctx"),
    "vi_head": {CLIP_PREFIX: "clip.", "W.": "alignment.", "VI_ffn.": "ffn."},
    "fusion": {
        "cls_HFE_head.3.": "heads.0.norm.",
        "cls_HFE_head.4.": "heads.0.linear.",
        "cls_HFE_body.3.": "heads.1.norm.",
        "cls_HFE_body.4.": "heads.1.linear.",
        "cls_HFE_ctx.3.": "heads.2.norm.",
        "cls_HFE_ctx.4.": "heads.2.linear.",
        "cls_global_all.": "classifier.",
    },
}
"""Part of the network -> prefix of the checkpoint's keys -> prefix of the part's own."""

USED_PREFIXES = tuple({prefix for prefixes in PARTS.values() for prefix in prefixes})


class CheckpointError(Exception):
    """A checkpoint file that can't be used; the message says which, why, and what to do."""


def manifest(architecture: Architecture = RELEASE) -> dict[str, Shapes]:
    """Keys and shapes: ``{"GWT": {key: shape}, "CLIP_RN50": {key: shape}}``.

    Of the release, all that the official files have; of another architecture, what the network reads.
    """
    if architecture == RELEASE:
        return json.loads(KEYS_FILE.read_text())
    return network_keys(architecture)


def network_keys(architecture: Architecture) -> dict[str, Shapes]:
    """Keys and shapes of what the network reads, from the network itself."""
    with torch.device("meta"):
        model = CocoER(architecture)
    shapes: dict[str, Shapes] = {"GWT": {}, "CLIP_RN50": {}}
    for name, prefixes in PARTS.items():
        for own, tensor in getattr(model, name).state_dict().items():
            prefix, own_prefix = next((p, o) for p, o in prefixes.items() if own.startswith(o))
            key, shape = prefix + own[len(own_prefix) :], list(tensor.shape)
            if key == FOLDED:
                shape[1] *= REPEATS
            shapes["CLIP_RN50" if prefix == CLIP_PREFIX else "GWT"][key] = shape
    return shapes


@dataclass
class KeyReport:
    """Where each key of a file went."""

    file: str
    used: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshaped: list[str] = field(default_factory=list)

    def raise_for_problems(self) -> None:
        """Raise ``CheckpointError`` unless every key is used or known to be unused."""
        problems = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of the wrong shape": self.misshaped,
        }
        lines = [f"  {len(keys)} {what}: {_shorten(keys)}" for what, keys in problems.items() if keys]
        if lines:
            hint = "Is this the official CocoER release's file, of the same version?"
            raise CheckpointError("\n".join([f"{self.file} does not fit CocoER:", *lines, hint]))


def _shorten(keys: list[str], maximum: int = 8) -> str:
    rest = f", and {len(keys) - maximum} more" if len(keys) > maximum else ""
    return ", ".join(keys[:maximum]) + rest


def account(file: str, state: Mapping[str, Tensor], expected: Mapping[str, list[int]], clip: bool = False) -> KeyReport:
    """Compare a state_dict with the manifest.

    Args:
        file: its name, for messages.
        state: key -> tensor.
        expected: key -> shape, all keys the official file has.
        clip: the file is CLIP's, of which only ``visual.*`` is used; keys beside it are not looked at, because
            plain state_dicts of CLIP come with various extras (``input_resolution`` and so on).
    """
    report = KeyReport(file)
    for key in [*expected, *(key for key in state if key not in expected)]:
        needed = key.startswith(CLIP_PREFIX) if clip else not key.startswith(UNUSED_GWT)
        if not needed:
            report.unused += [key] if key in state else []
        elif key not in state:
            # BatchNorm's counter is not read in eval mode, and old files lack it.
            report.missing += [] if key.endswith("num_batches_tracked") else [key]
        elif key not in expected:
            report.unexpected.append(key)
        elif list(state[key].shape) != expected[key]:
            report.misshaped.append(f"{key} {list(state[key].shape)} instead of {expected[key]}")
        else:
            report.used.append(key)
    return report
