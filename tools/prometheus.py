"""Prometheus and promtool for the tests: those on PATH, else Debian's, whose signatures apt checks; needs no root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "prometheus"
PROGRAMS = ("prometheus", "promtool")


def install() -> tuple[Path, Path]:
    """Where the two programs are; fetched at the first call.

    Raises:
        RuntimeError: they are not on PATH, and apt could not fetch them.
    """
    found = [shutil.which(name) for name in PROGRAMS]
    if all(found):
        prometheus, promtool = (Path(path) for path in found if path)
        return prometheus, promtool
    if not all((CACHE / name).is_file() for name in PROGRAMS):
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            _fetch(Path(place))
    return CACHE / PROGRAMS[0], CACHE / PROGRAMS[1]


def _fetch(place: Path) -> None:
    """The package, unpacked, not installed. Lists of packages of our own: the system's may be old, or not there."""
    lists = place / "lists"
    (lists / "partial").mkdir(parents=True)
    apt = [
        "apt-get",
        "-qq",
        "-o",
        f"Dir::State::Lists={lists}",
        "-o",
        f"Dir::Cache={place}",
        "-o",
        "Debug::NoLocking=1",
    ]
    if os.getuid() == 0:
        apt += ["-o", "APT::Sandbox::User=root"]  # a user of apt's own can't read our directory
    try:
        for command in (["update"], ["download", "prometheus"]):
            subprocess.run([*apt, *command], cwd=place, check=True, capture_output=True, text=True)
        (package,) = place.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, place / "package"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        why = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        raise RuntimeError(f"no prometheus and promtool on PATH, and apt can't fetch them: {why}") from error
    for name in PROGRAMS:
        (place / "package" / "usr" / "bin" / name).replace(CACHE / name)


if __name__ == "__main__":
    try:
        install()
    except RuntimeError as error:
        raise SystemExit(str(error)) from error
