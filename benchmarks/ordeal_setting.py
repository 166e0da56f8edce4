"""What ``benchmarks.ordeal`` is made of: small images, two builds, and a server to which everything happens."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import process_family
from cocoer_client import CocoerClient, CocoerError
from serving.processes import stubs
from serving.server import TritonServer

PROJECT = Path(__file__).resolve().parent.parent
SAMPLE = PROJECT / "examples" / "astronaut.png"
BROKEN_EVERY = 100
"""One image of so many is none."""
CROWD = [{"body": [84, 20, 363, 512], "head": [177, 67, 270, 160]}] * 8


def make_repository(work: Path, seed: int) -> Path:
    """A repository of the tiny CocoER with these random weights; what there is already is taken as it is."""
    target = work / f"repository-{seed}"
    if not (target / "cocoer" / "1" / "build.json").exists():
        checkpoints = work / f"checkpoints-{seed}"
        options = ("--seed", seed, "--out", checkpoints, "--architecture", "tiny")
        for command in (
            ("-m", "cocoer.checkpoints.synthetic", *options, "--force"),
            ("-m", "export.detectors.synthetic", *options),
            ("export/build_engines.py", "--checkpoints", checkpoints, "--repository", target, "--detectors", "scrfd"),
        ):
            subprocess.run([sys.executable, *map(str, command)], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return target


def make_images(folder: Path, count: int) -> set[str]:
    """Small images, each another part of the sample, with other noise; names of those that are none."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with Image.open(SAMPLE) as opened:
        sample = np.asarray(opened.convert("RGB").resize((256, 256)))
    broken = set()
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if number % BROKEN_EVERY == BROKEN_EVERY - 1:
            path.write_bytes(b"not an image")
            broken.add(str(path))
            continue
        y, x = rng.integers(0, 128, 2)
        part = sample[y : y + 128, x : x + 128] ^ rng.integers(0, 8, (128, 128, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(part).save(stream, "JPEG", quality=85)
        path.write_bytes(stream.getvalue())
    return broken


class Server:
    """The server, always at the same address.

    Args:
        work: for its logs.
        repository: what it serves first.
    """

    def __init__(self, work: Path, repository: Path) -> None:
        self.work, self.starts = work, 0
        self.running = self._start(repository, None)

    @property
    def url(self) -> str:
        """Address of its gRPC endpoint."""
        return self.running.url

    def weights(self) -> str:
        """RESULT's name of what it serves."""
        with CocoerClient(self.url, timeout=60) as client:
            return client.model_info().weights

    def _start(self, repository: Path, before: TritonServer | None) -> TritonServer:
        self.starts += 1
        server = TritonServer(repository, self.work / f"server-{self.starts}.log")
        if before is not None:
            server.grpc_port, server.http_port, server.metrics_port = (
                before.grpc_port,
                before.http_port,
                before.metrics_port,
            )
        return server.__enter__()

    def exchange(self, repository: Path) -> None:
        """Serve another repository. The server is killed before it is stopped, else it would answer all there is."""
        os.kill(self._pid_of(""), signal.SIGKILL)
        self.running.stop()
        self.running = self._start(repository, self.running)

    def kill(self, model: str) -> None:
        """Kill a process of a model (of none: Triton's own), and wait until the supervisor has it all back."""
        os.kill(self._pid_of(model), signal.SIGKILL)
        while self.running.is_ready():
            time.sleep(0.05)
        while not self.running.is_ready():
            time.sleep(0.2)

    def _pid_of(self, model: str) -> int:
        for parent in process_family(self.running.process.pid):
            for pid, (_, name) in stubs(parent).items():
                if not model:
                    return parent
                if name == model:
                    return pid
        raise RuntimeError(f"no process of {model or 'tritonserver'}")

    def overload(self, seconds: float, threads: int = 96) -> Counter[str]:
        """Fill its queue with crowds from many threads, who take a refusal for an answer; what they were told."""
        told: Counter[str] = Counter()
        end = time.monotonic() + seconds
        data = SAMPLE.read_bytes()

        def ask() -> None:
            with CocoerClient(self.url, timeout=20, retries=0) as client:
                while time.monotonic() < end:
                    try:
                        client.infer_raw(data, CROWD)
                        told["answered"] += 1
                    except CocoerError as error:
                        told[type(error).__name__] += 1
                        time.sleep(0.05)

        crowd = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        return told
