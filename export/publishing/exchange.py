"""Exchanging two directories in one step, which Python's library has no function for."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux (``man 2 renameat2``)."""
UNSUPPORTED = frozenset((errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.EOPNOTSUPP))
"""What filesystems answer that can't: NFS, some of FUSE, the lower layers of a container's image."""


def exchange(one: Path, other: Path) -> None:
    """Let two paths of one filesystem name each other's content; whoever looks sees both before or both after.

    Raises:
        OSError: it could not be done, and nothing has changed; its ``errno`` is one of ``UNSUPPORTED`` where this
            filesystem never can.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:  # a C library before glibc 2.28
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one), None, str(other))
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))
