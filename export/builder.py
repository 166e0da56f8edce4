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

from cocoer.model import CocoER
from cocoer.weights import Checkpoint, checkpoint_identity, load_checkpoint
from export.detector import IOU_THRESHOLDS, absent_detector, wrap_detector
from export.detector_reference import DetectorReference
from export.graphs import build_graph
from export.onnx_export import export_onnx
from export.repository import engine_path, read_json, record_path, replace_file, sources_digest, write_json
from export.specs import ENGINES, EngineSpec
from export.verify import Parity, SampleInputs, torch_comparison, verify

logger = logging.getLogger(__name__)

DETECTOR_FILES = {
    "person_detector": "insightface/scrfd_person_2.5g.onnx",
    "face_detector": "insightface/det_10g.onnx",
}


class VerificationError(Exception):
    """A new engine is too far from its reference; it did not replace the old one."""


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


@dataclass
class EngineResult:
    """A row of the report."""

    name: str
    status: str
    """"built", "kept" (nothing changed) or "failed"."""
    megabytes: float = 0.0
    seconds: float = 0.0
    parity: Parity | None = None
    problem: str = ""

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
    def weights(self) -> str:
        """Identity of the checkpoint, from its files' contents."""
        return checkpoint_identity(self.options.checkpoints, self.options.trust)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        self.progress(f"reading {self.options.checkpoints}")
        return load_checkpoint(self.options.checkpoints, self.options.trust)

    @cached_property
    def model(self) -> CocoER:
        return CocoER.from_checkpoint(self.checkpoint)

    @cached_property
    def samples(self) -> SampleInputs:
        return SampleInputs(self.model, self.options.channel_order)

    def detector_source(self, name: str) -> Path | None:
        """The SCRFD file of a detector, None where this build uses OpenCV."""
        return self.options.checkpoints / DETECTOR_FILES[name] if self.options.scrfd else None

    def build(self) -> list[EngineResult]:
        """Bring every engine (of ``only``) up to date; failures are rows, not exceptions."""
        specs = [spec for spec in ENGINES if not self.options.only or spec.name in self.options.only]
        return [self._build_one(spec) for spec in specs]

    def fingerprint(self, spec: EngineSpec) -> str:
        """Hash of all that decides what the engine is: sources, options, tools, weights."""
        source = self.detector_source(spec.name) if spec.is_detector else None
        content = {
            "sources": self._digest,
            "versions": [torch.__version__, onnx.__version__, onnxruntime.__version__],
            "precision": self.options.precision,
            "channel_order": self.options.channel_order,
            "weights": (hashlib.sha256(source.read_bytes()).hexdigest() if source else "none")
            if spec.is_detector
            else self.weights,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def is_current(self, spec: EngineSpec) -> bool:
        """Whether the repository holds the engine these options would build."""
        target = engine_path(self.options.repository, spec.name)
        record = read_json(record_path(self.options.repository, spec.name))
        # The size tells a file that was cut short or swapped since.
        return (
            target.is_file()
            and record.get("fingerprint") == self.fingerprint(spec)
            and record.get("bytes") == target.stat().st_size
        )

    def _build_one(self, spec: EngineSpec) -> EngineResult:
        target = engine_path(self.options.repository, spec.name)
        if not self.options.force and self.is_current(spec):
            record = read_json(record_path(self.options.repository, spec.name))
            parity = {key: record["parity"][key] for key in ("max_error", "worst", "tolerance")}
            return EngineResult(spec.name, "kept", record["bytes"] / 1e6, record["seconds"], Parity(**parity))
        self.progress(f"building {spec.name}")
        started = time.perf_counter()
        result = EngineResult(spec.name, "built")

        def write(temporary: Path) -> None:
            self._write_engine(spec, temporary)
            result.seconds = round(time.perf_counter() - started, 2)
            result.megabytes = temporary.stat().st_size / 1e6
            self.progress(f"verifying {spec.name}")
            result.parity = self._verify(spec, temporary)
            if not result.parity.passed:
                raise VerificationError(f"error {result.parity.max_error:.2g} in {result.parity.worst}")

        try:
            replace_file(target, write)
        except Exception as error:
            logger.debug("building %s failed", spec.name, exc_info=True)
            result.status, result.problem = "failed", f"{type(error).__name__}: {error}"
            return result
        assert result.parity is not None
        content = {"fingerprint": self.fingerprint(spec), "bytes": target.stat().st_size, "seconds": result.seconds}
        write_json(record_path(self.options.repository, spec.name), {**content, "parity": result.parity.to_dict()})
        return result

    def _write_engine(self, spec: EngineSpec, path: Path) -> None:
        metadata = {"precision": self.options.precision, "channel_order": self.options.channel_order}
        if not spec.is_detector:
            module = build_graph(spec.name, self.model, self.options.channel_order, self.options.precision)
            export_onnx(module, spec, path, {**metadata, "weights": self.weights})
            return
        source = self.detector_source(spec.name)
        model = (
            wrap_detector(source, spec.name, {"source": source.name}) if source else absent_detector({"source": "none"})
        )
        onnx.save(model, path)

    def _verify(self, spec: EngineSpec, path: Path) -> Parity:
        if not spec.is_detector:
            module = build_graph(spec.name, self.model, self.options.channel_order, "fp32")
            compare = torch_comparison(path, spec, module, self.options.precision)
            tolerance = spec.fp16_tolerance if self.options.precision == "fp16" else spec.tolerance
            return verify(spec, compare, self.samples, tolerance)
        source = self.detector_source(spec.name)
        if source is None:
            return Parity(0.0, "no detector in this build", spec.tolerance)
        reference = DetectorReference(source, path, IOU_THRESHOLDS[spec.name])
        return verify(spec, reference.compare, SampleInputs(None, "bgr"), spec.tolerance)
