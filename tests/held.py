"""An image that is there when a test says so, so that a program which reads it is midway until then."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path


class HeldImage:
    """A named pipe in the place of a file: whoever opens it waits.

    Args:
        path: an image, which ``release`` brings back.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, path.read_bytes()
        self.pipe = path.with_name(f".{path.name}.pipe")
        os.mkfifo(self.pipe)
        path.unlink()
        os.link(self.pipe, path)

    def release(self) -> None:
        """The image is there: for who opens it from now on, and for who waits."""
        file = self.path.with_name(f".{self.path.name}.file")
        file.write_bytes(self.content)
        file.replace(self.path)
        try:
            end = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody waits
                raise
        else:
            os.set_blocking(end, True)
            # Who waited may be killed meanwhile.
            with contextlib.suppress(BrokenPipeError), os.fdopen(end, "wb") as stream:
                stream.write(self.content)
        self.pipe.unlink()
