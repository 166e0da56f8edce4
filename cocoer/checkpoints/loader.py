"""Reading the official files, with every key accounted for.

| file | what |
|---|---|
| ``GWT.pth`` | ``{"model": state_dict, ...}`` of the whole network, or the state_dict |
| ``VI_weights/w.pth`` | the alignment matrix alone; optional, ``GWT.pth`` holds it too |
| ``clip/RN50.pt`` | OpenAI's TorchScript archive, or a plain state_dict, of the whole or of its image tower |

Random weights (``cocoer.checkpoints.synthetic``) are marked as such in each file, with their architecture.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cocoer.checkpoints.keys import (
    CLIP_FILE,
    CLIP_PREFIX,
    CLIP_TOWER,
    FOLDED,
    GWT_FILE,
    PARTS,
    USED_PREFIXES,
    VI_FILE,
    CheckpointError,
    account,
    manifest,
)
from cocoer.checkpoints.reading import (
    check_readable,
    file_sha256,
    is_torchscript,
    read_clip,
    read_pickle,
    state_dict_of,
)
from cocoer.network.architecture import RELEASE, Architecture
from cocoer.network.vi_head import fold_repeats

logger = logging.getLogger(__name__)


class Identity(NamedTuple):
    """Which weights these are."""

    weights: str
    """For people and for comparing: a hash of the contents, and the seed of synthetic ones."""
    synthetic: bool
    """Random numbers: what they predict means nothing."""
    architecture: Architecture = RELEASE


@dataclass(frozen=True)
class Checkpoint:
    """The tensors the network uses, FP32, and where they come from."""

    tensors: Mapping[str, Tensor]
    identity: Identity

    @property
    def architecture(self) -> Architecture:
        return self.identity.architecture

    def part(self, name: str) -> dict[str, Tensor]:
        """state_dict of one part (a key of ``PARTS``), in the part's own names; V-I layer 1 folded."""
        state = {}
        for prefix, own in PARTS[name].items():
            for key, tensor in self.tensors.items():
                if key.startswith(prefix):
                    state[own + key[len(prefix) :]] = fold_repeats(tensor) if key == FOLDED else tensor
        return state


def checkpoint_from_tensors(gwt: Mapping[str, Tensor], clip: Mapping[str, Tensor], identity: Identity) -> Checkpoint:
    """Account for the keys of both files and keep what is used, as FP32.

    Raises:
        CheckpointError: a key is missing, unexpected or of the wrong shape.
    """
    expected = manifest(identity.architecture)
    reports = (
        account(GWT_FILE, gwt, expected["GWT"]),
        account(CLIP_FILE, clip, expected["CLIP_RN50"], clip=True),
    )
    tensors: dict[str, Tensor] = {}
    for report, state in zip(reports, (gwt, clip)):
        report.raise_for_problems()
        tensors |= {key: state[key].float() if state[key].is_floating_point() else state[key] for key in report.used}
    for key in [*expected["GWT"], *expected["CLIP_RN50"]]:
        if key.endswith("num_batches_tracked") and key.startswith(USED_PREFIXES):
            tensors.setdefault(key, torch.tensor(0))
    return Checkpoint(tensors, identity)


def load_checkpoint(directory: Path, trust: bool = False, identity: Identity | None = None) -> Checkpoint:
    """Read ``GWT.pth`` and ``clip/RN50.pt`` below ``directory``.

    Args:
        directory: laid out as ``checkpoints/README.md`` says.
        trust: allow files that can run code when loaded: pickles of more than tensors and what is known to be harmless
            (``cocoer.checkpoints.pickles``), and TorchScript archives other than OpenAI's public RN50
            (``--trust-checkpoint``).
        identity: what ``checkpoint_identity`` says of the directory, where it is known: it reads every byte.

    Raises:
        CheckpointError: a file is absent, unreadable, untrusted, or does not fit.
    """
    gwt_path, clip_path = directory / GWT_FILE, directory / CLIP_FILE
    identity = identity or checkpoint_identity(directory, trust)
    gwt = state_dict_of(gwt_path, read_pickle(gwt_path, trust))
    clip = _whole_clip(state_dict_of(clip_path, read_clip(clip_path, trust)))
    _compare_alignment(directory / VI_FILE, gwt, trust)
    return checkpoint_from_tensors(gwt, clip, identity)


def _whole_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's state_dict; of a file with the image tower alone (``clip.visual.state_dict()``), under CLIP's keys."""
    alone = CLIP_TOWER in state and not any(key.startswith(CLIP_PREFIX) for key in state)
    return {CLIP_PREFIX + key: tensor for key, tensor in state.items()} if alone else state


def checkpoint_identity(directory: Path, trust: bool = False) -> Identity:
    """Which weights the files in ``directory`` hold, without reading their tensors.

    Raises:
        CheckpointError: as ``load_checkpoint``.
    """
    paths = (directory / GWT_FILE, directory / CLIP_FILE)
    for path in paths:
        if not path.exists():
            raise CheckpointError(f"{path} not found; {directory}/README.md says which files go where")
        check_readable(path)
    joined = " ".join(file_sha256(path) for path in paths)
    sha256 = hashlib.sha256(joined.encode()).hexdigest()[:16]
    for path in paths:
        if not is_torchscript(path) and "synthetic" in (content := read_pickle(path, trust)):
            return _synthetic(content["synthetic"], sha256)
    return Identity(f"sha256:{sha256}", synthetic=False)


def _synthetic(mark: Mapping[str, Any], sha256: str) -> Identity:
    """What a file's ``synthetic`` entry says; the release's architecture is not written down."""
    architecture = Architecture(**mark["architecture"]) if "architecture" in mark else RELEASE
    size = "" if architecture == RELEASE else f", {architecture.name}"
    return Identity(f"synthetic seed {mark['seed']}{size} (sha256:{sha256})", True, architecture)


def _compare_alignment(path: Path, gwt: Mapping[str, Tensor], trust: bool) -> None:
    if not path.is_file() or "W.weight" not in gwt:
        return
    alone = state_dict_of(path, read_pickle(path, trust)).get("W.weight")
    if alone is None or not torch.equal(alone.float(), gwt["W.weight"].float()):
        logger.warning("%s differs from W.weight in %s; using the latter", path, GWT_FILE)
