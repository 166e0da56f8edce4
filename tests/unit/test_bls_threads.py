"""Work that the BLS shares among threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from unittest import mock

import cv2
import numpy as np
import pytest

from cocoer_bls.boxes import Person
from cocoer_bls.detection import detection_of
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_OPTIONS
from cocoer_bls.recognition import Recognition
from cocoer_bls.threads import Threads


def test_the_order_is_that_of_the_items() -> None:
    threads = Threads(3)
    assert threads.map(lambda number: number * 2, range(50)) == [number * 2 for number in range(50)]
    assert threads.map(str, []) == []


def test_several_work_at_once() -> None:
    together = threading.Barrier(3)
    assert len(set(Threads(3).map(lambda _: together.wait(timeout=20), range(3)))) == 3  # else it breaks


def test_one_piece_stays_with_the_caller() -> None:
    assert Threads(4).map(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]


def test_what_the_caller_raises_comes_when_the_others_are_done() -> None:
    caller, begun, done = threading.current_thread(), threading.Event(), []

    def step(number: int) -> None:
        if threading.current_thread() is caller:
            assert begun.wait(20)
            raise ValueError("wrong")
        begun.set()
        time.sleep(0.1)  # long enough for a caller who does not wait
        done.append(number)

    with pytest.raises(ValueError, match="wrong"):
        Threads(2).map(step, [1, 2])
    assert len(done) == 1


@pytest.mark.parametrize("wrong", [0, 9])
def test_what_a_step_raises_is_raised(wrong: int) -> None:
    threads = Threads(2)
    with pytest.raises(ZeroDivisionError):
        threads.map(lambda number: 1 / (number - wrong), range(10))
    assert threads.map(str, [20]) == ["20"]  # it can be used again


def test_threads_may_be_one() -> None:
    assert Threads(1).map(lambda _: threading.current_thread().name, range(4)) == [threading.current_thread().name] * 4


@pytest.mark.parametrize(("size", "threads"), [((640, 480), 1), ((1200, 900), 2)])
def test_crops_of_large_images_alone_are_shared(size: tuple[int, int], threads: int) -> None:
    """Of small ones, handing on takes longer than it gains."""
    recognition = Recognition(lambda *_: {}, 32)
    recognition.threads = Threads(2)
    width, height = size
    person = Person((0, 0, width, height), (10, 10, 60, 60))
    image = np.zeros((height, width, 3), dtype=np.uint8)
    job = Job(b"", DEFAULT_OPTIONS, image=image, persons=dict.fromkeys(range(1, 9), person))
    with mock.patch.object(recognition.threads, "map", wraps=recognition.threads.map) as shared:
        recognition.cut([job])
    assert job.crops is not None
    assert len(job.crops.head_crop) == 8
    assert shared.call_count == threads - 1


@pytest.fixture
def opencv_threads() -> Iterator[int]:
    """Two, until the test is over."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield 2
    cv2.setNumThreads(before)


@pytest.mark.parametrize(("way", "threads"), [("scrfd", 1), ("opencv", 2)])
def test_opencv_has_threads_for_its_cascade_alone(way: str, threads: int, opencv_threads: int) -> None:
    """They spin while they wait, which took two milliseconds of an image's six."""
    detection_of({"detection": way, "detector_size": 640}, lambda *_: {}, max_persons=8)
    assert cv2.getNumThreads() == threads
