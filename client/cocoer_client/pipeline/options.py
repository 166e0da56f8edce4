"""What a run asks and makes, without a command line."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from cocoer_client.connection import given_parameters
from cocoer_client.drawing.figures import BOXES, Boxes
from cocoer_client.drawing.formats import IMAGE_FORMATS, QUALITY, ImageFormat
from cocoer_client.inputs import BoxPair
from cocoer_client.protocol import OnDamage, Thresholds

Style = Literal["panel", "release"]
STYLES: tuple[Style, ...] = get_args(Style)
OF_IMAGES = ("style", "image_format", "quality", "drawn_boxes")
"""What of ``RunOptions.asked`` decides annotated images alone."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run; an unknown one is a TypeError, one out of range a ValueError.

    Args:
        final_threshold, level_threshold, min_score, on_damage, fast_decode: request parameters; None: the server's.
        persons: boxes of the one image's persons, in pixels; None: the server detects them.
        concurrency: images on their way at once.
        timeout: seconds for a download, and to wait for a camera's or a URL's image.
        retries: times an image is asked again after a time-out or a failure of the server.
        patience: seconds without any answer, from a server that is away or busy, after which the run ends.
        frame_step: of videos, every N-th frame.
        max_frames: of a video, N frames at most; None: all.
        smooth: of a video, seconds over which each person's scores are averaged as well; None: they are not.
        images: whether annotated images are made.
        style: how they look.
        image_format: of their files; ``auto``: the input's.
        quality: of JPEG and WebP files, 1 to 100.
        drawn_boxes: which boxes are drawn: of body and head, of the head alone, of neither.
        output_dir: where they go.
        retry_failed: with a journal that is resumed, ask again what the server had refused.
    """

    final_threshold: float | None = None
    level_threshold: float | None = None
    min_score: float | None = None
    on_damage: OnDamage | None = None
    fast_decode: bool | None = None
    persons: Sequence[BoxPair] | None = None
    concurrency: int = 4
    timeout: float = 30.0
    retries: int = 3
    patience: float = 60.0
    frame_step: int = 1
    max_frames: int | None = None
    smooth: float | None = None
    images: bool = True
    style: Style = "panel"
    image_format: ImageFormat = "auto"
    quality: int = QUALITY
    drawn_boxes: Boxes = "both"
    output_dir: Path = Path("outputs")
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for name in ("concurrency", "frame_step", "max_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if self.retries < 0 or self.patience < 0 or not self.timeout > 0:
            raise ValueError("retries and patience can't be negative, and timeout must be more than 0 seconds")
        if self.smooth is not None and not 0 < self.smooth < math.inf:
            raise ValueError(f"smooth must be more than 0 seconds, got {self.smooth}")
        choices = {"style": STYLES, "image_format": IMAGE_FORMATS, "drawn_boxes": BOXES}
        for name, allowed in choices.items():
            if (chosen := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {chosen}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is from 1 to 100, got {self.quality}")

    @property
    def thresholds(self) -> Thresholds:
        """Request parameters that are given."""
        names = Thresholds.__annotations__
        return cast(Thresholds, given_parameters({name: getattr(self, name) for name in names}))

    @property
    def boxes_given(self) -> bool:
        """Whether the detector does not matter."""
        return self.persons is not None

    def asked(self, of_video: bool, drawn: bool) -> dict[str, Any]:
        """What decides results beside the model and the thresholds; what is a default is left out.

        Args:
            of_video: they are a video's, or a camera's.
            drawn: there is an annotated image, too.
        """
        boxes = None if self.persons is None else digest(self.persons)
        given: dict[str, Any] = {"boxes": boxes}
        if of_video:
            given |= {"frame_step": None if self.frame_step == 1 else self.frame_step, "max_frames": self.max_frames}
            given["smooth"] = self.smooth
        if drawn:
            given["style"] = self.style
            for name, default in (("image_format", "auto"), ("quality", QUALITY), ("drawn_boxes", "both")):
                given[name] = None if getattr(self, name) == default else getattr(self, name)
        return {name: value for name, value in given.items() if value is not None}


def digest(persons: Sequence[BoxPair]) -> str:
    """A short name of boxes, the same for equal ones.

    >>> digest([{"body": [0, 0, 9, 9]}]) == digest([{"body": [0.0, 0.0, 9.0, 9.0], "head": None}])
    True
    """
    rows = [[[float(value) for value in person.get(part) or ()] for part in ("body", "head")] for person in persons]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
