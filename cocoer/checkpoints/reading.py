"""Opening checkpoint files: pickles of tensors, TorchScript archives, and what is refused because it could run code."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cocoer.checkpoints.keys import CheckpointError

CLIP_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
"""Of OpenAI's public RN50.pt."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        if hasattr(hashlib, "file_digest"):  # Python 3.11
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()


def read_clip(path: Path, trust: bool) -> Mapping[str, Any]:
    """CLIP's file: a TorchScript archive, or a dictionary of tensors. Raises ``CheckpointError``."""
    if is_torchscript(path):
        return _read_torchscript(path, file_sha256(path), trust)
    return read_pickle(path, trust)


def read_pickle(path: Path, trust: bool) -> Mapping[str, Any]:
    """A dictionary that ``torch.save`` wrote.

    Raises:
        CheckpointError: unreadable, no dictionary, or more than tensors in it and ``trust`` is false.
    """
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


def state_dict_of(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
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
