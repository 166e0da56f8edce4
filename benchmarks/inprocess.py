"""What is measured without a server: the models called in-process, a plain PyTorch port, and the release's way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.port import TorchPort
from benchmarks.release import ReleaseInference
from benchmarks.release_detection import ReleaseDetection
from benchmarks.workloads import Workload
from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise
from cocoer_bls.boxes import Person, detected_persons, given_persons, with_heads
from cocoer_bls.images import CROP, decode
from cocoer_bls.inputs import Tensors, detection_inputs, recognition_inputs
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


class RunsEnsemble(Protocol):
    """Runs the models of an ensemble."""

    @property
    def sessions(self) -> dict[str, ort.InferenceSession]: ...

    def run(self, inputs: Tensors) -> Tensors: ...


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
        self.detection: RunsEnsemble
        self.recognition: RunsEnsemble
        self.detection, self.recognition = (
            InProcessEnsemble(ensemble, repository, options) for ensemble in (DETECTION, RECOGNITION)
        )
        letterbox, *_ = self.detection.sessions["person_detector"].get_inputs()
        self.detector_size = letterbox.shape[1]

    def requests(self, workload: Workload, count: int) -> None:
        """Answer so many requests in one batch, but for their JSON."""
        jobs = [job_of(workload) for _ in range(count)]
        images = [job.image for job in jobs]
        self.recognition.run(recognition_inputs(list(zip(images, self._persons(workload, jobs)))))

    def _persons(self, workload: Workload, jobs: list[Job]) -> list[list[Person]]:
        if workload.persons is not None:
            return [boxes_given(workload, job) for job in jobs]
        min_scores = [workload.min_score or DEFAULT_OPTIONS.min_score] * len(jobs)
        found = self.detection.run(detection_inputs([job.image for job in jobs], min_scores, self.detector_size))
        boxes = [
            [found[f"{kind}_boxes"][index, : found[f"{kind}_count"][index, 0]] for kind in ("person", "face")]
            for index in range(len(jobs))
        ]
        return [detected_persons(bodies, faces, *job.size) for (bodies, faces), job in zip(boxes, jobs)]


def boxes_given(workload: Workload, job: Job) -> list[Person]:
    """The persons of a workload that brings its boxes."""
    return list(with_heads(given_persons(workload.boxes, *job.size, DEFAULT_LIMITS.max_persons), faces=[]).values())


def release_request(release: ReleaseInference, workload: Workload, detection: ReleaseDetection | None = None) -> None:
    """Answer a request the release's way: every person from scratch, crops included.

    Args:
        release: recognises.
        workload: the request.
        detection: finds the persons of a workload without boxes.
    """
    inputs = _inputs(workload, detection)
    for index in range(len(inputs["image_index"])):
        crops = {"context": inputs["image"][0], **{x: inputs[f"{x}_crop"][index] for x in ("head", "body")}}
        release.person(crops, {x: inputs[f"{x}_box"][index].tolist() for x in ("head", "body")})


def port_request(port: TorchPort, workload: Workload, detection: ReleaseDetection | None = None) -> None:
    """Answer a request with the plain port: all persons at once, crops included; detection as for the release."""
    port.image(_inputs(workload, detection))


@torch.inference_mode()
def modules_request(model: CocoER, workload: Workload, detection: ReleaseDetection | None = None) -> None:
    """Answer a request with the modules that are exported, in PyTorch: folded, coordination in closed form."""
    normalise = imagenet_normalise()
    given = {name: torch.from_numpy(array) for name, array in _inputs(workload, detection).items()}
    crops = [normalise(given[name]) for name in ("image", "head_crop", "body_crop")]
    model(crops[0], crops[1], given["head_box"], crops[2], given["body_box"], given["image_index"])


def _inputs(workload: Workload, detection: ReleaseDetection | None) -> Tensors:
    job = job_of(workload)
    if detection is None:
        persons = boxes_given(workload, job)
    else:
        persons = detection.persons(job.image, workload.min_score or DEFAULT_OPTIONS.min_score)
    return recognition_inputs([(job.image, persons)])


def gflop(model: CocoER, persons: int) -> float:
    """1e9 floating-point operations of one image with its persons, counted on the modules; a multiply-add is two."""
    counter = FlopCounterMode(display=False)
    image, crops = torch.zeros(1, 3, CROP, CROP), torch.zeros(persons, 3, CROP, CROP)
    boxes = torch.tensor([[0.0, 0.0, float(CROP), float(CROP)]] * persons)
    with counter:
        model(image, crops, boxes, crops, boxes, torch.zeros(persons, dtype=torch.int64))
    return counter.get_total_flops() / 1e9


def trunk_gflop(model: CocoER) -> float:
    """1e9 floating-point operations of one crop in a ResNet-50 trunk, counted as in ``gflop``."""
    counter = FlopCounterMode(display=False)
    with counter:
        model.head_encoder.trunk(torch.zeros(1, 3, CROP, CROP))
    return counter.get_total_flops() / 1e9


def trunk_batch(model: CocoER, batch: int, directory: Path) -> Callable[[], object]:
    """Runs a batch through one ResNet-50 trunk alone in ONNX Runtime, on all cores."""
    path = directory / "trunk.onnx"
    with quiet_exporter():
        pixels = torch.zeros(batch, 3, CROP, CROP)
        program = torch.onnx.export(model.head_encoder.trunk, (pixels,), dynamo=True, verbose=False)
    assert program is not None
    program.save(str(path), external_data=False)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # the next way's turn comes at once
    session = ort.InferenceSession(str(path), options)
    inputs = {session.get_inputs()[0].name: np.random.default_rng(0).random((batch, 3, CROP, CROP), dtype=np.float32)}
    return lambda: session.run(None, inputs)
