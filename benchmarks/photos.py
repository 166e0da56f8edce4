"""Photos as phones take them: what decoding and cropping cost, and the memory that large ones take.

    python benchmarks/photos.py [--quick] [--checkpoints DIR] [--json]

Takes each photo from its bytes to the crops of two persons (the whole image, two bodies, two heads, 224 x 224 pixels,
BGR) in several ways, in turn, and counts the processor time of this process. All but ``fast_decode`` must give the same
bytes; of that one it says how far its crops and, with ``--checkpoints``, its probabilities are from the others'. Then
it has images of 50 megapixels of each format, and a batch of eight, decoded in a process of their own, and asks for its
peak. Needs no server. Writes ``photos.json`` and ``photos.md`` to ``benchmarks/results/<machine>/``, and prints the
tables.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks import machine
from benchmarks.tables import markdown
from benchmarks.workloads import sample_pieces
from cocoer.checkpoints.loader import load_checkpoint
from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise
from cocoer_bls.boxes import Box, Person, crop_box
from cocoer_bls.decoding import open_image
from cocoer_bls.images import CROP, decode, factor_for
from cocoer_bls.inputs import cut
from cocoer_bls.options import DEFAULT_LIMITS
from export.files import write_json, write_text

RESULTS = Path(__file__).parent / "results"
TARGET, FAST_TARGET = 0.6, 0.25
"""Of the processor time that Pillow takes, at most, for 12 megapixels: as served, and with ``fast_decode``."""
PLAIN = "Pillow, BGR"
"""The way that is the measure: what one writes who wants BGR, with the fastest conversion there is."""
SERVED, FAST = "served", "served, fast_decode"
BILINEAR = Image.Resampling.BILINEAR
GRAIN = 3.0
"""Noise of the sensor, standard deviation in grey levels."""
ORIENTATION, PORTRAIT = 0x0112, 6

Crops = Sequence[np.ndarray]


@dataclass(frozen=True)
class Photo:
    """A file, and two persons in it.

    Args:
        name: for people.
        data: the file.
        persons: in pixels of the upright image.
    """

    name: str
    data: bytes
    persons: tuple[Person, Person]

    @property
    def boxes(self) -> list[Box | None]:
        """The whole image, heads, bodies: in the order of ``served``."""
        heads, bodies = zip(*((person.head, person.body) for person in self.persons))
        return [None, *heads, *bodies]


def photos() -> list[Photo]:
    """12 megapixels upright and turned, 2 megapixels, and 640 x 480."""
    return [
        photo("12 megapixels", 4000, 3000),
        photo("12 megapixels, fine detail", 4000, 3000, tile=500),
        photo("12 megapixels, turned by EXIF", 4000, 3000, PORTRAIT),
        photo("2 megapixels", 1920, 1080),
        photo("640x480", 640, 480),
    ]


def photo(name: str, width: int, height: int, orientation: int = 1, tile: int = 1000) -> Photo:
    """A JPEG of quality 90 with a sensor's noise, of a mosaic of the sample; its persons stand side by side.

    Args:
        name: for people.
        width, height: as stored.
        orientation: of EXIF.
        tile: side of the mosaic's pieces, of 4,000 pixels; 500 is the sample as it is, with all of its detail.
    """
    piece = Image.fromarray(np.ascontiguousarray(sample_pieces()[0][..., ::-1])).resize((tile, tile))
    mosaic = Image.new("RGB", (4000, 3000))
    for left in range(0, 4000, tile):
        for top in range(0, 3000, tile):
            mosaic.paste(ImageOps.mirror(piece) if (left + top) // tile % 2 else piece, (left, top))
    pixels = np.asarray(mosaic.resize((width, height)))
    noisy = pixels + np.random.default_rng(0).normal(0, GRAIN, pixels.shape)
    stream, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90, exif=exif)
    upright = (height, width) if orientation >= 5 else (width, height)
    return Photo(f"{name} ({len(stream.getvalue()) / 1e6:.1f} MB)", stream.getvalue(), two_persons(*upright))


def two_persons(width: int, height: int) -> tuple[Person, Person]:
    """Side by side, as one stands for a photo: heads of a sixth of the shorter side.

    >>> two_persons(4000, 3000)[0]
    Person(body=(400, 360, 1520, 2940), head=(720, 420, 1200, 900))
    """
    side = round(0.16 * min(width, height))

    def person(x: float) -> Person:
        left, top = int((x + 0.08) * width), int(0.14 * height)
        body = (int(x * width), int(0.12 * height), int((x + 0.28) * width), int(0.98 * height))
        return Person(body, (left, top, left + side, top + side))

    return person(0.1), person(0.55)


def plain(photo: Photo) -> Crops:
    """Pillow decodes and turns, OpenCV makes BGR of it, Pillow crops and resizes."""
    image = Image.fromarray(cv2.cvtColor(np.asarray(_opened(photo)), cv2.COLOR_RGB2BGR))
    return [np.asarray((image.crop(box) if box else image).resize((CROP, CROP), BILINEAR)) for box in photo.boxes]


def plain_rgb(photo: Photo) -> Crops:
    """Pillow alone, in RGB; only the crops become BGR."""
    image = _opened(photo)
    resized = ((image.crop(box) if box else image).resize((CROP, CROP), BILINEAR) for box in photo.boxes)
    return [np.asarray(crop)[..., ::-1] for crop in resized]


def _opened(photo: Photo) -> Image.Image:
    image = Image.open(io.BytesIO(photo.data))  # of mode RGB
    ImageOps.exif_transpose(image, in_place=True)  # copies nothing that is upright
    return image


def served(photo: Photo) -> Crops:
    """What ``cocoer`` does."""
    crops = cut(decode(photo.data, DEFAULT_LIMITS.decode), photo.persons)
    return [crops.image, *crops.head_crop, *crops.body_crop]


def fast(photo: Photo) -> Crops:
    """What ``cocoer`` does with ``fast_decode`` and boxes that are given."""
    opened = open_image(photo.data, DEFAULT_LIMITS.decode)
    width, height = opened.upright_size
    factor = factor_for([(0, 0, width, height), *(box for person in photo.persons for box in person)])
    if opened.load_smaller is None or factor == 1:
        return served(photo)
    crops = cut(opened.load_smaller(False, factor).pixels, photo.persons, size=(width, height))
    return [crops.image, *crops.head_crop, *crops.body_crop]


WAYS: dict[str, Callable[[Photo], Crops]] = {
    PLAIN: plain,
    "Pillow, crops to BGR": plain_rgb,
    SERVED: served,
}


def in_turn(photo: Photo, rounds: int) -> dict[str, list[float]]:
    """Processor time of each way, ms; the ways take turns, so that all have the same machine.

    Raises:
        AssertionError: a way's crops differ from Pillow's.
    """
    expected = plain(photo)
    for name, way in WAYS.items():
        for crop, wanted in zip(way(photo), expected, strict=True):
            assert np.array_equal(crop, wanted), f"{name} gives other crops of {photo.name}"
    ways = {**WAYS, FAST: fast}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way(photo)
            taken[name].append(1000 * (time.process_time() - started))
    return taken


def drift(photo: Photo, network: Network | None) -> dict[str, float]:
    """How far ``fast_decode``'s crops (grey levels) and probabilities are from those of the same photo as served."""
    exact, other = served(photo), fast(photo)
    apart = np.abs(np.stack(exact).astype(int) - np.stack(other))
    found = {"mean_levels": float(apart.mean()), "p99_levels": float(np.percentile(apart, 99))}
    if network is not None:
        probabilities = [network(photo, crops) for crops in (exact, other)]
        change = np.abs(probabilities[0] - probabilities[1])
        found |= {"mean_p": float(change.mean()), "max_p": float(change.max())}
    return found


class Network:
    """CocoER in PyTorch: a photo and its crops to the final probabilities FP64 [2, 26].

    Args:
        checkpoints: where its weights are.
    """

    def __init__(self, checkpoints: Path) -> None:
        checkpoint = load_checkpoint(checkpoints)
        self.synthetic = checkpoint.identity.synthetic
        self.model, self.normalise = CocoER.from_checkpoint(checkpoint), imagenet_normalise()

    @torch.no_grad()
    def __call__(self, photo: Photo, crops: Crops) -> np.ndarray:
        with Image.open(io.BytesIO(photo.data)) as image:
            width, height = ImageOps.exif_transpose(image).size
        context, heads, bodies = (torch.from_numpy(np.stack(part)) for part in (crops[:1], crops[1:3], crops[3:]))
        head_boxes, body_boxes = (
            torch.tensor([crop_box(box, width, height) for box in boxes], dtype=torch.float32)
            for boxes in zip(*((person.head, person.body) for person in photo.persons))
        )
        fused = self.model(
            self.normalise(context),
            self.normalise(heads),
            head_boxes,
            self.normalise(bodies),
            body_boxes,
            torch.zeros(2, dtype=torch.int64),
        )[0]
        logits: np.ndarray = fused.logits.numpy().astype(np.float64)
        return 1 / (1 + np.exp(-logits))


PEAK = """
import re, sys
from benchmarks.photos import most_memory, take
take(1, b"")
before = most_memory()
take(int(sys.argv[1]), sys.stdin.buffer.read())
print(most_memory() - before)
"""
FORMATS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("RGB", "JPEG", {}),
    "JPEG, turned by EXIF": ("RGB", "JPEG", {"exif": {ORIENTATION: PORTRAIT}}),
    "JPEG, progressive": ("RGB", "JPEG", {"progressive": True}),
    "JPEG, CMYK, progressive": ("CMYK", "JPEG", {"progressive": True}),
    "PNG": ("RGB", "PNG", {}),
    "PNG, alpha": ("RGBA", "PNG", {}),
    "PNG, palette": ("P", "PNG", {}),
    "WebP": ("RGB", "WEBP", {}),
}
LARGEST = (8000, 6250)


def take(count: int, data: bytes) -> None:
    """Have a batch decoded as ``cocoer`` does; of empty data, the sample, so that all is loaded."""
    from cocoer.labels import EMOTIC_LABELS
    from cocoer_bls.jobs import Job
    from cocoer_bls.options import DEFAULT_OPTIONS
    from cocoer_bls.pipeline import Pipeline

    def nothing(*_: object) -> dict[str, np.ndarray]:
        raise RuntimeError("nobody is to be recognised")

    pipeline = Pipeline(nothing, EMOTIC_LABELS, {"detection": "opencv"}, DEFAULT_LIMITS)
    pipeline.warm_up()
    nobody = np.zeros((0, 8), dtype=np.float32)
    jobs = [Job(data, DEFAULT_OPTIONS, nobody) for _ in range(count if data else 0)]
    pipeline.run(jobs)
    for job in jobs:
        if job.error:
            raise job.error


def most_memory() -> int:
    """The largest RSS of this process so far, bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def peak(form: str, count: int) -> int:
    """Bytes that ``count`` images of 50 megapixels take at the peak, in one batch, beyond what the process has."""
    mode, kind, how = FORMATS[form]
    exif = Image.Exif()
    for tag, value in how.get("exif", {}).items():
        exif[tag] = value
    stream = io.BytesIO()
    Image.new(mode, LARGEST).save(stream, kind, **{**how, "exif": exif} if "exif" in how else how)
    command = [sys.executable, "-c", PEAK, str(count)]
    run = subprocess.run(command, input=stream.getvalue(), stdout=subprocess.PIPE, check=True)
    return int(run.stdout)


def figures(taken: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Medians, 10th and 90th percentiles, and each way's share of the measure's time, turn by turn.

    >>> figures({PLAIN: [10.0, 20.0, 30.0], SERVED: [5.0, 8.0, 15.0]})[SERVED]
    {'ms': [8.0, 5.6, 13.6], 'share': [0.5, 0.42, 0.5]}
    """
    found = {}
    for name, ms in taken.items():
        shares = [one / base for one, base in zip(ms, taken[PLAIN], strict=True)]
        found[name] = {"ms": _spread(ms), "share": _spread(shares)}
    return found


def _spread(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in np.percentile(values, (50, 10, 90))]


def verdict(share: Sequence[float], target: float) -> str:
    """Whether a median is at most the target; where the range holds the target, that this is noise.

    >>> verdict([0.5, 0.4, 0.55], 0.6), verdict([0.5, 0.4, 0.7], 0.6), verdict([0.8, 0.7, 0.9], 0.6)
    ('met', 'within noise', 'missed')
    """
    median, low, high = share
    if low <= target < high:
        return "within noise"
    return "met" if median <= target else "missed"


def to_markdown(report: Mapping[str, Any]) -> str:
    """The report as people read it."""
    lines = [
        f"# Photos: {report['machine']['cpu']}, {report['machine']['cores']} cores",
        "",
        f"{report['time']}, {report['command']}. Processor time of one process, ms, from the file to the crops "
        f"of two persons (five of {CROP}x{CROP}, BGR), {report['rounds']} turns; median (10th to 90th percentile). All "
        f"ways but fast_decode give the same bytes. The share is of the first way in the same turn; the targets for 12 "
        f"megapixels are {TARGET} at most, and {FAST_TARGET} with fast_decode.",
        "",
    ]
    rows, targets = [], {SERVED: TARGET, FAST: FAST_TARGET}
    for name, ways in report["time_ms"].items():
        for way, found in ways.items():
            share, told = found["share"], ""
            if way != PLAIN:
                told = f"{share[0]:.2f} ({share[1]:.2f} to {share[2]:.2f})"
                told += f", {verdict(share, targets[way])}" if way in targets and name.startswith("12 ") else ""
            rows.append((name, way, "{:.1f} ({:.1f} to {:.1f})".format(*found["ms"]), told))
    lines += [markdown(("photo", "way", "ms", "share"), rows), ""]
    lines += [
        "Memory at the peak of decoding 8000x6250 pixels, beyond what the process has before, MB (and bytes a pixel); "
        f"one image, and a batch of eight, within `max_batch_pixels` of {DEFAULT_LIMITS.max_batch_pixels:,}:",
        "",
    ]
    lines[-2:-2] = _drift(report["drift"], report["weights"])
    pixels = LARGEST[0] * LARGEST[1]
    shown = [
        (form, *(f"{count[size] / 1e6:.0f} ({count[size] / pixels:.1f})" for size in ("1", "8")))
        for form, count in report["peak_bytes"].items()
    ]
    return "\n".join([*lines, markdown(("format", "one", "eight"), shown), ""])


def _drift(photos: Mapping[str, Mapping[str, float]], weights: str) -> list[str]:
    """How far fast_decode is off, as Markdown."""
    header = ["photo", "crops, mean", "99th percentile"]
    header += ["probabilities, mean", "largest"] if any("max_p" in found for found in photos.values()) else []
    rows = [
        (
            name,
            *(f"{found[key]:.1f}" for key in ("mean_levels", "p99_levels")),
            *(f"{found[key]:.4f}" for key in ("mean_p", "max_p") if key in found),
        )
        for name, found in photos.items()
    ]
    said = f"What fast_decode changes: grey levels of the crops, and final probabilities ({weights})."
    return [said, "", markdown(header, rows), ""]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what decoding and cropping photos costs on this machine.")
    parser.add_argument("--quick", action="store_true", help="few turns and two formats: a look, not a report")
    parser.add_argument("--checkpoints", type=Path, help="weights, to say what fast_decode changes of probabilities")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON instead of the tables")
    parser.add_argument("--output-dir", type=Path, help="where the report goes (default: benchmarks/results/<machine>)")
    args = parser.parse_args()
    cpu, cores = machine.processor()
    directory: Path = args.output_dir or RESULTS / machine.Machine(cpu, cores, 0.0).slug
    rounds = 5 if args.quick else 25
    forms = ["JPEG", "PNG"] if args.quick else list(FORMATS)
    network = Network(args.checkpoints) if args.checkpoints else None
    taken = photos()
    report = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python benchmarks/photos.py", *sys.argv[1:]]),
        "machine": {"cpu": cpu, "cores": cores},
        "rounds": rounds,
        "time_ms": {one.name: figures(in_turn(one, rounds)) for one in taken},
        "drift": {one.name: drift(one, network) for one in taken},
        "weights": "none" if network is None else "synthetic weights" if network.synthetic else str(args.checkpoints),
        "peak_bytes": {form: {str(count): peak(form, count) for count in (1, 8)} for form in forms},
    }
    print(json.dumps(report) if args.json else to_markdown(report))
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "photos.json", report)
    write_text(directory / "photos.md", to_markdown(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
