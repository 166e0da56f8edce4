"""What the records of a film's frames say of time: the shot, each person's track, and smoothed scores if asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from cocoer_client.inputs import Pixels
from cocoer_client.results import CHOSEN
from cocoer_client.video.cuts import FLASH_S, Look, is_cut
from cocoer_client.video.smoothing import Smoother, Threshold, chosen
from cocoer_client.video.tracking import Shot


@dataclass
class Scene:
    """One shot so far."""

    number: int
    persons: Shot
    look: Look
    time_s: float
    """Of its last frame."""


class ThroughTime:
    """One film's.

    Args:
        rate: frames per second that are asked about, about.
        smooth: seconds; None: scores are not smoothed.
        thresholds: request parameters that were given: ``final_threshold``, ``level_threshold``.
    """

    def __init__(self, rate: float, smooth: float | None = None, thresholds: Mapping[str, Any] | None = None) -> None:
        self.rate = rate
        self.tracks, self.shots = count(1), count(1)
        self.smoother = Smoother(smooth) if smooth is not None else None
        given = thresholds or {}
        self.final = Threshold(0.26, given.get("final_threshold"))
        self.level = Threshold(0.6, given.get("level_threshold"))
        self.scene: Scene | None = None
        self.left: Scene | None = None

    def add(self, record: dict[str, Any], pixels: Pixels) -> None:
        """Complete the record of the next frame, in the film's order.

        Args:
            record: with ``time_s``; gets ``shot``. Its persons get ``track``, and ``smoothed`` if that was asked for:
                the lists of labels and the ``scores`` that a person has, of the means. A failure gets its shot alone.
            pixels: UINT8 [H, W, 3], RGB.

        Raises:
            InvalidInput: a package is missing.
        """
        scene = self._scene_of(Look.of(pixels), record["time_s"])
        record["shot"] = scene.number
        if "persons" not in record:
            return
        tracks = scene.persons.track([person["body_box"] for person in record["persons"]], record["time_s"])
        for person, track in zip(record["persons"], tracks):
            person["track"] = track
            if self.smoother is not None:
                self._smooth(self.smoother, person, record["labels"], record["time_s"])

    def _scene_of(self, look: Look, time_s: float) -> Scene:
        scene, left = self.scene, self.left
        if scene is None:
            scene = self._new(look, time_s)
        elif is_cut(scene.look, look):
            if left is not None and time_s - left.time_s <= FLASH_S and not is_cut(left.look, look):
                scene, self.left = left, None
            else:
                scene, self.left = self._new(look, time_s), scene
        scene.look, scene.time_s = look, time_s
        self.scene = scene
        return scene

    def _new(self, look: Look, time_s: float) -> Scene:
        return Scene(next(self.shots), Shot(self.rate, self.tracks), look, time_s)

    def _smooth(self, smoother: Smoother, person: dict[str, Any], labels: Sequence[str], time_s: float) -> None:
        for key in CHOSEN:
            (self.final if key == "pred" else self.level).learn(labels, person[key], person["scores"][key])
        scores = smoother.smooth(person["track"], time_s, person["scores"])
        person["smoothed"] = {**chosen(scores, labels, self.final.value, self.level.value), "scores": scores}


def as_shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the smoothed labels and scores in the place of the frame's own, where there are any."""
    return {**record, "persons": [{**person, **person.get("smoothed", {})} for person in record["persons"]]}


def track_numbers(persons: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """A person's ``id`` -> the number of their track, where they have one."""
    return {person["id"]: person["track"] for person in persons if "track" in person}
