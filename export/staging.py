"""Bringing one file of each model up to date: kept where nothing changed, else made and verified."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cocoer.checkpoints.keys import CheckpointError
from export.detectors.files import DetectorError
from export.files import known_digest, read_json, write_json
from export.models import Model
from export.models.base import Tolerance
from export.options import Options
from export.publishing.layout import link_file
from export.verification.verify import Parity, too_far

logger = logging.getLogger(__name__)

Status = Literal["built", "kept", "failed"]
"""Kept: nothing changed, since an earlier build or an attempt that was not published."""


class VerificationError(Exception):
    """A file is too far from its reference."""


@dataclass
class Result:
    """A row of the report."""

    name: str
    status: Status
    megabytes: float = 0.0
    seconds: float = 0.0
    parity: Parity | None = None
    problem: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    """What is written down beside the file."""

    @property
    def label(self) -> str:
        """What tables and messages call it."""
        return self.name

    def to_dict(self) -> dict[str, Any]:
        keys = ("name", "status", "megabytes", "seconds", "problem")
        return {**{key: getattr(self, key) for key in keys}, "parity": self.parity.to_dict() if self.parity else None}


class StagedBuild(ABC):
    """Makes files of the build in the making. Subclasses say which file, and how it is made.

    Args:
        options: of the build; its ``repository`` is the directory of the build in the making.
        earlier: builds whose files are taken over where they fit, the published one first; they need not exist.
        progress: told of what takes long.
    """

    row: type[Result] = Result
    against = ""
    """What the reference is, in messages."""

    def __init__(self, options: Options, earlier: Sequence[Path], progress: Callable[[str], None]) -> None:
        self.options, self.earlier, self.progress = options, earlier, progress
        self.repository, self.force = options.repository, options.force

    @abstractmethod
    def path(self, model: Model) -> Path:
        """Where the file of a model lies."""

    @abstractmethod
    def record_path(self, model: Model) -> Path:
        """Where what is known of it lies."""

    @abstractmethod
    def described(self, model: Model) -> str:
        """The file in words."""

    @abstractmethod
    def made_of(self, model: Model) -> dict[str, Any]:
        """What decides the file; part of its record."""

    @abstractmethod
    def write(self, model: Model, path: Path) -> dict[str, Any]:
        """Make the file; what else its record should say."""

    @abstractmethod
    def verify(self, model: Model, path: Path) -> Parity:
        """Compare a new file with its reference."""

    def build(self, models: Iterable[Model]) -> list[Result]:
        """Bring the files of these models up to date; failures are rows, not exceptions.

        Raises:
            CheckpointError: the weights can't be used at all.
            DetectorError: nor a detector's file.
        """
        return [self._build_one(model) for model in models]

    def current(self, model: Model) -> dict[str, Any] | None:
        """The record of the file that is there, if it is the one that would be built."""
        path, record = self.path(model), read_json(self.record_path(model))
        current = (
            path.is_file()
            and record.get("sha256") == known_digest(path)  # not cut short or swapped since
            and all(record.get(key) == value for key, value in self.made_of(model).items())
        )
        return record if current else None

    def servable(self, model: Model) -> Parity | None:
        """How far the current file of a model is from its reference, as it was measured when the file was built.

        None where there is no such file, or it is further away than this build's options allow.
        """
        record = self._up_to_date(model)
        parity = self._judged(model, record) if record else None
        return parity if parity and parity.passed else None

    def tolerance(self, model: Model) -> Tolerance:
        """How far the file of a model may be from its reference."""
        return self.options.tolerance(model)

    def _judged(self, model: Model, record: Mapping[str, Any]) -> Parity:
        """A record's error, by this build's tolerance: that decides no file, and so rebuilds none."""
        return Parity(record["parity"]["max_error"], record["parity"]["worst"], *self.tolerance(model))

    def _build_one(self, model: Model) -> Result:
        if not self.force and (record := self._up_to_date(model)):
            parity = self._judged(model, record)
            kept = self.row(model.name, "kept", record["bytes"] / 1e6, record["seconds"], parity, record=record)
            if not parity.passed:
                kept.status = "failed"
                kept.problem = f"{VerificationError.__name__}: {too_far(model, parity, self.against)}"
            return kept
        result = self.row(model.name, "built")
        try:
            self._make(model, result)
        except (CheckpointError, DetectorError):
            raise  # what the user brought is at fault, and no other model would be published
        except Exception as error:  # whatever it is, the report says why
            logger.debug("building %s failed", self.described(model), exc_info=True)
            result.status, result.problem = "failed", f"{type(error).__name__}: {error}"
        return result

    def _up_to_date(self, model: Model) -> dict[str, Any] | None:
        """The record of a file that need not be made: it is there from an attempt before, or in an earlier build."""
        if record := self.current(model):
            return record
        for build in self.earlier:
            for path in (self.record_path(model), self.path(model)):
                path.unlink(missing_ok=True)
            for path in (self.path(model), self.record_path(model)):
                link_file(build / path.relative_to(self.repository), path)
            if record := self.current(model):
                return record
        return None

    def _make(self, model: Model, result: Result) -> None:
        self.progress(f"building {self.described(model)}")
        started, path = time.perf_counter(), self.path(model)
        for outdated in (self.record_path(model), path):  # a link to the published file is not to be written into
            outdated.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        more = self.write(model, path)
        result.seconds, result.megabytes = round(time.perf_counter() - started, 2), path.stat().st_size / 1e6
        self.progress(f"verifying {self.described(model)}")
        result.parity = self.verify(model, path)
        if not result.parity.passed:
            raise VerificationError(too_far(model, result.parity, self.against))
        result.record = {
            **self.made_of(model),
            **more,
            "bytes": path.stat().st_size,
            "sha256": known_digest(path),
            "seconds": result.seconds,
            "parity": result.parity.to_dict(),
        }
        # Last: a file without its record is made again.
        write_json(self.record_path(model), result.record)
