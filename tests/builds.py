"""The large things of the tests, made once, by the commands users have; in the background while other tests run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from export.models import MODELS
from export.publishing.repository import onnx_path, record_path

PROJECT = Path(__file__).resolve().parent.parent
SOURCES = (
    "cocoer/checkpoints/synthetic.py",
    "export/detectors/synthetic.py",
    "cocoer/checkpoints/data/checkpoint_keys.json",
)
"""What decides the synthetic weights."""


class Builds:
    """Synthetic weights, and repositories built of them, in a directory that git ignores.

    Each can be asked for again and again, and is made once. Two at a time: exporting is one thread of Python.

    Args:
        cache: the directory.
        detectors: seed -> how its repository finds persons.
    """

    def __init__(self, cache: Path, detectors: Mapping[int, str]) -> None:
        self.cache, self.detectors = cache, detectors
        self._pool = ThreadPoolExecutor(2)
        self._futures: dict[tuple[object, ...], Future[Path]] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._closed = False
        self._lock, self._writing = Lock(), {seed: Lock() for seed in detectors}

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
        """Start what tests with these fixtures will ask for."""
        if "repositories" in fixtures:
            for seed in sorted(self.detectors, reverse=True):  # seed 1's tests come first
                self._start(self._build, seed)
        if "fp16_repository" in fixtures:
            self._start(self._build_fp16)

    def checkpoints(self, seed: int) -> Path:
        """A full synthetic ``checkpoints/`` tree with detectors."""
        content = b"".join((PROJECT / name).read_bytes() for name in SOURCES)
        out = self.cache / f"checkpoints-{hashlib.sha256(content).hexdigest()[:12]}-seed{seed}"
        with self._writing[seed]:
            if not (out / "complete").exists():
                for outdated in self.cache.glob(f"checkpoints-*-seed{seed}"):
                    shutil.rmtree(outdated)
                self._run("-m", "cocoer.checkpoints.synthetic", "--seed", seed, "--out", out, "--detectors", "--force")
                (out / "complete").touch()
        return out

    def repository(self, seed: int) -> Path:
        """A model repository of a seed."""
        return self._start(self._build, seed).result()

    def fp16(self) -> Path:
        """One of seed 0 in FP16, with SCRFD."""
        return self._start(self._build_fp16).result()

    def _start(self, build: Callable[..., Path], *arguments: int) -> Future[Path]:
        key = (build.__name__, *arguments)
        with self._lock:
            if key not in self._futures:
                self._futures[key] = self._pool.submit(build, *arguments)
            return self._futures[key]

    def _build(self, seed: int) -> Path:
        return self._run_build(seed, self.cache / f"repository-seed{seed}")

    def _build_fp16(self) -> Path:
        fp32, target = self.repository(0), self.cache / "repository-fp16"
        for name in (model.name for model in MODELS if not model.has_trunk):  # the same in FP32, so not built again
            for path in (onnx_path, record_path):
                link = path(target, name)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                os.link(path(fp32, name), link)
        return self._run_build(0, target, "--precision", "fp16")

    def _run_build(self, seed: int, target: Path, *options: str) -> Path:
        command = ("export/build_engines.py", "--checkpoints", self.checkpoints(seed), "--repository", target)
        self._run(*command, "--detectors", self.detectors[seed], *options)
        return target

    def _run(self, *arguments: str | int | Path) -> None:
        """Run a command of the project, behind the tests in the foreground."""
        command = ["nice", "-n", "19", sys.executable, *map(str, arguments)]
        with self._lock:
            assert not self._closed, "the tests are over"
            process = subprocess.Popen(
                command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self._processes.append(process)
        output, _ = process.communicate()
        assert process.returncode == 0, f"{command}\n{output}"
