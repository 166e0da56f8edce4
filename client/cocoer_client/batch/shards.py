"""What a batch run has to do and has done: images in shards, a Parquet file for each shard that is done.

Layout of an output directory, local or in a bucket:

    _cocoer/job.json              the options; another run must have the same
    _cocoer/pictures-00000.parquet  shard, path: what the first run was given; later ones add to it
    shard=00000/part.parquet      the results of a shard, written whole or not at all

A shard is done if its file is there. Nothing else is kept of the progress, so that nothing can disagree with it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from cocoer_client.errors import InvalidInput
from cocoer_client.files import replace_bytes
from cocoer_client.sources import Found, find

OWN = "_cocoer"
"""Readers of a Parquet data set pass over names with an underscore."""
JOB = f"{OWN}/job.json"


@dataclass(frozen=True)
class Shard:
    """Images that are done together."""

    number: int
    paths: tuple[str, ...]


def list_images(inputs: Sequence[str], column: str) -> tuple[list[str], Found]:
    """Images in a fixed order, each once, by names that do not depend on the current folder; and all that was found.

    Args:
        inputs: folders, files and globs, here, in a bucket or on the web, and Parquet files with a column of names.
        column: its name.

    Raises:
        InvalidInput: an input names nothing.
    """
    found = find(inputs, allow_url=True, column=column, images_only=True, must_exist=True)
    if found.unusable:
        raise InvalidInput(found.unusable[0])
    return [source.url for source in found.sources], found


def _open(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        fs, path = fsspec.core.url_to_fs(url)
        return fs, path
    except (ValueError, ImportError) as error:  # an unknown protocol, or its package is missing
        raise InvalidInput(f"{url}: {error}") from error


class Output:
    """An output directory."""

    def __init__(self, url: str) -> None:
        self.fs, self.root = _open(url)

    def path_of(self, shard: int) -> str:
        return f"{self.root}/shard={shard:05d}/part.parquet"

    def shards(self) -> list[Shard]:
        """All that runs so far were given."""
        groups: dict[int, list[str]] = {}
        for name in sorted(self.fs.glob(f"{self.root}/{OWN}/pictures-*.parquet")):
            table = pq.read_table(name, filesystem=self.fs)
            for shard, path in zip(table["shard"].to_pylist(), table["path"].to_pylist()):
                groups.setdefault(shard, []).append(path)
        return [Shard(number, tuple(paths)) for number, paths in sorted(groups.items())]

    def done(self) -> set[int]:
        """Numbers of the shards whose results are there."""
        names = self.fs.glob(f"{self.root}/shard=*/part.parquet")
        return {int(name.split("/")[-2].partition("=")[2]) for name in names}

    def begin(self, paths: Sequence[str], size: int, options: Mapping[str, Any]) -> list[Shard]:
        """Take note of what is to be done; images of earlier runs keep their shards.

        Args:
            paths: images of this run.
            size: images of a shard.
            options: what results depend on.

        Returns:
            all shards, of earlier runs too.

        Raises:
            InvalidInput: the directory has results that were asked for with other options.
        """
        self._same_options(options)
        shards = self.shards()
        known = {path for shard in shards for path in shard.paths}
        new = [path for path in paths if path not in known]
        first = max((shard.number for shard in shards), default=-1) + 1
        added = [Shard(first + i // size, tuple(new[i : i + size])) for i in range(0, len(new), size)]
        if added:
            columns = {
                "shard": [shard.number for shard in added for _ in shard.paths],
                "path": [path for shard in added for path in shard.paths],
            }
            self.write_table(pa.table(columns), f"{self.root}/{OWN}/pictures-{first:05d}.parquet")
        return shards + added

    def _same_options(self, options: Mapping[str, Any]) -> None:
        path = f"{self.root}/{JOB}"
        if not self.fs.exists(path):
            self.write(json.dumps(dict(options), indent=2).encode(), path)
            return
        earlier = json.loads(self.fs.cat_file(path))
        changed = sorted(key for key in {*earlier, *options} if earlier.get(key) != options.get(key))
        if changed:
            told = ", ".join(f"{key} was {earlier.get(key)} and is {options.get(key)}" for key in changed)
            raise InvalidInput(f"{self.root} has results of other options ({told}); choose another directory")

    def write_table(self, table: pa.Table, path: str) -> None:
        """Write a Parquet file, whole or not at all."""
        stream = io.BytesIO()
        pq.write_table(table, stream, compression="zstd")
        self.write(stream.getvalue(), path)

    def write(self, content: bytes, path: str) -> None:
        """Write a file, whole or not at all: an object store does it so by itself."""
        if not isinstance(self.fs, LocalFileSystem):
            self.fs.pipe_file(path, content)
            return
        replace_bytes(Path(path), content)
