"""The builds of one repository: the published one, the one in the making, and the one before.

Beside ``model_repository`` lies ``.model_repository.builds``:

    next/       the build in the making, or what an interrupted or failed one left; what fits in it is not built again
    previous/   what was published before, for ``--rollback``
    lock        held by whoever builds (``export.publishing.lock``)

Publishing is one system call, an exchange of ``next`` and ``model_repository``. Where a filesystem can't do that (NFS),
``model_repository`` is a symbolic link into ``.model_repository.builds``, and publishing replaces the link. At every
moment the path names a whole build, the old one or the new one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from export.publishing.exchange import UNSUPPORTED, exchange
from export.publishing.layout import MARKER
from export.publishing.lock import alone
from export.publishing.ownership import strangers, told
from export.publishing.repository import NotWhole, check_whole

logger = logging.getLogger(__name__)

LINKED, DISCARDED = "build-", "discarded-"
"""What names of directories begin with: those that the link may name, and those to be removed."""


class PublishError(Exception):
    """A repository can't be replaced; says why, and what to do."""


class Builds:
    """The builds of one repository.

    Args:
        repository: what Triton is given; it need not exist.
    """

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        directory, name = _place(repository)
        self._path = directory / name
        self.directory = directory / f".{name}.builds"
        self.next, self.previous = self.directory / "next", self.directory / "previous"

    @contextlib.contextmanager
    def alone(self, command: str) -> Iterator[None]:
        """Hold the lock; what an interrupted process left is put right first.

        Raises:
            Locked: another process holds it.
            PublishError: the repository can't be replaced, or is not a build's to replace.
        """
        if os.path.ismount(self._path):
            raise PublishError(
                f"{self.repository} is a mount point, which can't be replaced in one step; build into a directory in "
                f"it: --repository {self.repository / 'model_repository'}"
            )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PublishError(f"builds can't be kept beside {self.repository}: {error}") from error
        with alone(self.directory, self.repository, command):
            if os.path.lexists(self._path) and not self._path.is_dir():
                raise PublishError(f"{self.repository} is not a directory")
            self._recover()
            self._check()
            yield

    def begin(self) -> Path:
        """The directory of the build in the making, with what an earlier attempt has left there."""
        if not self.next.exists():
            fresh = self._discarded()
            fresh.mkdir()
            (fresh / MARKER).touch()
            fresh.rename(self.next)
        if self._path.exists():
            shutil.copymode(self._path, self.next)
        return self.next

    def give_up(self) -> None:
        """Discard the build in the making, where it is the published one again."""
        self.next.rename(self._discarded())
        self._recover()

    def publish(self) -> None:
        """Let the repository be the build in the making, and keep the one that it was.

        Raises:
            OSError: it could not be done; the repository is the one that it was.
        """
        _to_disk(self.next)
        self._switch_to(self.next)

    def roll_back(self) -> None:
        """Exchange the repository and the one before it.

        Raises:
            PublishError: there is none before it, or it is not whole.
        """
        if not self.previous.is_dir() or not self._path.exists():
            raise PublishError(f"{self.repository} has no earlier build to go back to")
        try:
            check_whole(self.previous)
        except NotWhole as error:
            raise PublishError(
                f"{self.repository} can't go back to the build before, of which something is missing: {error}"
            ) from error
        self._switch_to(self.previous)

    def _switch_to(self, build: Path) -> None:
        """Let the repository be a build, and the one that it was take its place among the others."""
        if self._path.is_symlink() or not self._can_exchange():
            self._link(build)
        elif self._path.exists():
            exchange(self._path, build)
        else:
            build.rename(self._path)
        _directory_to_disk(self._path.parent)
        self._recover()

    def _link(self, build: Path) -> None:
        """Let the repository be a link to a build, which gets a name that lasts."""
        target = build.rename(self.directory / f"{LINKED}{secrets.token_hex(4)}")
        link = self.directory / f"{target.name}.link"
        link.symlink_to(target.relative_to(self._path.parent))
        if self._path.is_dir() and not self._path.is_symlink():
            self._path.rmdir()  # empty, says _check
        link.replace(self._path)

    def _recover(self) -> None:
        """Give each directory its place: the second half of publishing, whoever began it.

        What bears the marker was never published. What does not is, or was.
        """
        (self._path / MARKER).unlink(missing_ok=True)
        current = self._path.resolve()
        for left in (*self.directory.glob("*.link"), *self.directory.glob(".*.part")):
            left.unlink()
        for build in [self.next, *sorted(self.directory.glob(f"{LINKED}*"))]:
            if not build.is_dir() or build == current:
                continue
            if not (build / MARKER).exists():
                self._keep_as(self.previous, build)
            elif build != self.next:
                self._keep_as(self.next, build)
        for discarded in self.directory.glob(f"{DISCARDED}*"):
            shutil.rmtree(discarded)

    def _discarded(self) -> Path:
        """A name for what is to be removed, or has no name yet."""
        return self.directory / f"{DISCARDED}{secrets.token_hex(4)}"

    def _keep_as(self, place: Path, build: Path) -> None:
        if place.exists():
            place.rename(self._discarded())
        build.rename(place)

    def _check(self) -> None:
        """Refuse what could not be replaced before anything is built that takes long."""
        if not os.path.lexists(self._path) or self._path.is_symlink():
            return
        if found := strangers(self._path):
            raise PublishError(told(self.repository, found))
        if any(self._path.iterdir()) and not self._can_exchange():
            raise PublishError(
                f"the filesystem of {self.repository} can't exchange two directories, so a build could not replace it "
                f"in one step. Move it away once (mv {self.repository} {self.repository}.before): the next build puts "
                "a link in its place, which can be replaced"
            )

    def _can_exchange(self) -> bool:
        """Tried, with two empty directories."""
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=DISCARDED) as place:
            one, other = Path(place, "one"), Path(place, "other")
            one.mkdir()
            other.mkdir()
            try:
                exchange(one, other)
            except OSError as error:
                if error.errno in UNSUPPORTED:
                    return False
                raise
            return True


def _place(repository: Path) -> tuple[Path, str]:
    """The directory that holds a repository, and its name there; links of others are followed, those of builds not."""
    path = repository.parent.resolve() / repository.name
    if path.is_symlink() and Path(os.readlink(path)).parent.name != f".{path.name}.builds":
        path = path.resolve()
    return path.parent, path.name


def _to_disk(build: Path) -> None:
    """Have a build written to disk before its name is: a loss of power must not leave a name without content."""
    for path in build.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for path in (build, *build.rglob("*")):
        if path.is_dir():
            _directory_to_disk(path)


def _directory_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
