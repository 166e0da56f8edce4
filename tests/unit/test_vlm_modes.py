"""Which levels a mode sends, and that the random control is fair and can be repeated."""

import itertools
from collections import Counter

import pytest
from PIL import Image

from cocoer_client.command import SOME_FAILED
from cocoer_client.errors import ServerError
from cocoer_client.protocol import LEVELS
from cocoer_client.vlm.command import main
from cocoer_client.vlm.modes import MODES, TOLD, USUAL, excluded_level, exclusion_order, levels_of
from tests.fake_server import FakeServer
from tests.results import make_person, make_result

ORDERS = [[f"{level}-level" for level in order] for order in itertools.permutations(LEVELS)]
NAMES = [f"photo {number}.jpg, person {person}" for number in range(600) for person in range(5)]
OTHERS = ["single", "multi", "exclude_random"]
"""Modes that don't ask for the order."""


@pytest.mark.parametrize("order", ORDERS)
def test_each_mode_sends_what_it_says(order):
    first, last = (order[place].removesuffix("-level") for place in (0, -1))
    assert levels_of("single", order, "x") == ("context",)
    assert levels_of("multi", order, "x") == TOLD
    assert levels_of("enhanced", order, "x") == tuple(level for level in TOLD if level != first)
    assert levels_of("exclude_last", order, "x") == tuple(level for level in TOLD if level != last)
    assert [excluded_level(mode, order, "x") for mode in ("single", "multi", "enhanced", "exclude_last")] == [
        None,
        None,
        first,
        last,
    ]
    assert exclusion_order(order) == tuple(level.removesuffix("-level") for level in order)


@pytest.mark.parametrize("mode", MODES)
def test_levels_are_told_from_the_whole_to_the_part(mode):
    for order, name in itertools.product(ORDERS, NAMES[:20]):
        sent = levels_of(mode, order, name)
        assert [level for level in TOLD if level in sent] == list(sent)
        assert set(TOLD) - set(sent) == {
            "single": {"body", "head"}, "multi": set(),
        }.get(mode, {excluded_level(mode, order, name)})  # fmt: skip


def test_the_usual_modes_are_the_papers():
    assert set(MODES) - set(USUAL) == {"exclude_random", "exclude_last"}


@pytest.mark.parametrize("seed", [0, 1, 2, 12345])
def test_the_random_level_is_any_of_the_three_with_the_same_chance(seed):
    """Chi-squared with 2 degrees of freedom: 13.8 is passed by chance once in a thousand times, and this is no chance:
    the same names are drawn each time."""
    counts = Counter(excluded_level("exclude_random", ORDERS[0], name, seed) for name in NAMES)
    assert set(counts) == set(LEVELS)
    expected = len(NAMES) / 3
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 13.8


def test_the_random_level_of_one_person_says_nothing_of_the_next():
    """All nine pairs of neighbours are as frequent: 8 degrees of freedom, one in a thousand passes 26.1."""
    drawn = [excluded_level("exclude_random", ORDERS[0], name) for name in NAMES]
    counts, expected = Counter(itertools.pairwise(drawn)), (len(NAMES) - 1) / 9
    assert len(counts) == 9
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 26.1


def test_the_random_level_depends_on_name_and_seed_alone():
    """Neither on the order of exclusion (it would not be a control of it) nor on what was drawn before."""
    drawn = {name: excluded_level("exclude_random", ORDERS[0], name) for name in NAMES[:300]}
    for order in ORDERS:
        assert {name: excluded_level("exclude_random", order, name) for name in reversed(drawn)} == drawn
    assert {name: excluded_level("exclude_random", ORDERS[0], name, seed=0) for name in drawn} == drawn
    first_excluded = sum(level == "head" for level in drawn.values())
    assert 70 < first_excluded < 130


def test_a_random_level_drawn_today_is_drawn_tomorrow():
    """By another process, of another version: what was asked before is found among the answers that were kept.

    These are what ``sha256sum`` says of ``0 photo.jpg, person 1`` and so on: its first 16 digits, modulo 3.
    """
    names = ["photo.jpg, person 1", "photo.jpg, person 2", "\udcff.jpg", ""]
    drawn = [[excluded_level("exclude_random", [], name, seed) for name in names] for seed in (0, 1)]
    assert drawn == [["context", "body", "head", "head"], ["body", "head", "body", "context"]]


def test_another_seed_is_another_draw():
    """Two of three persons get another level, as with two dice that know nothing of each other."""
    for seeds in itertools.combinations(range(4), 2):
        one, other = ([excluded_level("exclude_random", [], name, seed) for name in NAMES] for seed in seeds)
        differing = sum(a != b for a, b in zip(one, other)) / len(NAMES)
        assert 0.63 < differing < 0.71


WRONG = [
    [],
    ["head-level"],
    ["head-level", "body-level"],
    ["head-level", "body-level", "body-level"],
    ["head-level", "body-level", "scene-level"],
    ["head", "body", "context"],
    ["head-level", "body-level", "context-level", "gaze-level"],
    ["head-level", "body-level", "context-level", "head-level"],
]


@pytest.mark.parametrize("order", WRONG, ids=str)
@pytest.mark.parametrize("mode", ["enhanced", "exclude_last"])
def test_levels_that_nobody_knows_are_refused(mode, order):
    """The message says which, what they should be, and what to look at; on one line."""
    for ask in (excluded_level, levels_of):
        with pytest.raises(ServerError) as caught:
            ask(mode, order, "x")
        message = str(caught.value)
        assert message.startswith(f"emo_process is {order}, which is not head-level, body-level, context-level in some")
        assert "do server and client belong together?" in message
        assert "\n" not in message


def test_an_image_with_such_levels_fails_alone(tmp_path, monkeypatch, capsys):
    """The others are asked about; the message names the image."""
    people = {level: make_person(1, [10, 10, 200, 290], [50, 20, 90, 70], ()) for level in ("body", "gaze")}
    people["gaze"]["emo_process"] = ["gaze-level", "head-level", "body-level"]
    for level, colour in (("body", "green"), ("gaze", "blue")):
        Image.new("RGB", (300, 300), colour).save(tmp_path / f"{level}.png")
    blue = (tmp_path / "gaze.png").read_bytes()
    server = FakeServer(lambda data, _: make_result((300, 300), [people["gaze" if data == blue else "body"]]))
    server.start()
    monkeypatch.setenv("COCOER_URL", server.url)
    try:
        status = main([str(tmp_path), "--model", "m", "--base-url", "http://127.0.0.1:1/v1", "--dry-run", "--no-cache"])
    finally:
        server.kill()
    told = capsys.readouterr().err
    assert status == SOME_FAILED
    (error,) = (line for line in told.splitlines() if line.startswith("error: "))
    assert f"{tmp_path / 'gaze.png'}: emo_process is ['gaze-level', 'head-level', 'body-level'], which is not" in error
    assert "1 person: 3 requests" in told


@pytest.mark.parametrize("mode", OTHERS)
def test_modes_that_need_no_order_look_at_none(mode):
    assert levels_of(mode, WRONG[0], "x") == levels_of(mode, ORDERS[0], "x")
