"""The benchmark's in-process schedules do the work of the served models: all requests, with the same results."""

import numpy as np
import pytest

from benchmarks import schedules
from benchmarks.inprocess import InProcess
from benchmarks.schedules import Schedules, SideBySide
from benchmarks.workloads import BOXES_GIVEN, Workload
from export.models import RECOGNITION
from export.verification.in_process import InProcessEnsemble
from tests import golden as gold

DETECTED = Workload("detected", 640, 480, None, 0.65)  # leaves one person


@pytest.fixture(scope="module")
def repository(repositories):
    return repositories("scrfd")


def test_side_by_side(repository, golden, sample_bgr):
    inputs = gold.inputs(sample_bgr, golden(0))
    expected = InProcessEnsemble(RECOGNITION, repository).run(inputs)
    found = SideBySide(RECOGNITION, repository).run(inputs)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("requests", [1, 4])
def test_each_answers_all_requests(requests, repository, monkeypatch):
    """Whole, whatever their batches, and whether persons are given or detected."""
    batches = []

    class Counting(InProcess):
        def requests(self, workload, count):
            super().requests(workload, count)
            batches.append(count)

    monkeypatch.setattr(schedules, "InProcess", Counting)
    found = {}
    for name, schedule in Schedules(repository).of(requests).items():
        for workload in (BOXES_GIVEN[1], DETECTED):
            batches.clear()
            schedule(workload)
            found[name] = sorted(batches)
            assert sum(batches) == requests, name
    assert found["one after the other, threads spin"] == [1] * requests
    if requests == 4:
        assert found["one batch"] == [4]
        assert found["one on each core"] == [1] * 4
    else:
        assert len(found) == 3
