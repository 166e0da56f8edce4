"""What is measured without a server: the models called in-process (the ceiling), and the release's way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import cores
from benchmarks.release import ReleaseInference
from benchmarks.release_detection import ReleaseDetection
from benchmarks.workloads import Workload
from cocoer.network.model import CocoER
from cocoer_bls.boxes import Person, detected_persons, given_persons, with_heads
from cocoer_bls.images import CROP, decode
from cocoer_bls.inputs import detection_inputs, recognition_inputs
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS
from export.graphs.pytorch import quiet_exporter
from export.models import DETECTION, RECOGNITION
from export.verification.in_process import InProcessEnsemble


def median_ms(run: Callable[[], object], repeats: int, warm_up: int = 2) -> float:
    """Median time of a call, in milliseconds."""
    times = []
    for index in range(warm_up + repeats):
        started = time.perf_counter()
        run()
        if index >= warm_up:
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def job_of(workload: Workload) -> Job:
    """A request with its image decoded, as the BLS does it."""
    return Job(workload.jpeg, DEFAULT_OPTIONS, image=decode(workload.jpeg, DEFAULT_LIMITS.decode))


class InProcess:
    """A whole request in this process: decoding, detection where no boxes are given, crops, recognition.

    Args:
        repository: where the models are.
        threads: ONNX Runtime's, for each model.
        spin: let them wait for work by spinning.
    """

    def __init__(self, repository: Path, threads: int, spin: bool = False) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Sessions in turn: threads of one that still spin would take the cores from the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.dynamic_block_base", "4")
        self.detection, self.recognition = (
            InProcessEnsemble(ensemble, repository, options) for ensemble in (DETECTION, RECOGNITION)
        )
        letterbox, *_ = self.detection.sessions["person_detector"].get_inputs()
        self.detector_size = letterbox.shape[1]

    def request(self, workload: Workload) -> None:
        """Answer a request, but for its JSON."""
        job = job_of(workload)
        self.recognition.run(recognition_inputs([(job.image, self._persons(workload, job))]))

    def _persons(self, workload: Workload, job: Job) -> list[Person]:
        if workload.persons is not None:
            return boxes_given(workload, job)
        min_score = workload.min_score or DEFAULT_OPTIONS.min_score
        found = self.detection.run(detection_inputs([job.image], [min_score], self.detector_size))
        bodies, faces = (found[f"{kind}_boxes"][0, : found[f"{kind}_count"][0, 0]] for kind in ("person", "face"))
        return detected_persons(bodies, faces, *job.size)


def boxes_given(workload: Workload, job: Job) -> list[Person]:
    """The persons of a workload that brings its boxes."""
    return list(with_heads(given_persons(workload.boxes, *job.size, DEFAULT_LIMITS.max_persons), faces=[]).values())


def ceiling(repository: Path, workload: Workload, repeats: int) -> dict[str, float]:
    """The best the models do without a server: all cores on one request, or a request on each core.

    Returns:
        ``latency_ms`` (of the former) and ``images_per_second`` (of the better).
    """
    count = cores()
    latency = min(
        median_ms(partial(InProcess(repository, count, spin).request, workload), repeats) for spin in (False, True)
    )
    workers = [InProcess(repository, 1) for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:

        def round_of_requests() -> None:
            list(pool.map(lambda worker: worker.request(workload), workers))

        parallel = median_ms(round_of_requests, repeats) / count
    return {"latency_ms": latency, "images_per_second": 1000 / min(latency, parallel)}


def release_request(release: ReleaseInference, workload: Workload, detection: ReleaseDetection | None = None) -> None:
    """Answer a request the release's way: every person from scratch, crops included.

    Args:
        release: recognises.
        workload: the request.
        detection: finds the persons of a workload without boxes.
    """
    job = job_of(workload)
    if detection is None:
        persons = boxes_given(workload, job)
    else:
        persons = detection.persons(job.image, workload.min_score or DEFAULT_OPTIONS.min_score)
    inputs = recognition_inputs([(job.image, persons)])
    for index in range(len(inputs["image_index"])):
        crops = {"context": inputs["image"][0], **{x: inputs[f"{x}_crop"][index] for x in ("head", "body")}}
        release.person(crops, {x: inputs[f"{x}_box"][index].tolist() for x in ("head", "body")})


def release_ms(
    release: ReleaseInference, workload: Workload, repeats: int, detection: ReleaseDetection | None = None
) -> float:
    """Median latency of ``release_request``."""
    return median_ms(partial(release_request, release, workload, detection), repeats, warm_up=1)


def gflop(model: CocoER, persons: int) -> float:
    """1e9 floating-point operations of one image with its persons, counted on the modules; a multiply-add is two."""
    counter = FlopCounterMode(display=False)
    image, crops = torch.zeros(1, 3, CROP, CROP), torch.zeros(persons, 3, CROP, CROP)
    boxes = torch.tensor([[0.0, 0.0, float(CROP), float(CROP)]] * persons)
    with counter:
        model(image, crops, boxes, crops, boxes, torch.zeros(persons, dtype=torch.int64))
    return counter.get_total_flops() / 1e9


def trunk_ms(model: CocoER, batch: int, directory: Path, repeats: int) -> float:
    """One ResNet-50 trunk alone in ONNX Runtime, per image of a batch, all cores."""
    path = directory / "trunk.onnx"
    with quiet_exporter():
        pixels = torch.zeros(batch, 3, CROP, CROP)
        program = torch.onnx.export(model.head_encoder.trunk, (pixels,), dynamo=True, verbose=False)
    assert program is not None
    program.save(str(path), external_data=False)
    session = ort.InferenceSession(str(path))
    inputs = {session.get_inputs()[0].name: np.random.default_rng(0).random((batch, 3, CROP, CROP), dtype=np.float32)}
    return median_ms(lambda: session.run(None, inputs), repeats) / batch
