"""Opening checkpoint files: pickles of tensors, TorchScript archives, and what is refused because it could run code."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from cocoer.checkpoints.keys import CheckpointError
from cocoer.checkpoints.pickles import names_in, pickle_protocol, stand_in, stand_ins, unsafe_globals
from cocoer.files import first_line, not_the_file

CLIP_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
"""Of OpenAI's public RN50.pt."""
STATES = ("model", "state_dict", "model_state_dict", "net")
"""What training scripts call the weights, beside which they store other things."""
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before each key."""
USUAL_PROTOCOL = 2
"""Pickle's protocol that ``torch.save`` writes unless told otherwise; ``weights_only`` reads little of any other."""
SHOWN = 8
"""Names in one message."""
SAVE_AGAIN = "save the tensors alone where it was made: torch.save(model.state_dict(), file)"


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
    """A dictionary that ``torch.save`` wrote, its tensors on the CPU; of all else in it at most stand-ins.

    Raises:
        CheckpointError: unreadable, no dictionary, or something in it is neither tensors nor known to be harmless
            (``cocoer.checkpoints.pickles``) and ``trust`` is false.
    """
    if is_torchscript(path):
        raise CheckpointError(f"{path} is a TorchScript archive (a program), not a dictionary of tensors; {SAVE_AGAIN}")
    try:
        content = _load(path, trust)
    except CheckpointError:
        raise
    except Exception as error:  # the loader reads a damaged file as far as it can, and then raises anything
        raise unreadable(path, error) from error
    if isinstance(content, torch.nn.Module):
        return content.state_dict()
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors; {SAVE_AGAIN}")
    return content


def _load(path: Path, trust: bool) -> Any:
    # mmap: of 1.2 GB, only what is used is ever read.
    arguments: dict[str, Any] = {"map_location": "cpu", "mmap": zipfile.is_zipfile(path)}
    names, protocol = _globals(path, trust)
    unknown = [name for name in names if stand_in(name) is None]
    if not unknown and protocol is None:
        with safe_globals(stand_ins(names)), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of protocol 3, which it reads
            try:
                return torch.load(path, weights_only=True, **arguments)
            except pickle.UnpicklingError as error:
                if not trust:
                    raise _untrusted(path, first_line(error)) from error
    if not trust:
        if protocol is not None:
            held = f" (it holds {_listed(names)})" if (names := names_in(path)) else ""
            raise CheckpointError(
                f"{path} is written in pickle protocol {protocol}{held}, which can't be read without running what it "
                f"holds. If you trust where it came from, pass --trust-checkpoint; or {SAVE_AGAIN}"
            )
        raise _untrusted(path, _listed(unknown))
    try:
        return torch.load(path, weights_only=False, **arguments)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"{path} needs code that is not installed here ({first_line(error)}); {SAVE_AGAIN}"
        ) from error


def _globals(path: Path, trust: bool) -> tuple[list[str], int | None]:
    """What a file would load beside tensors; and its pickle's protocol, if that is why it can't be told."""
    try:
        return unsafe_globals(path), None
    except pickle.UnpicklingError:
        protocol = pickle_protocol(path)
        if protocol == USUAL_PROTOCOL and not trust:
            raise
        return [], protocol


def _untrusted(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path} holds more than tensors: {found}. Loading that could run code stored in the file, so nothing was "
        f"loaded. If you trust where it came from, pass --trust-checkpoint; or {SAVE_AGAIN}"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_readable(path: Path) -> None:
    """Raise ``CheckpointError`` unless a path is a file that this user may read."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Says what is wrong with a file that can't be loaded, as far as its first bytes tell, and what to do."""
    if isinstance(error, PermissionError):
        return CheckpointError(f"{path} can't be read (permission denied); let this user read it: chmod u+r {path}")
    if path.is_dir():
        return CheckpointError(f"{path} is a directory, not a file; put the file itself there")
    if isinstance(error, OSError):
        return CheckpointError(f"{path} can't be read ({error.strerror or error}); copy or download it again")
    with path.open("rb") as stream:
        head = stream.read(1024)
    if problem := not_the_file(head):
        return CheckpointError(f"{path} {problem}")
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return CheckpointError(f"{path} is cut off: its end is missing; download it again")
    return CheckpointError(
        f"{path} can't be read ({first_line(error)}); it is damaged, or not a file that torch.save "
        "wrote. Download it again"
    )


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
        raise unreadable(path, error) from error


def state_dict_of(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file: below the first of ``STATES`` that holds any, or at the top."""
    for state in (*(content.get(name) for name in STATES), content):
        if isinstance(state, torch.nn.Module):
            state = state.state_dict()
        if isinstance(state, Mapping):
            tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
            if tensors:
                return {_own_name(key): value for key, value in tensors.items()}
    names = " or ".join(f'"{name}"' for name in STATES)
    entries = f"; its entries are {_listed([str(key) for key in content])}" if content else ""
    raise CheckpointError(f"{path} holds no tensors, neither at the top nor below {names}{entries}")


def _own_name(key: str) -> str:
    """A key without what wrappers put before it."""
    while key.startswith(WRAPPERS):
        key = key.partition(".")[2]
    return key
