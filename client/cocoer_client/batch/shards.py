"""What a batch run has to do and has done: images in shards, a Parquet file for each shard that is done.

Layout of an output directory, local or in a bucket:

    _cocoer/job.json            what decides the results (``ResultKey``), the labels, the layout; other runs must agree
    _cocoer/lock.json           the driver that is at work (``lease``)
    _cocoer/images-00000.arrow  shard, path: what the first run was given; later ones add to it
    _cocoer/left-00003.json     images of shard 3 that have no row yet, and why: servers failed at them
    shard=00000/part.parquet    the results of a shard, written whole or not at all

An image is done if its row is there, and a shard if its file is there and nothing is left of it. The list of what is
left is written before the file and removed after it, so that it can't be missing; where it says too much, rows count.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from cocoer_client.batch.job import Job
from cocoer_client.batch.lease import Lease
from cocoer_client.batch.paths import decoded, encoded
from cocoer_client.batch.storage import PLAIN, Storage, write
from cocoer_client.tables import table_of

OWN = "_cocoer"
"""Readers of a Parquet data set pass over names with an underscore."""
PART = re.compile(r"shard=(\d+)/part\.parquet")
LEFT = re.compile(rf"{OWN}/left-(\d+)\.json")
IMAGES = re.compile(rf"{OWN}/images-(\d+)\.arrow")


@dataclass(frozen=True)
class Shard:
    """Images that are done together.

    Args:
        number: from 0.
        paths: of its images.
    """

    number: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class ToDo:
    """What a run has to do of a shard.

    Args:
        shard: the whole.
        paths: of its images, those that had no row when the run began (or one that it is to replace).
    """

    shard: Shard
    paths: tuple[str, ...]

    @property
    def task(self) -> dict[str, Any]:
        """As a worker takes it."""
        return {
            "number": self.shard.number,
            "paths": [encoded(path) for path in self.shard.paths],
            "to_do": [encoded(path) for path in self.paths],
        }


@dataclass(frozen=True)
class Files:
    """Which shards have which files."""

    parts: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    images: set[int] = field(default_factory=set)

    @property
    def done(self) -> set[int]:
        """Shards of which nothing is left."""
        return self.parts - self.left


class Output:
    """An output directory.

    Args:
        url: here or in a bucket.
        storage: opens it.
    """

    def __init__(self, url: str, storage: Storage = PLAIN) -> None:
        self.fs, self.root = storage.open(url)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's disks."""
        return isinstance(self.fs, LocalFileSystem)

    def path_of(self, shard: int) -> str:
        return f"{self.root}/shard={shard:05d}/part.parquet"

    def left_path_of(self, shard: int) -> str:
        return f"{self.root}/{OWN}/left-{shard:05d}.json"

    def lease(self) -> Lease:
        """Of one driver at a time."""
        return Lease(self.fs, f"{self.root}/{OWN}/lock.json", self.root)

    def files(self) -> Files:
        """What is there now."""
        self.fs.invalidate_cache()
        found = Files()
        kinds = ((PART, found.parts), (LEFT, found.left), (IMAGES, found.images))
        for name in self.fs.find(self.root):
            for pattern, numbers in kinds:
                if match := pattern.fullmatch(name[len(self.root) + 1 :]):
                    numbers.add(int(match[1]))
        return found

    def shards(self) -> list[Shard]:
        """All that runs so far were given."""
        groups: dict[int, list[str]] = {}
        for first in sorted(self.files().images):
            table = feather.read_table(io.BytesIO(self.fs.cat_file(self._images_path(first))))
            for shard, path in zip(table["shard"].to_pylist(), table["path"].to_pylist()):
                groups.setdefault(shard, []).append(decoded(path))
        return [Shard(number, tuple(paths)) for number, paths in sorted(groups.items())]

    def _images_path(self, first: int) -> str:
        return f"{self.root}/{OWN}/images-{first:05d}.arrow"

    def begin(self, paths: Sequence[str], size: int, job: Job) -> list[Shard]:
        """Take note of what is to be done; images of earlier runs keep their shards.

        Args:
            paths: images of this run.
            size: images of a shard.
            job: what the directory is of.

        Returns:
            all shards, of earlier runs too.

        Raises:
            InvalidInput: the directory has results of another job.
        """
        self._same_job(job)
        shards = self.shards()
        known = {path for shard in shards for path in shard.paths}
        new = [path for path in paths if path not in known]
        first = max((shard.number for shard in shards), default=-1) + 1
        added = [Shard(first + i // size, tuple(new[i : i + size])) for i in range(0, len(new), size)]
        if added:
            columns = {
                "shard": pa.array([shard.number for shard in added for _ in shard.paths], pa.int32()),
                "path": pa.array([encoded(path) for shard in added for path in shard.paths], pa.binary()),
            }
            stream = io.BytesIO()
            feather.write_feather(pa.table(columns), stream, compression="zstd")
            write(self.fs, self._images_path(first), stream.getvalue())
        return shards + added

    def _same_job(self, job: Job) -> None:
        path = f"{self.root}/{OWN}/job.json"
        try:
            earlier = self.fs.cat_file(path)
        except FileNotFoundError:
            write(self.fs, path, job.to_json())
        else:
            job.require_same(earlier, self.root)

    def rows(self, shard: int) -> dict[str, list[dict[str, Any]]]:
        """Path -> rows, of what an earlier run has done of a shard."""
        rows: dict[str, list[dict[str, Any]]] = {}
        try:
            table = self._read(shard)
        except FileNotFoundError:
            return rows
        for row in table.to_pylist():
            rows.setdefault(row["path"], []).append(row)
        return rows

    def done(self, shard: int, but_failed: bool) -> set[str]:
        """Paths, as they are shown, that have rows; without those whose row is an error if that is asked for."""
        table = self._read(shard, ["path", "error"])
        return {
            path
            for path, error in zip(table["path"].to_pylist(), table["error"].to_pylist())
            if not but_failed or error is None
        }

    def _read(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        content = io.BytesIO(self.fs.cat_file(self.path_of(shard)))
        return pq.ParquetFile(content).read(columns)

    def left(self, shard: int) -> dict[str, str]:
        """Path -> why it has no row, of an earlier run."""
        told = json.loads(self.fs.cat_file(self.left_path_of(shard)))
        return {entry["path"]: entry["error"] for entry in told}

    def finish(self, shard: int, rows: Sequence[Mapping[str, Any]], left: Mapping[str, str], job: Job) -> None:
        """Write a shard.

        Args:
            shard: its number.
            rows: of all images that are done, those of earlier runs too.
            left: path -> why it has no row.
            job: what the directory is of.

        Raises:
            OSError: it can't be written.
        """
        if left:
            told = [{"path": path, "error": error} for path, error in left.items()]
            write(self.fs, self.left_path_of(shard), json.dumps(told, indent=1).encode())
        stream = io.BytesIO()
        pq.write_table(table_of(rows, job.schema), stream, compression="zstd")
        write(self.fs, self.path_of(shard), stream.getvalue())
        if not left and self.fs.exists(self.left_path_of(shard)):
            self.fs.rm_file(self.left_path_of(shard))
