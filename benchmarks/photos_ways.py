"""Photos, and the ways from their bytes to the crops of their persons: Pillow's, as served, and with fast_decode."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from PIL import Image, ImageOps

from benchmarks.photos_memory import ORIENTATION, PORTRAIT
from benchmarks.workloads import sample_pieces
from cocoer_bls import images
from cocoer_bls.boxes import Box, Person
from cocoer_bls.decoding import open_image
from cocoer_bls.images import CROP, decode, factor_for
from cocoer_bls.inputs import Crops, cut
from cocoer_bls.options import DEFAULT_LIMITS
from cocoer_bls.resampling import LIBRARY, Resampler
from export.publishing.compiling import compiled

PLAIN = "Pillow, BGR"
"""The way that is the measure: what one writes who wants BGR, with the fastest conversion there is."""
SERVED, COMPILED, FAST = "served, Pillow's resize", "served, compiled resize", "served, fast_decode"
BILINEAR = Image.Resampling.BILINEAR
GRAIN = 3.0
"""Noise of the sensor, standard deviation in grey levels."""
QUALITY = 90
LARGE = 8_000_000
"""Pixels from which on a photograph is taken as it is."""
LONGER = 4000
"""The longer side of those that are scaled."""
HEADS = {2: 0.16, 4: 0.32, 8: 0.64}
"""By how much fast_decode makes 4000 x 3000 pixels smaller -> the head's side, as a share of the shorter side."""
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Photo:
    """A file, and the persons in it.

    Args:
        name: for people.
        data: the file.
        persons: in pixels of the upright image.
    """

    name: str
    data: bytes
    persons: tuple[Person, ...]

    @property
    def boxes(self) -> list[Box | None]:
        """The whole image, heads, bodies: in the order of ``as_list``."""
        heads, bodies = zip(*((person.head, person.body) for person in self.persons))
        return [None, *heads, *bodies]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return open_image(self.data, DEFAULT_LIMITS.decode).upright_size

    @property
    def factor(self) -> int:
        """By how much fast_decode makes it smaller."""
        return factor_for([(0, 0, *self.size), *(box for person in self.persons for box in person)])


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
    data = _as_jpeg(mosaic.resize((width, height)), orientation)
    upright = (height, width) if orientation >= 5 else (width, height)
    return Photo(f"{name} ({len(data) / 1e6:.1f} MB)", data, two_persons(*upright))


def _as_jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    pixels = np.asarray(image)
    noisy = pixels + np.random.default_rng(0).normal(0, GRAIN, pixels.shape)
    stream, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=QUALITY, exif=exif)
    return stream.getvalue()


def photographs(paths: Iterable[Path]) -> Iterator[Photo]:
    """Files, and those in folders, each with two persons for each of ``HEADS``.

    JPEGs of 8 megapixels and more are taken as they are; others are scaled to 4,000 pixels on the longer side, get a
    sensor's noise, and are saved with quality 90.
    """
    files = [one for path in paths for one in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    for path in files:
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        with Image.open(path) as image:
            large = image.format in ("JPEG", "MPO") and image.width * image.height >= LARGE
            if large:
                data = path.read_bytes()
            else:
                upright = ImageOps.exif_transpose(image).convert("RGB")
                scale = LONGER / max(upright.size)
                data = _as_jpeg(upright.resize((round(upright.width * scale), round(upright.height * scale))))
        whole = Photo(path.name, data, ())
        for share in HEADS.values():
            yield replace(whole, persons=two_persons(*whole.size, share))


def two_persons(width: int, height: int, share: float = 0.16) -> tuple[Person, Person]:
    """Side by side, as one stands for a photo; where heads are larger, one behind the other.

    >>> two_persons(4000, 3000)[0]
    Person(body=(400, 360, 1520, 2940), head=(720, 420, 1200, 900))
    >>> two_persons(4000, 3000, 0.64)[1]
    Person(body=(2000, 360, 4000, 2940), head=(2080, 420, 4000, 2340))

    Args:
        width, height: of the image.
        share: side of a head, as a share of the shorter side.
    """
    side = round(share * min(width, height))

    def person(x: float) -> Person:
        wide = max(round(0.28 * width), side + round(0.02 * width))
        left = min(int(x * width), width - wide)
        head = min(left + round(0.08 * width), width - side), int(0.14 * height)
        return Person(
            (left, int(0.12 * height), left + wide, int(0.98 * height)), (*head, head[0] + side, head[1] + side)
        )

    return person(0.1), person(0.55)


def plain(photo: Photo) -> list[np.ndarray]:
    """Pillow decodes and turns, OpenCV makes BGR of it, Pillow crops and resizes."""
    image = Image.fromarray(cv2.cvtColor(np.asarray(_opened(photo)), cv2.COLOR_RGB2BGR))
    return [np.asarray((image.crop(box) if box else image).resize((CROP, CROP), BILINEAR)) for box in photo.boxes]


def plain_rgb(photo: Photo) -> list[np.ndarray]:
    """Pillow alone, in RGB; only the crops become BGR."""
    image = _opened(photo)
    resized = ((image.crop(box) if box else image).resize((CROP, CROP), BILINEAR) for box in photo.boxes)
    return [np.asarray(crop)[..., ::-1] for crop in resized]


def _opened(photo: Photo) -> Image.Image:
    image = Image.open(io.BytesIO(photo.data))
    ImageOps.exif_transpose(image, in_place=True)  # copies nothing that is upright
    return image if image.mode == "RGB" else image.convert("RGB")


def exact(photo: Photo) -> Crops:
    """What recognition sees of a photo as it is served."""
    return cut(decode(photo.data, DEFAULT_LIMITS.decode), photo.persons)


def smaller(photo: Photo) -> Crops:
    """The same with ``fast_decode`` and boxes that are given."""
    opened, factor = open_image(photo.data, DEFAULT_LIMITS.decode), photo.factor
    if opened.load_smaller is None or factor == 1:
        return exact(photo)
    return cut(opened.load_smaller(False, factor).pixels, photo.persons, size=opened.upright_size)


def as_list(crops: Crops) -> list[np.ndarray]:
    """Image, heads, bodies."""
    return [crops.image, *crops.head_crop, *crops.body_crop]


Way = Callable[[Photo], Sequence[np.ndarray]]


@cache
def _library() -> Resampler | None:
    """The compiled resize, as a build makes it; None: it can't be made here."""
    if (content := compiled()) is None:
        return None
    with tempfile.TemporaryDirectory() as directory:  # once it is loaded, its file is not needed any more
        path = Path(directory) / LIBRARY
        path.write_bytes(content)
        return Resampler(path)


def _served(photo: Photo, library: Resampler | None) -> list[np.ndarray]:
    with mock.patch.object(images, "resampler", return_value=library):
        return as_list(exact(photo))


def ways() -> dict[str, Way]:
    """Those that must give the same bytes; with the compiled resize where a build would have it."""
    found: dict[str, Way] = {
        PLAIN: plain,
        "Pillow, crops to BGR": plain_rgb,
        SERVED: lambda photo: _served(photo, None),
    }
    if (library := _library()) is not None:
        found[COMPILED] = lambda photo: _served(photo, library)
    return found


def fast(photo: Photo) -> Sequence[np.ndarray]:
    """What ``cocoer`` does with ``fast_decode`` and boxes that are given."""
    return as_list(smaller(photo))


def check_same(photo: Photo) -> None:
    """Raises AssertionError where a way's crops differ from Pillow's."""
    expected = plain(photo)
    for name, way in ways().items():
        for crop, wanted in zip(way(photo), expected, strict=True):
            assert np.array_equal(crop, wanted), f"{name} gives other crops of {photo.name}"
