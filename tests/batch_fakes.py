"""Servers and results for tests of batch runs without a server."""

from __future__ import annotations

import threading
from collections import Counter

from cocoer_client.batch.server_pool import Clock
from cocoer_client.results import LISTS, Result

LABELS = tuple(f"label {index}" for index in range(24)) + ("peace", "doubt/confusion")
SCORES = [0.5] * 24 + [0.75, 0.25]
LEVELS = ("head", "body", "context")
PERSON = {
    "id": 1,
    "body_box": [0, 0, 5, 9],
    "head_box": [1, 1, 3, 3],
    **{name: ["peace"] for name in LISTS if name != "emo_process"},
    "emo_process": ["head-level", "context-level", "body-level"],
    "scores": dict.fromkeys(("pred", "VI", "head", "body", "ctx"), SCORES),
    "losses": {"head": 1.0, "body": 0.5, "context": 0.25},
    "refined": dict.fromkeys(("head", "body", "ctx"), SCORES),
    "coordination": {
        **{name: {"head": 0.25, "body": 0.25, "context": 0.5} for name in ("lambda_w1", "lambda_b1")},
        **{name: {"head": 0.5, "body": 0.5} for name in ("lambda_w2", "lambda_b2")},
        "grad_distance": 0.1,
    },
}
MODEL = {
    "version": "1",
    "weights": "w",
    "synthetic": False,
    "detector": "scrfd",
    "channel_order": "bgr",
    "coordination_step": 1.0,
    "precision": "fp32",
}
RESULT = {
    "image": {"width": 6, "height": 10, "damage": None},
    "persons": [PERSON],
    "labels": list(LABELS),
    "model": MODEL,
}
Result.from_raw(RESULT)  # it is one


def of_model(**changed):
    """RESULT of another model."""
    return {**RESULT, "model": {**MODEL, **changed}}


class Fleet:
    """Servers that behave as a test says; ``connect`` makes their clients.

    Args:
        **behaviour: URL -> function of an image's bytes and of the requests that the server has, which gives RESULT.
    """

    def __init__(self, **behaviour):
        self.behaviour, self.asked, self.busy = behaviour, Counter(), Counter()
        self.maximum = Counter()
        self.images = []
        self.options = []
        self.lock = threading.Lock()

    def connect(self, url, **arguments):
        assert arguments["retries"] == 0
        return FleetClient(self, url)


class FleetClient:
    """A client of one of them."""

    def __init__(self, fleet, url):
        self.fleet, self.url = fleet, url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def infer(self, image, persons=None, **options):
        return Result.from_raw(self.infer_raw(image, persons, **options))

    def infer_raw(self, image, persons=None, **options):
        fleet, url = self.fleet, self.url
        with fleet.lock:
            fleet.asked[url] += 1
            fleet.busy[url] += 1
            fleet.maximum[url] = max(fleet.maximum[url], fleet.busy[url])
            fleet.images.append(image)
            fleet.options.append(options)
        try:
            return fleet.behaviour[url](image, fleet.busy[url])
        finally:
            with fleet.lock:
                fleet.busy[url] -= 1


class FakeClock(Clock):
    """A time that passes when one waits."""

    def __init__(self):
        self.time = 1000.0

    def now(self):
        return self.time

    def wait(self, changed, timeout):
        assert timeout is not None, "waiting for nothing"
        self.time += max(timeout, 1e-6)
