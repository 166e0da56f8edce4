"""Annotated images without a server: sizes, crowds, edges, colours, the page."""

import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageFile

from cocoer_bls.decoding import DecodeLimits, read_image
from cocoer_bls.errors import InputError
from cocoer_client.drawing import badge, draw, figures, layout, leaders, panel, shapes
from cocoer_client.drawing.draw import MIN_SIDE, annotate, draw_boxes
from cocoer_client.drawing.figures import COLOURS, figures_of
from cocoer_client.drawing.images import open_upright
from cocoer_client.drawing.release_style import annotate_as_release
from tests import hostile
from tests.colours import BLINDNESS, contrast, difference
from tests.conftest import DATA
from tests.results import make_person, make_result

LABELS = (
    "happiness",
    "doubt / confusion",
    "embarrassment",
    "anticipation",
    "excitement",
    "engagement",
    "peace",
    "pain",
)
GROUND = (40, 90, 160)
SIZES = [(300, 300), (640, 480), (480, 854), (3840, 2160)]


def crowd(size, count, rng):
    """Persons side by side, heads of a sixth of their body, some cut off by the frame's edges."""
    width, height = size
    persons = []
    for index in range(count):
        x, y = rng.integers(-width // 20, width), rng.integers(-height // 20, height)
        body = np.clip([x, y, x + width // 5, y + height // 2], 0, [width, height] * 2)
        head = np.clip([x + width // 20, y, x + width // 7, y + height // 9], 0, [width, height] * 2)
        for box in (body, head):
            box[:2] = np.minimum(box[:2], [width - 2, height - 2])
            box[2:] = np.maximum(box[2:], box[:2] + 2)
        persons.append(make_person(index + 1, body.tolist(), head.tolist(), LABELS[: 1 + index % 8]))
    return persons


@pytest.mark.parametrize("size", [(24, 16), (100, 2000), *SIZES])
@pytest.mark.parametrize("count", [0, 1, 4, 12])
def test_any_size_and_crowd(size, count, rng):
    """The image keeps its place and shape; text is at least 13 pixels tall; what does not fit is in a margin."""
    image = Image.new("RGB", size, GROUND)
    drawn = annotate(image, make_result(size, crowd(size, count, rng)))
    factor = draw_boxes(image, make_result(size, [])).width // size[0]
    assert factor == 1 or size[0] * factor <= 4096
    assert min(size) * factor >= MIN_SIDE or max(size) * (factor + 1) > 4096
    assert drawn.width >= size[0] * factor
    assert drawn.height >= size[1] * factor
    if count == 0:
        assert drawn.getcolors() == [(drawn.width * drawn.height, GROUND)]


@pytest.fixture
def seen(monkeypatch):
    """Rectangles of panels and badges drawn, with the size of what they were drawn on."""
    places = []

    def watch(self, canvas, corner):
        places.append(("panel", (*corner, corner[0] + self.size[0], corner[1] + self.size[1]), canvas.size))
        real_panel(self, canvas, corner)

    def watch_badge(canvas, corner, number, colour, text):
        width, height = badge.badge_size(number, text)
        places.append(("badge", (*corner, corner[0] + width, corner[1] + height), canvas.size))
        real_badge(canvas, corner, number, colour, text)

    real_panel, real_badge = panel.Panel.draw, figures.draw_badge
    monkeypatch.setattr(panel.Panel, "draw", watch)
    monkeypatch.setattr(figures, "draw_badge", watch_badge)
    return places


def shared_area(a, b):
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("fixed_size", [False, True])
def test_panels_cover_no_face_nor_each_other_nor_leave_the_frame(size, count, fixed_size, seen, rng):
    for _ in range(4):
        seen.clear()
        persons = crowd(size, count, rng)
        drawn = annotate(Image.new("RGB", size, GROUND), make_result(size, persons), [], fixed_size)
        factor = -(-MIN_SIDE // min(size)) if min(size) < MIN_SIDE else 1
        panels = [rect for kind, rect, _ in seen if kind == "panel"]
        badges = [rect for kind, rect, _ in seen if kind == "badge"]
        heads = [[value * factor for value in person["head_box"]] for person in persons]
        assert len(badges) == count
        assert len(panels) in ((0, count) if fixed_size else (count,))
        if fixed_size:
            assert drawn.size == (size[0] * factor, size[1] * factor)
        for index, rect in enumerate(panels):
            assert rect[0] >= 0
            assert rect[1] >= 0
            assert rect[2] <= drawn.width
            assert rect[3] <= drawn.height
            assert not any(shared_area(rect, other) for other in [*heads, *badges, *panels[:index]])


@pytest.mark.parametrize(("count", "panels"), [(24, 24), (25, 25), (60, 60), (61, 0), (512, 0)])
def test_crowds(count, panels, seen, rng):
    """Up to sixty panels; then numbers only."""
    annotate(Image.new("RGB", (1280, 720), GROUND), make_result((1280, 720), crowd((1280, 720), count, rng)))
    assert [kind for kind, _, _ in seen].count("panel") == panels
    assert [kind for kind, _, _ in seen].count("badge") == count


def test_one_person_has_the_panel_beside_the_face(seen):
    person = make_person(1, [100, 100, 400, 480], [200, 150, 300, 280], LABELS)
    annotate(Image.new("RGB", (640, 480), GROUND), make_result((640, 480), [person]))
    ((_, rect, frame),) = [entry for entry in seen if entry[0] == "panel"]
    assert frame == (640, 480)
    assert math.hypot(max(0, rect[0] - 300, 200 - rect[2]), max(0, rect[1] - 280, 150 - rect[3])) < 60


@pytest.fixture
def lines(monkeypatch):
    """Leader lines drawn, with their colours."""
    drawn = []
    monkeypatch.setattr(draw, "draw_leader", lambda canvas, line, width, colour: drawn.append((line, colour)))
    return drawn


def test_a_panel_beside_another_face_has_a_line_to_its_own(lines, seen):
    """Of three faces close together, whose panels don't all fit beside them; far apart, none needs one."""
    for apart, some in ((70, True), (400, False)):
        lines.clear()
        seen.clear()
        heads = [[100 + index * apart, 300, 150 + index * apart, 360] for index in range(3)]
        persons = [make_person(i + 1, [*head[:2], head[2], 800], head, LABELS[:3]) for i, head in enumerate(heads)]
        annotate(Image.new("RGB", (1280, 900), GROUND), make_result((1280, 900), persons))
        panels = [rect for kind, rect, _ in seen if kind == "panel"]
        assert bool(lines) == some
        for (at_panel, at_face), colour in lines:
            number = COLOURS.index(colour)
            for point, rect in ((at_panel, panels[number]), (at_face, heads[number])):
                assert rect[0] <= point[0] <= rect[2]
                assert rect[1] <= point[1] <= rect[3]
        for index, rect in enumerate(panels):
            if COLOURS[index] not in [colour for _, colour in lines]:
                gaps = [math.hypot(*(max(0, r - f, g - s) for r, s, f, g in pairs(rect, head))) for head in heads]
                assert gaps.index(min(gaps)) == index


def pairs(rect, head):
    """Of each axis: start and end of one, start and end of the other, so that a gap is positive."""
    return [(rect[axis], rect[axis + 2], head[axis + 2], head[axis]) for axis in (0, 1)]


def test_lines_cross_no_face_no_panel_and_not_each_other(lines, seen, rng):
    """Crowds for whom that can't be had get a margin, without lines."""
    counted = 0
    for _ in range(25):
        lines.clear()
        seen.clear()
        persons = crowd((1600, 1000), 5, rng)
        annotate(Image.new("RGB", (1600, 1000), GROUND), make_result((1600, 1000), persons))
        panels = [rect for kind, rect, _ in seen if kind == "panel"]
        for index, (line, colour) in enumerate(lines):
            counted += 1
            own = COLOURS.index(colour)
            others = [person["head_box"] for i, person in enumerate(persons) if i != own]
            others += [rect for i, rect in enumerate(panels) if i != own]
            assert not leaders.crossed_rects(np.array([line]), others).any()
            assert not leaders.crossed_lines(np.array([line]), [other for other, _ in lines[:index]]).any()
    assert counted > 10


def test_a_line_is_soft_straight_and_as_wide_as_asked():
    canvas = Image.new("RGB", (300, 200), "black")
    leaders.stroke(canvas, (20.0, 20.0), (270.0, 150.0), 4, "#FFFFFF", 1.0)
    mask = np.asarray(canvas)[..., 0] / 255
    assert mask.sum() == pytest.approx(4 * math.hypot(250, 130) + math.pi * 4, rel=0.02)
    assert len(np.unique(mask)) > 20
    assert mask[85, 145] == 1
    leaders.stroke(canvas, (-50.0, -9.0), (-10.0, -3.0), 4, "#FFFFFF", 1.0)  # outside: nothing happens


def test_margin_runs_from_left_to_right(seen, monkeypatch):
    """Persons in any order of RESULT: their panels come as their faces stand in the image."""
    numbers = []
    real = panel.Panel.draw
    monkeypatch.setattr(panel.Panel, "draw", lambda one, *rest: (numbers.append(one.number), real(one, *rest)))
    order = [3, 1, 4, 0, 2, 5, 8, 7, 6, 9]
    persons = []
    for index, place in enumerate(order):
        x = 10 + 60 * place
        persons.append(make_person(index + 1, [x, 20, x + 55, 470], [x + 5, 25, x + 50, 80], LABELS))
    annotate(Image.new("RGB", (640, 480), GROUND), make_result((640, 480), persons))
    panels = [rect for kind, rect, _ in seen if kind == "panel"]
    assert [rect[:2] for rect in panels] == sorted(rect[:2] for rect in panels)
    assert numbers == [str(order.index(place) + 1) for place in range(10)]


def test_a_face_is_as_it_was():
    head = [200, 150, 300, 280]
    image = Image.effect_noise((640, 480), 60).convert("RGB")
    drawn = annotate(image, make_result(image.size, [make_person(1, [100, 100, 400, 480], head, LABELS)]))
    inside = [value + change for value, change in zip(head, (8, 8, -8, -8))]
    assert np.array_equal(np.asarray(drawn.crop(inside)), np.asarray(image.crop(inside)))


def test_shapes_have_soft_edges():
    """Many shades between none and full, and an area within a percent of the exact one."""
    mask = np.asarray(shapes.rounded((200, 100), 40))
    assert len(np.unique(mask)) > 20
    assert mask.sum() / 255 == pytest.approx(200 * 100 - (4 - math.pi) * 40**2, rel=0.01)
    ring = np.asarray(shapes.rounded((200, 100), 40, line=4))
    assert ring.sum() / 255 == pytest.approx(4 * (2 * 120 + 2 * 20) + math.pi * (40**2 - 36**2), rel=0.02)


@pytest.mark.parametrize(
    "box", [(10, 10, 190, 90), (-20, 5, 60, 150), (150, 60, 260, 130), (30, 30, 38, 36), (5, 5, 19, 80)]
)
@pytest.mark.parametrize("opacity", [1.0, 0.45])
def test_an_outline_in_pieces_is_the_one_in_one(box, opacity):
    """Painted by its edges, a box looks as if painted through a mask of all of it, outside and small ones too."""
    pieces, whole = (Image.effect_noise((200, 100), 60).convert("RGB") for _ in range(2))
    whole.paste(pieces)
    shapes.outline(pieces, box, 9, 3, "#E69F00", opacity)
    mask = shapes.rounded((box[2] - box[0], box[3] - box[1]), 9, 3)
    shapes.fill(whole, box[:2], mask, "#E69F00", opacity)
    assert np.abs(np.asarray(pieces, dtype=int) - np.asarray(whole, dtype=int)).max() <= 1


def test_dashes_begin_and_end_with_one():
    canvas = Image.new("RGB", (200, 100))
    shapes.outline(canvas, (0, 0, 200, 100), 6, 2, "#FFFFFF", dash=10)
    edge = np.asarray(canvas)[0, :, 0] > 128
    assert edge[6]
    assert edge[193]
    changes = np.flatnonzero(np.diff(edge[6:194]))
    assert len(changes) % 2 == 0
    assert np.abs(np.diff(changes) - 10).max() <= 1


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_are_told_apart_by_the_colour_blind(kind):
    """CIEDE2000 of at least 9 between any two persons' colours, where about 2 can be noticed."""
    assert min(difference(a, b, kind) for i, a in enumerate(COLOURS) for b in COLOURS[:i]) >= 9


@pytest.mark.parametrize("colour", COLOURS)
def test_numbers_are_legible(colour):
    """WCAG's 4.5 : 1 between a number and its badge."""
    assert contrast({"black": "#000000", "white": "#FFFFFF"}[shapes.ink_on(colour)], colour) >= 4.5


def test_after_seven_persons_colours_come_again_with_dashes():
    persons = figures_of([make_person(i + 1, [0, 0, 9, 9], [0, 0, 5, 5], ()) for i in range(14)])
    assert len({(figure.colour, figure.is_dashed) for figure in persons}) == 14


def test_numbers_can_be_given():
    """A film's: the number, and the colour with it, is the caller's; who has none keeps the id."""
    persons = [
        make_person(i + 1, [x, 100, x + 200, 480], [x + 50, 120, x + 120, 200], ()) for i, x in ((0, 100), (1, 400))
    ]
    drawn = annotate(Image.new("RGB", (900, 600)), make_result((900, 600), persons), numbers={1: 5})
    box = [drawn.getpixel((101 + 300 * i, 300)) for i in range(2)]
    assert box == [ImageColor.getrgb(COLOURS[4]), ImageColor.getrgb(COLOURS[1])]
    assert [figure.number for figure in figures_of(persons, numbers={1: 5})] == [5, 2]


def test_boxes_can_be_left_out():
    person = make_person(1, [100, 100, 400, 480], [200, 150, 300, 280], LABELS[:1])
    seen_at = {}
    for boxes in figures.BOXES:
        drawn = annotate(Image.new("RGB", (640, 480)), make_result((640, 480), [person]), boxes=boxes)
        seen_at[boxes] = [drawn.getpixel(point) != (0, 0, 0) for point in ((101, 400), (201, 220))]
        released = annotate_as_release(Image.new("RGB", (640, 480)), make_result((640, 480), [person]), boxes=boxes)
        assert [released.getpixel(point) != (0, 0, 0) for point in ((100, 400), (200, 220))] == seen_at[boxes]
    assert seen_at == {"both": [True, True], "heads": [False, True], "none": [False, False]}

    person = make_person(1, [100, 100, 400, 480], [200, 150, 300, 280], LABELS[:1])
    image = Image.new("RGB", (640, 480))
    drawn = annotate(image, make_result(image.size, [person]))
    assert image.getcolors() == [(640 * 480, (0, 0, 0))]
    assert annotate(image, make_result(image.size, [person]), in_place=True) is image
    assert np.array_equal(np.asarray(image), np.asarray(drawn))


def test_first_excluded_is_struck_out_and_the_last_filled(monkeypatch):
    filled = []
    monkeypatch.setattr(panel, "fill", lambda canvas, corner, mask, colour, opacity=1: filled.append((corner, colour)))
    person = make_person(1, [0, 0, 90, 90], [0, 0, 40, 40], LABELS)
    one = panel.Panel(*figures_of([person]), make_result((9, 9), [])["labels"], 6, 14, 400)
    assert [name for _, _, name in one.chips] == ["body", "head", "context"]
    one._draw_chips(Image.new("RGB", (400, 400)), 0, 100)
    strikes = [corner for corner, colour in filled if colour == "#FF7A66"]
    assert len(strikes) == 1
    assert one.chips[0][0] <= strikes[0][0] <= one.chips[0][1]
    assert [colour for _, colour in filled][-1] == "#E8EAED"


def test_long_lists_end_with_how_many_more():
    person = make_person(1, [0, 0, 90, 90], [0, 0, 40, 40], LABELS)
    one = panel.Panel(*figures_of([person]), make_result((9, 9), [])["labels"], 3, 14, 400)
    assert len(one.rows) == 3
    assert one.remark == "+5 more"
    probabilities = [probability for _, probability in one.rows]
    assert probabilities == sorted(probabilities, reverse=True)


def test_place_prefers_what_is_free():
    face = (40, 40, 60, 60)
    around = layout.Surroundings((200, 200), [face], spared=[(60, 0, 200, 200)])
    assert layout.place((30, 20), 0, around).corner[0] < 40


def test_banner_is_above_the_image():
    image = Image.new("RGB", (640, 480), "gray")
    drawn = annotate(image, make_result(image.size, []), ["SYNTHETIC WEIGHTS"])
    assert drawn.height > 480
    assert np.array_equal(np.asarray(drawn)[-480:], np.asarray(image))


def test_release_style():
    """As CocoER's script draws: green body, yellow face, number 0 in blue, one pixel wide; the size is kept."""
    person = make_person(1, [100, 100, 400, 480], [200, 150, 300, 280], LABELS[:2])
    drawn = np.asarray(annotate_as_release(Image.new("RGB", (640, 481), "gray"), make_result((640, 481), [person])))
    assert drawn.shape == (481, 640, 3)
    assert drawn[300, 100].tolist() == [0, 255, 0]
    assert drawn[200, 200].tolist() == [255, 255, 0]
    assert drawn[300, 101].tolist() == [128, 128, 128]
    assert [0, 0, 255] in drawn[90:112, 100:120].reshape(-1, 3).tolist()
    beside = drawn[140:165, 308:400].reshape(-1, 3).tolist()
    assert [0, 0, 0] in beside


def test_orientation_is_the_servers(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "x.jpg", exif=exif)
    assert open_upright((tmp_path / "x.jpg").read_bytes()).size == (20, 30)


def accepted(data, damaged=False):
    """What the server makes of an image, as RGB; None where it refuses it."""
    try:
        return read_image(data, DecodeLimits(1 << 22, 1 << 22), damaged).pixels[..., ::-1]
    except InputError:
        return None


@pytest.mark.parametrize("path", sorted((DATA / "images").glob("*.[!b]*")), ids=lambda path: path.name)
def test_whatever_the_server_accepts_is_shown(path):
    """Damaged ones too, where it is told to accept them; Pillow would open half of these. BMPs: docs/limits.md."""
    data = path.read_bytes()
    expected, shown = accepted(data, damaged=True), np.asarray(open_upright(data))
    assert shown.shape == expected.shape
    if path.suffix in (".png", ".jpg"):
        assert np.array_equal(shown, expected)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow tells of it, and goes on
def test_images_are_shown_as_the_server_takes_them():
    """Sixteen bits, CMYK, orientation, damaged EXIF: whatever the server accepts can be drawn on.

    Of mutated files, the few that the client's own Pillow can't open (docs/limits.md) are left out.
    """
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG")
    samples = {sample.name: sample.data for sample in hostile.good_samples()}
    with pytest.raises(ValueError, match="not enough image data"):  # to Pillow, an empty row of run lengths is no row
        open_upright(samples.pop("BMP of run lengths"))
    for data in [stream.getvalue(), *samples.values()]:
        assert np.array_equal(np.asarray(open_upright(data)), accepted(data))
    taken, unopened = 0, 0
    for data in itertools.islice(hostile.mutations(seed=3), 1000):
        if (pixels := accepted(data)) is not None:
            taken += 1
            try:
                shown = open_upright(data)
            except (OSError, ValueError, SyntaxError):
                unopened += 1
                continue
            assert shown.size == pixels.shape[1::-1]
    assert taken > 100
    assert unopened < taken / 4
