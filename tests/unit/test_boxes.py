"""Geometry around detections and given boxes."""

import doctest

import numpy as np
import pytest

import serving.flags
from cocoer_bls import boxes, haar, options
from cocoer_bls.boxes import body_box, crop_box, detected_persons, face_box, given_persons, match
from cocoer_bls.decoding import canvas, limits
from cocoer_bls.errors import InputError


@pytest.mark.parametrize("module", [boxes, canvas, haar, limits, options, serving.flags])
def test_doctests(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_rounding_is_numpys(rng):
    """The release rounds with NumPy: halves to even."""
    for values in np.concatenate([rng.uniform(0, 100, (200, 4)), rng.integers(0, 100, (200, 4)) + 0.5]):
        assert list(body_box(values, 1000, 1000)) == np.round(values).astype(int).tolist()
        assert list(face_box(values, 1000, 1000)) == np.clip(values, 0, 1000).astype(int).tolist()


def match_as_the_release_tells_it(bodies, faces):
    pairs = []
    for body in bodies:
        for face in faces:
            middle = (face[0] + face[2]) // 2
            if body[0] <= middle <= body[2] and face[0] >= body[0] and face[2] <= body[2]:
                pairs.append((body, face))
                break
    return pairs


def test_matching_on_random_crowds(rng):
    for _ in range(300):

        def some(count):
            corners = np.sort(rng.integers(0, 60, (count, 2, 2)), axis=1).reshape(-1, 4)
            return [tuple(int(v) for v in row) for row in corners]

        bodies, faces = some(rng.integers(0, 6)), some(rng.integers(0, 6))
        assert [tuple(person) for person in match(bodies, faces)] == match_as_the_release_tells_it(bodies, faces)


def test_one_face_may_serve_two_bodies_and_height_does_not_matter():
    bodies = [(0, 0, 100, 50), (10, 0, 90, 50), (200, 0, 300, 50)]
    persons = match(bodies, [(40, 400, 60, 430)])
    assert [person.body for person in persons] == bodies[:2]


def test_boxes_outside_the_image_are_dropped():
    bodies = np.array([[-50, -50, -10, -10], [10, 10, 90, 90]], dtype=np.float32)
    faces = np.array([[20, 20, 40, 40]], dtype=np.float32)
    assert len(detected_persons(bodies, faces, 100, 100)) == 1


GOOD = [10, 10, 60, 90, 20, 12, 40, 30]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, *GOOD[1:]], "row 1 is not finite"),
        ([np.inf, *GOOD[1:]], "row 1 is not finite"),
        ([60, 10, 10, 90, *GOOD[4:]], r"row 1: the body box \[60, 10, 10, 90\] has no pixel in the 100x100 image"),
        ([*GOOD[:4], 20, 20, 20, 30], "row 1: the head box"),
        ([200, 200, 300, 300, *GOOD[4:]], "row 1: the body box"),
        ([-30, -30, -10, -10, *GOOD[4:]], "row 1: the body box"),
        ([1e30, 1e30, 2e30, 2e30, *GOOD[4:]], "row 1: the body box"),
    ],
)
def test_bad_boxes_are_named(row, message):
    with pytest.raises(InputError, match=message):
        given_persons(np.array([GOOD, row], dtype=np.float32), 100, 100, max_persons=5)


def test_too_many_persons():
    with pytest.raises(InputError, match="6 rows, more than the allowed 5"):
        given_persons(np.array([GOOD] * 6, dtype=np.float32), 100, 100, max_persons=5)


def test_crop_boxes_of_the_golden_image(golden):
    """Integer boxes of a 512 image; what the official code computed them with: ``int(value * (224 / side))``."""
    for box in np.concatenate([golden(0)["body_box"], golden(0)["head_box"]]):
        assert list(crop_box(tuple(box), 512, 512)) == [int(v * (224 / 512)) for v in box]
