"""The TensorRT plans of a repository, built from its ONNX files.

Beside each ``model.plan`` lies its ONNX file, and a sidecar (``model.plan.json``) that says what it was built from and
for; the served model compares the sidecar with the machine it runs on (``cocoer_bls.plans``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cocoer.files import replace_file
from cocoer_bls.plans import OLDEST, PLAN_FILE, SIDECAR_FILE, Machine, misfit, this_machine
from export.files import known_digest
from export.models import Model
from export.models.samples import Samples
from export.options import Options
from export.plans.profiles import profile
from export.plans.run import plan_comparison, running
from export.plans.tensorrt import PlanBuildError, build_plan, check_library, load_tensorrt
from export.publishing.builds import Builds
from export.publishing.layout import onnx_path
from export.staging import Result, StagedBuild
from export.verification.verify import Parity, verify

logger = logging.getLogger(__name__)

TIMING_CACHE = "tensorrt_timing.cache"
PLAN_OPTIONS = (
    "precision",
    "workspace_gib",
    "hardware_compatibility",
    "version_compatible",
    "optimization_level",
)
"""What of a build's options decides a plan; also keys of its sidecar."""


def plan_path(repository: Path, name: str) -> Path:
    return repository / name / "1" / PLAN_FILE


def sidecar_path(repository: Path, name: str) -> Path:
    return repository / name / "1" / SIDECAR_FILE


class PlanResult(Result):
    """A row of the report."""

    @property
    def label(self) -> str:
        return f"{self.name}, plan"

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "sidecar": self.record}


class PlanBuild(StagedBuild):
    """Builds the plans of one repository, whose ONNX files are up to date.

    Args:
        options: of the build.
        samples: to verify with; loads the network when it is first needed.
        command: the command line that rebuilds the plans; for the sidecar.
        earlier, progress: as ``StagedBuild``'s.
        machine: this one, but in tests.

    Raises:
        TensorRTMissing: there is none, or no Polygraphy, or its bindings are of another version than its libraries.
    """

    row = PlanResult
    against = " against ONNX Runtime"

    def __init__(
        self,
        options: Options,
        samples: Samples,
        command: str,
        earlier: Sequence[Path] = (),
        progress: Callable[[str], None] = logger.info,
        *,
        machine: Machine | None = None,
    ) -> None:
        super().__init__(options, earlier, progress)
        self.samples, self.command = samples, command
        self.trt = load_tensorrt()  # before the machine is asked: only then its libraries are found wherever they are
        self.machine = machine or this_machine()
        check_library(self.trt, self.machine.tensorrt)

    def path(self, model: Model) -> Path:
        return plan_path(self.repository, model.name)

    def record_path(self, model: Model) -> Path:
        return sidecar_path(self.repository, model.name)

    def described(self, model: Model) -> str:
        return f"the plan of {model.name}"

    def current(self, model: Model) -> dict[str, Any] | None:
        sidecar = super().current(model)
        return sidecar if sidecar and not misfit(sidecar, self.machine) else None

    def made_of(self, model: Model) -> dict[str, Any]:
        gpu = self.machine.gpus[0] if self.machine.gpus else None
        return {
            "tensorrt": self.trt.__version__,
            "gpu": gpu.name if gpu else "unknown",
            "compute_capability": gpu.compute_capability if gpu else "0.0",
            "onnx_sha256": known_digest(onnx_path(self.repository, model.name)),
            "profile": {name: [list(shape) for shape in ranges] for name, ranges in profile(model).items()},
            **{name: getattr(self.options, name) for name in PLAN_OPTIONS},
            "tf32": False,  # plans whose sidecar does not say so may have it
        }

    def write(self, model: Model, path: Path) -> dict[str, Any]:
        level, source = self.options.hardware_compatibility, onnx_path(self.repository, model.name)
        for gpu in self.machine.gpus[:1]:
            if float(gpu.compute_capability) < OLDEST[level]:
                raise PlanBuildError(
                    f"--hardware-compatibility {level} needs a GPU of compute capability {OLDEST[level]} or later, and "
                    f"this is {gpu.compute_capability} ({gpu.name}); build without it, for this GPU model alone"
                )
        plan = build_plan(source, model, self.options, self._timing_cache, self.progress)
        self._keep_timing_cache(plan.timing_cache)
        path.write_bytes(plan.data)
        return {"layer_precisions": plan.precisions, "command": self.command}

    def verify(self, model: Model, path: Path) -> Parity:
        source, precision = onnx_path(self.repository, model.name), self.options.precision
        with running(path.read_bytes()) as run:
            return verify(model, plan_comparison(run, source, model, precision), self.samples, self.tolerance(model))

    @property
    def _timing_cache_path(self) -> Path:
        """Beside the build in the making: it is of use to the next one too, whatever becomes of this."""
        return self.repository.parent / TIMING_CACHE

    @cached_property
    def _timing_cache(self) -> bytes:
        beside = (Builds(build).directory / TIMING_CACHE for build in self.earlier)
        found = [path for path in (self._timing_cache_path, *beside) if path.is_file()]
        return found[0].read_bytes() if found else b""

    def _keep_timing_cache(self, content: bytes) -> None:
        if content:
            self.__dict__["_timing_cache"] = content
            replace_file(self._timing_cache_path, lambda path: path.write_bytes(content))
