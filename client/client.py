"""A synchronous client of the served ``cocoer`` model, over gRPC.

with CocoerClient("localhost:8001") as client:
    result = client.infer(Path("img.png").read_bytes())
    print(result["persons"][0]["pred"])
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from client.errors import CocoerError, InvalidRequest, RequestTimeout, ServerError, ServerUnavailable

MODEL = "cocoer"
BoxPair = Mapping[str, Sequence[float]]
"""``{"body": [x1, y1, x2, y2], "head": [x1, y1, x2, y2]}``, pixels."""


class CocoerClient:
    """One connection to a server; use it as a context manager, or ``close`` it.

    Args:
        url: host:port of Triton's gRPC endpoint.
        timeout: seconds to wait for each answer.
    """

    def __init__(self, url: str = "localhost:8001", timeout: float = 30.0) -> None:
        self.url, self.timeout = url, timeout
        self._client = grpcclient.InferenceServerClient(url)

    def __enter__(self) -> CocoerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def check_ready(self) -> None:
        """Raise ``ServerUnavailable`` unless the server is there and its model is ready."""
        try:
            if self._client.is_model_ready(MODEL, client_timeout=self.timeout):
                return
        except InferenceServerException as error:
            raise self._translate(error) from error
        raise ServerUnavailable(f"the server at {self.url} is up, but its model {MODEL!r} is not ready; see its log")

    def infer(
        self,
        image: bytes,
        persons: Sequence[BoxPair] | None = None,
        *,
        final_threshold: float | None = None,
        level_threshold: float | None = None,
        min_score: float | None = None,
        timing: bool = False,
    ) -> dict[str, Any]:
        """Recognise the emotions of the persons in one picture.

        Args:
            image: an encoded JPEG, PNG, WebP or BMP.
            persons: their boxes, in pixels; None: the server detects them.
            final_threshold, level_threshold: probabilities above which a label is listed; None: the server's
                (0.26, 0.6).
            min_score: smallest detection score; None: the server's (0.5).
            timing: have the server add ``timing_ms``, the milliseconds of each stage.

        Returns:
            the RESULT object (see the README).

        Raises:
            ServerUnavailable, RequestTimeout, InvalidRequest, ServerError: see ``client.errors``.
        """
        inputs = [_bytes_input(image)]
        if persons is not None:
            inputs.append(_persons_input(persons))
        given: dict[str, float | bool | None] = {
            "final_threshold": final_threshold,
            "level_threshold": level_threshold,
            "min_score": min_score,
            "timing": timing or None,
        }
        parameters = {name: value for name, value in given.items() if value is not None}
        try:
            response = self._client.infer(MODEL, inputs, parameters=parameters, client_timeout=self.timeout)
        except InferenceServerException as error:
            raise self._translate(error) from error
        return json.loads(response.as_numpy("RESULT").reshape(-1)[0])

    def _translate(self, error: InferenceServerException) -> CocoerError:
        status, message = error.status() or "", error.message() or ""
        if "DEADLINE_EXCEEDED" in status:
            return RequestTimeout(
                f"no answer from {self.url} within {self.timeout:g} s; raise --timeout, or look at the server's load"
            )
        if "INVALID_ARGUMENT" in status:
            return InvalidRequest(message)
        if "not ready" in message or "unknown model" in message or "is not found" in message:
            return ServerUnavailable(f"the server at {self.url} has no ready model {MODEL!r}: {message}")
        if "UNAVAILABLE" in status:
            return ServerUnavailable(
                f"no server at {self.url}; start one with: tritonserver --model-repository model_repository"
            )
        return ServerError(f"the server at {self.url} failed: {message}")


def _bytes_input(image: bytes) -> grpcclient.InferInput:
    tensor = grpcclient.InferInput("IMAGE", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image]], dtype=np.object_))
    return tensor


def _persons_input(persons: Sequence[BoxPair]) -> grpcclient.InferInput:
    rows = [[*person["body"], *person["head"]] for person in persons]
    array = np.array(rows, dtype=np.float32).reshape(1, len(rows), 8)
    tensor = grpcclient.InferInput("PERSONS", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return tensor
