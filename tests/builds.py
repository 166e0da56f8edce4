"""The large things of the tests, made once, by the commands users have; in the background while other tests run.

Most tests run on a tiny CocoER, whose graph is the release's: it is written and built in seconds. What is about
numbers, precision or size runs on the release's architecture.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock, Semaphore

from export.models import DETECTORS, MODELS
from export.publishing.repository import onnx_path, record_path

PROJECT = Path(__file__).resolve().parent.parent
SOURCES = (
    "cocoer/checkpoints/*.py",
    "cocoer/checkpoints/data/*.json",
    "cocoer/network/architecture.py",
    "export/detectors/synthetic.py",
)
"""What decides the synthetic weights."""
SEED_OF_TINY = 0


class Builds:
    """Synthetic weights, and repositories built of them, in a directory that git ignores.

    Each can be asked for again and again, and is made once; two commands at a time, for an export is one thread.

    Args:
        cache: the directory.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._pool = ThreadPoolExecutor(4)
        self._futures: dict[tuple[object, ...], Future[Path]] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._closed = False
        self._lock, self._writing, self._turns = Lock(), Lock(), Semaphore(2)

    def __enter__(self) -> Builds:
        return self

    def __exit__(self, *_: object) -> None:
        """End what nobody waits for any more."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def begin(self, fixtures: Collection[str]) -> None:
        """Start what tests with these fixtures will ask for, what is asked for first at first."""
        if "repositories" in fixtures:
            self._start(self._tiny, "scrfd")
            self._start(self._tiny, "opencv")
        if "full_repositories" in fixtures:
            self._start(self._full, 0)
        if "fp16_repository" in fixtures:
            self._start(self._fp16)

    def checkpoints(self, seed: int, architecture: str = "release") -> Path:
        """A synthetic ``checkpoints/`` tree with detectors."""
        out = self.cache / f"checkpoints-{_digest()}-{architecture}-seed{seed}"
        with self._writing:
            if not (out / "complete").exists():
                for outdated in self.cache.glob(f"checkpoints-*-{architecture}-seed{seed}"):
                    shutil.rmtree(outdated)
                options = ("--seed", seed, "--out", out, "--architecture", architecture)
                self._run("-m", "cocoer.checkpoints.synthetic", *options, "--force")
                self._run("-m", "export.detectors.synthetic", *options)
                (out / "complete").touch()
        return out

    def tiny_checkpoints(self) -> Path:
        """Of the tiny CocoER."""
        return self.checkpoints(SEED_OF_TINY, "tiny")

    def tiny(self, detectors: str) -> Path:
        """A repository of the tiny CocoER that finds persons by "scrfd" or "opencv"."""
        return self._start(self._tiny, detectors).result()

    def full(self, seed: int) -> Path:
        """A repository of the release's architecture, with SCRFD."""
        return self._start(self._full, seed).result()

    def fp16(self) -> Path:
        """The one of seed 0 in FP16."""
        return self._start(self._fp16).result()

    def _start(self, build: Callable[..., Path], *arguments: int | str) -> Future[Path]:
        key = (build.__name__, *arguments)
        with self._lock:
            if key not in self._futures:
                self._futures[key] = self._pool.submit(build, *arguments)
            return self._futures[key]

    def _tiny(self, detectors: str) -> Path:
        target = self.cache / f"repository-tiny-{detectors}"
        if detectors != "scrfd":  # but for the detectors, it is the same
            names = [model.name for model in MODELS if model not in DETECTORS]
            _link_onnx_files(self.tiny("scrfd"), target, names)
        return self._build(self.tiny_checkpoints(), target, "--detectors", detectors)

    def _full(self, seed: int) -> Path:
        return self._build(self.checkpoints(seed), self.cache / f"repository-seed{seed}", "--detectors", "scrfd")

    def _fp16(self) -> Path:
        fp32, target = self.full(0), self.cache / "repository-fp16"
        _link_onnx_files(fp32, target, [model.name for model in MODELS if not model.has_trunk])
        return self._build(self.checkpoints(0), target, "--detectors", "scrfd", "--precision", "fp16")

    def _build(self, checkpoints: Path, target: Path, *options: str) -> Path:
        self._run("export/build_engines.py", "--checkpoints", checkpoints, "--repository", target, *options)
        return target

    def _run(self, *arguments: str | int | Path) -> None:
        """Run a command of the project, behind the tests in the foreground."""
        command = ["nice", "-n", "19", sys.executable, *map(str, arguments)]
        with self._turns:
            with self._lock:
                assert not self._closed, "the tests are over"
                process = subprocess.Popen(
                    command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
                self._processes.append(process)
            output, _ = process.communicate()
        assert process.returncode == 0, f"{command}\n{output}"


def _digest() -> str:
    """Of what decides the synthetic weights."""
    paths = [path for pattern in SOURCES for path in sorted(PROJECT.glob(pattern))]
    content = b"".join(path.read_bytes() for path in paths)
    return hashlib.sha256(content).hexdigest()[:12]


def _link_onnx_files(source: Path, target: Path, names: Collection[str]) -> None:
    """Give a repository ONNX files of another, which its build then keeps."""
    for name in names:
        for path in (onnx_path, record_path):
            link = path(target, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            os.link(path(source, name), link)
