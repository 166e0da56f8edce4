"""What ``cocoer`` does with an image, part by part, in one process and one thread, without Triton.

    cd <repository>/cocoer/1 && python -m benchmarks.pipeline_parts

Prints milliseconds of processor time per image as JSON. The ``cocoer_bls`` of the directory it is started in is
measured: there is what a build has compiled (``benchmarks/pipeline.py`` starts it so).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.pipeline_models import SCENE, constant_answers
from cocoer_bls import manifest
from cocoer_bls.boxes import Person
from cocoer_bls.decoding import open_image
from cocoer_bls.images import crop
from cocoer_bls.inputs import cut, detection_inputs
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS
from cocoer_bls.pipeline import Pipeline
from cocoer_bls.resampling import why_not

PROJECT = Path(__file__).resolve().parent.parent
REPEATS = 40
SERVERS = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""As ``serving.wheel`` sets it. Without, this small process would give each image's memory back and ask for it anew,
which the server's does not."""
PILLOW = "the same crops by Pillow"
"""No part of the pipeline where a build has compiled what does the same."""
ALL = "all of it"
REST = "Python in between: headers, matching, joining, checks, timing"


def parts(build: Path, repeats: int = REPEATS) -> dict[str, float]:
    """Milliseconds of each part, of all together, of what is left, and of Pillow's crops.

    Args:
        build: a ``build.json``, with the labels beside it.
        repeats: of each part; the mean is taken.
    """
    labels = (build.parent / manifest.LABELS_FILE).read_text().splitlines()
    pipeline = Pipeline(constant_answers, labels, manifest.read(build), DEFAULT_LIMITS)
    pipeline.warm_up()

    def work() -> Job:
        job = Job(SCENE.jpeg, DEFAULT_OPTIONS)
        pipeline.run([job])
        pipeline.result(job)
        return job

    done = work()
    if done.error is not None:
        raise done.error
    opened = open_image(SCENE.jpeg, DEFAULT_LIMITS.decode)
    pixels, content = opened.load(False).pixels, pipeline._content(done)
    persons = list(done.persons.values())
    own: dict[str, Callable[[], object]] = {
        "JPEG, by libjpeg-turbo": lambda: opened.load(False),
        "five crops": lambda: cut(pixels, persons),
        "letterbox": lambda: detection_inputs([pixels], [DEFAULT_OPTIONS.min_score], 640, [pixels.shape[0]]),
        "RESULT's numbers and labels": lambda: pipeline._content(done),
        "RESULT as JSON": lambda: json.dumps(content, allow_nan=False),
    }
    taken = {name: milliseconds(step, repeats) for name, step in own.items()}
    whole = milliseconds(work, repeats)
    rest = whole - sum(taken.values())
    by_pillow = _milliseconds_of_pillow(pixels, persons, repeats)
    return {name: round(ms, 4) for name, ms in {**taken, REST: rest, ALL: whole, PILLOW: by_pillow}.items()}


def _milliseconds_of_pillow(pixels: np.ndarray, persons: Sequence[Person], repeats: int) -> float:
    """Of an image that is no canvas Pillow makes the crops; each box is copied, which is a small part."""
    image = np.ascontiguousarray(pixels)
    boxes = [None, *(box for person in persons for box in person)]
    return milliseconds(lambda: [crop(image, box) for box in boxes], repeats)


def milliseconds(step: Callable[[], object], repeats: int) -> float:
    """Processor time of this process, per repeat, after one that does not count."""
    step()
    return machine.own_cpu_ms(step, repeats)


def of_repository(repository: Path) -> dict[str, float]:
    """``parts`` of the code that a repository serves, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pipeline_parts"],
        cwd=repository / "cocoer" / "1",
        env={**os.environ, "PYTHONPATH": str(PROJECT), **SERVERS},
        capture_output=True,
        text=True,
        check=True,
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> int:
    if reason := why_not():
        print(f"crops are Pillow's: {reason}", file=sys.stderr)
    print(json.dumps(parts(Path(manifest.BUILD_FILE).resolve())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
