"""What was measured on, and what it can do at most."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from onnx import parser


@dataclass(frozen=True)
class Machine:
    """A machine, and the rate it multiplies large FP32 matrices at."""

    cpu: str
    cores: int
    sgemm_gflops: float

    @property
    def slug(self) -> str:
        """A name for its directory of results."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.cpu} {self.cores} cores".lower()).strip("-")

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def describe() -> Machine:
    """This machine; takes a few seconds."""
    return Machine(*processor(), round(sgemm_gflops(), 1))


def processor() -> tuple[str, int]:
    """The CPU's name, and how many of its cores this process may use."""
    models = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return models[0] if models else "unknown CPU", cores()


def cores() -> int:
    """Of the CPU, that this process may use."""
    return len(os.sched_getaffinity(0))


def sgemm_gflops(side: int = 2048, repeats: int = 8) -> float:
    """The best rate of a large FP32 matrix product on all cores: NumPy's, PyTorch's or ONNX Runtime's, 1e9 FLOP/s."""
    a, b = (np.random.default_rng(seed).standard_normal((side, side), dtype=np.float32) for seed in (0, 1))
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> g (float[{side}, {side}] a, float[{side}, {side}] b) => '
        f"(float[{side}, {side}] c) {{ c = MatMul (a, b) }}"
    )
    session = ort.InferenceSession(model.SerializeToString())
    products = (lambda: a @ b, lambda: ta @ tb, lambda: session.run(None, {"a": a, "b": b}))
    best = min(_seconds(product) for _ in range(repeats) for product in products)
    return 2 * side**3 / best / 1e9


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def process_memory_mb(root: int) -> float:
    """PSS of a process and its descendants, in MB (1e6 bytes): shared pages count once."""
    return sum(_rollup_mb(pid, "Pss") for pid in process_family(root))


def process_rss_mb(root: int) -> float:
    """RSS of a process and its descendants, in MB (1e6 bytes): shared pages count in each."""
    return sum(_rollup_mb(pid, "Rss") for pid in process_family(root))


class MostMemory:
    """Reads the memory of a process and its descendants again and again while a ``with`` block runs.

    Each reading holds up the process for some milliseconds: not for blocks whose time is measured.

    Args:
        root: the process.
        interval: seconds between two readings.
    """

    def __init__(self, root: int, interval: float = 0.1) -> None:
        self.root, self.interval = root, interval
        self.mb = 0.0
        """The most seen (PSS), so far."""
        self.readings = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> MostMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._read()

    def _run(self) -> None:
        while not self._over.is_set():
            self._read()
            self._over.wait(self.interval)

    def _read(self) -> None:
        self.mb = max(self.mb, process_memory_mb(self.root))
        self.readings += 1


def own_cpu_ms(step: Callable[[], object], repeats: int) -> float:
    """Processor time of this process that a step takes, ms per repeat."""
    begun = time.process_time()
    for _ in range(repeats):
        step()
    return 1000 * (time.process_time() - begun) / repeats


def cpu_seconds(root: int) -> float:
    """Processor time that a process and its living descendants have taken."""
    return sum(map(cpu_ticks, process_family(root))) / os.sysconf("SC_CLK_TCK")


def process_family(root: int) -> set[int]:
    """Pids of a process and its descendants."""
    parents = {int(entry.name): _parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    family, found = {root}, {root}
    while found:
        found = {pid for pid, parent in parents.items() if parent in found}
        family |= found
    return family


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has just ended
        return -1


def cpu_ticks(pid: int) -> int:
    """Processor time of a process and of its threads, in ticks of the system's clock; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])  # utime, stime


def _rollup_mb(pid: int, name: str) -> float:
    """Of a process; 0 if it has ended. What the kernel calls kB are 1,024 bytes."""
    try:
        match = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) * 1024 / 1e6 if match else 0
