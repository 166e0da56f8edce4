"""How often the trackers of the package trackers change a person's number, on the film of ``benchmarks/walks.py``.

python -m benchmarks.tracking
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import trackers

from benchmarks.walks import CUT_S, RATE, SHOTS, switches, walk
from cocoer_client.video.tracking import REMEMBERED, Shot

STEPS = (1, 2, 5, 10, 25)
Maker = Callable[[float], Any]


def _with_defaults(kind: type, **more: Any) -> Maker:
    frames = round(30 * REMEMBERED)
    return lambda rate: kind(lost_track_buffer=frames, frame_rate=rate, minimum_consecutive_frames=1, **more)


MAKERS: dict[str, Maker] = {
    "SORT": _with_defaults(trackers.SORTTracker),
    "ByteTrack": _with_defaults(trackers.ByteTrackTracker),
    "OC-SORT": _with_defaults(trackers.OCSORTTracker),
    "BoT-SORT, without camera motion": _with_defaults(trackers.BoTSORTTracker, enable_cmc=False),
    "C-BIoU": _with_defaults(trackers.CBIoUTracker),
    "C-BIoU, as here": lambda rate: None,
}
"""With their defaults, but that each remembers as long, and numbers persons at once."""


def measure(make: Maker, step: int, seeds: Sequence[int], missed: float) -> tuple[float, float]:
    """Changes of number in a film, and milliseconds for a frame: means over the seeds."""
    changes, spent, frames = 0, 0.0, 0
    for seed in seeds:
        moments, numbers = walk(step, seed, missed), count(1)
        begun = time.perf_counter()
        shot = first = Shot(RATE / step, numbers, make(RATE / step))
        given = []
        for moment in moments:
            if moment.time_s >= CUT_S and shot is first:
                shot = Shot(RATE / step, numbers, make(RATE / step))
            given.append(shot.track(moment.boxes, moment.time_s))
        spent += time.perf_counter() - begun
        frames += len(moments)
        changes += switches(moments, given)
    return changes / len(seeds), 1000 * spent / frames


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare trackers.")
    parser.add_argument("--seeds", type=int, default=20, help="films, which differ by the detector's noise")
    parser.add_argument("--missed", type=float, default=0.03, help="share of persons that the detector overlooks")
    args = parser.parse_args()
    persons = sum(map(len, SHOTS))
    print(f"Changes of number in a film of {persons} persons (two crossings, a cut), mean of {args.seeds} films:\n")
    print("| every N-th frame of 25/s | " + " | ".join(map(str, STEPS)) + " | ms for a frame |")
    print("|---|" + "---|" * (len(STEPS) + 1))
    for name, make in MAKERS.items():
        results = [measure(make, step, range(args.seeds), args.missed) for step in STEPS]
        cells = " | ".join(f"{changes:.2g}" for changes, _ in results)
        print(f"| {name} | {cells} | {results[0][1]:.1f} |")


if __name__ == "__main__":
    main()
