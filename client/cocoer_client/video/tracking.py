"""The same person from frame to frame: each body box gets the number of its track. Needs trackers, and its OpenCV.

C-BIoU (Yang et al., WACV 2023) of the package trackers: boxes are matched with where each track should be by now, both
grown by a margin, which finds persons again who walked on between frames far apart. On the film with two crossings and
a cut of ``benchmarks/walks.py`` it changes numbers least among that package's trackers (docs/video.md has the figures).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cocoer_client.optional import supervision, trackers

REMEMBERED = 2.0
"""Seconds for which a person who is not seen keeps their track."""
MARGIN = 0.5
"""By which boxes are grown, to each side, as a share of their size."""
MIN_OVERLAP = 0.05
"""Of grown boxes (IoU) that are matched."""
TICK = 1e-3
"""Seconds between two frames at least."""
SAME = 1.0
"""Pixels by which a new track's box may differ from the detection that it was made of."""


class Shot:
    """Persons from one cut to the next.

    Args:
        rate: frames per second that come, about; times count, this says what is usual.
        numbers: where new tracks get their numbers.
        tracker: another of the package's; None: C-BIoU.
    """

    def __init__(self, rate: float, numbers: Iterator[int], tracker: Any = None) -> None:
        self.numbers = numbers
        self.detections = supervision().Detections
        self.tracker = tracker or trackers().CBIoUTracker(
            lost_track_buffer=round(30 * REMEMBERED),  # the package counts in frames of 1/30 s
            frame_rate=rate,
            minimum_consecutive_frames=1,
            buffer_ratio_first=MARGIN,
            minimum_iou_threshold_first_assoc=MIN_OVERLAP,
            minimum_iou_threshold_unconfirmed_assoc=MIN_OVERLAP,
        )
        self.tracks: dict[int, tuple[Any, int]] = {}
        """Identity of the package's tracklet -> the tracklet, and its number."""
        self.time_s = -1.0

    def track(self, boxes: Sequence[Sequence[int]], time_s: float) -> list[int]:
        """A frame's persons.

        Args:
            boxes: x1, y1, x2, y2 of each body, pixels.
            time_s: of the frame; where it is not after the last one's, it counts as the next moment.

        Returns:
            the number of each box's track.
        """
        self.time_s = max(time_s, self.time_s + TICK)
        corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        # The detector has done its choice: what it found counts in full.
        given = self.detections(xyxy=corners, confidence=np.ones(len(corners), dtype=np.float32))
        given.data["row"] = np.arange(len(corners))
        found = self.tracker.update(given, timestamp=self.time_s)
        numbers = [0] * len(corners)
        for row, identity in zip(found.data.get("row", ()), found.tracker_id):
            numbers[row] = self._number(self._tracklet(int(identity), corners[row]))
        alive = {id(tracklet) for tracklet in self.tracker.tracks}
        self.tracks = {key: value for key, value in self.tracks.items() if key in alive}
        # Nobody is without a number, whatever the package makes of their box.
        return [number or next(self.numbers) for number in numbers]

    def _tracklet(self, identity: int, corners: npt.NDArray[np.float32]) -> Any:
        """The package's tracklet of a box; it has no identity yet where the box is its first."""
        for tracklet in self.tracker.tracks:
            if identity != -1 and tracklet.tracker_id == identity:
                return tracklet
        fresh = [t for t in self.tracker.tracks if t.tracker_id == -1 and id(t) not in self.tracks]
        near = [t for t in fresh if np.abs(np.asarray(t.get_state_bbox()) - corners).max() <= SAME]
        return near[0] if near else None

    def _number(self, tracklet: Any) -> int:
        if tracklet is None:
            return next(self.numbers)
        if id(tracklet) not in self.tracks:
            self.tracks[id(tracklet)] = (tracklet, next(self.numbers))
        return self.tracks[id(tracklet)][1]
