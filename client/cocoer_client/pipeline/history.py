"""What of an earlier run's results counts in this one, and why the rest does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cocoer_client.errors import InvalidRequest
from cocoer_client.key import OF_MODEL, ResultKey
from cocoer_client.pipeline.options import OF_IMAGES, RunOptions
from cocoer_client.records import Record, has_failed
from cocoer_client.sources import Source

REFUSED = InvalidRequest.__name__
"""The kind of failures that are the image's own: asked again, the server would say the same."""
NEEDED = set(OF_MODEL) - {"coordination_step"}
"""Of a record's model; older servers don't say the step."""
OLDER = "of an older version, which did not write down all that was asked"
CHANGED = "of inputs that have changed, or may have"
MISSING = "missing for a reason that may have passed"
NO_IMAGE = "without an annotated image"
UNFINISHED = "of videos that were not finished"


class Judge:
    """Compares records of an earlier run with what this run would make.

    Args:
        model: RESULT's ``model`` of this run.
        options: this run's.
        sources: this run's. Of files that are not among them, nobody looks whether they have changed.
    """

    def __init__(self, model: Mapping[str, Any], options: RunOptions, sources: Iterable[Source]) -> None:
        self.model, self.options = model, options
        self.sources = {source.name: source for source in sources}

    def objection(self, record: Record) -> str | None:
        """Why a record does not count, so that "3 results are ..." makes a sentence of it; None: it does."""
        if "asked" not in record or not record.get("model", {}).keys() >= NEEDED:
            return OLDER
        source = self.sources.get(record["file"])
        drawn = self.options.images and "picture" in record
        asked = self.options.asked(source.is_video if source else "frame" in record, drawn)
        now = ResultKey.of(self.model, **self.options.thresholds, **asked)
        if differences := _key_of(record, drawn).differences(now):
            kind = "of another model" if differences[0].split()[0] in OF_MODEL else "of another question"
            return f"{kind} ({', '.join(differences)})"
        if source is not None and (source.fingerprint() is None or source.fingerprint() != record.get("source")):
            return CHANGED
        if has_failed(record):
            return None if record["error"]["kind"] == REFUSED and not self.options.retry_failed else MISSING
        if self.options.images and not (drawn and Path(record["picture"]).exists()):
            return NO_IMAGE
        return None


def _key_of(record: Record, drawn: bool) -> ResultKey:
    asked = {name: value for name, value in record["asked"].items() if drawn or name not in OF_IMAGES}
    return ResultKey.of(record["model"], **record.get("options", {}), **asked)


class Entry:
    """The lines of one image, or of one video's frames.

    Args:
        place: where its first begins in the file.
        record: that line.
        judge: says what of it counts.
    """

    def __init__(self, place: int, record: Record, judge: Judge) -> None:
        self.judge, self.places, self.frame = judge, [place], record.get("frame")
        self.objection = judge.objection(record)
        self.complete = self.frame is None or record["last"]
        self.picture: str | None = record.get("picture")

    def takes(self, place: int, record: Record) -> bool:
        """Add a video's next frame; False where it is none, but the beginning of another entry."""
        if self.frame is None or self.complete or "frame" not in record or record["frame"] <= self.frame:
            return False
        self.places.append(place)
        self.frame, self.complete = record["frame"], record["last"]
        self.objection = self.objection or self.judge.objection(record)
        self.picture = record.get("picture")
        return True

    def verdict(self) -> str | None:
        """Why it does not count; None: it does."""
        return self.objection or (None if self.complete else UNFINISHED)
