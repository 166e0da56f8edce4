"""What runs on each of Ray's workers: a shard of images to a server, its results to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cocoer_client.batch.rows import failed_row, row_of, table_of
from cocoer_client.batch.server_pool import NoServer, ServerPool
from cocoer_client.batch.shards import Output
from cocoer_client.errors import CocoerError
from cocoer_client.ordered import in_order
from cocoer_client.sources import read_named


class Recogniser:
    """An actor; Ray makes as many as there are workers, and anew those that die.

    Args:
        urls: the servers.
        output: the output directory.
        concurrency: requests on their way from this worker to one server.
        timeout, patience: see ``ServerPool``.
        options: request parameters.
    """

    def __init__(
        self,
        urls: Sequence[str],
        output: str,
        concurrency: int,
        timeout: float,
        patience: float,
        options: Mapping[str, Any],
    ) -> None:
        self.pool = ServerPool(urls, concurrency, timeout, patience)
        self.output, self.options = Output(output), dict(options)
        self.threads = concurrency * len(urls)

    def __call__(self, shard: Mapping[str, Any]) -> dict[str, Any]:
        """Do a shard, if its results are not there yet; figures for the driver.

        A shard that a worker died over comes again. It can't come twice: its results are one file.
        """
        number, paths = int(shard["number"]), list(shard["paths"])
        before = vars(self.pool.statistics).copy()
        labels: list[str] = []

        def row(path: str) -> dict[str, Any]:
            try:
                result = self.pool.infer_raw(read_named(path), **self.options)
            except NoServer:
                raise
            except CocoerError as error:
                return failed_row(path, error)
            labels[:] = result["labels"]
            return row_of(path, result)

        rows = list(in_order(row, paths, self.threads))
        self.output.write_table(table_of(rows, labels), self.output.path_of(number))
        after = vars(self.pool.statistics)
        return {
            "shard": number,
            "pictures": len(rows),
            "failed": sum("error" in row for row in rows),
            "persons": sum(len(row.get("persons", ())) for row in rows),
            **{name: after[name] - before[name] for name in after},
        }
