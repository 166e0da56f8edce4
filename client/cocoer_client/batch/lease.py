"""One driver at a time on an output directory: a file there names its holder, who keeps it fresh.

The file of a driver that was killed is taken over: at once where the process is known to be gone (it was on this
machine), else when it has not been kept fresh for a while. Locally, and on stores with conditional writes (S3), it is
made by one driver alone; elsewhere the last one who writes has it, and the other finds out.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cocoer_client.batch.holder import HELD, Holder, this_place
from cocoer_client.batch.storage import write
from cocoer_client.errors import CocoerError, InvalidInput
from cocoer_client.files import temporary_name

BEAT = 10.0
"""Seconds after which the holder says again that it is there."""
STALE = 60.0
"""Seconds without that, after which it is not."""
SETTLE = 0.5
"""Seconds that one who takes over waits for another who does so at the same time."""


class LeaseLost(CocoerError):
    """Another driver has taken over; this one must stop."""


def create_whole(path: Path, content: bytes) -> None:
    """Make a file that is not there yet, with all that is in it; raises FileExistsError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("xb") as file:
                file.write(content)
    finally:
        temporary.unlink(missing_ok=True)


class Lease:
    """An output directory's.

    Args:
        fs: its file system.
        path: of the file.
        place: the directory, for messages.
    """

    def __init__(self, fs: fsspec.AbstractFileSystem, path: str, place: str) -> None:
        self.fs, self.path, self.place = fs, path, place
        pid, started = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S %Z")
        name = f"process {pid} on {socket.gethostname()}, since {started}"
        self.own = Holder(name, this_place(), pid, secrets.token_hex(8), time.time())
        self.lost = False
        self._over = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it.

        Raises:
            InvalidInput: another driver has it; names it.
        """
        HELD.add(self.own.token)
        beating = threading.Thread(target=self._beat, name="lease", daemon=True)
        try:
            self._acquire()
            beating.start()
            yield
        finally:
            self._over.set()
            if beating.ident is not None:
                beating.join()
            HELD.discard(self.own.token)
            # What can't be removed is stale soon.
            with contextlib.suppress(Exception):
                if self._is_own():
                    self.fs.rm_file(self.path)

    def check(self) -> None:
        """Raise ``LeaseLost`` where another driver has taken over."""
        if self.lost:
            raise LeaseLost(f"another cocoer-batch has taken over {self.place}, since this one was silent for too long")

    def _acquire(self) -> None:
        if self._create():
            return
        if (holder := self.holder()) is None:
            time.sleep(SETTLE)  # it may have been made, and not be filled yet
            holder = self.holder()
        if holder is not None and not self._may_be_taken_over(holder):
            raise InvalidInput(
                f"another cocoer-batch is at work on {self.place}: {holder.name}. Wait for it, or stop it; if it is no "
                f"more, this will work within {STALE:.0f} seconds"
            )
        self._write()
        time.sleep(SETTLE)
        if not self._is_own():
            raise InvalidInput(f"another cocoer-batch has begun on {self.place} at the same time")

    def _create(self) -> bool:
        """Make the file, unless it is there."""
        content = self._content()
        try:
            if isinstance(self.fs, LocalFileSystem):
                create_whole(Path(self.path), content)
            else:
                self.fs.pipe_file(self.path, content, mode="create")
        except FileExistsError:
            return False
        except (NotImplementedError, ValueError, OSError):
            if isinstance(self.fs, LocalFileSystem):
                raise
            return self._create_unconditionally()
        return True

    def _create_unconditionally(self) -> bool:
        """The same on a store without conditional writes, as far as it goes."""
        if self.holder() is not None:
            return False
        self._write()
        time.sleep(SETTLE)
        return self._is_own()

    def _may_be_taken_over(self, holder: Holder) -> bool:
        if holder.is_gone():
            return True
        if time.time() - holder.beat < STALE:
            return False
        # Its clock may be slow: it is not there if it says nothing new while one looks.
        end = time.monotonic() + 2 * BEAT
        while time.monotonic() < end:
            time.sleep(BEAT / 10)
            if self.holder() != holder:
                return False
        return True

    def holder(self) -> Holder | None:
        """Who has it; None where nobody has, or the file is no longer whole."""
        self.fs.invalidate_cache()
        try:
            return Holder(**json.loads(self.fs.cat_file(self.path)))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _is_own(self) -> bool:
        holder = self.holder()
        return holder is not None and holder.token == self.own.token

    def _content(self) -> bytes:
        values: dict[str, Any] = asdict(self.own) | {"beat": time.time()}
        return json.dumps(values, indent=2).encode()

    def _write(self) -> None:
        write(self.fs, self.path, self._content())

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            # Storage that can't be reached for a moment: the next beat is soon.
            with contextlib.suppress(Exception):
                if not self._is_own():
                    self.lost = True
                    return
                self._write()
