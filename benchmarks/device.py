"""A device that models run on: its name, its clock, and what it can do at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from benchmarks.machine import processor

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class Budget:
    """How long a measurement may take.

    Args:
        seconds: of one of them.
        maximum: repeats of one of them.
        warm_up: calls before.
        batches: batch sizes to measure models at.
        matrix: side of the matrices whose product is the ceiling.
        images: of the end-to-end measurement.
        together: images recognised at once there; on a GPU as many as the model that clients ask takes.
    """

    seconds: float
    maximum: int
    warm_up: int
    batches: tuple[int, ...]
    matrix: int
    images: int
    together: int


GPU = Budget(
    seconds=0.4, maximum=200, warm_up=3, batches=(1, 2, 4, 8, 16, 32, 64, 128), matrix=8192, images=4096, together=8
)
CPU = Budget(seconds=0.1, maximum=2, warm_up=1, batches=(1, 2), matrix=512, images=4, together=2)


class NoDevice(Exception):
    """The device that was asked for is not there."""


class Device:
    """``cuda`` or ``cpu``."""

    def __init__(self, name: str) -> None:
        if name == "cuda" and not torch.cuda.is_available():
            raise NoDevice("PyTorch sees no GPU here; --device cpu proves the script without one")
        self.torch = torch.device(name)
        self.is_gpu = name == "cuda"
        self.budget = GPU if self.is_gpu else CPU
        # FP32 is FP32: convolutions would be TF32 otherwise, and neither parity nor ceilings what they say.
        torch.backends.cudnn.allow_tf32 = False

    def synchronise(self) -> None:
        """Wait for what the device has been told to do."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def median_ms(self, run: Callable[[], object]) -> float:
        """Median time of a call, all of it done, in milliseconds; warmed up, within the budget."""
        for _ in range(self.budget.warm_up):
            run()
        self.synchronise()
        times: list[float] = []
        ends = time.perf_counter() + self.budget.seconds
        while len(times) < self.budget.maximum and (not times or time.perf_counter() < ends):
            started = time.perf_counter()
            run()
            self.synchronise()
            times.append(1000 * (time.perf_counter() - started))
        return statistics.median(times)

    def describe(self) -> dict[str, object]:
        """What was measured on."""
        machine: dict[str, object] = dict(zip(("cpu", "cores"), processor()))
        if not self.is_gpu:
            return {"device": "cpu", "name": machine["cpu"], **machine}
        properties = torch.cuda.get_device_properties(0)
        capability = f"{properties.major}.{properties.minor}"
        memory = round(properties.total_memory / 1e9, 1)
        return {
            "device": "cuda",
            "name": properties.name,
            "compute_capability": capability,
            "memory_gb": memory,
            **machine,
        }

    def ceilings(self) -> Ceilings:
        """What the device itself does: a large matrix product in each precision, and a copy."""
        return Ceilings(self._matrix_tflops("fp32"), self._matrix_tflops("fp16"), self._copy_gb_per_second())

    def _matrix_tflops(self, precision: str) -> float:
        side = self.budget.matrix
        a, b = (torch.randn(side, side, device=self.torch).to(DTYPES[precision]) for _ in range(2))
        return 2 * side**3 / self.median_ms(lambda: a @ b) / 1e9

    def _copy_gb_per_second(self) -> float:
        source = torch.ones((1 << 28) if self.is_gpu else (1 << 24), device=self.torch)
        target = torch.empty_like(source)
        read_and_written = 2 * source.numel() * source.element_size()
        return read_and_written / self.median_ms(lambda: target.copy_(source)) / 1e6


@dataclass(frozen=True)
class Ceilings:
    """Measured, not of a data sheet; FP32 as PyTorch multiplies by default, without TF32."""

    fp32_tflops: float
    fp16_tflops: float
    copy_gb_per_second: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)
