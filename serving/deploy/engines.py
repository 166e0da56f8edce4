"""What the chart's servers run before they serve: sees to it that the engines of one build are in a shared directory.

    python serving/deploy/engines.py --engines /engines --name 0f3a... -- --checkpoints /checkpoints --backend tensorrt

Each build has a directory of its own there, so that an upgrade builds beside what is being served, and a rollback finds
what it served before:

    NAME/model_repository   what export/build_engines.py makes, with the options behind "--"
    NAME/complete.json      written last: it is whole. Its time is when a server was last started with it
    NAME/lock               held by whoever builds
    NAME/in-use             held, shared, by each server that runs (flock, in the chart)

Who comes while another builds, waits. A build that fails leaves the others as they are. One that succeeds removes those
of others that are neither among the last used ones nor held by a server.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

BUILD_FILE = "cocoer/1/build.json"
"""In each repository that can be served (``cocoer_bls.manifest``)."""
REPOSITORY, COMPLETE, LOCK, IN_USE = "model_repository", "complete.json", "lock", "in-use"
REMOVED = ".removed-"
"""What the name of a build begins with that is being removed."""
BUILD_COMMAND = ("export/build_engines.py",)
POLL, REMIND = 1.0, 60.0
"""Seconds between two tries for the lock, and between two messages meanwhile."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; see ``--help``."""
    parser = argparse.ArgumentParser(description="Have the engines of one build in a shared directory.")
    add = parser.add_argument
    add("--engines", type=Path, required=True, help="directory that all servers share")
    add("--name", required=True, help="of the build, the same for whatever makes the same engines")
    add("--keep", type=int, default=3, help="complete builds to keep (default: 3)")
    add("--deadline", type=float, default=7200, metavar="SECONDS", help="for one build (default: 7200)")
    add("options", nargs="*", help="of export/build_engines.py, behind --")
    return parser.parse_args(argv)


def say(message: str) -> None:
    """One line for who reads the container's log."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def held(path: Path, wait: bool) -> Iterator[bool]:
    """A lock for the length of a block; whether it was had. The system releases it, should this process end.

    Args:
        path: the lock file.
        wait: until whoever holds it lets go, telling who that is.
    """
    with path.open("a+") as file:
        told = -REMIND
        while not _lock(file.fileno()):
            if not wait:
                yield False
                return
            if time.monotonic() - told >= REMIND:
                told = time.monotonic()
                say(f"waiting for the engines {path.parent.name}, which {path.read_text().strip() or 'another'} builds")
            time.sleep(POLL)
        if wait:
            file.truncate(0)
            file.write(f"{os.environ.get('POD_NAME') or f'process {os.getpid()}'} (since {time.strftime('%H:%M:%S')})")
            file.flush()
        yield True


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def build(place: Path, options: list[str], deadline: float) -> int:
    """Make the engines, of other builds' files where they fit; the command's exit code, 124 where the time was over."""
    reuse = [f"--reuse={other / REPOSITORY}" for other in complete_builds(others(place))]
    command = [sys.executable, *BUILD_COMMAND, f"--repository={place / REPOSITORY}", *reuse, *options]
    say(f"building the engines {place.name} (at most {deadline:g} s): {' '.join(command)}")
    process = subprocess.Popen(command)

    def stop(_number: int, _frame: object) -> None:
        process.send_signal(signal.SIGINT)  # it ends between two steps, and what it has made serves the next try

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return process.wait(deadline)
    except subprocess.TimeoutExpired:
        say(f"not built within {deadline:g} s")
        return 124
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            process.kill()
            process.wait()


def mark_complete(place: Path, options: list[str], seconds: float) -> None:
    """Say that a build is whole."""
    part = place / f"{COMPLETE}.part"
    record = {
        "options": options,
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds),
    }
    part.write_text(f"{json.dumps(record)}\n")
    part.replace(place / COMPLETE)


def prune(engines: Path, name: str, keep: int) -> list[str]:
    """Remove complete builds but for the last used ones, and what failed builds have left; names of those that went.

    Args:
        engines: the shared directory.
        name: of the build that is to be served; it stays.
        keep: complete builds that stay, this one among them.
    """
    found = others(engines / name)
    complete = complete_builds(found)
    removed = []
    for place in [*complete[max(keep, 1) - 1 :], *(one for one in found if one not in complete)]:
        with held(place / LOCK, wait=False) as nobody_builds, held(place / IN_USE, wait=False) as nobody_serves:
            if nobody_builds and nobody_serves:
                place.rename(engines / f"{REMOVED}{place.name}")
                removed.append(place.name)
    # Not before the locks are closed: NFS keeps a directory with a file that is open. What stays goes the next time.
    for gone in engines.glob(f"{REMOVED}*"):
        shutil.rmtree(gone, ignore_errors=True)
    return removed


def is_complete(place: Path) -> bool:
    return (place / COMPLETE).is_file()


def others(place: Path) -> list[Path]:
    """The builds beside one."""
    return [path for path in place.parent.iterdir() if path != place and (path / LOCK).is_file()]


def complete_builds(places: Iterable[Path]) -> list[Path]:
    """Those that are complete, the last used one first."""
    return sorted(filter(is_complete, places), key=lambda one: (one / COMPLETE).stat().st_mtime, reverse=True)


def ensure(engines: Path, name: str, options: list[str], keep: int, deadline: float) -> int:
    """Have a build; the exit code."""
    place = engines / name
    place.mkdir(parents=True, exist_ok=True)
    (place / IN_USE).touch()
    if not is_complete(place):
        with held(place / LOCK, wait=True):
            if not is_complete(place):
                started = time.monotonic()
                code = build(place, options, deadline)
                if not code and not (place / REPOSITORY / BUILD_FILE).is_file():
                    say("these options do not make all that is served")
                    code = 1
                if code:
                    say(f"the engines {name} were not built (exit code {code}); other builds are as they were")
                    return code if code > 0 else 128 - code
                mark_complete(place, options, time.monotonic() - started)
                if gone := prune(engines, name, keep):
                    say(f"removed older engines: {', '.join(gone)}")
    (place / COMPLETE).touch()
    say(f"the engines {name} are there")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    # The first process of a container is not ended by a signal that it does not ask for.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        return ensure(args.engines, args.name, args.options, args.keep, args.deadline)
    except OSError as error:
        say(f"error: the engines can't be kept in {args.engines}: {error}")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
