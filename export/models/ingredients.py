"""What models are made of: options, weights, detectors' files, images. Read when they are first asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol

from cocoer.checkpoints.loader import Checkpoint, Identity, checkpoint_identity, load_checkpoint
from cocoer.network.model import CocoER
from export.models.samples import Samples
from export.precision import Precision
from export.precision.calibration import CalibrationImages

logger = logging.getLogger(__name__)


class ModelOptions(Protocol):
    """What of a build's options decides what a model is."""

    @property
    def checkpoints(self) -> Path: ...
    @property
    def trust_checkpoint(self) -> bool: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def channel_order(self) -> str: ...
    @property
    def coordination_step(self) -> float: ...
    @property
    def scrfd(self) -> bool: ...
    @property
    def detector_size(self) -> int: ...
    @property
    def calibration(self) -> Path | None: ...


class Ingredients:
    """What the models of one build are made of.

    Args:
        options: of the build.
        progress: told of what takes long.

    Raises:
        CalibrationError: by ``images``.
        CheckpointError: by ``weights``, ``checkpoint`` and what needs them.
    """

    def __init__(self, options: ModelOptions, progress: Callable[[str], None] = logger.info) -> None:
        self.options, self.progress = options, progress
        self.samples = Samples(lambda: self.network, options.channel_order)

    @cached_property
    def identity(self) -> Identity:
        """Which weights these are, from their files' contents."""
        return checkpoint_identity(self.options.checkpoints, self.options.trust_checkpoint)

    @property
    def weights(self) -> str:
        """``identity`` as text; decides whether a model is made of other weights."""
        return self.identity.weights

    @cached_property
    def checkpoint(self) -> Checkpoint:
        self.progress(f"reading {self.options.checkpoints}")
        return load_checkpoint(self.options.checkpoints, self.options.trust_checkpoint, self.identity)

    @cached_property
    def network(self) -> CocoER:
        return CocoER.from_checkpoint(self.checkpoint, self.options.coordination_step)

    @cached_property
    def images(self) -> CalibrationImages | None:
        """What INT8 is calibrated with; None for other precisions."""
        return CalibrationImages(self.options.calibration) if self.options.calibration else None

    @cached_property
    def calibration(self) -> str | None:
        """Identity of ``images``."""
        return self.images.identity() if self.images else None
