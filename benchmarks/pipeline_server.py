"""A server of constant models: what it is asked, and the processor time that each of its parts takes for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tritonclient.grpc as grpcclient

from benchmarks import machine
from benchmarks.pipeline_models import SCENE
from serving.server import TritonServer

Part = Literal["cocoer", "triton", "stand-in", "launcher"]
"""Of a server: the Python processes of ``cocoer``; Triton itself; those of ``serving/backends/onnxruntime``, one for
each model, which are not there with Triton's native backend; what watches over the server."""
PARTS: tuple[Part, ...] = ("cocoer", "triton", "stand-in", "launcher")


Persons = Literal["found", "given", "none"]
"""Found by the detectors; given with the request, with their heads, so that no detector is asked; or given that there
are none, so that no model is called at all."""


@dataclass(frozen=True)
class Way:
    """How images are sent.

    Args:
        name: of it.
        batch: images of a request.
        concurrency: requests that are on their way together.
        persons: what is said of them; see ``Persons``.
    """

    name: str
    batch: int
    concurrency: int
    persons: Persons = "found"


WAYS = (
    Way("1 request at a time", 1, 1),
    Way("8 requests at a time", 1, 8),
    Way("batches of 8, 1 at a time", 8, 1),
    Way("batches of 8, 8 at a time", 8, 8),
    Way("8 at a time, persons given", 1, 8, "given"),
    Way("8 at a time, nobody given", 1, 8, "none"),
)
TARGET, GIVEN, NOBODY = WAYS[1], WAYS[4], WAYS[5]
"""What the target is of, and the same with less to do: what they differ by is what that costs."""


@dataclass(frozen=True)
class Turn:
    """What one way took in one round, per image."""

    cpu_ms: dict[str, float]
    """Of each of ``PARTS``."""
    images_per_second: float
    images_per_run: float
    """That ``cocoer`` was given together, of as many requests as were waiting."""
    load_ms: float
    """Processor time of this process, which is in nothing else."""


class NotTwo(RuntimeError):
    """The constant models were not answered as they should be: something else was measured than is said."""


def part_of(command: Sequence[str]) -> Part:
    """What a process of a server is, by its command line.

    >>> part_of(["/x/python/triton_python_backend_stub", "/repository/cocoer/1/model.py", "prefix"])
    'cocoer'
    >>> part_of(["/x/python/triton_python_backend_stub", "/x/onnxruntime/model.py", "prefix"])
    'stand-in'
    >>> part_of(["/x/bin/tritonserver", "--model-repository=/cocoer"]), part_of(["python", "-m", "serving.launcher"])
    ('triton', 'launcher')
    """
    name = Path(command[0]).name if command else ""
    if name == "triton_python_backend_stub":
        return "cocoer" if any(word.endswith("/cocoer/1/model.py") for word in command) else "stand-in"
    return "triton" if name == "tritonserver" else "launcher"


def parts_of(root: int) -> dict[int, Part]:
    """Pid -> what it is, of a server's processes."""
    found = {}
    for pid in machine.process_family(root):
        with contextlib.suppress(OSError):
            found[pid] = part_of(Path(f"/proc/{pid}/cmdline").read_text().split("\0"))
    return found


def spent(parts: Mapping[int, Part]) -> dict[str, float]:
    """Seconds of processor time that each part has taken so far."""
    total: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for pid, part in parts.items():
        total[part] += machine.cpu_ticks(pid) / os.sysconf("SC_CLK_TCK")
    return total


def per_image_ms(before: Mapping[str, float], after: Mapping[str, float], images: int) -> dict[str, float]:
    """Milliseconds per image between two counts of seconds.

    >>> per_image_ms({"cocoer": 1.0, "triton": 0.5}, {"cocoer": 1.5, "triton": 0.6}, 100)
    {'cocoer': 5.0, 'triton': 1.0}
    """
    return {part: round(1000 * (after[part] - before[part]) / images, 4) for part in after}


class Bench:
    """A server of constant models, and connections to it."""

    def __init__(self, server: TritonServer) -> None:
        self.metrics_url = server.metrics_url
        self.parts = parts_of(server.process.pid)
        missing = {"cocoer", "triton"} - set(self.parts.values())
        if missing:
            raise RuntimeError(f"no process of the server was recognised as {' or '.join(sorted(missing))}")
        self.clients = [
            grpcclient.InferenceServerClient(server.url) for _ in range(max(way.concurrency for way in WAYS))
        ]

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def turn(self, way: Way, images: int) -> tuple[Turn, set[bytes]]:
        """Send so many images; what it took, and the different answers."""
        sent, each = _request(way), images // way.batch // way.concurrency

        def slot(client: grpcclient.InferenceServerClient) -> set[bytes]:
            answers = (client.infer("cocoer", sent, client_timeout=120) for _ in range(each))
            return {text for answer in answers for text in answer.as_numpy("RESULT").reshape(-1)}

        with ThreadPoolExecutor(way.concurrency) as pool:
            runs = self._runs()
            before, own, begun = spent(self.parts), time.process_time(), time.perf_counter()
            results = set().union(*pool.map(slot, self.clients[: way.concurrency]))
            seconds, own, after = time.perf_counter() - begun, time.process_time() - own, spent(self.parts)
        done = each * way.concurrency * way.batch
        together = done / (self._runs() - runs)
        return Turn(per_image_ms(before, after, done), done / seconds, together, 1000 * own / done), results

    def _runs(self) -> int:
        """How often ``cocoer`` has run, by Triton's metrics."""
        with urllib.request.urlopen(self.metrics_url, timeout=20) as answer:
            text = answer.read().decode()
        return sum(map(int, re.findall(r'^nv_inference_exec_count\{model="cocoer",.*\} (\d+)$', text, re.MULTILINE)))


def _request(way: Way) -> list[grpcclient.InferInput]:
    image = grpcclient.InferInput("IMAGE", [way.batch, 1], "BYTES")
    image.set_data_from_numpy(np.array([[SCENE.jpeg]] * way.batch, dtype=np.object_))
    if way.persons == "found":
        return [image]
    boxes = SCENE.boxes if way.persons == "given" else SCENE.boxes[:0]
    persons = grpcclient.InferInput("PERSONS", [way.batch, len(boxes), 8], "FP32")
    persons.set_data_from_numpy(np.repeat(boxes[None].astype(np.float32), way.batch, axis=0))
    return [image, persons]


def check(answers: set[bytes], persons: Persons = "found") -> bytes:
    """The one RESULT that all answers are, of the scene's persons or of nobody.

    Raises:
        NotTwo: there are several, or they tell of other persons.
    """
    if len(answers) != 1:
        raise NotTwo(f"constant models gave {len(answers)} different results")
    (text,) = answers
    found = [[*person["body_box"], *person["head_box"]] for person in json.loads(text)["persons"]]
    expected = [] if persons == "none" else SCENE.boxes.tolist()
    if found != expected:
        raise NotTwo(f"constant models found {found} instead of {expected}")
    return text
