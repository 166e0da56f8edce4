"""``cocoer-vlm`` on photos of which a made-up CocoER knows who is where, with whatever model is behind an address."""

from __future__ import annotations

import contextlib
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from cocoer_client.vlm.command import main
from tests.conftest import SAMPLE
from tests.fake_server import FakeServer
from tests.results import make_person, make_result
from tests.vlm_server import Answer, SeenRequest
from tests.waiting import PATIENCE

MODES = ("single", "multi", "enhanced")
IMAGES = {"single": 1, "multi": 3, "enhanced": 2}
"""That are sent, without ``--collage``."""
BOXES = (
    ([94, 20, 400, 512], [177, 66, 272, 161]),
    ([0, 0, 90, 200], [20, 10, 60, 60]),
    ([400, 0, 512, 300], [430, 20, 480, 80]),
)
"""Of persons, body and head."""


@dataclass(frozen=True)
class Run:
    """What became of a run.

    Args:
        status: of the command.
        record: what --json wrote; None: nothing.
        printed: on standard output.
        told: on standard error.
    """

    status: int
    record: dict[str, Any] | None
    printed: str
    told: str

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Of all persons, in their order: mode -> answer."""
        assert self.record, self.told
        return [person["answers"] for image in self.record["images"] for person in image["persons"]]


class Runner:
    """Runs the command.

    Args:
        cocoer: host:port of CocoER.
        photos: ``sample.png``, its negative ``negative.png`` and its mirror image ``crowd.png``.
        folder: for what a run writes, its kept answers among it.
    """

    def __init__(self, cocoer: str, photos: Path, folder: Path) -> None:
        self.cocoer, self.photos, self.folder = cocoer, photos, folder

    def __call__(self, photo: str, base_url: str, model: str, *arguments: str) -> Run:
        """One run, on photos of these names, divided by blanks."""
        out = self.folder / "vlm.json"
        out.unlink(missing_ok=True)
        options = ["--url", self.cocoer, "--base-url", base_url, "--model", model, "--json", str(out)]
        cache = ["--cache", str(self.folder / "cache")]
        photos = [str(self.photos / name) for name in photo.split()]
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()) as told:
            status = main([*photos, *options, *cache, *arguments])
        record = json.loads(out.read_text()) if out.exists() else None
        return Run(status, record, printed.getvalue(), told.getvalue())


@contextlib.contextmanager
def made_up_cocoer(folder: Path) -> Iterator[str]:
    """Host:port of a CocoER that finds three persons in ``crowd.png`` and one in any other photo; makes the photos."""
    with Image.open(SAMPLE) as sample:
        sample.save(folder / "sample.png")
        ImageOps.invert(sample.convert("RGB")).save(folder / "negative.png")
        ImageOps.mirror(sample).save(folder / "crowd.png")
        size = sample.size
    crowd = (folder / "crowd.png").read_bytes()
    persons = [make_person(number, *boxes, ["peace", "esteem"]) for number, boxes in enumerate(BOXES, 1)]
    server = FakeServer(lambda data, _: make_result(size, persons if data == crowd else persons[:1]))
    server.start()
    try:
        yield server.url
    finally:
        server.kill()


def handing_on(url: str) -> Callable[[SeenRequest], Answer]:
    """A script for ``VlmServer``, which then keeps what a server at this address is asked, and answers as that does."""

    def hand_on(seen: SeenRequest) -> Answer:
        headers = {name: seen.headers[name] for name in ("content-type", "authorization")}
        request = urllib.request.Request(url + seen.path, seen.raw, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read())

    return hand_on
