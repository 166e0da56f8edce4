"""What a pickle holds beside tensors: its globals, which of them are harmless, and inert stand-ins for those.

A pickle names functions and classes ("globals"), and loading it calls them; so PyTorch's ``weights_only`` unpickler
builds nothing but tensors and plain containers, unless a global is allowed by name. Training scripts store an
optimizer, a schedule, their arguments and NumPy numbers beside the weights. Nobody needs those here, so their names
are allowed, and each stands for ``Inert``, which takes any arguments and any state and does nothing. The real class is
neither imported nor called: harmless is then not a judgement on its code, and it need not even be installed.

What is on the list is nevertheless only what training scripts are known to store. Every other name is refused: a file
that asks for ``os.system`` has no business here, even where it would get a stand-in.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

LEGACY_HEADER = 3
"""Pickles before the one of the object in files of PyTorch before 1.6: magic number, protocol, system."""

OBJECTS = (
    "argparse.Namespace",  # the script's arguments
    "types.SimpleNamespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib.PureWindowsPath",
    "pathlib._local.PosixPath",  # Python 3.13
    "pathlib._local.WindowsPath",
    "datetime.datetime",
    "datetime.date",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "torch.torch_version.TorchVersion",
    "torch.optim.",  # an optimizer or a learning rate's schedule, pickled whole
    "torch.amp.grad_scaler.",
    "torch.cuda.amp.grad_scaler.",
    # Numbers and arrays, as NumPy 1 and 2 write them.
    "numpy.dtype",
    "numpy.dtypes.",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.numeric._frombuffer",
    *(f"numpy.{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)),
    # What a ``defaultdict`` fills itself with, and values.
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "str", "bool", "bytes")),
    *(f"builtins.{name}" for name in ("frozenset", "range", "slice")),
)
"""Harmless globals; those that end with a dot are modules, all of whose names are."""


class Inert:
    """Stands for a harmless global: made of anything, told anything, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def _defaultdict(*_: Any) -> OrderedDict[Any, Any]:
    """Stands for ``collections.defaultdict``, whose argument is called for each missing key."""
    return OrderedDict()


def _deque(*_: Any) -> list[Any]:
    """Stands for ``collections.deque``, which is filled."""
    return []


FILLED: dict[str, Callable[..., Any]] = {
    "collections.defaultdict": _defaultdict,
    "collections.deque": _deque,
    "easydict.EasyDict": OrderedDict,
    "yacs.config.CfgNode": OrderedDict,
}
"""Containers, which the pickle fills: what stands for them has to be a container that ``weights_only`` fills."""


def stand_in(name: str) -> Any:
    """What a harmless global is loaded as; None for every other.

    >>> stand_in("torch.optim.adamw.AdamW").__name__, stand_in("os.system")
    ('Inert', None)
    """
    if name in FILLED:
        return FILLED[name]
    allowed = any(name == known or (known.endswith(".") and name.startswith(known)) for known in OBJECTS)
    return Inert if allowed else None


def stand_ins(names: Iterable[str]) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """For ``torch.serialization.safe_globals``: stand-ins of those names that have one."""
    return [(found, name) for name in names if (found := stand_in(name)) is not None]


def unsafe_globals(path: Path) -> list[str]:
    """Names of all that a file would load and PyTorch does not call safe, sorted. Nothing is loaded.

    Raises:
        UnpicklingError: the pickle has instructions that ``weights_only`` does not know, such as protocol 4's.
        ValueError: a legacy file's pickle is damaged.
        RuntimeError, EOFError: the file is.
    """
    if zipfile.is_zipfile(path):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    # PyTorch looks into the newer format only, which is a zip file around the same pickle.
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("archive/data.pkl", _pickle_of(path))
        writer.writestr("archive/version", "3\n")
    archive.seek(0)
    return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(archive))


def pickle_protocol(path: Path) -> int:
    """Of the pickle in a file; raises as ``unsafe_globals``."""
    content = _pickle_of(path)
    return content[1] if content[:1] == pickle.PROTO else 0


def names_in(path: Path) -> list[str]:
    """What a pickle of any protocol would load beside tensors and what has a stand-in, sorted; for messages.

    From protocol 4 on, names are strings on the pickle's stack, and a pickle made to hide them can.
    """
    names: set[str] = set()
    pushed: list[str] = []
    memo: list[str | None] = []
    last: str | None = None
    argument: Any
    for operation, argument, _ in pickletools.genops(_pickle_of(path)):
        if operation.name == "MEMOIZE":
            memo.append(last)
            continue
        if operation.name == "GLOBAL":
            names.add(argument.replace(" ", "."))
        elif operation.name == "STACK_GLOBAL":
            names.add(".".join(str(part) for part in pushed[-2:]))
        known = operation.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int) and argument < len(memo)
        last = memo[argument] if known else argument if isinstance(argument, str) else None
        if last is not None:
            pushed.append(last)
    usual = ("torch.", "collections.", "_codecs.")
    return sorted(name for name in names if stand_in(name) is None and not name.startswith(usual))


def _pickle_of(path: Path) -> bytes:
    """The pickle itself, without the tensors' data."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            if name is None:
                raise ValueError("a zip file without data.pkl")
            return archive.read(name)
    with path.open("rb") as stream:
        for _ in range(LEGACY_HEADER):
            _skip(stream)
        start = stream.tell()
        _skip(stream)
        end = stream.tell()
        stream.seek(start)
        return stream.read(end - start)


def _skip(stream: io.BufferedReader) -> None:
    for _ in pickletools.genops(stream):
        pass
