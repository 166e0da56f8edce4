"""Images that come one by one, from what keeps one waiting: results come as they are there, and nothing hangs."""

import asyncio
import queue
import threading
import time

import pytest

from cocoer_client.ordered import in_order
from cocoer_client.ordered_async import in_order_async
from tests.waiting import until

PATIENCE = 60


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("cocoer")]


class Camera:
    """Gives what is put into it; waits for it for ever."""

    def __init__(self):
        self.frames, self.closed = queue.Queue(), threading.Event()

    def __iter__(self):
        try:
            while (frame := self.frames.get()) is not None:
                yield frame
        finally:
            self.closed.set()


def test_a_producer_that_waits_for_the_result_gets_it():
    """One item in flight, if only one was given."""
    camera = Camera()
    outcomes = in_order(abs, camera, workers=4)
    for number in range(5):
        camera.frames.put(-number)
        assert next(outcomes) == number
    camera.frames.put(None)
    assert list(outcomes) == []


def test_what_is_done_comes_while_the_producer_waits():
    camera = Camera()
    for number in range(3):
        camera.frames.put(number)
    outcomes = in_order(abs, camera, workers=2)
    assert [next(outcomes) for _ in range(3)] == [0, 1, 2]
    camera.frames.put(None)


def test_closing_does_not_wait_for_a_producer():
    camera = Camera()
    camera.frames.put(1)
    outcomes = in_order(abs, camera, workers=2)
    assert next(outcomes) == 1
    started = time.monotonic()
    outcomes.close()
    assert time.monotonic() - started < PATIENCE
    camera.frames.put(2)  # which nobody takes, but it ends the wait
    del outcomes
    assert camera.closed.wait(PATIENCE)
    until(lambda: not threads())


def test_closing_ends_a_producer_that_is_between_items():
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    outcomes = in_order(abs, items(), workers=2)
    next(outcomes)
    outcomes.close()
    assert closed.is_set()
    assert not threads()


def test_what_the_producer_raises_comes_in_its_turn():
    release = threading.Event()

    def items():
        yield 1
        yield 2
        release.set()
        raise KeyError("lost")

    outcomes = in_order(lambda x: release.wait(PATIENCE) and x, items(), workers=2)
    assert [next(outcomes), next(outcomes)] == [1, 2]
    with pytest.raises(KeyError, match="lost"):
        next(outcomes)
    with pytest.raises(TypeError, match="not iterable"):
        next(in_order(abs, 5, workers=1))  # type: ignore[arg-type]


def test_what_work_raises_comes_in_its_turn_and_ends_it():
    outcomes = in_order(lambda x: 1 // x, [1, 1, 0, 1], workers=2)
    assert [next(outcomes), next(outcomes)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(outcomes)
    assert not threads()


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


async def asynchronous(numbers):
    for number in numbers:
        await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("make", [list, iter, asynchronous])
def test_asyncio_takes_every_kind_of_iterable(make):
    async def ask():
        return [outcome async for outcome in in_order_async(double, make(range(20)), 3)]

    assert asyncio.run(ask()) == list(range(0, 40, 2))


def test_asyncio_gives_what_is_there_while_a_camera_waits():
    """Neither the loop nor its end waits for the camera."""
    camera, beats = Camera(), []

    async def beat():
        while True:
            beats.append(1)
            await asyncio.sleep(0.001)

    async def ask():
        heart = asyncio.create_task(beat())
        outcomes = in_order_async(double, camera, 4)
        for number in range(3):
            camera.frames.put(number)
            assert await asyncio.wait_for(outcomes.__anext__(), PATIENCE) == 2 * number
        before = len(beats)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(outcomes.__anext__(), 0.1)
        assert len(beats) > before + 5
        await outcomes.aclose()
        heart.cancel()

    asyncio.run(ask())
    camera.frames.put(None)
    assert camera.closed.wait(PATIENCE)


def test_asyncio_leaves_nothing_running():
    """Neither what was begun, when it is closed early, nor an asynchronous producer."""
    running, closed, three = set(), [], asyncio.Event()

    async def for_ever(number):
        if number:
            running.add(number)
            if len(running) == 3:
                three.set()
            try:
                await asyncio.Event().wait()
            finally:
                running.discard(number)

    async def items():
        try:
            for number in range(1000):
                yield number
        finally:
            closed.append(True)

    async def ask():
        outcomes = in_order_async(for_ever, items(), 3)
        await outcomes.__anext__()
        await asyncio.wait_for(three.wait(), PATIENCE)
        await outcomes.aclose()
        assert not running
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(ask())
    assert closed


@pytest.mark.parametrize("make", [iter, asynchronous])
def test_asyncio_raises_what_the_producer_raises_in_its_turn(make):
    def broken():
        yield 1
        raise KeyError("lost")

    async def broken_later():
        async for number in make([1]):
            yield number
        raise KeyError("lost")

    async def ask():
        outcomes = in_order_async(double, broken() if make is iter else broken_later(), 2)
        assert await outcomes.__anext__() == 2
        with pytest.raises(KeyError, match="lost"):
            await outcomes.__anext__()

    asyncio.run(ask())
