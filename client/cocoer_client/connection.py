"""What the synchronous and the asynchronous client share: options of a connection, calls, retries."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from cocoer_client.errors import CocoerError, RequestTimeout, ServerUnavailable, is_gone
from cocoer_client.errors import translate as translate_error
from cocoer_client.protocol import MODEL, OPTIONS
from cocoer_client.results import Failure, Result

FIRST_PAUSE, MAX_PAUSE = 0.2, 2.0
"""Seconds before the first and, growing, before later tries."""
FIRST_CONTACT = 3.0
"""Seconds for which a server is looked for that has never answered: rather a wrong address than one that restarts."""
IDLE = 30.0
"""Seconds after which an unused connection is closed: before a balancer forgets it without telling (after 60 or more),
so that no request is sent into nowhere."""
MIN_PING = 2.0
"""Seconds, at least, between asking whether the other side of a connection is still there, and for its answer."""


def channel_options(timeout: float) -> list[tuple[str, int]]:
    """gRPC's options of a connection whose calls take so many seconds at most.

    While a call waits, the other side is asked for a sign of life after half of its time at most, and has a quarter to
    give it. If it doesn't, the connection is lost, and a quarter is left for a new one. To ask more often would be of
    harm: Triton bears three such questions while it is silent itself, and cuts the connection at the fourth.
    """
    silence, wait = (int(max(timeout / part, MIN_PING) * 1000) for part in (2, 4))
    return [
        ("grpc.max_send_message_length", grpcclient.MAX_GRPC_MESSAGE_SIZE),
        ("grpc.max_receive_message_length", grpcclient.MAX_GRPC_MESSAGE_SIZE),
        # gRPC itself waits up to two minutes before it looks for a lost server again.
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", silence),
        ("grpc.keepalive_timeout_ms", wait),
        ("grpc.http2.ping_timeout_ms", wait),  # newer versions of gRPC go by this one, which is a minute
        ("grpc.http2.max_pings_without_data", 0),  # no limit of its own
        ("grpc.client_idle_timeout_ms", int(IDLE * 1000)),
    ]


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
        retries: times to ask again, with growing pauses, where the server was busy or could not be reached; None: for
            as long as ``timeout`` allows, which outlasts the server's own restart, but only for some seconds where
            nobody has ever answered. Asking twice does no harm: an answer depends on its request alone. Anything else
            is not tried again.
        tls: how to recognise the server, and be recognised; None: no encryption.
        headers: gRPC metadata of every call, for instance ``{"authorization": "Bearer ..."}`` for a gateway.
    """

    transport: ClassVar[Callable[..., Any]]
    """Triton's client."""

    def __init__(
        self,
        url: str | None = None,
        timeout: float = 30.0,
        retries: int | None = None,
        tls: TLS | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url, self.timeout, self.retries = url or default_url(), timeout, retries
        self.reached = False
        """The server has answered, if only to refuse."""
        # gRPC allows no capitals in their names.
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        secure = tls.arguments() if tls else {}
        # Here, rather than by the first answers in several threads at once.
        for answer in (Result, Failure):
            answer.model_rebuild()
        self._client = self.transport(self.url, ssl=tls is not None, channel_args=channel_options(timeout), **secure)

    def translate(self, error: InferenceServerException) -> CocoerError:
        return translate_error(error, self.url, self.timeout)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Around a call: its failure as an error of this package."""
        try:
            yield
        except InferenceServerException as error:
            raise self.translate(error) from error

    def about_model(self) -> dict[str, Any]:
        """Arguments of the calls that ask whether the model is ready, and how it is configured."""
        return {"model_name": MODEL, "headers": self.headers, "client_timeout": self.timeout}

    def require_ready(self, ready: bool) -> None:
        """Raise ``ServerUnavailable`` unless that call said yes."""
        self.reached = True
        if not ready:
            raise ServerUnavailable(
                f"the server at {self.url} is up, but its model {MODEL!r} is not ready; see its log"
            )

    def call(
        self, inputs: Sequence[grpcclient.InferInput], parameters: Mapping[str, Any], request_id: str = ""
    ) -> Call:
        """A request, with its time beginning now."""
        return Call(self, inputs, parameters, request_id)

    @staticmethod
    def decode(response: Any) -> list[dict[str, Any]]:
        """RESULT of each image of an answer."""
        return [json.loads(text) for text in response.as_numpy("RESULT").reshape(-1)]


class Call:
    """One request, asked again where that makes sense until its time is over.

    Args:
        client: whose address, time and retries count.
        inputs: its tensors.
        parameters: of the request, as ``given_parameters`` makes them.
        request_id: Triton's, of each try; empty: none.
    """

    def __init__(
        self,
        client: BaseClient,
        inputs: Sequence[grpcclient.InferInput],
        parameters: Mapping[str, Any],
        request_id: str = "",
    ) -> None:
        self.client, self.inputs, self.parameters, self.request_id = client, inputs, parameters, request_id
        self.begun = time.monotonic()
        self.deadline = self.begun + client.timeout
        self.pauses = backoff(client.retries)

    def arguments(self) -> dict[str, Any]:
        """Of Triton's client's ``infer``, for a try that begins now."""
        left = self.deadline - time.monotonic()
        return {
            "model_name": MODEL,
            "inputs": self.inputs,
            "parameters": self.parameters,
            "request_id": self.request_id,
            "headers": self.client.headers,
            "client_timeout": left,
            "timeout": int(left * 1e6),  # microseconds; past it, the server does not begin with it any more
        }

    def results(self, response: Any) -> list[dict[str, Any]]:
        """RESULT of each image of an answer."""
        self.client.reached = True
        return self.client.decode(response)

    def pause_after(self, failure: InferenceServerException) -> float:
        """Seconds to wait before asking again; raises the failure, translated, where it is final or time is over."""
        error = self.client.translate(failure)
        if not (is_gone(error) or isinstance(error, RequestTimeout)):
            self.client.reached = True
        pause = next(self.pauses, None)
        if not isinstance(error, ServerUnavailable) or pause is None or time.monotonic() + pause >= self.patience_ends:
            raise error from failure
        return pause

    @property
    def patience_ends(self) -> float:
        """When no other try begins any more, on the clock of ``time.monotonic``."""
        if self.client.reached or self.client.retries is not None:
            return self.deadline
        return min(self.deadline, self.begun + FIRST_CONTACT)


def backoff(retries: int | None) -> Iterator[float]:
    """Pauses before each next try, in seconds, doubled each time and scattered; None: without end."""
    for attempt in itertools.count() if retries is None else range(retries):
        yield pause(attempt, FIRST_PAUSE, MAX_PAUSE)


def pause(attempt: int, first: float, most: float) -> float:
    """Seconds before a try: ``first``, doubled with each that failed before, up to ``most``; scattered."""
    # So that those who were refused together don't come back together.
    return min(first * 2.0 ** min(attempt, 10), most) * random.uniform(0.5, 1.0)


def given_parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Request parameters of those options that are given; raises TypeError for one that there is not.

    >>> given_parameters({"min_score": 0.0, "final_threshold": None, "timing": False, "fast_decode": False})
    {'min_score': 0.0, 'fast_decode': False}
    """
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise TypeError(f"no such option: {', '.join(unknown)}; there are {', '.join(OPTIONS)}")
    # A timing that is not wanted goes without saying; fast_decode may be the server's default.
    return {name: value for name, value in options.items() if value is not None and (name, value) != ("timing", False)}


def require_workers(concurrency: int) -> int:
    """It; raises ValueError where there would be none."""
    if concurrency < 1:
        raise ValueError(f"concurrency must be 1 or more, got {concurrency}")
    return concurrency
