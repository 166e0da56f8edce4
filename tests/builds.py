"""The large things of the tests, made once, by the commands users have; in the background while other tests run.

Most tests run on a tiny CocoER, whose graph is the release's: it is written and built in seconds. What is about
numbers, precision or size runs on the release's architecture.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock, Semaphore

from serving.bf16 import why_not_bf16

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

    Each can be asked for again and again, and is made once in a run of the tests, by whichever process of the run comes
    first; two commands at a time, for an export is one thread.

    Args:
        cache: the directory.
        run: what the processes of this run of the tests share, and no other.
    """

    def __init__(self, cache: Path, run: str) -> None:
        self.cache, self.run = cache, run
        self._pool = ThreadPoolExecutor(8)  # builds wait in it for those that they are made from
        self._futures: dict[tuple[object, ...], Future[Path]] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._closed = False
        self._lock, self._turns = Lock(), Semaphore(2)
        cache.mkdir(parents=True, exist_ok=True)

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
        """Start what tests with these fixtures will ask for; the full size once the tiny one is there."""
        if "repositories" in fixtures:
            self._start(self._tiny, "opencv")
        if "full_repositories" in fixtures:
            self._start(self._full_after_tiny)
        if "fp16_repository" in fixtures:
            self._start(self._fp16)
        if not why_not_bf16():
            if "tiny_bf16_repository" in fixtures:
                self._start(self._tiny_bf16)
            if "bf16_repository" in fixtures:
                self._start(self._bf16)

    def checkpoints(self, seed: int, architecture: str = "release") -> Path:
        """A synthetic ``checkpoints/`` tree with detectors; of another run's too, if it would be the same."""
        out = self.cache / f"checkpoints-{_digest()}-{architecture}-seed{seed}"
        with self._alone(out):
            if not (out / "complete").exists():
                for outdated in self.cache.glob(f"checkpoints-*-{architecture}-seed{seed}"):
                    shutil.rmtree(outdated)
                options = ("--seed", seed, "--out", out, "--architecture", architecture)
                self._call("-m", "cocoer.checkpoints.synthetic", *options, "--force")
                self._call("-m", "export.detectors.synthetic", *options)
                (out / "complete").touch()
        return out

    def tiny_checkpoints(self) -> Path:
        """Of the tiny CocoER."""
        return self.checkpoints(SEED_OF_TINY, "tiny")

    def tiny(self, detectors: str) -> Path:
        """A repository of the tiny CocoER that finds persons by "scrfd" or "opencv"."""
        return self._start(self._tiny, detectors).result()

    def full(self, seed: int, step: float = 1.0) -> Path:
        """A repository of the release's architecture, with SCRFD, and this coordination step."""
        return self._start(self._full, seed, step).result()

    def fp16(self) -> Path:
        """The one of seed 0 in FP16."""
        return self._start(self._fp16).result()

    def bf16(self) -> Path:
        """The one of seed 0 in bf16; for machines that can."""
        return self._start(self._bf16).result()

    def tiny_bf16(self) -> Path:
        """The tiny CocoER in bf16, with SCRFD; for machines that can."""
        return self._start(self._tiny_bf16).result()

    def _start(self, build: Callable[..., Path], *arguments: float | str) -> Future[Path]:
        key = (build.__name__, *arguments)
        with self._lock:
            if key not in self._futures:
                self._futures[key] = self._pool.submit(build, *arguments)
            return self._futures[key]

    def _tiny(self, detectors: str) -> Path:
        target, options = self.cache / f"repository-tiny-{detectors}", ("--detectors", detectors)
        if detectors == "scrfd":
            return self._build(self.tiny_checkpoints(), target, *options)
        return self._build(self.tiny_checkpoints(), target, *options, source=self.tiny("scrfd"))

    def _full(self, seed: int, step: float) -> Path:
        target, options = self.cache / f"repository-seed{seed}", ["--detectors", "scrfd"]
        if step == 1:
            return self._build(self.checkpoints(seed), target, *options)
        target = target.with_name(f"{target.name}-step{step:g}")
        options += ["--coordination-step", str(step)]
        return self._build(self.checkpoints(seed), target, *options, source=self.full(seed))

    def _full_after_tiny(self) -> Path:
        self.tiny("scrfd")
        return self.full(0)

    def _fp16(self) -> Path:
        return self._in_precision("fp16")

    def _bf16(self) -> Path:
        return self._in_precision("bf16")

    def _tiny_bf16(self) -> Path:
        options = ("--detectors", "scrfd", "--precision", "bf16")
        target = self.cache / "repository-tiny-bf16"
        return self._build(self.tiny_checkpoints(), target, *options, source=self.tiny("scrfd"))

    def _in_precision(self, precision: str) -> Path:
        self.tiny("scrfd")
        options = ("--detectors", "scrfd", "--precision", precision)
        target = self.cache / f"repository-{precision}"
        return self._build(self.checkpoints(0), target, *options, source=self.full(0))

    def _build(self, checkpoints: Path, target: Path, *options: str, source: Path | None = None) -> Path:
        """Bring a repository up to date, once in a run; models that are the same in ``source`` come from there."""
        done = target.with_name(f"{target.name}.run")
        with self._alone(target):
            if not done.is_file() or done.read_text() != self.run:
                reuse = ("--reuse", source) if source else ()
                common = ("--checkpoints", checkpoints, "--repository", target)
                self._call("export/build_engines.py", *common, *options, *reuse)
                done.write_text(self.run)
        return target

    @contextlib.contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Keep the other processes of the run, and the other threads of this one, from making the same."""
        with path.with_name(f"{path.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _call(self, *arguments: str | int | Path) -> None:
        """Run a command of the project, behind the tests in the foreground."""
        command = ["nice", "-n", "5", sys.executable, *map(str, arguments)]
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
