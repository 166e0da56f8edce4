"""The page of ``--explain``, without a browser: what it says, its colours, its thresholds, its size."""

import itertools
import json
import re

import pytest
from PIL import Image

from cocoer_bls.options import DEFAULT_OPTIONS
from cocoer_client.drawing import explain
from cocoer_client.drawing.explain import page, threshold_of
from cocoer_client.drawing.figures import COLOURS
from cocoer_client.drawing.levels import LEVEL_COLOURS
from tests.colours import BLINDNESS, contrast, difference
from tests.conftest import SAMPLE
from tests.results import make_person, make_result

CARDS = {"light": "#f6f7f9", "dark": "#1d2026"}


@pytest.fixture
def result():
    """One person, whose labels are those above the server's usual thresholds."""
    person = make_person(1, [0, 0, 60, 60], [0, 0, 40, 40], ("happiness",))
    return {"file": "a.png", **make_result((90, 90), [person])}


@pytest.mark.parametrize("theme", LEVEL_COLOURS)
@pytest.mark.parametrize("kind", BLINDNESS)
def test_levels_colours_are_told_apart_from_each_others_and_from_persons(theme, kind):
    """CIEDE2000, where about 2 can be noticed; "final" is the colour of text, which no person has in the same place."""
    colours = LEVEL_COLOURS[theme]
    assert min(difference(a, b, kind) for a, b in itertools.combinations(colours.values(), 2)) >= 12
    levels = [colour for name, colour in colours.items() if name != "final"]
    assert min(difference(level, person, kind) for level in levels for person in COLOURS) >= 10


@pytest.mark.parametrize("theme", LEVEL_COLOURS)
def test_names_of_levels_are_legible(theme):
    """WCAG's 4.5 : 1; the colours are the page's text on its cards."""
    assert min(contrast(colour, CARDS[theme]) for colour in LEVEL_COLOURS[theme].values()) >= 4.5
    assert f"--card: {CARDS[theme]}" in page(Image.new("RGB", (9, 9)), {"file": "a", **make_result((9, 9), [])}, [])


def test_usual_thresholds_are_the_servers():
    for name, value in explain.DEFAULT_THRESHOLDS.items():
        assert getattr(DEFAULT_OPTIONS, name) == value


def test_thresholds(result):
    """Those that were asked for; the usual ones; none where the labels show that another one was in force."""
    assert threshold_of(result, "final_threshold") == 0.26
    assert threshold_of({**result, "options": {"final_threshold": 0.0}}, "final_threshold") == 0.0
    result["persons"][0]["pred"] = []
    assert threshold_of(result, "final_threshold") is None
    assert threshold_of(result, "level_threshold") == 0.6
    text = page(Image.new("RGB", (90, 90)), result, [])
    assert text.count('class="mark"') == 3  # of the levels' axes
    assert ">0.26<" not in text
    assert "The mark on" not in text
    assert "Those on the levels (0.6)" in text


def test_axes_and_legend(result):
    text = page(Image.new("RGB", (90, 90)), result, [])
    assert len(re.findall(r'class="mark" style="left: 60.0%">0.6<', text)) == 3
    assert len(re.findall(r'class="mark" style="left: 26.0%">0.26<', text)) == 1
    assert len(re.findall(r'<line class="m" x1="60" x2="60"', text)) == 3 * 26
    for word in ("struck out", "outlined", "filled"):
        assert f">{word}</span>" in text


def test_a_crowd_in_a_large_photo_makes_no_large_page():
    """Of 20 persons, 12 megapixels: crops at the size at which they are shown, the context crop once."""
    with Image.open(SAMPLE) as image:
        photo = image.convert("RGB").resize((4000, 3000))
    persons = [
        make_person(i + 1, [190 * i, 100, 190 * i + 180, 2900], [190 * i + 50, 150, 190 * i + 130, 260], ("peace",))
        for i in range(20)
    ]
    text = page(photo, {"file": "a.jpg", **make_result(photo.size, persons)}, [])
    assert len(text) < 1_500_000
    assert text.count("data:image/") == 1 + 1 + 2 * 20


@pytest.mark.parametrize(
    ("step", "words"), [(1.0, "a step of size 1 towards"), (0.1, "a step of size 0.1 towards"), (0.0, "takes no step")]
)
def test_page_names_the_coordination_step(step, words):
    person = make_person(1, [0, 0, 60, 60], [0, 0, 40, 40], ("happiness",))
    result = {"file": "a.png", **make_result((90, 90), [person])}
    result["model"]["coordination_step"] = step
    assert words in page(Image.new("RGB", (90, 90)), result, [])


def test_page_escapes_what_it_shows():
    person = make_person(1, [0, 0, 60, 60], [0, 0, 40, 40], ("happiness",))
    result = {"file": "<script>alert(1)</script>.png", **make_result((90, 90), [person])}
    text = page(Image.new("RGB", (90, 90)), result, ["<b>warning</b>"])
    assert "<script" not in text
    assert "<b>warning" not in text
    assert json.dumps(result)  # unchanged by the page
