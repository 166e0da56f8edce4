"""A result as text, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cocoer_client.reading import ranked, warnings_of
from cocoer_client.terminal import counted, printable

ROWS = (("final", "pred"), ("V-I", "VI"), ("head", "head"), ("body", "body"), ("context", "ctx"))
WIDTH = 100
NBSP = "\N{NO-BREAK SPACE}"


def format_result(file: str, result: Mapping[str, Any], boxes_given: bool = False) -> str:
    """The whole result of one image, for a terminal.

    Args:
        file: its name.
        result: the RESULT object.
        boxes_given: the boxes came with the request, so that the detector does not matter.
    """
    image, persons = result["image"], result["persons"]
    lines = [f"{printable(file)}  {image['width']}x{image['height']}  {counted(len(persons), 'person')}"]
    lines += [f"  !! {printable(warning)}" for warning in warnings_of(result, boxes_given)]
    for person in persons:
        lines += ["", *_format_person(person, result["labels"])]
    return "\n".join(lines)


def format_line(record: Mapping[str, Any]) -> str:
    """One image of many, on a line."""
    name = printable(record["file"])
    if "frame" in record:
        name += f" {record['time_s']:.2f} s"
    persons = [f"#{person['id']} {_top(person, record['labels'])}" for person in record["persons"]]
    return f"{name}  {'; '.join(persons) or 'nobody found'}"


def _top(person: Mapping[str, Any], labels: Sequence[str], maximum: int = 3) -> str:
    chosen = ranked(person, "pred", labels)
    shown = ", ".join(f"{label} {probability:.2f}" for label, probability in chosen[:maximum])
    return f"{shown}, ..." if len(chosen) > maximum else shown or "no label"


def _format_person(person: Mapping[str, Any], labels: list[str]) -> list[str]:
    lines = [f"person {person['id']}  body {_box(person['body_box'])}  head {_box(person['head_box'])}"]
    for title, key in ROWS:
        # A label and its probability stay on one line.
        pairs = [f"{label} {probability:.2f}".replace(" ", NBSP) for label, probability in ranked(person, key, labels)]
        text = ", ".join(pairs) or "-"
        wrapped = textwrap.wrap(text, WIDTH, initial_indent=f"  {title:<9}", subsequent_indent=" " * 11)
        lines += [line.replace(NBSP, " ") for line in wrapped]
    lines.append(f"  excluded {' > '.join(person['emo_process'])}")
    return lines


def _box(box: list[int]) -> str:
    return "({}, {}, {}, {})".format(*box)
