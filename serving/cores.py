"""How many cores this process may use: those of its affinity, or fewer if its container has less of their time."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """Those of its affinity, or fewer where a container is limited to their time (docker --cpus, limits.cpu)."""
    affinity = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        return max(1, min([affinity, *map(math.ceil, quotas())]))
    return affinity


def quotas() -> Iterator[float]:
    """CPUs that the cgroups of this process may use, from its own to the outermost; none where nothing limits them.

    Version 2 has them in ``cpu.max``, version 1 in two files of the controller ``cpu``. A container that sees no
    cgroups but its own has them at the root.
    """
    for line in OWN_CGROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        own = root / path.lstrip("/")
        for directory in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):
                if controllers:
                    quota = (directory / "cpu.cfs_quota_us").read_text()
                    period = (directory / "cpu.cfs_period_us").read_text()
                else:
                    quota, period = (directory / "cpu.max").read_text().split()
                if float(quota) > 0:  # -1, or "max", which is no number: no limit
                    yield float(quota) / float(period)
            if directory == root:
                break
