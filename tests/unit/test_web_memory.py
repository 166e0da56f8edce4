"""Large images find the memory that those before them have left."""

import platform
import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys
from cocoer_client.web.memory import keep_freed
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of 4 kB everywhere
if sys.argv[1] == "kept":
    keep_freed()
for turn in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    images = [b"x" * (5 << 20) for _ in range(4)]
    del images
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's memory")
@pytest.mark.parametrize(("way", "fewest", "most"), [("kept", 0, 100), ("left to glibc", 2000, 10_000)])
def test_pages_that_are_fetched_anew(way, fewest, most):
    """Of four images of 5 MB, which have 5,120 pages; the second case shows that the first one can fail."""
    run = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True)
    assert fewest <= int(run.stdout) <= most
