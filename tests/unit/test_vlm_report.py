"""The report of ``cocoer-vlm``: what it says, what it holds, and how it looks, in Chromium."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cocoer.labels import EMOTIC_LABELS
from cocoer_client.sources import Source
from cocoer_client.vlm.answers import Answer
from cocoer_client.vlm.asking import Asked, Questions, Subject, lost_in_enhanced, only_in_enhanced
from cocoer_client.vlm.crops import ImageOptions, cut
from cocoer_client.vlm.endpoint import EndpointOptions, Usage
from cocoer_client.vlm.modes import MODES, USUAL, Mode, excluded_level
from cocoer_client.vlm.people import Recognised
from cocoer_client.vlm.prompt import Prompt
from cocoer_client.vlm.report import About, Person, write_report
from tests.browser import Opened, Scheme, axe_finds, chromium, opened
from tests.conftest import SAMPLE
from tests.results import make_person, make_result

LABELS = tuple(EMOTIC_LABELS)
IMAGES = ImageOptions(longest_side=512)
KEY = "sk-the-key-of-somebody"
ENDPOINT = EndpointOptions(model="a-model", base_url="https://user:pass@models.example.org:8443/v1?key=pass", key=KEY)
NASTY = "<script>alert(1)</script>\"'&\u202e\udcff.jpg"
HEBREW = "שלום: <b>לא</b>"
ANSWERS: dict[Mode, Answer] = {
    "single": Answer("labels", ("happiness",), text='{"labels": ["happiness"]}'),
    "multi": Answer("labels", ("excitement", "happiness"), text='{"labels": ["excitement", "happiness"]}'),
    "enhanced": Answer("labels", ("anticipation", "happiness"), text='{"labels": ["anticipation", "happiness"]}'),
    "exclude_random": Answer("unknown_label", ("pleasure",), ("<i>joyful</i>",), '{"labels": ["<i>joyful</i>"]}'),
    "exclude_last": Answer("refused", text=HEBREW),
}


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with Image.open(SAMPLE) as image:
        return image.convert("RGB")


def subject_of(photo: Image.Image, file: str = "a.jpg", number: int = 1) -> Subject:
    """The astronaut, as a server could have found her; her body is excluded first."""
    person = make_person(number, [60, 20, 460, 512], [170, 40, 290, 190], ("happiness", "engagement"))
    return Subject(file, person, cut(photo, person, IMAGES))


def asked_of(
    subject: Subject, questions: Questions, modes: Sequence[Mode] = USUAL, **answers: Answer
) -> list[Asked]:
    """Made-up answers, with the images of the modes."""
    order = subject.person["emo_process"]
    return [
        Asked(
            mode,
            excluded_level(mode, order, subject.name),
            questions.sent(subject, mode),
            {**ANSWERS, **answers}[mode],
            Usage(100, 7),
            cached=mode == "multi",
        )
        for mode in modes
    ]


def questions_of(as_collage: bool = False) -> Questions:
    return Questions(Prompt.load(None), LABELS, IMAGES, as_collage=as_collage)


def recognised(name: str, persons: int = 1, synthetic: bool = False, damage: str | None = None) -> Recognised:
    result = make_result((512, 512), [{}] * persons, synthetic)
    result["image"]["damage"] = damage
    return Recognised(Source(name, "file", "a"), result)


def about_of(images: Sequence[Recognised] = (), modes: Sequence[Mode] = USUAL, as_collage: bool = False) -> About:
    date = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)
    return About(modes, questions_of(as_collage), ENDPOINT, images, date)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(people: Sequence[Person], about: About | None = None, **options: Any) -> str:
        write_report(tmp_path / "vlm.html", people, about or about_of(), **options)
        return (tmp_path / "vlm.html").read_text(encoding="utf-8")

    return write


def words(text: str) -> str:
    """A page's text, without tags, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)).split())
