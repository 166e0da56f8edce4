"""The levels side by side on one image: in their order, sharp, as large as allowed, and told apart."""

import dataclasses
import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from cocoer_client.vlm.asking import Questions, Subject
from cocoer_client.vlm.collage import MOST, gap_of, layout_of
from cocoer_client.vlm.crops import Cutter, ImageOptions, cut
from cocoer_client.vlm.modes import MODES, TOLD, levels_of
from cocoer_client.vlm.prompt import Prompt
from cocoer_client.vlm.scaling import MIN_SIDE
from tests.results import make_person

GROUND, CLOTHES, FACE = (0, 90, 200), (0, 170, 60), (230, 200, 40)
CHOICES = [choice for count in (3, 2) for choice in itertools.combinations(TOLD, count)]


def scene(size=(1600, 1200), body=(200, 100, 700, 1100), head=(250, 120, 650, 640)):
    """A person of two colours, and where it is."""
    image = Image.new("RGB", size, GROUND)
    image.paste(CLOTHES, body)
    image.paste(FACE, head)
    return image, {"body_box": list(body), "head_box": list(head)}


def pixels_of(sent):
    with Image.open(io.BytesIO(sent.data)) as image:
        assert image.size == sent.size
        return np.asarray(image).astype(int)


def near(pixels, colour):
    return np.abs(pixels - colour).max(axis=-1) < 40


def places(sent):
    """x1, y1, x2, y2 of each picture, from left to right, found by the white around them."""
    content = ~(pixels_of(sent).min(axis=2) > 200)
    top = int(np.flatnonzero(content.any(axis=1))[0])
    rows = content.any(axis=1)
    gaps = np.flatnonzero(~rows[top:])
    first = top + int(gaps[-1]) + 1 if gaps.size and (top + gaps[-1]) < sent.size[1] // 3 else top
    columns = content[first:].any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns.astype(int), [0]])))
    found = []
    for x1, x2 in zip(edges[::2].tolist(), edges[1::2].tolist()):
        within = np.flatnonzero(content[first:, x1:x2].any(axis=1)) + first
        found.append((x1, int(within[0]), x2, int(within[-1]) + 1))
    return found


@pytest.mark.parametrize("levels", CHOICES)
def test_side_by_side_in_the_order_that_is_told(levels):
    """Each with what is on it, at equal heights, as large as the longest side allows."""
    image, person = scene()
    sent = cut(image, person, ImageOptions(collage=True)).collages[levels]
    assert sent.levels == levels
    assert 1000 <= max(sent.size) <= 1024
    found = places(sent)
    assert len(found) == len(levels)
    assert len({(y1, y2) for _, y1, _, y2 in found}) == 1
    pixels = pixels_of(sent)
    for level, (x1, y1, x2, y2) in zip(levels, found):
        shown = pixels[y1:y2, x1:x2]
        colours = {"context": (GROUND, CLOTHES, FACE), "body": (CLOTHES, FACE), "head": (FACE,)}[level]
        for colour in (GROUND, CLOTHES, FACE):
            assert near(shown, colour).any() == (colour in colours), (level, colour)
        assert near(shown, (255, 0, 0)).any() == (level == "context")
        aspect = {"context": 4 / 3, "body": 1 / 2, "head": 400 / 520}[level]
        assert (x2 - x1) / (y2 - y1) == pytest.approx(aspect, rel=0.03)
    gaps = [right[0] - left[2] for left, right in itertools.pairwise(found)]
    assert all(4 <= gap <= 30 for gap in gaps)


@pytest.mark.parametrize("levels", CHOICES)
def test_it_is_compressed_once(levels):
    """What it shows is the pixels of the levels and not of their files: to the bit what one JPEG makes of them.

    Below the captions, that is: JPEG's blocks of 8 x 8 pixels know nothing of each other.
    """
    image = Image.fromarray(np.random.default_rng(5).integers(0, 256, (600, 800, 3), dtype=np.uint8))
    person = {"body_box": (50, 20, 450, 580), "head_box": (100, 30, 400, 330)}
    cutter = Cutter(image, ImageOptions(quality=50, collage=True))
    sent, pictures = cutter.crops(person).collages[levels], cutter.pictures(person)
    layout, x = layout_of({level: pictures[level].size for level in levels}, 1024), 0
    canvas = np.full((*sent.size[::-1], 3), 255, dtype=np.uint8)
    for level in levels:
        picture = pictures[level].resize(layout.picture(level), Image.Resampling.BICUBIC, reducing_gap=3.0)
        if level == "context":
            picture = cutter.boxed(picture, person["body_box"])
        canvas[layout.top :, x : x + picture.width] = np.asarray(picture)
        x += picture.width + gap_of(layout.height)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(canvas[..., ::-1]), [
        cv2.IMWRITE_JPEG_QUALITY, 50, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ])  # fmt: skip
    below = -(-layout.top // 8) * 8
    assert np.array_equal(pixels_of(sent)[below:], cv2.imdecode(data, cv2.IMREAD_COLOR)[below:, :, ::-1])


def test_small_heads_are_not_blown_up():
    """To twice of what is sent alone at most: 224 pixels, though the row is higher; in its middle."""
    image, person = scene(body=(200, 100, 700, 1100), head=(300, 120, 310, 132))
    sent = cut(image, person, ImageOptions(collage=True))
    assert sent["head"].size == (187, 224)
    body, head = places(sent.collages["body", "head"])
    assert abs((head[3] - head[1]) - MOST * 224) <= 2
    assert body[3] - body[1] > 600
    assert abs((head[1] + head[3]) - (body[1] + body[3])) <= 4


def test_captions_are_read():
    """Black on white above their pictures, each in the middle, large enough to be read at half the size."""
    image, person = scene()
    sent = cut(image, person, ImageOptions(collage=True)).collages[TOLD]
    found, pixels = places(sent), pixels_of(sent)
    top = min(y1 for _, y1, _, _ in found)
    assert 20 <= top <= 60
    ink = (pixels[:top] < 60).all(axis=2)
    rows = np.flatnonzero(ink.any(axis=1))
    assert 15 <= rows[-1] - rows[0] + 1 <= top - 4
    widths = []
    for x1, _, x2, _ in found:
        columns = np.flatnonzero(ink[:, x1:x2].any(axis=0))
        assert abs((columns[0] + columns[-1]) / 2 - (x2 - x1) / 2) <= 3
        widths.append(int(columns[-1] - columns[0]))
    assert widths[0] > widths[1]  # "context", "body"
    assert ink.sum() == sum(ink[:, x1:x2].sum() for x1, _, x2, _ in found)


@pytest.mark.parametrize("levels", CHOICES)
@pytest.mark.parametrize("longest_side", [MIN_SIDE, 64, 100, 224, 512, 2048])
@pytest.mark.parametrize(
    ("size", "body", "head"),
    [
        ((1600, 1200), (200, 100, 700, 1100), (350, 120, 550, 380)),
        ((3000, 100), (5, 5, 30, 95), (10, 10, 12, 12)),
        ((100, 3000), (5, 5, 95, 2900), (10, 10, 60, 60)),
        ((400, 300), (0, 0, 1, 300), (0, 0, 400, 1)),
        ((400, 300), (0, 0, 400, 1), (0, 0, 1, 1)),
        ((1, 1), (0, 0, 1, 1), (0, 0, 1, 1)),
    ],
)
def test_the_longest_side_is_kept_to(size, body, head, longest_side, levels):
    """Strips, crowdlets and single pixels too; nothing vanishes, and no side is too small for a model."""
    image = Image.new("RGB", size, GROUND)
    sent = cut(image, {"body_box": body, "head_box": head}, ImageOptions(longest_side, collage=True)).collages[levels]
    assert max(sent.size) <= longest_side
    assert min(sent.size) >= MIN_SIDE
    assert pixels_of(sent).shape[:2] == sent.size[::-1]
    assert near(pixels_of(sent), GROUND).any() or min(*size, longest_side) == 1 or longest_side == MIN_SIDE


def test_the_row_is_the_highest_that_fits():
    """One more pixel of height would not; unless the pictures are no higher."""
    for sizes in ({"context": (1024, 768), "body": (500, 1000), "head": (180, 224)}, {"body": (90, 224)}):
        layout = layout_of(sizes, 1024)
        assert max(layout.size) <= 1024
        taller = dataclasses.replace(layout, height=layout.height + 1)
        assert max(taller.size) > 1024 or layout.height == max(height for _, height in sizes.values())


def test_a_row_of_strips_is_as_low_as_they_are():
    """A photograph with a strip of it: each has half of the width, and nothing is white above and below."""
    sizes = {"context": (1024, 768), "head": (1024, 4)}
    layout = layout_of(sizes, 1024)
    assert layout.captions
    assert layout.height == layout.picture("context")[1]
    assert 480 <= layout.picture("context")[0] <= 512
    assert 480 <= layout.picture("head")[0] <= 512


def test_captions_give_way_where_there_is_no_room():
    sizes = {"context": (64, 48), "body": (20, 64), "head": (50, 64)}
    assert not layout_of(sizes, 64).captions
    assert layout_of({"context": (1024, 768), "body": (200, 1024), "head": (224, 200)}, 1024).captions


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_sends_its_levels_on_one_image(mode):
    image, person = scene()
    person = make_person(1, person["body_box"], person["head_box"], ())
    subject = Subject("x.jpg", person, cut(image, person, ImageOptions(collage=True)))
    questions = Questions(MODES, Prompt.load(None), ("peace",), ImageOptions(collage=True))
    (sent,) = questions.sent(subject, mode)
    assert sent.levels == levels_of(mode, person["emo_process"], subject.identity)
    assert len(places(sent)) == len(sent.levels)


def test_collages_are_made_where_they_are_wanted():
    assert cut(*scene(), ImageOptions()).collages == {}
    assert list(cut(*scene(), ImageOptions(collage=True)).collages) == CHOICES
