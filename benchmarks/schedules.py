"""Ways to answer requests with the served models in this process, without a server: which of them is best.

As many requests at once as the server has in flight, and in batches as it makes them. The server may still be faster
than the best of these, which is no limit: it starts on one request while another waits for its last model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import onnxruntime as ort

from benchmarks.inprocess import InProcess
from benchmarks.machine import cores
from benchmarks.workloads import Workload
from cocoer_bls.inputs import Tensors
from export.models import DETECTION, RECOGNITION, model
from export.models.ensembles import Ensemble, Step
from export.publishing.layout import onnx_path

Schedule = Callable[[Workload], None]


class SideBySide:
    """An ensemble's models, each as soon as its inputs are there, with the threads that the server gives them.

    Args:
        ensemble: which.
        repository: where its models are.
    """

    def __init__(self, ensemble: Ensemble, repository: Path) -> None:
        self.steps = ensemble.steps
        self.sessions = {step.model: _session(repository, step.model) for step in self.steps}
        self._pool = ThreadPoolExecutor(len(self.steps))

    def run(self, inputs: Tensors) -> Tensors:
        """The ensemble's inputs to all its tensors, by their names there."""
        tensors, waiting = dict(inputs), list(self.steps)
        running: set[Future[Tensors]] = set()
        while waiting or running:
            for step in [step for step in waiting if set(step.inputs.values()) <= set(tensors)]:
                waiting.remove(step)
                running.add(self._pool.submit(self._step, dict(tensors), step))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                tensors |= one.result()
        return tensors

    def _step(self, tensors: Tensors, step: Step) -> Tensors:
        names = [tensor.name for tensor in model(step.model).outputs]
        found = self.sessions[step.model].run(names, {own: tensors[theirs] for own, theirs in step.inputs.items()})
        return {step.outputs[name]: array for name, array in zip(names, found)}


def _session(repository: Path, name: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, round(model(name).cpu_share * cores()))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(str(onnx_path(repository, name)), options)


class Schedules:
    """All of them, with their sessions.

    Args:
        repository: where the models are.
    """

    def __init__(self, repository: Path) -> None:
        count = cores()
        self._spinning, self._sleeping = (InProcess(repository, count, spin) for spin in (True, False))
        self._single = InProcess(repository, 1)  # ONNX Runtime's sessions may be run by several threads
        self._beside = InProcess(repository, 1)
        self._beside.detection, self._beside.recognition = (
            SideBySide(ensemble, repository) for ensemble in (DETECTION, RECOGNITION)
        )
        self._cores = ThreadPoolExecutor(count)

    def of(self, requests: int) -> Mapping[str, Schedule]:
        """Name -> answers so many requests of a workload."""
        share = max(1, requests // cores())
        alone: dict[str, Schedule] = {
            "one after the other, threads spin": lambda workload: _in_turn(self._spinning, workload, requests),
            "one after the other, threads sleep": lambda workload: _in_turn(self._sleeping, workload, requests),
            "one after the other, models side by side": lambda workload: _in_turn(self._beside, workload, requests),
        }
        if requests == 1:
            return alone
        return {
            **alone,
            "one on each core": lambda workload: self._on_cores([1] * requests, workload),
            "one batch": lambda workload: self._sleeping.requests(workload, requests),
            "one batch, models side by side": lambda workload: self._beside.requests(workload, requests),
            "a batch on each core": lambda workload: self._on_cores(shares(requests, share), workload),
        }

    def _on_cores(self, batches: list[int], workload: Workload) -> None:
        list(self._cores.map(lambda size: self._single.requests(workload, size), batches))


def _in_turn(models: InProcess, workload: Workload, requests: int) -> None:
    for _ in range(requests):
        models.requests(workload, 1)


def shares(requests: int, share: int) -> list[int]:
    """Requests in batches of a size, and the rest.

    >>> shares(4, 2), shares(5, 2)
    ([2, 2], [2, 2, 1])
    """
    return [min(share, requests - start) for start in range(0, requests, share)]
