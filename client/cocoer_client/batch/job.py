"""What is done to all images of an output directory, and by what; workers get all of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pyarrow as pa

from cocoer_client.batch.storage import Storage
from cocoer_client.command import Connection
from cocoer_client.errors import InvalidInput
from cocoer_client.key import ResultKey
from cocoer_client.protocol import Thresholds
from cocoer_client.results import ModelInfo
from cocoer_client.tables import Layout, schema_of


@dataclass(frozen=True)
class Job:
    """What all shards of an output directory have in common.

    Args:
        key: what decides the results.
        labels: RESULT's.
        layout: a row for each image, or for each person.
    """

    key: ResultKey
    labels: tuple[str, ...]
    layout: Layout = "images"

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return schema_of(self.layout, self.labels)

    def require_same(self, earlier: bytes, root: str) -> None:
        """Raise ``InvalidInput`` where a directory has results of another job, whose ``job.json`` is given."""
        try:
            before = json.loads(earlier)
            key, layout, labels = ResultKey(before["key"]), before["layout"], tuple(before["labels"])
        except (ValueError, KeyError, TypeError):
            raise InvalidInput(
                f"{root} is of an earlier cocoer-batch, which did not note the model; choose another directory"
            ) from None
        changed = key.differences(self.key)
        changed += [f"layout was {layout} and is {self.layout}"] if layout != self.layout else []
        changed += ["the labels were others"] if labels != self.labels else []
        if changed:
            raise InvalidInput(
                f"{root} has results of another model or of other options ({', '.join(changed)}); choose another "
                "directory"
            )

    def to_json(self) -> bytes:
        """As ``job.json``."""
        values = {"key": dict(self.key.values), "layout": self.layout, "labels": list(self.labels)}
        return json.dumps(values, indent=2).encode()


@dataclass(frozen=True)
class Work:
    """A worker's.

    Args:
        job: what is made.
        output: the output directory.
        urls: the servers.
        model: theirs.
        options: request parameters.
        connection: how servers are reached.
        storage: opens images and the output directory.
        concurrency: requests on their way from a worker to one server.
        retries, patience: see ``ServerPool``.
        retry_failed: ask again about images that have an error in a shard that is done.
    """

    job: Job
    output: str
    urls: tuple[str, ...]
    model: ModelInfo
    options: Thresholds = field(default_factory=Thresholds)
    connection: Connection = field(default_factory=Connection)
    storage: Storage = field(default_factory=Storage)
    concurrency: int = 16
    retries: int = 2
    patience: float = 600.0
    retry_failed: bool = False
