"""Installs the locked PyTorch: its CPU build where an index has that, else PyPI's, which brings CUDA.

    .venv/bin/python tools/install_torch.py [pip's flags]

``make setup`` runs it, with PIP_FLAGS. Only PyTorch's own index has the CPU build; where no index has it, that is said
before gigabytes are fetched. Whatever else goes wrong ends here, with pip's message.
"""

from __future__ import annotations

import enum
import importlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CPU_LOCK, CUDA_LOCK = PROJECT / "requirements-torch-cpu.lock", PROJECT / "requirements-torch-cuda.lock"
CUDA_COMES = (
    "PyTorch's CPU build is on no index that pip asks: installing PyPI's build, which brings about 3 GB of CUDA "
    'libraries. To avoid that, stop here and run: make setup PIP_FLAGS="--extra-index-url '
    'https://download.pytorch.org/whl/cpu" (Python 3.11 or 3.12)'
)
ABSENT = re.compile(r"^ERROR: No matching distribution found for torch\b", re.MULTILINE)
UNREACHABLE = re.compile(r"^(?:WARNING: Retrying \(|\s*Could not fetch URL (?!.*\b404 Client Error\b))", re.MULTILINE)
"""pip calls what it could not reach absent as well. An index that answers 404 has been asked, and has no PyTorch."""


class Outcome(enum.Enum):
    """Of installing the CPU build."""

    INSTALLED = enum.auto()
    ABSENT = enum.auto()
    FAILED = enum.auto()


def outcome_of(code: int, output: str) -> Outcome:
    """What pip's exit code and its verbose output say.

    >>> outcome_of(1, "ERROR: No matching distribution found for torch==1+cpu")
    <Outcome.ABSENT: 2>
    """
    if code == 0:
        return Outcome.INSTALLED
    absent = ABSENT.search(output) and not UNREACHABLE.search(output)
    return Outcome.ABSENT if absent else Outcome.FAILED


def version() -> str:
    """PyTorch's in this environment; empty where there is none."""
    importlib.invalidate_caches()  # pip has changed it
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


def locked_version(lock: Path) -> str:
    """PyTorch's in a lock file."""
    (found,) = re.findall(r"^torch==(\S+)", lock.read_text(), re.MULTILINE)
    return str(found)


def messages(output: str) -> str:
    """Of pip's verbose output, what it says when it is asked to be quiet: warnings, and all from the first error on."""
    lines = output.strip().splitlines()
    error = next((index for index, line in enumerate(lines) if line.startswith("ERROR")), 0)
    return "\n".join([line for line in lines[:error] if line.startswith("WARNING")] + lines[error:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the pip that had the last word."""
    given = sys.argv[1:] if arguments is None else arguments
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
    locked = ["--require-hashes", "--no-deps", *given]
    command = [*pip, "-vv", *locked, "-r", str(CPU_LOCK)]
    asked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    outcome = outcome_of(asked.returncode, asked.stdout)
    if outcome is Outcome.FAILED:
        print(messages(asked.stdout), file=sys.stderr)
        print("error: PyTorch could not be installed; pip says above why", file=sys.stderr)
        return asked.returncode
    if outcome is Outcome.INSTALLED and version() == locked_version(CPU_LOCK):
        return 0
    # Absent, or none is locked for this Python (the lock's marker). What is here already is not announced again.
    quiet = ["--quiet"]
    if version() != locked_version(CUDA_LOCK):
        print(CUDA_COMES, flush=True)
        quiet = []  # minutes: pip shows how far it is
    return subprocess.run([*pip, *quiet, *locked, "-r", str(CUDA_LOCK)]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
