"""``ordered`` for asyncio: work in several tasks, results in the order of the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import TypeVar

from cocoer_client.producer import Producer, Taken

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
AnyIterable = Iterable[Item] | AsyncIterable[Item]


async def in_order_async(
    work: Callable[[Item], Awaitable[Outcome]], items: AnyIterable[Item], workers: int, ahead: int = 2
) -> AsyncGenerator[Outcome, None]:
    """As ``ordered.in_order``; ``items`` that are not asynchronous are taken in a thread, so that the loop never waits.

    However the iteration ends, nothing that it began is running afterwards.
    """
    turns: asyncio.Queue[asyncio.Future[Outcome] | None] = asyncio.Queue()
    room, running = asyncio.Semaphore(ahead * workers), asyncio.Semaphore(workers)

    async def limited(item: Item) -> Outcome:
        async with running:
            return await work(item)

    async def begin() -> None:
        source = items if isinstance(items, AsyncIterable) else from_thread(items)
        try:
            await room.acquire()
            async for item in source:
                turns.put_nowait(asyncio.create_task(limited(item)))
                await room.acquire()
            turns.put_nowait(None)
        except Exception as error:
            failed: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            turns.put_nowait(failed)
        finally:
            if isinstance(source, AsyncGenerator) and source is not items:
                await source.aclose()

    beginning = asyncio.create_task(begin())
    turn: asyncio.Future[Outcome] | None = None
    try:
        while (turn := await turns.get()) is not None:
            outcome = await turn
            room.release()
            yield outcome
    finally:
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        rest = [turn, *(turns.get_nowait() for _ in range(turns.qsize()))]
        await cancelled([one for one in rest if one is not None])


async def cancelled(tasks: Iterable[asyncio.Future[Outcome]]) -> None:
    """Cancel tasks, and wait until they have ended, however that be."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def from_thread(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    """The items of an iterable that may wait, each taken in a thread when it is asked for."""
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[Taken[Item]] = asyncio.Queue()

    def deliver(taken: Taken[Item]) -> None:
        loop.call_soon_threadsafe(came.put_nowait, taken)

    producer = Producer(items, deliver)
    try:
        while True:
            producer.more()
            taken = await came.get()
            if taken.error is not None:
                raise taken.error
            if not taken.items:
                return
            yield taken.items[0]
    finally:
        await asyncio.to_thread(producer.stop)
