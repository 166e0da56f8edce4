"""Reading the official files, with every key accounted for.

| file | what |
|---|---|
| ``GWT.pth`` | ``{"model": state_dict, ...}`` of the whole network |
| ``VI_weights/w.pth`` | the alignment matrix alone; optional, ``GWT.pth`` holds it too |
| ``clip/RN50.pt`` | OpenAI's TorchScript archive, or a plain state_dict |
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cocoer.checkpoints.synthetic import manifest
from cocoer.network.vi_head import fold_repeats

logger = logging.getLogger(__name__)

CLIP_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
GWT_FILE, VI_FILE, CLIP_FILE = "GWT.pth", "VI_weights/w.pth", "clip/RN50.pt"

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
    "vi_head": {"visual.": "clip.", "W.": "alignment.", "VI_ffn.": "ffn."},
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
        needed = key.startswith("visual.") if clip else not key.startswith(UNUSED_GWT)
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


@dataclass(frozen=True)
class Checkpoint:
    """The tensors the network uses, FP32, and where they come from."""

    tensors: Mapping[str, Tensor]
    weights: str
    """See ``checkpoint_identity``."""

    @property
    def synthetic(self) -> bool:
        return self.weights.startswith("synthetic")

    def part(self, name: str) -> dict[str, Tensor]:
        """state_dict of one part (a key of ``PARTS``), in the part's own names; V-I layer 1 folded."""
        state = {}
        for prefix, own in PARTS[name].items():
            for key, tensor in self.tensors.items():
                if key.startswith(prefix):
                    state[own + key[len(prefix) :]] = tensor
        if name == "vi_head":
            state["ffn.1.weight"] = fold_repeats(state["ffn.1.weight"])
        return state


def checkpoint_from_tensors(gwt: Mapping[str, Tensor], clip: Mapping[str, Tensor], weights: str) -> Checkpoint:
    """Account for the keys of both files and keep what is used, as FP32.

    Raises:
        CheckpointError: a key is missing, unexpected or of the wrong shape.
    """
    expected = manifest()
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
    return Checkpoint(tensors, weights)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        if hasattr(hashlib, "file_digest"):  # Python 3.11
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()


def load_checkpoint(directory: Path, trust: bool = False, weights: str | None = None) -> Checkpoint:
    """Read ``GWT.pth`` and ``clip/RN50.pt`` below ``directory``.

    Args:
        directory: laid out as ``checkpoints/README.md`` says.
        trust: allow files that can run code when loaded: pickles beyond tensors, and TorchScript archives other than
            OpenAI's public RN50 (``--trust-checkpoint``).
        weights: what ``checkpoint_identity`` says of the directory, where it is known: it reads every byte.

    Raises:
        CheckpointError: a file is absent, unreadable, untrusted, or does not fit.
    """
    gwt_path, clip_path = directory / GWT_FILE, directory / CLIP_FILE
    for path in (gwt_path, clip_path):
        if not path.is_file():
            raise CheckpointError(f"{path} not found; {directory}/README.md says which files go where")
    gwt_file, clip_file = _read_pickle(gwt_path, trust), _read_clip(clip_path, trust)
    gwt = _state_dict(gwt_path, gwt_file)
    _compare_alignment(directory / VI_FILE, gwt, trust)
    weights = weights or checkpoint_identity(directory, trust)
    return checkpoint_from_tensors(gwt, _state_dict(clip_path, clip_file), weights)


def checkpoint_identity(directory: Path, trust: bool = False) -> str:
    """What ``Checkpoint.weights`` says of the files in ``directory``, without reading their tensors.

    A hash of the contents; or the seed, if any of the files is synthetic.

    Raises:
        CheckpointError: as ``load_checkpoint``.
    """
    paths = (directory / GWT_FILE, directory / CLIP_FILE)
    joined = " ".join(file_sha256(path) for path in paths)
    sha256 = hashlib.sha256(joined.encode()).hexdigest()[:16]
    for path in paths:
        if not is_torchscript(path) and "synthetic" in (content := _read_pickle(path, trust)):
            return f"synthetic seed {content['synthetic']['seed']} (sha256:{sha256})"
    return f"sha256:{sha256}"


def _read_clip(path: Path, trust: bool) -> Mapping[str, Any]:
    if is_torchscript(path):
        return _read_torchscript(path, file_sha256(path), trust)
    return _read_pickle(path, trust)


def _read_pickle(path: Path, trust: bool) -> Mapping[str, Any]:
    try:
        # mmap: of 1.2 GB, only what is used is ever read.
        content = torch.load(path, map_location="cpu", weights_only=not trust, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than tensors (an optimizer object, perhaps); loading it could run code stored in it. "
            f"If you trust where it came from, pass --trust-checkpoint. ({reason})"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, AttributeError, ImportError) as error:
        raise CheckpointError(f"{path} can't be read ({error}); is the download complete?") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    return content


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which is a program and not only data."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path, sha256: str, trust: bool) -> Mapping[str, Any]:
    if sha256 != CLIP_SHA256 and not trust:
        raise CheckpointError(
            f"{path} is a TorchScript archive (a program) with SHA-256 {sha256}, "
            f"not OpenAI's public RN50.pt ({CLIP_SHA256}). "
            "Download it again, or pass --trust-checkpoint if you trust it."
        )
    try:
        return torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError as error:
        raise CheckpointError(f"{path} can't be read ({error}); is the download complete?") from error


def _state_dict(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file: below ``model`` or ``state_dict``, or at the top."""
    state = content.get("model", content.get("state_dict", content))
    if isinstance(state, torch.nn.Module):
        state = state.state_dict()
    tensors = (
        {key: value for key, value in state.items() if isinstance(value, Tensor)} if isinstance(state, Mapping) else {}
    )
    if not tensors:
        raise CheckpointError(f'{path} holds no tensors, neither at the top nor below "model" or "state_dict"')
    # Saved from DataParallel.
    return {key.removeprefix("module."): value for key, value in tensors.items()}


def _compare_alignment(path: Path, gwt: Mapping[str, Tensor], trust: bool) -> None:
    if not path.is_file() or "W.weight" not in gwt:
        return
    alone = _state_dict(path, _read_pickle(path, trust)).get("W.weight")
    if alone is None or not torch.equal(alone.float(), gwt["W.weight"].float()):
        logger.warning("%s differs from W.weight in %s; using the latter", path, GWT_FILE)
