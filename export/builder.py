"""Building engines: which are stale, exporting them, verifying them, replacing them."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

from cocoer.checkpoints.keys import CheckpointError
from cocoer.checkpoints.loader import Checkpoint, Identity, checkpoint_identity, load_checkpoint
from cocoer.checkpoints.reading import file_sha256
from cocoer.files import temporary_name
from cocoer.network.model import CocoER
from export.detectors.scrfd import IOU_THRESHOLDS, absent_detector, wrap_detector
from export.models.graphs import build_graph
from export.models.onnx_export import export_onnx
from export.models.specs import ENGINES, EngineSpec
from export.precision.calibration import CalibrationImages
from export.precision.int8 import NothingToQuantise, quantise
from export.publishing.repository import (
    build_path,
    engine_path,
    known_digest,
    read_json,
    record_path,
    sources_digest,
    write_json,
)
from export.verification.detector_reference import DetectorReference
from export.verification.drift import detection_drift, recognition_drift
from export.verification.verify import Parity, SampleInputs, torch_comparison, verify

logger = logging.getLogger(__name__)

DETECTOR_FILES = {
    "person_detector": "insightface/scrfd_person_2.5g.onnx",
    "face_detector": "insightface/det_10g.onnx",
}


class VerificationError(Exception):
    """A new engine is too far from its reference."""


@dataclass(frozen=True)
class BuildOptions:
    """What a build is asked for."""

    checkpoints: Path
    repository: Path
    precision: str = "fp32"
    channel_order: str = "bgr"
    scrfd: bool = False
    """Use the SCRFD files; else the BLS detects with OpenCV."""
    trust: bool = False
    force: bool = False
    only: tuple[str, ...] = ()
    calibration: Path | None = None
    """Folder of images; for INT8."""


@dataclass
class EngineResult:
    """A row of the report."""

    name: str
    status: str
    """"built", "kept" (nothing changed), "failed", or "held back" (built, but another failed)."""
    megabytes: float = 0.0
    seconds: float = 0.0
    parity: Parity | None = None
    problem: str = ""

    @property
    def label(self) -> str:
        """What tables and messages call it."""
        return self.name

    def to_dict(self) -> dict[str, Any]:
        parity = self.parity.to_dict() if self.parity else None
        return {**vars(self), "parity": parity}


@dataclass
class Builder:
    """Builds the engines of one repository."""

    options: BuildOptions
    progress: Callable[[str], None] = logger.info
    _digest: str = field(default_factory=sources_digest)

    @cached_property
    def identity(self) -> Identity:
        """Which weights these are, from their files' contents."""
        return checkpoint_identity(self.options.checkpoints, self.options.trust)

    @property
    def weights(self) -> str:
        return self.identity.weights

    @cached_property
    def checkpoint(self) -> Checkpoint:
        self.progress(f"reading {self.options.checkpoints}")
        return load_checkpoint(self.options.checkpoints, self.options.trust, self.identity)

    @cached_property
    def model(self) -> CocoER:
        return CocoER.from_checkpoint(self.checkpoint)

    @cached_property
    def samples(self) -> SampleInputs:
        return SampleInputs(self.model, self.options.channel_order)

    @cached_property
    def images(self) -> CalibrationImages | None:
        """What INT8 is calibrated with; None for other precisions."""
        return CalibrationImages(self.options.calibration) if self.options.calibration else None

    def drift(self) -> dict[str, Any] | None:
        """What INT8 changes; None for other precisions. The repository must be complete."""
        if self.images is None:
            return None
        options = self.options
        self.progress("comparing INT8 with FP32")
        recognition = recognition_drift(self.model, options.channel_order, options.repository, self.images)
        detection = {}
        for name in DETECTOR_FILES:
            if source := self.detector_source(name):
                detection[name] = detection_drift(source, name, options.repository, self.images)
        return {"recognition": recognition, "detection": detection}

    def detector_source(self, name: str) -> Path | None:
        """The SCRFD file of a detector, None where this build uses OpenCV."""
        return self.options.checkpoints / DETECTOR_FILES[name] if self.options.scrfd else None

    def build(self) -> list[EngineResult]:
        """Bring every engine (of ``only``) up to date, all of them or none; failures are rows, not exceptions.

        Raises:
            CheckpointError: the weights can't be used at all.
        """
        specs = [spec for spec in ENGINES if not self.options.only or spec.name in self.options.only]
        try:
            results = [self._build_one(spec) for spec in specs]
            if any(result.status == "failed" for result in results):
                for result in results:
                    result.status = "held back" if result.status == "built" else result.status
            else:
                self._install([(spec, result) for spec, result in zip(specs, results) if result.status == "built"])
        finally:
            for spec in specs:
                self._staged(spec).unlink(missing_ok=True)
        return results

    def _staged(self, spec: EngineSpec) -> Path:
        """Where a new engine waits until all are verified: beside its target, so that installing it is a rename."""
        return temporary_name(engine_path(self.options.repository, spec.name))

    def _install(self, built: list[tuple[EngineSpec, EngineResult]]) -> None:
        if built:
            # Written again at the very end; without it the BLS refuses to load a mixture.
            build_path(self.options.repository).unlink(missing_ok=True)
        for spec, result in built:
            target = engine_path(self.options.repository, spec.name)
            self._staged(spec).replace(target)
            assert result.parity is not None
            record = {
                "fingerprint": self.fingerprint(spec),
                "bytes": target.stat().st_size,
                "sha256": known_digest(target),
                "seconds": result.seconds,
                "parity": result.parity.to_dict(),
            }
            write_json(record_path(self.options.repository, spec.name), record)

    def fingerprint(self, spec: EngineSpec) -> str:
        """Hash of all that decides what the engine is: sources, options, tools, weights."""
        source = self.detector_source(spec.name) if spec.is_detector else None
        content = {
            "sources": self._digest,
            "versions": [torch.__version__, onnx.__version__, onnxruntime.__version__],
            "precision": self._precision(spec),
            "channel_order": self.options.channel_order if spec.takes_crops else None,
            "calibration": self.images.identity() if self.images and spec.int8_tolerance else None,
            "weights": (file_sha256(source) if source else "none") if spec.is_detector else self.weights,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _precision(self, spec: EngineSpec) -> str:
        return self.options.precision if spec.has_network else "fp32"

    def current_record(self, spec: EngineSpec) -> dict[str, Any] | None:
        """The record of the engine in the repository, if it is the one these options would build."""
        target = engine_path(self.options.repository, spec.name)
        record = read_json(record_path(self.options.repository, spec.name))
        current = (
            target.is_file()
            and record.get("sha256") == known_digest(target)  # not cut short or swapped since
            and record.get("fingerprint") == self.fingerprint(spec)
        )
        return record if current else None

    def _build_one(self, spec: EngineSpec) -> EngineResult:
        if not self.options.force and (record := self.current_record(spec)):
            parity = {key: record["parity"][key] for key in ("max_error", "worst", "tolerance")}
            return EngineResult(spec.name, "kept", record["bytes"] / 1e6, record["seconds"], Parity(**parity))
        self.progress(f"building {spec.name}")
        started = time.perf_counter()
        result = EngineResult(spec.name, "built")
        staged = self._staged(spec)
        try:
            staged.parent.mkdir(parents=True, exist_ok=True)
            self._write_engine(spec, staged)
            self._quantise(spec, staged)
            result.seconds = round(time.perf_counter() - started, 2)
            result.megabytes = staged.stat().st_size / 1e6
            self.progress(f"verifying {spec.name}")
            result.parity = self._verify(spec, staged)
            if not result.parity.passed:
                raise VerificationError(f"error {result.parity.max_error:.2g} in {result.parity.worst}")
        except CheckpointError:
            raise  # not this engine's fault alone
        except Exception as error:
            logger.debug("building %s failed", spec.name, exc_info=True)
            result.status, result.problem = "failed", f"{type(error).__name__}: {error}"
        return result

    def _write_engine(self, spec: EngineSpec, path: Path) -> None:
        if not spec.is_detector:
            module = build_graph(spec.name, self.model, self.options.channel_order, self.options.precision)
            metadata = {"precision": self._precision(spec), "weights": self.weights}
            if spec.takes_crops:
                metadata["channel_order"] = self.options.channel_order
            export_onnx(module, spec, path, metadata)
            return
        source = self.detector_source(spec.name)
        model = (
            wrap_detector(source, spec.name, {"source": source.name}, self.options.precision)
            if source
            else absent_detector({"source": "none"})
        )
        onnx.save(model, path)

    def _quantise(self, spec: EngineSpec, path: Path) -> None:
        absent = spec.is_detector and not self.options.scrfd
        if self.images and spec.int8_tolerance and not absent:
            try:
                count = quantise(path, self.images.inputs(spec))
            except NothingToQuantise as error:
                self.progress(f"{spec.name} stays FP32: {error}")
            else:
                logger.info("%s: %d convolutions are INT8", spec.name, count)

    def _verify(self, spec: EngineSpec, path: Path) -> Parity:
        if not spec.is_detector:
            module = build_graph(spec.name, self.model, self.options.channel_order, "fp32")
            compare = torch_comparison(path, spec, module, self.options.precision)
            return verify(spec, compare, self.samples, self.tolerance(spec))
        source = self.detector_source(spec.name)
        if source is None:
            return Parity(0.0, "no detector in this build", spec.tolerance)
        reference = DetectorReference(source, path, IOU_THRESHOLDS[spec.name])
        # An INT8 network has raw outputs of its own, for the drift report to judge; what is made of them is exact.
        compare = reference.compare_decoding if self.options.precision == "int8" else reference.compare
        return verify(spec, compare, SampleInputs(None, "bgr"), self.tolerance(spec))

    def tolerance(self, spec: EngineSpec) -> float:
        """Largest error that an engine of this precision may have."""
        if self.options.precision == "int8":
            return spec.int8_tolerance or spec.tolerance
        return spec.fp16_tolerance if self.options.precision == "fp16" else spec.tolerance
