"""Sending what no honest client sends, and watching what it does to the server."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from benchmarks.machine import process_family, process_memory_mb
from serving.server import TritonServer

NOBODY = np.zeros((1, 0, 8), dtype=np.float32)
"""PERSONS of an image that is to be decoded, and no more."""
INVALID = "StatusCode.INVALID_ARGUMENT"


def batch_inputs(images: Sequence[bytes], persons: np.ndarray | None = None) -> list[grpcclient.InferInput]:
    """IMAGE of several images, and PERSONS FP32 [images, N, 8] unless None."""
    tensor = grpcclient.InferInput("IMAGE", [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image] for image in images], dtype=np.object_))
    if persons is None:
        return [tensor]
    boxes = grpcclient.InferInput("PERSONS", list(persons.shape), "FP32")
    boxes.set_data_from_numpy(persons)
    return [tensor, boxes]


def image_inputs(data: bytes, persons: np.ndarray | None) -> list[grpcclient.InferInput]:
    """The same of one image."""
    return batch_inputs([data], persons)


def send_all(
    server: TritonServer, files: Iterable[bytes], persons: np.ndarray | None = NOBODY, threads: int = 4
) -> Counter[str]:
    """Send files and count the answers: "result", or status and message of the refusal."""
    local = threading.local()
    clients = []

    def send(data: bytes) -> str:
        if not hasattr(local, "client"):
            local.client = grpcclient.InferenceServerClient(server.url)
            clients.append(local.client)
        try:
            answer = local.client.infer("cocoer", image_inputs(data, persons), client_timeout=60)
        except InferenceServerException as error:
            return f"{error.status()}: {error.message()}"
        content = json.loads(answer.as_numpy("RESULT")[0, 0])
        return "result" if set(content) == {"image", "persons", "labels", "model"} else f"strange: {content}"

    with ThreadPoolExecutor(threads) as pool:
        counts = Counter(pool.map(send, files))
    for client in clients:
        client.close()
    return counts


def post(server: TritonServer, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and text of an HTTP answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.http_port}/{path}", body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


@dataclass(frozen=True)
class Footprint:
    """What a server holds."""

    memory_mb: float
    files: int
    shared_mb: float

    @classmethod
    def of(cls, server: TritonServer) -> Footprint:
        """Of the launcher and all of its descendants; memory is PSS."""
        assert server.process is not None
        root = server.process.pid
        regions = Path("/dev/shm").glob(f"cocoer{root}_*")
        files = sum(map(_descriptors, process_family(root)))
        return cls(process_memory_mb(root), files, sum(one.stat().st_size for one in regions) / 1e6)


def _descriptors(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0
