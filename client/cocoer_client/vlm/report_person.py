"""A person's part of the report: the images, the table of labels, and each answer, ready to be shown.

All text that is not this program's own (names of files and models, answers) is made printable here; the template
escapes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from cocoer_client.drawing.pages import data_uri_of
from cocoer_client.protocol import Level
from cocoer_client.reading import ranked
from cocoer_client.terminal import printable
from cocoer_client.vlm.answers import Kind
from cocoer_client.vlm.asking import COMPARED, Asked, Subject, lost_in_enhanced, only_in_enhanced
from cocoer_client.vlm.crops import MEDIA_TYPE, SentImage
from cocoer_client.vlm.modes import TOLD, Mode, exclusion_order

STATUS: dict[Kind, str] = {
    "labels": "labels",
    "unknown_label": "unknown label",
    "refused": "refused",
    "unparseable": "unparseable",
    "cut_off": "cut off",
    "failed": "failed",
}
"""Kind of an answer -> in words."""
SHOWN: dict[Level, str] = {
    "context": "the whole image, person {id} in a red box",
    "body": "the body of person {id}, cut out",
    "head": "the head of person {id}, cut out",
}
"""Level -> what its image shows."""
PLACES = ("excluded first", "excluded second", "stays to the end")


def person_of(number: int, subject: Subject, asked: Sequence[Asked], labels: Sequence[str]) -> dict[str, Any]:
    """What the template shows of a person.

    Args:
        number: on the page, from 1.
        subject: the person.
        asked: the modes, in their order.
        labels: the 26, as RESULT names them.
    """
    order = exclusion_order(subject.person["emo_process"])
    read = {one.mode for one in asked if one.answer.is_read}
    return {
        **link_to(number, subject, asked),
        "file": printable(subject.file),
        "order": list(zip(order, PLACES)),
        "chosen": ranked(subject.person, "pred", labels),
        "figures": _figures(subject, asked, order),
        "columns": [_column(one) for one in asked],
        "rows": _rows(subject, asked, labels),
        "is_compared": "enhanced" in read and any(mode in read for mode in COMPARED),
        "not_read": [one.mode for one in asked if one.mode in (*COMPARED, "enhanced") and one.mode not in read],
        "has_enhanced": any(one.mode == "enhanced" for one in asked),
    }


def link_to(number: int, subject: Subject, asked: Sequence[Asked]) -> dict[str, Any]:
    """What the table of contents says of a person."""
    return {
        "number": number,
        "id": subject.person["id"],
        "new": only_in_enhanced(asked),
        "lost": lost_in_enhanced(asked),
        "unread": sum(not one.answer.is_read for one in asked),
    }


def _figures(subject: Subject, asked: Sequence[Asked], order: Sequence[Level]) -> list[dict[str, Any]]:
    """The levels' images, then what was sent beside them (collages); each once, with the modes that sent it."""
    sent: dict[bytes, list[Mode]] = {}
    others: dict[bytes, SentImage] = {}
    own = {image.data for image in subject.levels.values()}
    for one in asked:
        for image in one.images:
            sent.setdefault(image.data, []).append(one.mode)
            if image.data not in own:
                others[image.data] = image
    identity = subject.person["id"]
    levels = [
        {
            **_image(subject.levels[level], sent),
            "name": level,
            "place": order.index(level),
            "beside": [
                one.mode for one in asked for image in one.images if level in image.levels[1:] + image.levels[:-1]
            ],
            "shows": SHOWN[level].format(id=identity),
        }
        for level in TOLD
    ]
    collages = [
        {
            **_image(image, sent),
            "name": "side by side: " + ", ".join(image.levels),
            "place": None,
            "beside": [],
            "shows": f"of person {identity}, side by side: " + ", ".join(image.levels),
        }
        for image in others.values()
    ]
    return levels + collages


def _is_beside_others(level: Level, asked: Asked) -> bool:
    return any(level in image.levels and len(image.levels) > 1 for image in asked.images)


def _image(image: SentImage, sent: dict[bytes, list[Mode]]) -> dict[str, Any]:
    """The very bytes that were sent, not encoded anew."""
    width, height = image.size
    return {
        "uri": data_uri_of(image.data, MEDIA_TYPE),
        "width": width,
        "height": height,
        "bytes": len(image.data),
        "sha256": hashlib.sha256(image.data).hexdigest(),
        "modes": sent.get(image.data, []),
    }


def _column(one: Asked) -> dict[str, Any]:
    """A mode's head in the table, and its answer in full."""
    answer = one.answer
    return {
        "mode": one.mode,
        "excluded": one.excluded,
        "levels": [level for image in one.images for level in image.levels],
        "kind": answer.kind,
        "is_read": answer.is_read,
        "status": STATUS[answer.kind],
        "labels": answer.labels,
        "unknown": [printable(name) for name in answer.unknown],
        "text": paragraphs(answer.text),
        "usage": one.usage,
        "cached": one.cached,
    }


def _rows(subject: Subject, asked: Sequence[Asked], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Labels that anybody names, CocoER's most probable first."""
    person = subject.person
    probabilities = dict(zip(labels, person["scores"]["pred"]))
    named = {label for one in asked for label in one.answer.labels} | set(person["pred"])
    new, lost = only_in_enhanced(asked), lost_in_enhanced(asked)
    return [
        {
            "label": label,
            "probability": probabilities[label],
            "is_chosen": label in person["pred"],
            "is_new": label in new,
            "is_lost": label in lost,
            "cells": [_cell(one, label, new, lost) for one in asked],
        }
        for label in sorted(filter(named.__contains__, labels), key=lambda label: -probabilities[label])
    ]


def _cell(one: Asked, label: str, new: Sequence[str], lost: Sequence[str]) -> str:
    """``unread``, ``yes``, ``no``; of ``enhanced``, ``new`` and ``lost``."""
    if not one.answer.is_read:
        return "unread"
    if label in one.answer.labels:
        return "new" if one.mode == "enhanced" and label in new else "yes"
    return "lost" if one.mode == "enhanced" and label in lost else "no"


def paragraphs(text: str) -> str:
    r"""Text of others with its lines kept, and nothing else that a page could not show or would obey.

    >>> paragraphs("a\r\n\tb\x00 \ud800")
    'a\n    b\\x00 \\ud800'
    """
    lines = text.replace("\r\n", "\n").expandtabs(4).split("\n")
    return "\n".join(printable(line) for line in lines)
