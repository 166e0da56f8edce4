"""The person and the face detector: insightface's SCRFD files, with decoding and NMS; once per image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from cocoer_bls.images import LETTERBOX
from cocoer_bls.inputs import MIN_SCORE, Tensors
from export.detectors.files import check_detector, detector_digest
from export.detectors.reference import DetectorReference
from export.detectors.scrfd import MAX_DETECTIONS, absent_detector, wrap_detector
from export.graphs.comparison import Compare
from export.models.base import Model, Tolerances
from export.models.ingredients import Ingredients, ModelOptions
from export.models.samples import Samples
from export.models.tensors import IMAGES, Constant, TensorSpec, letterbox_of
from export.precision.calibration import Scene


def detector_inputs(size: int) -> tuple[TensorSpec, ...]:
    """What a detector takes, and the ensemble of both: letterboxes of ``size`` x ``size`` pixels, and its options."""
    return (
        letterbox_of("image", IMAGES, size),
        Constant("scale", IMAGES, (1,), value=size / 512),
        Constant("min_score", IMAGES, (1,), value=MIN_SCORE),
    )


class DetectorModel(Model):
    """``person_detector`` or ``face_detector``.

    Args:
        finds: "person" or "face".
        file: insightface's, below the checkpoints' directory.
        iou_threshold: overlap above which the lower score is suppressed (the release's settings).
        cpu_share: see ``Model``; the two run side by side, and are done at the same time if it follows their work.
        size: side of its letterbox, pixels.
    """

    outputs = (
        TensorSpec("boxes", IMAGES, (MAX_DETECTIONS, 4)),
        TensorSpec("scores", IMAGES, (MAX_DETECTIONS,)),
        TensorSpec("count", IMAGES, (1,), "INT32"),
    )
    batch = IMAGES
    tolerances = Tolerances(fp32=1e-2, fp16=1e-1, int8=1e-2, bf16=8e-1)
    has_trunk = True
    in_bf16 = True
    fixed_work = False  # what NMS selects differs in size

    def __init__(self, finds: str, file: str, iou_threshold: float, cpu_share: float, size: int = LETTERBOX) -> None:
        self.name, self.finds, self.file, self.iou_threshold = f"{finds}_detector", finds, file, iou_threshold
        self.cpu_share, self.size, self.inputs = cpu_share, size, detector_inputs(size)

    def sized(self, detector_size: int) -> DetectorModel:
        return DetectorModel(self.finds, self.file, self.iou_threshold, self.cpu_share, detector_size)

    def source(self, options: ModelOptions) -> Path | None:
        """The file it is made of; None where this build finds persons with OpenCV."""
        return options.checkpoints / self.file if options.scrfd else None

    def check_source(self, options: ModelOptions) -> None:
        """Raise ``DetectorError`` where its file can be seen to be the wrong one, without running it."""
        if source := self.source(options):
            check_detector(source, self.size)

    def is_stand_in(self, options: ModelOptions) -> bool:
        return self.source(options) is None

    def sample_inputs(self, samples: Samples, batch: int) -> Tensors:
        return {name: np.repeat(array, batch, axis=0) for name, array in samples.detection(self.size).items()}

    def calibration_inputs(self, scene: Scene) -> Iterable[Tensors]:
        yield scene.detection(self.size)

    def depends_on(self, made_of: Ingredients) -> dict[str, str | None]:
        source = self.source(made_of.options)
        if source is None:
            return {"file": None}
        return {
            "file": detector_digest(source),
            "size": str(self.size),
            "precision": made_of.options.precision,
            "calibration": made_of.calibration,
        }

    def write(self, path: Path, made_of: Ingredients) -> None:
        source = self.source(made_of.options)
        if source is None:
            onnx.save(absent_detector({"source": "none"}), path)
        else:
            metadata = {"source": source.name}
            graph = wrap_detector(source, self.iou_threshold, metadata, made_of.options.precision, self.size)
            onnx.save(graph, path)

    def comparison(self, path: Path, made_of: Ingredients) -> Compare | None:
        source = self.source(made_of.options)
        if source is None:
            return None
        reference = DetectorReference(source, path, self.iou_threshold, lambda m: self.session(m, made_of.options))
        # An INT8 network has raw outputs of its own, for the drift report to judge; what is made of them is exact.
        return reference.compare_decoding if made_of.options.precision == "int8" else reference.compare
