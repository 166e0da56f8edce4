"""What ``make demo`` and ``make web`` begin with: the models, built where they are missing or old."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
REPOSITORY = Path("model_repository")


def build() -> int:
    """Build what is missing in ``model_repository``, from random weights if there are no others; the exit code."""
    command = [sys.executable, "export/build_engines.py", "--synthetic", "--repository", str(REPOSITORY)]
    return subprocess.run(command, cwd=PROJECT).returncode
