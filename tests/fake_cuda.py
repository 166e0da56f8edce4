"""A CUDA runtime whose device is the host: Polygraphy loads it by ``ctypes``, as it does the real one."""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from pathlib import Path

from cocoer.files import replace_file
from tests.conftest import CACHE
from tests.tensorrt_api import shared_library

SOURCE = """
#include <stdlib.h>
#include <string.h>
static int alive = 0;
int streams(void) { return alive; }
int cudaStreamCreate(void **s) { *s = malloc(1); alive++; return 0; }
int cudaStreamDestroy(void *s) { free(s); alive--; return 0; }
int cudaStreamSynchronize(void *s) { return s ? 0 : 400; }
int cudaMalloc(void **p, size_t n) { *p = malloc(n ? n : 1); return 0; }
int cudaFree(void *p) { free(p); return 0; }
int cudaMemcpy(void *d, const void *s, size_t n, int k) { memcpy(d, s, n); return 0; }
int cudaMemcpyAsync(void *d, const void *s, size_t n, int k, void *q) { memcpy(d, s, n); return 0; }
"""


@cache
def library() -> Path:
    """The file, compiled once; its folder is one for LD_LIBRARY_PATH."""
    path = CACHE / f"cuda-{hashlib.sha256(SOURCE.encode()).hexdigest()[:8]}" / "libcudart.so.13"
    return path if path.is_file() else replace_file(path, lambda part: shared_library(part, SOURCE))


def streams() -> int:
    """CUDA streams that nobody has destroyed."""
    return int(ctypes.CDLL(str(library())).streams())
