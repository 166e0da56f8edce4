"""The red box around the person: seen on every image, on no pixel of the person, on no other level."""

import io

import numpy as np
import pytest
from PIL import Image

from cocoer_client.vlm.crops import Cutter, ImageOptions
from cocoer_client.vlm.red_box import framed, line_width

SIZES = [(1024, 768), (4000, 3000), (768, 1024), (100, 80), (40, 30), (2000, 60), (30, 900)]
GROUNDS = {
    "grey": lambda size: Image.new("RGB", size, (128, 128, 128)),
    "black": lambda size: Image.new("RGB", size, "black"),
    "white": lambda size: Image.new("RGB", size, "white"),
    "green": lambda size: Image.new("RGB", size, (0, 160, 60)),
    "noise": lambda size: Image.effect_noise(size, 60).convert("RGB"),
}


def part(size, x1, y1, x2, y2):
    """A box, of fractions of the image."""
    return round(x1 * size[0]), round(y1 * size[1]), round(x2 * size[0]), round(y2 * size[1])


def pixels_of(sent):
    with Image.open(io.BytesIO(sent.data)) as image:
        return np.asarray(image).astype(int)


def is_red(pixels):
    """Which a person or a model would call red; [height, width]."""
    red, green, blue = np.moveaxis(pixels, 2, 0)
    return (red > 190) & (green < 80) & (blue < 80)


def extent(mask):
    """x1, y1, x2, y2 of what is there."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("size", SIZES)
def test_it_is_seen_and_lies_around_the_person(size, ground):
    """All four sides, after JPEG. Inside, the image is as without it; body and head have no red."""
    image = GROUNDS[ground](size)
    body = part(size, 0.3, 0.3, 0.7, 0.75)
    cutter = Cutter(image, ImageOptions())
    sent = cutter.crops({"body_box": body, "head_box": part(size, 0.4, 0.3, 0.6, 0.5)})
    pixels = pixels_of(sent["context"])
    whole = cutter.whole
    left, top = ((sent["context"].size[side] - whole.size[side]) // 2 for side in (0, 1))  # of what lies amid grey
    pixels = pixels[top : top + whole.height, left : left + whole.width]
    across, down = whole.width / size[0], whole.height / size[1]
    inside = (
        int(body[0] * across),
        int(body[1] * down),
        int(np.ceil(body[2] * across)),
        int(np.ceil(body[3] * down)),
    )
    width, red = line_width(whole.size), is_red(pixels)
    assert extent(red) == (inside[0] - width, inside[1] - width, inside[2] + width, inside[3] + width)
    x1, y1, x2, y2 = inside
    for line in (red[y1:y2, x1 - width : x1], red[y1:y2, x2 : x2 + width]):
        assert line.all()
    for line in (red[y1 - width : y1, x1:x2], red[y2 : y2 + width, x1:x2]):
        assert line.all()
    person, untouched = pixels[y1:y2, x1:x2], np.asarray(whole).astype(int)[y1:y2, x1:x2]
    assert not is_red(person).any()
    # JPEG's blocks of 8 pixels end at most 7 pixels behind the line.
    inner = np.abs(person - untouched)[8:-8, 8:-8]
    assert inner.size == 0 or inner.mean() < 4
    for level in ("body", "head"):
        assert not is_red(pixels_of(sent[level])).any()


def test_not_one_pixel_of_the_person_is_drawn_on():
    """Before JPEG: the box's own pixels are the image's; a hairline outside is all that is changed else."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    drawn = np.asarray(framed(Image.fromarray(pixels), (100, 80, 220, 210)))
    assert np.array_equal(drawn[80:210, 100:220], pixels[80:210, 100:220])
    changed, width = (drawn != pixels).any(axis=2), line_width((400, 300))
    assert extent(changed) == (100 - width - 1, 80 - width - 1, 220 + width + 1, 210 + width + 1)
    line = drawn[80 - width : 80, 100 - width : 220 + width].reshape(-1, 3)
    assert {tuple(pixel) for pixel in line.tolist()} == {(255, 0, 0)}


def test_it_shows_on_red():
    """By its white hairlines: a wall or a dress of the same red does not hide it."""
    sent = Cutter(Image.new("RGB", (800, 600), (255, 0, 0)), ImageOptions()).crops(
        {"body_box": (200, 100, 500, 500), "head_box": (300, 100, 400, 200)}
    )
    pixels = pixels_of(sent["context"])
    assert extent(pixels.min(axis=2) > 150) == (195, 95, 505, 505)


@pytest.mark.parametrize("size", SIZES)
def test_at_the_images_border_it_is_whole(size):
    """A person that fills the image has a box along the border, one in a corner has one of four sides too."""
    image = Image.new("RGB", size, (128, 128, 128))
    for body in ((0, 0, *size), part(size, 0, 0, 0.5, 0.5), part(size, 0.5, 0.4, 1, 1)):
        cutter = Cutter(image, ImageOptions())
        drawn = np.asarray(cutter.boxed(cutter.whole, body)).astype(int)
        red, width = is_red(drawn), line_width(cutter.whole.size)
        x1, y1, x2, y2 = extent(red)
        if body[0] == 0:
            assert (x1, y1) == (0, 0)
        if body[2] == size[0]:
            assert (x2, y2) == cutter.whole.size
        for line in (red[y1:y2, x1 : x1 + width], red[y1:y2, x2 - width : x2]):
            assert line.all()
        for line in (red[y1 : y1 + width, x1:x2], red[y2 - width : y2, x1:x2]):
            assert line.all()
        sent = cutter.crops({"body_box": body, "head_box": body})
        assert is_red(pixels_of(sent["context"])).sum() > 0.9 * red.sum()
        assert not is_red(pixels_of(sent["body"])).any()


@pytest.mark.parametrize("at", [(0, 0), (2000, 1500), (3999, 2999)])
def test_a_person_of_one_pixel_is_found(at):
    """In an image of 12 megapixels, of which the model sees a sixteenth."""
    x, y = at
    sent = Cutter(Image.new("RGB", (4000, 3000)), ImageOptions()).crops(
        {"body_box": (x, y, x + 1, y + 1), "head_box": (x, y, x + 1, y + 1)}
    )
    x1, y1, x2, y2 = extent(is_red(pixels_of(sent["context"])))
    assert 6 <= x2 - x1 <= 14
    assert 6 <= y2 - y1 <= 14
    assert x1 <= x * 1024 / 4000 < x2
    assert y1 <= y * 768 / 3000 < y2


def test_it_survives_a_model_that_sees_336_pixels():
    """As LLaVA's encoder does: a line of two pixels is left."""
    sent = Cutter(Image.new("RGB", (2048, 1536), (90, 120, 90)), ImageOptions()).crops(
        {"body_box": (500, 300, 1500, 1300), "head_box": (800, 300, 1000, 500)}
    )
    with Image.open(io.BytesIO(sent["context"].data)) as image:
        small = np.asarray(image.resize((336, 252), Image.Resampling.BICUBIC)).astype(int)
    row = small[126]
    assert (row[:, 0] - row[:, 1:].max(axis=1) > 60).sum() >= 4
