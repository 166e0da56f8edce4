"""What the synchronous and the asynchronous client share: options of a connection, calls, retries, batches."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from cocoer_client.errors import (
    MODEL,
    CocoerError,
    InvalidInput,
    InvalidRequest,
    ServerBusy,
    ServerError,
    ServerUnavailable,
)
from cocoer_client.errors import translate as translate_error
from cocoer_client.inputs import BoxPair, ImageLike, encode_image, persons_rows, request_inputs
from cocoer_client.results import Result

CHANNEL = [
    ("grpc.max_send_message_length", grpcclient.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", grpcclient.MAX_GRPC_MESSAGE_SIZE),
    # gRPC itself waits up to two minutes before it looks for a lost server again.
    ("grpc.max_reconnect_backoff_ms", 1000),
]
"""gRPC's options of a connection."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds before the first and, growing, before later tries."""
MAX_BATCH = 8
"""Images of one request: ``max_batch_size`` of the model."""
MAX_BYTES = 256 << 20
"""Of one request's images together; a message of gRPC ends at 2 GiB."""


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


def default_url() -> str:
    """The server's address where none is given."""
    return os.environ.get("COCOER_URL") or "localhost:8001"


class BaseClient:
    """Options of a connection, and what becomes of a call's failure.

    Args:
        url: host:port of Triton's gRPC endpoint; None: what the environment variable ``COCOER_URL`` says, else
            localhost:8001.
        timeout: seconds to wait for each answer, all tries together.
        retries: times to ask again, with growing pauses, where the server was busy or could not be reached. Asking
            twice does no harm: an answer depends on its request alone. Anything else is not tried again.
        tls: how to recognise the server, and be recognised; None: no encryption.
        headers: gRPC metadata of every call, for instance ``{"authorization": "Bearer ..."}`` for a gateway.
    """

    transport: ClassVar[Callable[..., Any]]
    """Triton's client."""

    def __init__(
        self,
        url: str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        tls: TLS | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url, self.timeout, self.retries = url or default_url(), timeout, retries
        # gRPC allows no capitals in their names.
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        secure = tls.arguments() if tls else {}
        self._client = self.transport(self.url, ssl=tls is not None, channel_args=CHANNEL, **secure)

    def translate(self, error: InferenceServerException) -> CocoerError:
        return translate_error(error, self.url, self.timeout)

    def call(self, left: float, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of an ``infer`` that may take ``left`` seconds."""
        return {
            "parameters": dict(parameters),
            "headers": self.headers,
            "client_timeout": left,
            "timeout": int(left * 1e6),  # microseconds; past it, the server does not begin with it any more
        }

    def not_ready(self) -> ServerUnavailable:
        return ServerUnavailable(f"the server at {self.url} is up, but its model {MODEL!r} is not ready; see its log")


class Attempts:
    """Tries of one request within its time."""

    def __init__(self, timeout: float, retries: int) -> None:
        self.deadline = time.monotonic() + timeout
        self.pauses = backoff(retries)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def pause_after(self, error: CocoerError) -> float:
        """Seconds to wait before asking again; raises ``error`` where that makes no sense or time is over."""
        if not isinstance(error, ServerUnavailable) or not self.pauses or self.pauses[0] >= self.left:
            raise error
        return self.pauses.pop(0)


def backoff(retries: int) -> list[float]:
    """Pauses before each next try, in seconds, doubled each time and scattered."""
    # Scattered, so that those who were refused together don't come back together.
    return [min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0) for attempt in range(retries)]


def given_parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Request parameters of those options that are given."""
    # Not "in (None, False)": a threshold of 0 equals False.
    return {name: value for name, value in options.items() if value is not None and value is not False}


def results_of(response: Any) -> list[dict[str, Any]]:
    """RESULT of each image of a batch, decoded."""
    return [json.loads(text) for text in response.as_numpy("RESULT").reshape(-1)]


def as_outcome(raw: Mapping[str, Any]) -> Result | CocoerError:
    """An image's RESULT, or the error that stands in its place."""
    if "error" not in raw:
        return Result.from_raw(raw)
    code, message = raw["error"]["code"], raw["error"]["message"]
    kind = {"INVALID_ARG": InvalidRequest, "UNAVAILABLE": ServerBusy}.get(code, ServerError)
    return kind(message)


@dataclass(frozen=True)
class Prepared:
    """An image of a batch, ready to send."""

    index: int
    image: bytes
    persons: np.ndarray | None

    @property
    def rows(self) -> int | None:
        """Number of boxes; None: to be detected. Images of one request have the same."""
        return None if self.persons is None else len(self.persons)


def batch_inputs(request: Sequence[Prepared]) -> list[grpcclient.InferInput]:
    """The tensors of one of ``prepare_batch``'s requests."""
    rows = [one.persons for one in request if one.persons is not None]
    return request_inputs([one.image for one in request], rows or None)


def prepare_batch(
    images: Sequence[ImageLike], persons: Sequence[Sequence[BoxPair] | None] | None
) -> tuple[list[list[Prepared]], dict[int, InvalidInput]]:
    """Requests that together hold a batch, and by position the images that can't be sent.

    Raises:
        InvalidInput: ``persons`` has another length than ``images``.
    """
    if persons is not None and len(persons) != len(images):
        raise InvalidInput(f"persons has {len(persons)} entries for {len(images)} images; give one, or None, for each")
    groups: dict[int | None, list[list[Prepared]]] = {}
    failed: dict[int, InvalidInput] = {}
    for index, image in enumerate(images):
        boxes = None if persons is None else persons[index]
        try:
            one = Prepared(index, encode_image(image), None if boxes is None else persons_rows(boxes))
        except InvalidInput as error:
            failed[index] = error
            continue
        requests = groups.setdefault(one.rows, [[]])
        size = sum(len(other.image) for other in requests[-1])
        if requests[-1] and (len(requests[-1]) == MAX_BATCH or size + len(one.image) > MAX_BYTES):
            requests.append([])
        requests[-1].append(one)
    return [request for requests in groups.values() for request in requests], failed
