"""The paper's figure as a page: for each person the images as sent, and what was answered in each mode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cocoer_client.drawing.pages import template
from cocoer_client.files import replace_file
from cocoer_client.vlm.asking import Asked, Subject, only_in_enhanced

TEMPLATE = Path(__file__).with_name("report.html.j2")
Person = tuple[Subject, Sequence[Asked]]


def write_report(path: Path, people: Sequence[Person], about: dict[str, Any]) -> None:
    """Write the page atomically.

    Args:
        path: the HTML file.
        people: each person, with the modes in the order in which they were asked.
        about: of the run: ``model``, ``base_url``, ``prompt_version``, ``prompt_digest``, ``warnings``.
    """
    text = template(TEMPLATE).render(
        people=[{"subject": subject, "asked": asked, "new": only_in_enhanced(asked)} for subject, asked in people],
        **about,
    )
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
