"""What a build is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from cocoer.network.coordination import COORDINATION_STEP
from cocoer_bls.images import LETTERBOX
from cocoer_bls.manifest import Detection
from cocoer_bls.plans import HardwareCompatibility
from export.models import MODELS, RECOGNITION, Ensemble, Model
from export.models.base import Tolerance
from export.models.ensembles import detection
from export.precision import Precision

ChannelOrder = Literal["bgr", "rgb"]
Backend = Literal["onnxruntime", "tensorrt", "openvino"]
Accelerator = Literal["auto", "cuda", "tensorrt"]

ENGINE_CACHE = PurePosixPath("/tmp/cocoer-tensorrt")
"""Where ONNX Runtime's TensorRT provider keeps what it builds at the first start; a volume, if it is to last."""


@dataclass(frozen=True)
class Options:
    """A build's options, all of them; made by ``export.arguments``, handed on whole.

    Args:
        checkpoints: directory of the weights.
        repository: directory to write.
        precision: of the trunks.
        channel_order: what the network is fed.
        coordination_step: size of coordination's gradient step, at least 0; see ``cocoer.network.coordination``.
        detection: how persons are found: by SCRFD's files, or by OpenCV; stand-ins are then in the detectors' place.
        detector_size: side of the letterbox that SCRFD is given, pixels.
        calibration: folder of images; for INT8, and for it alone.
        only: models to build; empty: all.
        force: build what is up to date too.
        reuse: other repositories, whose files are taken over where they fit.
        trust_checkpoint: load files that can run code.
        tolerances: name of a model -> tolerance set by hand, instead of ``Model.tolerances``.
        backend: Triton's: "onnxruntime" runs ONNX files, "tensorrt" plans, "openvino" in bf16 the ONNX files of the
            models that can be, while the others are ONNX Runtime's.
        accelerator: of ONNX Runtime. "auto": the GPU by CUDA where there is one, else the CPU; "cuda": a GPU;
            "tensorrt": a GPU, models with a trunk by its TensorRT provider.
        engine_cache: see ``ENGINE_CACHE``.
        workspace_gib: GPU memory that TensorRT may use for a layer while it runs, GiB.
        hardware_compatibility: of plans. "none": the GPU model they are built on, fastest; "same-compute-capability";
            "ampere+": every GPU since Ampere, slower.
        cores: of the CPU that is to serve, where it does; each model gets its threads of them.
        version_compatible: plans also for later TensorRT: of the same major version, and 11 for those of 10. Triton
            then needs ``--backend-config=tensorrt,version-compatible=true``.
        optimization_level: TensorRT's: 0 (built fast) to 5 (tries most); its default is 3.
    """

    checkpoints: Path = Path("checkpoints")
    repository: Path = Path("model_repository")
    precision: Precision = "fp32"
    channel_order: ChannelOrder = "bgr"
    coordination_step: float = COORDINATION_STEP
    detection: Detection = "scrfd"
    detector_size: int = LETTERBOX
    calibration: Path | None = None
    only: tuple[str, ...] = ()
    force: bool = False
    reuse: tuple[Path, ...] = ()
    trust_checkpoint: bool = False
    tolerances: Mapping[str, float] = field(default_factory=dict)
    backend: Backend = "onnxruntime"
    accelerator: Accelerator = "auto"
    engine_cache: PurePosixPath = ENGINE_CACHE
    workspace_gib: float = 4.0
    cores: int = 2
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    optimization_level: int = 3

    @property
    def scrfd(self) -> bool:
        """Whether there are detectors; else nothing ever calls what stands in their place."""
        return self.detection == "scrfd"

    @property
    def models(self) -> tuple[Model, ...]:
        """``MODELS``, with detectors of this build's size."""
        return tuple(model.sized(self.detector_size) for model in MODELS)

    @property
    def ensembles(self) -> tuple[Ensemble, ...]:
        """``ENSEMBLES``, likewise."""
        return (detection(self.detector_size), RECOGNITION)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is certain to be there."""
        return self.backend == "tensorrt" or self.accelerator != "auto"

    def asks_for(self, model: Model) -> bool:
        """Whether a model is to be built."""
        return not self.only or model.name in self.only

    def runs_plan(self, model: Model) -> bool:
        """Whether a model is served as a TensorRT plan."""
        return self.backend == "tensorrt" and not model.is_stand_in(self)

    def tolerance(self, model: Model) -> Tolerance:
        """How far a model may be from its reference."""
        default = model.tolerances.of(self.precision)
        by_hand = self.tolerances.get(model.name)
        return Tolerance(default) if by_hand is None else Tolerance(by_hand, default)
