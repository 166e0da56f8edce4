"""The ONNX files of a repository: exported from the network, made of detectors' files, quantised, verified."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

from export.models import Model
from export.models.ingredients import Ingredients
from export.options import Options
from export.precision import bf16
from export.precision.int8 import NothingToQuantise, quantise
from export.publishing.layout import onnx_path, record_path
from export.sources import sources_digest
from export.staging import StagedBuild
from export.verification.verify import Parity, verify

logger = logging.getLogger(__name__)


class OnnxBuild(StagedBuild):
    """The ONNX files of a build; arguments as ``StagedBuild``'s."""

    def __init__(
        self, options: Options, earlier: Sequence[Path] = (), progress: Callable[[str], None] = logger.info
    ) -> None:
        super().__init__(options, earlier, progress)
        self.ingredients = Ingredients(options, progress)
        self._sources = sources_digest()

    def path(self, model: Model) -> Path:
        return onnx_path(self.repository, model.name)

    def record_path(self, model: Model) -> Path:
        return record_path(self.repository, model.name)

    def described(self, model: Model) -> str:
        return model.name

    def made_of(self, model: Model) -> dict[str, Any]:
        """A hash of all that decides what the file is: code, tools, and what the model depends on."""
        content = {
            "sources": self._sources,
            "versions": [torch.__version__, onnx.__version__, onnxruntime.__version__],
            **({"openvino": bf16.version()} if model.runs_in_bf16(self.options) else {}),
            **model.depends_on(self.ingredients),
        }
        return {"fingerprint": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}

    def write(self, model: Model, path: Path) -> dict[str, Any]:
        model.write(path, self.ingredients)
        images = self.ingredients.images
        if images and model.has_trunk and not model.is_stand_in(self.options):
            feeds = (feed for scene in images.calibrating() for feed in model.calibration_inputs(scene))
            try:
                logger.info("%s: %d convolutions are INT8", model.name, quantise(path, feeds))
            except NothingToQuantise as error:
                self.progress(f"{model.name} stays FP32: {error}")
        return {}

    def verify(self, model: Model, path: Path) -> Parity:
        compare, tolerance = model.comparison(path, self.ingredients), self.tolerance(model)
        if compare is None:
            return Parity(0.0, "no detector in this build", *tolerance)
        return verify(model, compare, self.ingredients.samples, tolerance)
