"""Results in the form of COCO's annotation files, which most tools for labelling and viewing read.

A person is an annotation of the one category, with its body as ``bbox``; what CocoER says of it is in ``attributes``,
where CVAT, Datumaro and FiftyOne look for what a format does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cocoer_client.reading import warnings_of
from cocoer_client.records import has_failed

PERSON = 1
"""Id of the one category, which is also that of persons in COCO."""
CATEGORIES = [{"id": PERSON, "name": "person", "supercategory": "person"}]


def coco_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The annotation file of some results; ``json.dump`` writes it.

    Args:
        records: RESULT's keys and ``file``, as ``cocoer-infer --jsonl`` writes them, or
            ``{**result.raw, "file": path}``. Failures are left out.

    Returns:
        ``images`` (``width`` and ``height`` as the image is seen, turned by its EXIF orientation; frames of videos have
        ``frame`` and ``time_s`` too), ``annotations`` and ``categories``.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        if not has_failed(record):
            images.append(image_of(record, len(images) + 1))
            annotations += annotations_of(record, len(images), len(annotations) + 1)
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def image_of(record: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A record's entry of ``images``, with this id."""
    entry = {"id": number, "file_name": record["file"]}
    entry |= {name: record["image"][name] for name in ("width", "height")}
    entry |= {name: record[name] for name in ("frame", "time_s") if name in record}
    if warnings := warnings_of(record):
        entry["warnings"] = warnings
    return entry


def annotations_of(record: Mapping[str, Any], image: int, first: int) -> list[dict[str, Any]]:
    """A record's entries of ``annotations``: of the image with this id, with ids from ``first``."""
    return [
        _annotation(person, record["labels"], image, first + index) for index, person in enumerate(record["persons"])
    ]


def _annotation(person: Mapping[str, Any], labels: Sequence[str], image: int, number: int) -> dict[str, Any]:
    bbox = _bbox(person["body_box"])
    return {
        "id": number,
        "image_id": image,
        "category_id": PERSON,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
        "attributes": {
            "person": person["id"],
            "head_bbox": _bbox(person["head_box"]),
            "labels": list(person["pred"]),
            "scores": dict(zip(labels, person["scores"]["pred"])),
            "exclusion_order": list(person["emo_process"]),
        },
    }


def _bbox(corners: Sequence[int]) -> list[int]:
    """COCO's x, y, width, height.

    >>> _bbox([10, 20, 40, 60])
    [10, 20, 30, 40]
    """
    x1, y1, x2, y2 = corners
    return [x1, y1, x2 - x1, y2 - y1]
