"""One ONNX file -> one TensorRT plan, with TensorRT 10.x and 11.x alike.

Networks are strongly typed: each tensor has the precision that the ONNX graph gives it
(``export.precision.fp16``), and TensorRT chooses none. What this module asks of TensorRT is checked, where there is
none, against the names of the real bindings of both (``tests/unit/test_tensorrt_builder.py``).
"""

from __future__ import annotations

import importlib
import json
import logging
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cocoer_bls.plans import HardwareCompatibility, Version, parse_version
from export.models import Model
from export.options import Options
from export.plans.profiles import profile

logger = logging.getLogger(__name__)

HARDWARE_LEVELS: dict[HardwareCompatibility, str] = {
    "none": "NONE",
    "same-compute-capability": "SAME_COMPUTE_CAPABILITY",
    "ampere+": "AMPERE_PLUS",
}
"""Option -> TensorRT's name of the level."""
MODULES = ("tensorrt", "tensorrt_bindings")
"""NVIDIA's wheel, and its bindings alone, which find the libraries of the container."""
NO_TENSORRT = (
    "--backend tensorrt needs TensorRT, and this Python has none. A plan runs only on the TensorRT that built it, so "
    "build in the image that serves: docker compose -f serving/deploy/compose.yaml run --rm engines. "
    "Without it: --backend onnxruntime, on GPUs --accelerator cuda or tensorrt."
)


class TensorRTMissing(Exception):
    """There is no TensorRT to build with; the message says what to do."""


class PlanBuildError(Exception):
    """TensorRT did not build a plan; the message has what it said."""


@dataclass(frozen=True)
class Plan:
    """A built plan."""

    data: bytes
    timing_cache: bytes
    precisions: dict[str, int]
    """Type of a layer's output, in TensorRT's words -> number of layers; empty where it does not tell."""


def load_tensorrt() -> Any:
    """TensorRT's Python module, by whichever name it is installed; also importable as ``tensorrt`` then.

    Raises:
        TensorRTMissing: neither is, or its libraries are missing.
    """
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            logger.debug("%s: %s", name, error)
            continue
        # The bindings' wheel alone goes by another name; Polygraphy knows only this one.
        return sys.modules.setdefault("tensorrt", module)
    raise TensorRTMissing(NO_TENSORRT)


def check_library(trt: Any, library: Version | None) -> None:
    """Raise ``TensorRTMissing`` where the Python bindings are of another version than the library that plans run on."""
    if library is not None and parse_version(trt.__version__) != library:
        version = ".".join(map(str, library))
        raise TensorRTMissing(
            f"TensorRT's library is {version}, its Python bindings are {trt.__version__}: install "
            f"tensorrt-cu13-bindings of {version} (requirements-tensorrt.in)"
        )


def build_plan(
    trt: Any,
    onnx_path: Path,
    model: Model,
    options: Options,
    timing_cache: bytes = b"",
    progress: Callable[[str], None] = logger.info,
) -> Plan:
    """Build the plan of a model.

    Args:
        trt: TensorRT's module (``load_tensorrt``).
        onnx_path: the model's ONNX file.
        model: gives the optimisation profile.
        options: of the build.
        timing_cache: of earlier builds; TensorRT ignores one of another GPU or version.
        progress: told what TensorRT is doing.

    Raises:
        PlanBuildError: TensorRT can't parse the graph, or can't build it; has its words.
    """
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        found = "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors)
        raise PlanBuildError(
            f"TensorRT {trt.__version__} can't read {onnx_path.name}: {found or 'it does not say why'}"
        )
    config = _configure(trt, builder, model, options)
    cache = config.create_timing_cache(timing_cache) or config.create_timing_cache(b"")  # none of what it can't read
    if cache is not None:
        config.set_timing_cache(cache, ignore_mismatch=False)
    monitor = config.progress_monitor = _monitor(trt, model.name, progress)
    with _interrupting(monitor):
        plan = builder.build_serialized_network(network, config)
    if not monitor.going_on:
        raise KeyboardInterrupt
    if plan is None:
        said = "; ".join(log.errors) or "it does not say why (memory? see --workspace)"
        raise PlanBuildError(f"TensorRT {trt.__version__} can't build {model.name}: {said}")
    data, timings = bytes(plan), config.get_timing_cache()
    return Plan(data, bytes(timings.serialize()) if timings else b"", _precisions(trt, log, data))


def _configure(trt: Any, builder: Any, model: Model, options: Options) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace_gib * (1 << 30)))
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for ``_precisions``
    level = HARDWARE_LEVELS[options.hardware_compatibility]
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    # On by default, it multiplies with 10 bits of mantissa: 3e-3 off in the logits of fusion, FP32 in every build.
    config.clear_flag(trt.BuilderFlag.TF32)
    shapes = builder.create_optimization_profile()
    for name, ranges in profile(model).items():
        shapes.set_shape(name, *ranges)
    if config.add_optimization_profile(shapes) < 0:
        raise PlanBuildError(f"TensorRT {trt.__version__} refuses the profile of {model.name}: {profile(model)}")
    return config


def _log(trt: Any) -> Any:
    class Log(trt.ILogger):
        """Passes TensorRT's messages on, and keeps its errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)
            logger.log(logging.INFO if severity == trt.ILogger.WARNING else logging.DEBUG, "TensorRT: %s", message)

    return Log()


def _monitor(trt: Any, name: str, progress: Callable[[str], None]) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Tells of the outermost phases, and ends the build when it is told to."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.going_on = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                progress(f"{name}: {phase_name}")

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self.going_on

    return Monitor()


@contextmanager
def _interrupting(monitor: Any) -> Iterator[None]:
    """Ctrl-C tells the monitor during the block: an exception could not pass through TensorRT's own code."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        monitor.going_on = False

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _precisions(trt: Any, log: Any, plan: bytes) -> dict[str, int]:
    """What TensorRT says the layers of a plan put out; its JSON is not documented, so nothing is relied on."""
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = True  # version-compatible plans have some, and this one is our own
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise PlanBuildError(f"TensorRT {trt.__version__} can't load the plan that it has just built")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        layers = json.loads(text)["Layers"]
        return dict(Counter(output["Format/Datatype"] for layer in layers for output in layer["Outputs"]))
    except (ValueError, KeyError, TypeError):
        return {}
