"""A synchronous client of the served ``cocoer`` model, over gRPC.

with CocoerClient("localhost:8001") as client:
    result = client.infer(Path("img.png").read_bytes())
    print(result["persons"][0]["pred"])
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from client.errors import CocoerError, InvalidRequest, RequestTimeout, ServerBusy, ServerError, ServerUnavailable

MODEL = "cocoer"
CHANNEL = [
    ("grpc.max_send_message_length", grpcclient.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", grpcclient.MAX_GRPC_MESSAGE_SIZE),
    # gRPC itself waits up to two minutes before it looks for a lost server again.
    ("grpc.max_reconnect_backoff_ms", 1000),
]
"""gRPC's options of a connection."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds before the first and, growing, before later tries."""
BUSY = ("Exceeds maximum queue size", "short of memory", "is being started anew", "Stub process")
"""What a server that works says when it refuses a request for now."""
HANDSHAKE = ("handshake", "certificate", "ssl", "tls")
"""In gRPC's messages (in small letters) where a server is there, and no connection is made for lack of trust."""
EXPIRED = "Request timeout expired"
"""What it says when a request has waited longer than it may."""
BoxPair = Mapping[str, Sequence[float]]
"""``{"body": [x1, y1, x2, y2], "head": [x1, y1, x2, y2]}``, pixels."""


@dataclass(frozen=True)
class TLS:
    """An encrypted connection; files are PEM.

    Args:
        ca: certificates of the authorities to trust; None: gRPC's own list.
        certificate, key: this client's own, where the server asks for one (mutual TLS).
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def arguments(self) -> dict[str, str]:
        """Triton's client's names for them."""
        given = {"root_certificates": self.ca, "certificate_chain": self.certificate, "private_key": self.key}
        return {name: str(path) for name, path in given.items() if path is not None}


class CocoerClient:
    """One connection to a server; use it as a context manager, or ``close`` it.

    Args:
        url: host:port of Triton's gRPC endpoint.
        timeout: seconds to wait for each answer, all tries together.
        retries: times to ask again, with growing pauses, where the server was busy or could not be reached. Asking
            twice does no harm: an answer depends on its request alone. Anything else is not tried again.
        tls: how to recognise the server, and be recognised; None: no encryption.
    """

    def __init__(
        self, url: str = "localhost:8001", timeout: float = 30.0, retries: int = 4, tls: TLS | None = None
    ) -> None:
        self.url, self.timeout, self.retries = url, timeout, retries
        self._client = grpcclient.InferenceServerClient(
            url, ssl=tls is not None, channel_args=CHANNEL, **(tls.arguments() if tls else {})
        )

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
            ServerUnavailable (ServerBusy), RequestTimeout, InvalidRequest, ServerError: see ``client.errors``.
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
        return json.loads(self._retrying(inputs, parameters))

    def _retrying(self, inputs: list[grpcclient.InferInput], parameters: dict[str, float | bool]) -> bytes:
        """RESULT's text; asks again where that is safe, until the time is over."""
        deadline = time.monotonic() + self.timeout
        for pause in backoff(self.retries):
            left = deadline - time.monotonic()
            try:
                response = self._client.infer(
                    MODEL,
                    inputs,
                    parameters=parameters,
                    client_timeout=left,
                    timeout=int(left * 1e6),  # microseconds; past it, the server does not begin with it any more
                )
                return response.as_numpy("RESULT").reshape(-1)[0]
            except InferenceServerException as error:
                translated = self._translate(error)
                if not isinstance(translated, ServerUnavailable) or pause is None:
                    raise translated from error
                if time.monotonic() + pause >= deadline:
                    raise translated from error
            time.sleep(pause)
        raise AssertionError("backoff ends with None")

    def _translate(self, error: InferenceServerException) -> CocoerError:
        status, message = error.status() or "", error.message() or ""
        if "DEADLINE_EXCEEDED" in status or EXPIRED in message:
            return RequestTimeout(
                f"no answer from {self.url} within {self.timeout:g} s; raise --timeout, or look at the server's load"
            )
        if "INVALID_ARGUMENT" in status:
            return InvalidRequest(message)
        if "not ready" in message or "unknown model" in message or "is not found" in message:
            return ServerUnavailable(f"the server at {self.url} has no ready model {MODEL!r}: {message}")
        if any(sign in message for sign in BUSY):
            return ServerBusy(f"the server at {self.url} is busy: {message}")
        if "UNAVAILABLE" in status and any(sign in message.lower() for sign in HANDSHAKE):
            return ServerUnavailable(
                f"no secure connection to {self.url}: does the server use TLS, and is its certificate by an authority "
                f"you trust? ({message.splitlines()[0]})"
            )
        if "UNAVAILABLE" in status:
            return ServerUnavailable(
                f"no server at {self.url}; start one with: tritonserver --model-repository model_repository"
            )
        return ServerError(f"the server at {self.url} failed: {message}")


def backoff(retries: int) -> Iterator[float | None]:
    """Pauses before each next try, in seconds, doubled each time and scattered; None at the end."""
    for attempt in range(retries):
        # Scattered, so that those who were refused together don't come back together.
        yield min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0)
    yield None


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
