"""What runs on each of Ray's workers: a shard of images to a server, its results to a file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cocoer_client.batch.job import Work
from cocoer_client.batch.paths import decoded, shown
from cocoer_client.batch.server_pool import NoServer, ServerPool
from cocoer_client.batch.shards import Output
from cocoer_client.errors import CocoerError, ModelChanged, may_pass
from cocoer_client.ordered import in_order
from cocoer_client.tables import failed_row, rows_of

logger = logging.getLogger(__name__)
ENDS = (NoServer, ModelChanged)
"""What ends the whole job: nothing is written of the shard that was in progress."""


class CantWrite(CocoerError):
    """Results can't be written, or those of an earlier run can't be read."""


@dataclass
class Outcome:
    """What became of an image: rows, or why it is left for a later run."""

    path: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    left: str = ""


class Recogniser:
    """An actor; Ray makes as many as there are workers, and anew those that die."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.pool = ServerPool(
            work.urls,
            work.concurrency,
            work.connection,
            work.retries,
            work.patience,
            work.model.model_dump(mode="json"),
        )
        self.output = Output(work.output, work.storage)

    def __call__(self, shard: Mapping[str, Any]) -> dict[str, Any]:
        """Do what there is to do of a shard.

        A shard that a worker died over comes again. It can't come twice: its results are one file.

        Args:
            shard: ``number``, and as bytes ``paths`` and, of these, ``to_do``: what this run counts as its own, whether
                a worker that died had done it already or not.

        Returns:
            figures for the driver. ``ended`` is the kind of error that ends the job, else empty, and ``told`` its
            message.
        """
        try:
            paths, to_do = ([decoded(path) for path in shard[name]] for name in ("paths", "to_do"))
            return self._do(int(shard["number"]), paths, set(map(shown, to_do)))
        except ENDS as error:
            return {"ended": type(error).__name__, "told": str(error)}
        except Exception as error:
            # Storage's failure, whose errors are a bucket's own: those of an image stay with it.
            if isinstance(error, OSError) or not self.output.is_local:
                path = self.output.path_of(int(shard["number"]))
                return {
                    "ended": CantWrite.__name__,
                    "told": f"{path} can't be written: {error or type(error).__name__}",
                }
            raise

    def _do(self, number: int, paths: list[str], to_do: set[str]) -> dict[str, Any]:
        before = vars(self.pool.statistics).copy()
        known = self.output.rows(number)
        if self.work.retry_failed:
            known = {path: rows for path, rows in known.items() if rows[0]["error"] is None}
        asked = [path for path in paths if shown(path) not in known]
        threads = self.work.concurrency * len(self.work.urls)
        outcomes = {outcome.path: outcome for outcome in in_order(self.outcome, asked, threads)}
        made = {shown(path): outcome.rows for path, outcome in outcomes.items()}
        left = {shown(path): outcome.left for path, outcome in outcomes.items() if outcome.left}
        rows = [row for path in map(shown, paths) for row in known.get(path) or made[path]]
        self.output.finish(number, rows, left, self.work.job)
        new = [row for row in rows if row["path"] in to_do]
        after = vars(self.pool.statistics)
        return {
            "ended": "",
            "told": "",
            "pictures": len(to_do - set(left)),
            "failed": sum(row.get("error") is not None for row in new),
            "left": len(left),
            "persons": sum(map(self._persons, new)),
            **{name: after[name] - before[name] for name in after},
        }

    def _persons(self, row: Mapping[str, Any]) -> int:
        if self.work.job.layout == "persons":
            return int(row.get("person") is not None)
        return len(row.get("persons") or ())

    def outcome(self, path: str) -> Outcome:
        """An image's rows; any error of its own is its row, and what may pass leaves it for later."""
        place = {"path": shown(path)}
        try:
            result = self.pool.infer_raw(
                self.work.storage.read(path, self.work.connection.timeout), **self.work.options
            )
            return Outcome(path, rows_of(self.work.job.layout, place, result))
        except ENDS:
            raise
        except Exception as error:
            if may_pass(error):
                return Outcome(path, left=f"{type(error).__name__}: {error}")
            logger.debug("%s has no result", path, exc_info=True)
            message = shown(str(error)) or "no more is known"
            return Outcome(path, [failed_row(place, type(error).__name__, message)])
