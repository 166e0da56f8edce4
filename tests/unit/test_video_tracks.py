"""The same person through time: crossings, cuts and what is none, smoothed scores."""

import sys
from itertools import count

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.walks import CUT_S, RATE, SHOTS, Moment, switches, walk
from cocoer_client.errors import InvalidInput
from cocoer_client.video.cuts import Look, is_cut
from cocoer_client.video.smoothing import Smoother, Threshold, chosen
from cocoer_client.video.through_time import ThroughTime, as_shown, track_numbers
from cocoer_client.video.tracking import Shot
from tests.films import sample


def followed(moments, step):
    """The number of each moment's boxes, with a new shot at the cut."""
    numbers = count(1)
    shot = first = Shot(RATE / step, numbers)
    given = []
    for moment in moments:
        if moment.time_s >= CUT_S and shot is first:
            shot = Shot(RATE / step, numbers)
        given.append(shot.track(moment.boxes, moment.time_s))
    return given


@pytest.mark.parametrize("step", [1, 2, 5, 10])
def test_two_crossings_and_a_cut(step):
    """Everybody keeps their number while others pass in front of them, and after the cut all are new."""
    moments = walk(step)
    given = followed(moments, step)
    assert switches(moments, given) == 0
    before = {track for moment, tracks in zip(moments, given) if moment.time_s < CUT_S for track in tracks}
    after = {track for moment, tracks in zip(moments, given) if moment.time_s >= CUT_S for track in tracks}
    assert before == {1, 2, 3}
    assert after == {4, 5}
    assert len(before | after) == sum(map(len, SHOTS))


def test_switches_are_counted():
    moments = [Moment(0, [], ["a", "b"]), Moment(1, [], ["b"]), Moment(2, [], ["a", "b"])]
    assert switches(moments, [[1, 2], [2], [1, 2]]) == 0
    assert switches(moments, [[1, 2], [1], [2, 1]]) == 2


def test_everybody_has_a_number():
    """From the first frame on, whatever the boxes (equal, of no size, many, none), though time stands or goes back."""
    shot = Shot(25, count(1))
    assert shot.track([[0, 0, 50, 90], [200, 0, 250, 90]], 0.0) == [1, 2]
    assert shot.track([[201, 0, 251, 90], [1, 0, 51, 90]], 0.04) == [2, 1]
    assert shot.track([], 0.08) == []
    assert shot.track([[201, 0, 251, 90]], 0.08) == [2]
    assert shot.track([[201, 0, 251, 90]], 0.01) == [2]
    crowd = [[60 * x, 0, 60 * x + 50, 90] for x in range(40)]
    assert len(set(shot.track(crowd, 0.12))) == 40
    odd = [[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9], [0, 0, 9, 9]]
    tracks = shot.track(odd, 0.16)
    assert all(tracks)
    assert len(set(tracks)) == 4


def test_somebody_comes_back():
    """Within two seconds it is the same person, afterwards another."""
    shot = Shot(10, count(1))
    box = [[100, 100, 150, 250]]
    for index in range(10):
        assert shot.track(box, index / 10) == [1]
    for index in range(10, 25):
        shot.track([], index / 10)
    assert shot.track(box, 2.5) == [1]
    for index in range(26, 60):
        shot.track([], index / 10)
    assert shot.track(box, 6.0) == [2]


SCENE = sample(256)
OTHER = np.asarray(Image.fromarray(np.full((256, 256, 3), (20, 90, 40), np.uint8)))


@pytest.mark.parametrize(
    ("after", "cut"),
    [
        (np.roll(SCENE, 3, axis=1), False),
        (np.roll(SCENE, 120, axis=1), False),  # a fast pan: the colours stay
        (np.clip(SCENE.astype(int) + 110, 0, 255).astype(np.uint8), False),  # a flash: what is where stays
        (SCENE // 3, False),
        (np.asarray(Image.fromarray(SCENE).filter(ImageFilter.GaussianBlur(12))), False),
        (np.asarray(Image.fromarray(SCENE).resize((512, 512)).crop((128, 128, 384, 384))), False),  # a fast zoom
        (OTHER, True),
        (np.zeros_like(SCENE), True),
        (np.asarray(Image.fromarray(SCENE).transpose(Image.Transpose.FLIP_TOP_BOTTOM))[..., ::-1] // 2, True),
    ],
)
def test_cuts(after, cut):
    assert is_cut(Look.of(SCENE), Look.of(after)) is cut
    assert is_cut(Look.of(after), Look.of(SCENE)) is cut


LABELS = ["peace", "anger"]


def record(time_s, pred, box=(60, 60, 120, 200)):
    scores = {"pred": list(pred), **{key: [0.1, 0.9] for key in ("VI", "head", "body", "ctx")}}
    chosen_ones = chosen(scores, LABELS, 0.26, 0.6)
    person = {"id": 1, "body_box": list(box), "head_box": list(box), **chosen_ones, "scores": scores}
    return {"time_s": time_s, "labels": LABELS, "persons": [person]}


def add(through, *arguments, pixels=SCENE):
    filled = record(*arguments)
    through.add(filled, pixels)
    return filled


def test_records_through_time():
    """Tracks start anew after a cut, and not after a flash; failures have a shot and nothing else."""
    through = ThroughTime(10)
    frames = [add(through, index / 10, (0.5, 0.1), pixels=np.roll(SCENE, index, axis=1)) for index in range(5)]
    white = np.full_like(SCENE, 255)
    frames.append(add(through, 0.5, (0.5, 0.1), pixels=white))
    frames.append(add(through, 0.6, (0.5, 0.1)))
    frames += [add(through, 0.7 + index / 10, (0.5, 0.1), pixels=OTHER) for index in range(3)]
    assert [frame["persons"][0]["track"] for frame in frames] == [1] * 5 + [2] + [1] + [3] * 3
    assert [frame["shot"] for frame in frames] == [1] * 5 + [2] + [1] + [3] * 3
    failed = {"time_s": 1.1, "error": {"kind": "x", "message": "y"}}
    through.add(failed, OTHER)
    assert failed == {"time_s": 1.1, "error": {"kind": "x", "message": "y"}, "shot": 3}
    assert "smoothed" not in frames[0]["persons"][0]
    assert track_numbers(frames[-1]["persons"]) == {1: 3}


def test_smoothed_scores_lie_beside_the_raw_ones():
    through = ThroughTime(10, smooth=0.5)
    raw = [(0.9, 0.1)] * 5 + [(0.0, 0.1)] * 10
    frames = [add(through, index / 10, scores) for index, scores in enumerate(raw)]
    persons = [frame["persons"][0] for frame in frames]
    assert [tuple(person["scores"]["pred"]) for person in persons] == raw
    means = [person["smoothed"]["scores"]["pred"][0] for person in persons]
    assert means[:5] == pytest.approx([0.9] * 5)
    # The formula: after n steps of 0.1 s of zeros, what is left is exp(-n / 5).
    assert means[5:] == pytest.approx([0.9 * np.exp(-step / 5) for step in range(1, 11)], abs=1e-5)
    assert [person["pred"] for person in persons] == [["peace"]] * 5 + [[]] * 10
    assert [person["smoothed"]["pred"] for person in persons] == [["peace"] if mean > 0.26 else [] for mean in means]
    assert persons[0]["smoothed"]["head"] == ["anger"]
    shown = as_shown(frames[6])["persons"][0]
    assert shown["pred"] == ["peace"]
    assert shown["scores"]["pred"][0] == means[6]
    assert frames[6]["persons"][0]["pred"] == []


def test_how_many_frames_come_does_not_matter():
    """Seconds count: the same film at 5 and 50 frames per second, and one whose rate varies."""

    def mean_at_the_end(times):
        smoother = Smoother(1.0)
        smoother.smooth(1, 0.0, {"pred": [0.0]})
        return [smoother.smooth(1, time, {"pred": [1.0]}) for time in times][-1]["pred"][0]

    expected = pytest.approx(1 - np.exp(-2), abs=1e-6)
    assert mean_at_the_end(np.arange(1, 11) / 5) == expected
    assert mean_at_the_end(np.arange(1, 101) / 50) == expected
    assert mean_at_the_end([0.1, 0.15, 1.2, 2.0]) == expected


def test_tracks_that_ended_are_forgotten():
    smoother = Smoother(1.0)
    for track in range(100):
        smoother.smooth(track, float(track), {"pred": [0.5]})
    assert len(smoother.means) <= 11


def test_thresholds():
    """The one that was given; else the server's, as its answers show."""
    assert Threshold(0.26, 0.5).value == 0.5
    usual = Threshold(0.26)
    assert usual.value == 0.26
    usual.learn(LABELS, ["peace"], [0.3, 0.2])
    assert usual.value == 0.26
    lower = Threshold(0.26)
    lower.learn(LABELS, LABELS, [0.3, 0.2])
    assert lower.value == pytest.approx(0.2)
    assert lower.value < 0.2


def test_without_the_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(InvalidInput, match=r"needs trackers: pip install 'cocoer-client\[video\]'"):
        ThroughTime(25).add(record(0.0, (0.5, 0.5)), SCENE)


def test_without_the_systems_libraries(monkeypatch):
    """opencv-python on a machine without libGL."""

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "cv2":
                raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(InvalidInput, match=r"OpenCV, which can't be loaded: libGL.*opencv-python-headless"):
        Shot(25, count(1))
