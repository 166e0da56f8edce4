"""One process that asks the same over gRPC directly and through the gateway; light, for both share its cores."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httptools

from benchmarks.machine import cpu_seconds
from cocoer_client.aio import AsyncCocoerClient

Ask = Callable[[int], Awaitable[Any]]
"""One request of a slot, of those that are on their way together; raises where the answer is not the expected one."""
BOUNDARY = secrets.token_hex(16)
FILE = 'image"; filename="image.jpg"\r\nContent-Type: image/jpeg'


class Connection(asyncio.Protocol):
    """A connection over HTTP/1.1 that is kept, with one request after the other."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.pieces: list[bytes] = []
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.lost = asyncio.Event()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body; raises ConnectionError where the other side closes the connection."""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer

    def close(self) -> None:
        self.transport.close()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        content, self.pieces = b"".join(self.pieces), []
        if self.answer and not self.answer.done():
            self.answer.set_result((self.parser.get_status_code(), content))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()
        if self.answer and not self.answer.done():
            self.answer.set_exception(error or ConnectionError("the gateway has closed the connection"))


async def connect(port: int) -> Connection:
    """To a gateway on this machine."""
    return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port))[1]


class Http:
    """As many connections as there are slots; those that the gateway has closed meanwhile are made anew."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections: dict[int, Connection] = {}

    async def ask(self, slot: int, request: bytes, expected: int = 200) -> bytes:
        """The body; raises RuntimeError where the status is another one."""
        connection = self.connections.get(slot)
        if connection is None or connection.lost.is_set():
            connection = self.connections[slot] = await connect(self.port)
        status, content = await connection.ask(request)
        if status != expected:
            raise RuntimeError(f"the gateway answers {status} instead of {expected}: {content[:500]!r}")
        return content

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()


def post(path: str, image: bytes, fields: Mapping[str, str], form: bool = False, accept: str = "*/*") -> bytes:
    """A whole request: the image as its body and the fields in the query, or all in a form, as curl sends one.

    >>> post("/v1/recognise", b"...", {"min_score": "0.7"}).splitlines()[0]
    b'POST /v1/recognise?min_score=0.7 HTTP/1.1'
    """
    query = f"?{urlencode(fields)}" if fields and not form else ""
    kind, body = "image/jpeg", image
    if form:
        parts = {**{f'{name}"': value.encode() for name, value in fields.items()}, FILE: image}
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
        pieces = [f"{head}{name}\r\n\r\n".encode() + content + b"\r\n" for name, content in parts.items()]
        kind, body = f"multipart/form-data; boundary={BOUNDARY}", b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])
    head = (
        f"POST {path}{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True)
class Question:
    """What is asked, in each way.

    Args:
        name: of the report.
        image: a file.
        persons: their boxes; None: they are looked for.
        min_score: where they are looked for.
    """

    name: str
    image: bytes
    persons: list[Any] | None = None
    min_score: float | None = None

    @property
    def fields(self) -> dict[str, str]:
        """Of the gateway."""
        persons = {} if self.persons is None else {"persons": json.dumps(self.persons)}
        return persons if self.min_score is None else {**persons, "min_score": str(self.min_score)}

    def post(self, path: str = "/v1/recognise", form: bool = False, accept: str = "*/*") -> bytes:
        return post(path, self.image, self.fields, form, accept)


GRPC, BODY, FORM = "gRPC", "HTTP, body", "HTTP, form"


def ways(question: Question, client: AsyncCocoerClient, http: Http) -> dict[str, Ask]:
    """Over gRPC, and through the gateway with the image as body and in a form; each decodes RESULT."""
    body, form = question.post(), question.post(form=True)

    async def over_grpc(_slot: int) -> Any:
        return await client.infer_raw(question.image, question.persons, min_score=question.min_score)

    async def as_body(slot: int) -> Any:
        return json.loads(await http.ask(slot, body))

    async def as_form(slot: int) -> Any:
        return json.loads(await http.ask(slot, form))

    return {GRPC: over_grpc, BODY: as_body, FORM: as_form}


async def latencies(asks: Mapping[str, Ask], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of single requests, each way in its turn, so that what else the machine does falls on all."""
    taken: dict[str, list[float]] = {way: [] for way in asks}
    order = list(asks)
    for turn in range(repeats + 1):
        for way in order:
            begun = time.perf_counter()
            await asks[way](0)
            if turn:  # the first does not count
                taken[way].append(1000 * (time.perf_counter() - begun))
        order = order[1:] + order[:1]
    return taken


@dataclass(frozen=True)
class Load:
    """What a number of requests took.

    Args:
        rate: requests per second.
        cpu_ms: of the gateway's processes, per request.
        load_ms: processor time of this process per request.
    """

    rate: float
    cpu_ms: float
    load_ms: float


async def load(ask: Ask, requests: int, concurrency: int, gateway: int) -> Load:
    """So many requests, so many on their way together; ``gateway`` is the pid of its first process."""
    left = itertools.repeat(None, requests)

    async def slot(number: int) -> None:
        for _ in left:
            await ask(number)

    cpu, own, begun = cpu_seconds(gateway), time.process_time(), time.perf_counter()
    await asyncio.gather(*(slot(number) for number in range(concurrency)))
    seconds = time.perf_counter() - begun
    spent = (cpu_seconds(gateway) - cpu, time.process_time() - own)
    return Load(requests / seconds, *(1000 * one / requests for one in spent))


async def loads(
    asks: Mapping[str, Ask], rounds: int, requests: int, concurrency: int, gateway: int
) -> dict[str, list[Load]]:
    """Each way in its turn, after one request of each slot that does not count."""
    done: dict[str, list[Load]] = {way: [] for way in asks}
    order: Sequence[str] = list(asks)
    for way in order:
        await asyncio.gather(*(asks[way](slot) for slot in range(concurrency)))
    for _ in range(rounds):
        for way in order:
            done[way].append(await load(asks[way], requests, concurrency, gateway))
        order = [*order[1:], order[0]]
    return done
