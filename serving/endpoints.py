"""A server's endpoints as a probe asks them: what Triton says of itself, what it has done, and one inference."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

MODEL, REQUEST_ID = "cocoer", "cocoer-probe"
SIDE = 64
"""Of the image, pixels."""
PERSONS = re.compile(r"^cocoer_persons_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
WORK = re.compile(r"^(?:nv_inference_exec_count|nv_inference_request_failure)\{[^}]*\} (\S+)$", re.MULTILINE)
STEP = re.compile(r'^cocoer_instance_step\{name="([^"]*)"\} (\S+)$', re.MULTILINE)


class Outcome(Enum):
    """Of one probe."""

    ANSWERED = "answered"
    FAILED = "failed"
    """With an error."""
    SILENT = "silent"
    """No answer in time, or no place in the queue."""
    NOT_SERVED = "not served"
    """No such model here, or it is closed to us."""


class Progress(NamedTuple):
    """What a server has done since its start."""

    persons: float
    """In results."""
    work: float
    """Executions, and failed requests, of all models."""
    steps: Mapping[str, float] = MappingProxyType({})
    """Of each instance of ``cocoer``: 0 while it has nothing to do; else a number that changes as it goes on."""


def png(side: int) -> bytes:
    """A grey square."""
    rows = b"".join(b"\0" + b"\x80" * side for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def request_body() -> tuple[bytes, int]:
    """The inference as Triton's HTTP takes it, and how many of its bytes are JSON."""
    image = png(SIDE)
    images = 2 * (struct.pack("<I", len(image)) + image)
    body, head = (0, 0, SIDE, SIDE), (16, 8, 48, 40)
    persons = struct.pack("<16f", *body, *head, *body, 0, 0, 0, 0)  # zeros: to be found
    inputs = (("IMAGE", "BYTES", [2, 1], images), ("PERSONS", "FP32", [2, 1, 8], persons))
    described = {
        "id": REQUEST_ID,
        "inputs": [
            {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
            for name, kind, shape, data in inputs
        ],
        "outputs": [{"name": "RESULT", "parameters": {"binary_data": False}}],
    }
    text = json.dumps(described).encode()
    return text + images + persons, len(text)


@dataclass(frozen=True)
class Endpoints:
    """Where a server is asked: host and port of its HTTP, and of its metrics if it has them."""

    inference: tuple[str, int]
    metrics: tuple[str, int] | None

    def ready(self) -> bool:
        """What Triton says of itself."""
        with contextlib.suppress(OSError, http.client.HTTPException), self._open("/v2/health/ready", 5) as answer:
            return bool(answer.status == 200)
        return False

    def progress(self) -> Progress | None:
        """None where the server does not tell."""
        if self.metrics is None:
            return None
        try:
            with urllib.request.urlopen("http://{}:{}/metrics".format(*self.metrics), timeout=5) as answer:
                text = answer.read().decode()
            persons, work = (sum(map(float, pattern.findall(text))) for pattern in (PERSONS, WORK))
            return Progress(persons, work, {name: float(step) for name, step in STEP.findall(text)})
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def ask(self, seconds: float) -> tuple[Outcome, str]:
        """One probe, which may take so long; what came of it, and the server's words."""
        data, json_bytes = request_body()
        headers = {"Inference-Header-Content-Length": str(json_bytes), "Content-Type": "application/octet-stream"}
        try:
            with self._open(f"/v2/models/{MODEL}/infer", seconds, data, headers) as answer:
                results = json.load(answer)["outputs"][0]["data"]
        except urllib.error.HTTPError as error:
            with error:
                return _outcome_of_status(error.code), f"HTTP {error.code}: {_text(error)}"
        except (OSError, http.client.HTTPException) as error:
            return Outcome.SILENT, f"no answer within {seconds:g} s ({error})"
        except (ValueError, KeyError, IndexError) as error:
            return Outcome.FAILED, f"an answer that is none ({error})"
        errors = [result["error"]["message"] for result in map(json.loads, results) if "error" in result]
        return (Outcome.FAILED, errors[0]) if errors else (Outcome.ANSWERED, "")

    def _open(
        self, path: str, seconds: float, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> contextlib.AbstractContextManager[http.client.HTTPResponse]:
        request = urllib.request.Request("http://{}:{}".format(*self.inference) + path, data, headers or {})
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=seconds)
        return response


def _outcome_of_status(status: int) -> Outcome:
    if status in (401, 403, 404):
        return Outcome.NOT_SERVED
    return Outcome.SILENT if status in (429, 503) else Outcome.FAILED


def _text(error: urllib.error.HTTPError) -> str:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return error.read(200).decode(errors="replace")
    return ""
