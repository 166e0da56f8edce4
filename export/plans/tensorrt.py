"""One ONNX file -> one TensorRT plan by NVIDIA's Polygraphy, with TensorRT 10.x and 11.x alike.

Networks are strongly typed: each tensor has the precision that the ONNX graph gives it
(``export.precision.fp16``), and TensorRT chooses none. The tests run Polygraphy itself on a stand-in for TensorRT,
which has the names of the real bindings of both versions and no others (``tests/fake_tensorrt``).
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
from tempfile import TemporaryDirectory
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
NO_POLYGRAPHY = "plans are built and run by Polygraphy, which this Python lacks: pip install polygraphy"


class TensorRTMissing(Exception):
    """There is no TensorRT to build with; the message says what to do."""


class PlanBuildError(Exception):
    """TensorRT did not build or run a plan; the message has what it said."""


@dataclass(frozen=True)
class Plan:
    """A built plan."""

    data: bytes
    timing_cache: bytes
    """Of this build and the ones before; empty where TensorRT gives none."""
    precisions: dict[str, int]
    """Type of a layer's output, in TensorRT's words -> number of layers; empty where it does not tell."""


def load_tensorrt() -> Any:
    """TensorRT's Python module, by whichever name it is installed; also importable as ``tensorrt`` then.

    Raises:
        TensorRTMissing: neither is, or its libraries or Polygraphy are missing.
    """
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            logger.debug("%s: %s", name, error)
            continue
        try:
            from polygraphy.logger import G_LOGGER
        except ImportError:
            raise TensorRTMissing(NO_POLYGRAPHY) from None
        # It prints to standard output otherwise, which is kept for reports.
        G_LOGGER.use_python_logging_system, G_LOGGER.colors, G_LOGGER.letter = True, False, False
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
    onnx_path: Path,
    model: Model,
    options: Options,
    timing_cache: bytes = b"",
    progress: Callable[[str], None] = logger.info,
) -> Plan:
    """Build the plan of a model.

    Args:
        onnx_path: the model's ONNX file.
        model: gives the optimisation profile.
        options: of the build.
        timing_cache: of earlier builds; one of another GPU or version is left aside.
        progress: told what TensorRT is doing.

    Raises:
        TensorRTMissing: there is none.
        PlanBuildError: TensorRT can't parse the graph, or can't build it; has its words.
    """
    trt = load_tensorrt()
    from polygraphy.backend.trt import EngineFromBytes, engine_bytes_from_network, network_from_onnx_path

    with sentences(f"can't read {onnx_path.name}"):
        network = network_from_onnx_path(str(onnx_path), strongly_typed=True)
    with TemporaryDirectory() as folder:  # Polygraphy takes files, and leaves a lock beside each
        earlier, timings = Path(folder, "earlier.cache"), Path(folder, "timing.cache")
        earlier.write_bytes(timing_cache)
        monitor = _monitor(trt, model.name, progress)
        config = _config(trt, model, options, earlier if timing_cache else None, monitor)
        with sentences(f"can't build {model.name}", " (memory? see --workspace)"), _interrupting(monitor):
            data = bytes(engine_bytes_from_network(network, config, save_timing_cache=str(timings)))
        timing_cache = timings.read_bytes() if timings.exists() else b""
    with sentences(f"can't load the plan of {model.name} that it has just built"):
        return Plan(data, timing_cache, _precisions(trt, EngineFromBytes(data)()))


def _config(trt: Any, model: Model, options: Options, timing_cache: Path | None, monitor: Any) -> Any:
    """What a plan is built with; Polygraphy calls it with the builder and the network."""
    from polygraphy.backend.trt import CreateConfig, PostprocessConfig, Profile

    shapes = Profile()
    for name, ranges in profile(model).items():
        shapes.add(name, *ranges)
    config = CreateConfig(
        profiles=[shapes],
        # TensorRT's own default is on, and multiplies with 10 bits of mantissa: 3e-3 off in the logits of fusion,
        # FP32 in every build.
        tf32=False,
        load_timing_cache=str(timing_cache) if timing_cache else None,
        profiling_verbosity=trt.ProfilingVerbosity.DETAILED,  # for ``_precisions``
        memory_pool_limits={trt.MemoryPoolType.WORKSPACE: int(options.workspace_gib * (1 << 30))},
        builder_optimization_level=options.optimization_level,
        hardware_compatibility_level=getattr(
            trt.HardwareCompatibilityLevel, HARDWARE_LEVELS[options.hardware_compatibility]
        ),
        version_compatible=options.version_compatible,
        progress_monitor=monitor,
    )
    return PostprocessConfig(config, _ensure_timing_cache)


def _ensure_timing_cache(_builder: Any, _network: Any, config: Any) -> None:
    """Begin a new one where TensorRT has refused another GPU's, of which Polygraphy takes no notice."""
    if config.get_timing_cache() is None and (cache := config.create_timing_cache(b"")) is not None:
        config.set_timing_cache(cache, ignore_mismatch=False)


@contextmanager
def sentences(problem: str, hint: str = "") -> Iterator[None]:
    """Where Polygraphy gives up in the block, raise ``PlanBuildError``: the problem and TensorRT's own words.

    Args:
        problem: what TensorRT can't do.
        hint: told where TensorRT says nothing.
    """
    from polygraphy.exception import PolygraphyException

    said, log = _Said(), logging.getLogger("Polygraphy")
    propagated, log.propagate = log.propagate, False
    log.addHandler(said)
    try:
        yield
    except PolygraphyException as error:
        words = "; ".join(dict.fromkeys(said.errors)) or " ".join(str(error).split()) + hint
        raise PlanBuildError(f"TensorRT {load_tensorrt().__version__} {problem}: {words}") from None
    finally:
        log.removeHandler(said)
        log.propagate = propagated


class _Said(logging.Handler):
    """Passes on what TensorRT and Polygraphy say, and keeps the errors."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.ERROR and not record.getMessage().lstrip().startswith('File "'):  # a backtrace
            self.errors.append(record.getMessage())
        logger.log(logging.INFO if record.levelno == logging.WARNING else logging.DEBUG, "%s", record.getMessage())


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
    """Ctrl-C tells the monitor during the block, and is raised after it: no exception passes through TensorRT."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        monitor.going_on = False

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if not monitor.going_on:
            raise KeyboardInterrupt


def _precisions(trt: Any, engine: Any) -> dict[str, int]:
    """What TensorRT says the layers of a plan put out; its JSON is not documented, so nothing is relied on."""
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        layers = json.loads(text)["Layers"]
        return dict(Counter(output["Format/Datatype"] for layer in layers for output in layer["Outputs"]))
    except (ValueError, KeyError, TypeError):
        return {}
