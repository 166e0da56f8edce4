"""The TensorRT plans of a repository: which are stale, building them from its ONNX engines, verifying, installing.

Beside each ``model.plan`` lies its ONNX file, and a sidecar (``model.plan.json``) that says what it was built from and
for; the served model compares the sidecar with the machine it runs on (``cocoer_bls.plans``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from cocoer.files import replace_file, temporary_name
from cocoer_bls.plans import PLAN_FILE, SIDECAR_FILE, Machine, misfit, this_machine
from export.builder import EngineResult
from export.models.specs import EngineSpec
from export.plans.profiles import profile
from export.plans.run import Run, plan_comparison, polygraphy_runner
from export.plans.tensorrt import PlanOptions, build_plan, check_library, load_tensorrt
from export.publishing.repository import build_path, engine_path, known_digest, read_json, write_json
from export.verification.verify import Parity, SampleInputs, verify

logger = logging.getLogger(__name__)

TIMING_CACHE = "tensorrt_timing.cache"


def plan_path(repository: Path, name: str) -> Path:
    return repository / name / "1" / PLAN_FILE


def sidecar_path(repository: Path, name: str) -> Path:
    return repository / name / "1" / SIDECAR_FILE


class HasSamples(Protocol):
    """A ``Builder``: loads the network when its samples are first asked for; a build that keeps all never does."""

    @property
    def samples(self) -> SampleInputs: ...


@dataclass
class PlanResult(EngineResult):
    """A row of the report."""

    sidecar: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name}, plan"


@dataclass
class PlanBuilder:
    """Builds the plans of one repository, whose ONNX engines are up to date.

    Args:
        repository: where the engines are, and the plans will be.
        precision: what the ONNX engines were built with.
        options: how TensorRT builds.
        source: what built the engines; has the inputs to verify with.
        tolerances: engine -> largest allowed error against ONNX Runtime.
        command: the command line that rebuilds the plans; for the sidecar.
        force: build what is up to date too.
        machine, runner, trt: this machine, Polygraphy and TensorRT, but in tests.

    Raises:
        TensorRTMissing: there is none, or its bindings are of another version than its libraries.
    """

    repository: Path
    precision: str
    options: PlanOptions
    source: HasSamples
    tolerances: dict[str, float]
    command: str
    force: bool = False
    progress: Callable[[str], None] = logger.info
    machine: Machine = field(default_factory=this_machine)
    runner: Callable[[bytes], Run] = polygraphy_runner
    trt: Any = field(default_factory=load_tensorrt)

    def __post_init__(self) -> None:
        check_library(self.trt, self.machine.tensorrt)

    def build(self, specs: Sequence[EngineSpec]) -> list[PlanResult]:
        """Bring the plans of these engines up to date, all of them or none; failures are rows, not exceptions."""
        try:
            results = [self._build_one(spec) for spec in specs]
            built = [result for result in results if result.status == "built"]
            if any(result.status == "failed" for result in results):
                for result in built:
                    result.status = "held back"
            elif built:
                self._install(built)
        finally:
            for spec in specs:
                self._staged(spec.name).unlink(missing_ok=True)
        return results

    def current(self, spec: EngineSpec) -> dict[str, Any] | None:
        """The sidecar of the plan in the repository, if it is the one that would be built."""
        path, sidecar = plan_path(self.repository, spec.name), read_json(sidecar_path(self.repository, spec.name))
        current = (
            path.is_file()
            and sidecar.get("sha256") == known_digest(path)
            and all(sidecar.get(key) == value for key, value in self._made_of(spec).items())
            and not misfit(sidecar, self.machine)
        )
        return sidecar if current else None

    def _made_of(self, spec: EngineSpec) -> dict[str, Any]:
        """What decides the plan; part of its sidecar."""
        gpu = self.machine.gpus[0] if self.machine.gpus else None
        return {
            "tensorrt": self.trt.__version__,
            "gpu": gpu.name if gpu else "unknown",
            "compute_capability": gpu.compute_capability if gpu else "0.0",
            "onnx_sha256": known_digest(engine_path(self.repository, spec.name)),
            "precision": self.precision,
            "profile": {name: [list(shape) for shape in ranges] for name, ranges in profile(spec).items()},
            **asdict(self.options),
        }

    def _build_one(self, spec: EngineSpec) -> PlanResult:
        if not self.force and (sidecar := self.current(spec)):
            parity = {key: sidecar["parity"][key] for key in ("max_error", "worst", "tolerance")}
            return PlanResult(
                spec.name, "kept", sidecar["bytes"] / 1e6, sidecar["seconds"], Parity(**parity), "", sidecar
            )
        result = PlanResult(spec.name, "built")
        try:
            self._write(spec, result)
        except Exception as error:  # whatever it is, the old plan stays, and the report says why
            logger.debug("building the plan of %s failed", spec.name, exc_info=True)
            result.status, result.problem = "failed", f"{type(error).__name__}: {error}"
        return result

    def _write(self, spec: EngineSpec, result: PlanResult) -> None:
        self.progress(f"building the plan of {spec.name}")
        started = time.perf_counter()
        onnx_path, staged = engine_path(self.repository, spec.name), self._staged(spec.name)
        plan = build_plan(self.trt, onnx_path, spec, self.options, self._timing_cache, self.progress)
        self._keep_timing_cache(plan.timing_cache)
        staged.write_bytes(plan.data)
        result.seconds, result.megabytes = round(time.perf_counter() - started, 2), len(plan.data) / 1e6
        self.progress(f"verifying the plan of {spec.name}")
        compare = plan_comparison(self.runner(plan.data), onnx_path, spec, self.precision)
        result.parity = verify(spec, compare, self.source.samples, self.tolerances[spec.name])
        if not result.parity.passed:
            raise ValueError(f"error {result.parity.max_error:.2g} against ONNX Runtime in {result.parity.worst}")
        result.sidecar = {
            **self._made_of(spec),
            "layer_precisions": plan.precisions,
            "bytes": len(plan.data),
            "sha256": known_digest(staged),
            "seconds": result.seconds,
            "parity": result.parity.to_dict(),
            "command": self.command,
        }

    def _install(self, built: Sequence[PlanResult]) -> None:
        # Written again at the very end; without it the BLS refuses to load a mixture.
        build_path(self.repository).unlink(missing_ok=True)
        for result in built:
            # Between the two renames the sidecar is another plan's, which its hash tells.
            self._staged(result.name).replace(plan_path(self.repository, result.name))
            write_json(sidecar_path(self.repository, result.name), result.sidecar)

    def _staged(self, name: str) -> Path:
        return temporary_name(plan_path(self.repository, name))

    @cached_property
    def _timing_cache(self) -> bytes:
        path = self.repository / TIMING_CACHE
        return path.read_bytes() if path.is_file() else b""

    def _keep_timing_cache(self, content: bytes) -> None:
        self.__dict__["_timing_cache"] = content
        replace_file(self.repository / TIMING_CACHE, lambda path: path.write_bytes(content))
