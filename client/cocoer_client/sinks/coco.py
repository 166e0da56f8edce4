"""COCO's annotation file, written as results come, in memory that does not grow with them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from cocoer_client.coco import CATEGORIES, annotations_of, image_of
from cocoer_client.records import Record, has_failed
from cocoer_client.sinks.streams import TextFile


class CocoFile(TextFile):
    """``coco.coco_of`` of the records, in a file; failures are left out."""

    def __init__(self, target: str | Path) -> None:
        super().__init__(target)
        # The file has one list after the other; the second waits here.
        self.annotations = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self.images = self.count = 0
        self.file.write('{"images": [')

    def add(self, record: Record) -> None:
        if has_failed(record):
            return
        self.file.write(",\n" if self.images else "\n")
        self.images += 1
        self.file.write(json.dumps(image_of(record, self.images)))
        for annotation in annotations_of(record, self.images, self.count + 1):
            self.annotations.write(",\n" if self.count else "\n")
            self.count += 1
            self.annotations.write(json.dumps(annotation))

    def end(self) -> None:
        with self.annotations as annotations:
            self.file.write('\n], "annotations": [')
            annotations.seek(0)
            shutil.copyfileobj(annotations, self.file)
        self.file.write(f'\n], "categories": {json.dumps(CATEGORIES)}}}\n')
