"""A client whose server is made up: for tests of what is done with answers and failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cocoer_client import ModelInfo
from tests.results import make_result


class FakeClient:
    """Answers that nobody is there, by a model that can be exchanged.

    Args:
        fault: takes each image that is asked about, and may raise; runs in the run's threads.
        model: fields of RESULT's ``model`` that are not as usual.
    """

    def __init__(self, fault: Callable[[Any], object] = lambda image: None, **model: Any) -> None:
        self.fault, self._lock = fault, threading.Lock()
        self.asked: list[Any] = []
        self.model: dict[str, Any] = {**make_result((9, 9), [])["model"], **model}

    def model_info(self, **options: Any) -> ModelInfo:
        return ModelInfo.model_validate(self.model)

    def infer_raw(self, image: Any, persons: Any = None, **options: Any) -> dict[str, Any]:
        with self._lock:
            self.asked.append(image)
        self.fault(image)
        return {**make_result((9, 9), []), "model": dict(self.model)}
