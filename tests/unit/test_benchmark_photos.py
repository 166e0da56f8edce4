"""The benchmark of photos: what it compares, and its report."""

import doctest
import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import photos_memory, photos_report, photos_ways
from benchmarks.photos import in_turn
from benchmarks.photos_drift import FINAL, LEVELS, VI, Network, drift
from benchmarks.photos_memory import peak
from benchmarks.photos_report import to_markdown
from benchmarks.photos_ways import FAST, PLAIN, SERVED, photo, photographs


def test_doctests():
    for module in (photos_ways, photos_report):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0


@pytest.mark.parametrize("orientation", [1, 6])
def test_ways_are_compared_byte_for_byte(orientation, monkeypatch):
    small = photo("small", 400, 300, orientation)
    assert small.name.startswith("small (0.")
    found = in_turn([small], turns=2, calls=1)[small.name]
    assert set(found) == {*photos_ways.ways(), FAST} >= {PLAIN, SERVED}
    assert all(len(taken) == 2 and all(0 < ms < 5000 for ms in taken) for taken in found.values())

    def off_by_one(image):
        return [np.bitwise_xor(crop, np.uint8(1)) for crop in photos_ways.plain(image)]

    monkeypatch.setattr(photos_ways, "ways", lambda: {SERVED: off_by_one})
    with pytest.raises(AssertionError, match=r"served, Pillow's resize gives other crops of small"):
        in_turn([small], turns=1)


def test_peaks_are_measured_apart(monkeypatch):
    """In a process of their own, which knows of nothing before."""
    monkeypatch.setattr(photos_memory, "LARGEST", (2000, 1500))
    assert 4 * 3e6 * 0.9 < peak("PNG", 1) < 12 * 3e6


@pytest.fixture
def folder(tmp_path, sample_bgr, monkeypatch):
    """A small PNG, which is scaled, a JPEG that is large here, and what is no image."""
    monkeypatch.setattr(photos_ways, "LONGER", 1500)
    monkeypatch.setattr(photos_ways, "LARGE", 1_000_000)
    sample = Image.fromarray(np.ascontiguousarray(sample_bgr[..., ::-1]))
    sample.save(tmp_path / "a.png")
    sample.resize((1000, 1400)).save(tmp_path / "b.jpg", quality=80)
    (tmp_path / "notes.txt").write_text("nothing")
    return tmp_path


def test_large_jpegs_are_taken_as_they_are_and_others_are_scaled(folder):
    scaled, _, _, taken, *_ = photographs([folder])
    assert (scaled.name, taken.name) == ("a.png", "b.jpg")
    assert Image.open(io.BytesIO(scaled.data)).size == (1500, 1500)
    assert taken.data == (folder / "b.jpg").read_bytes()


def test_drift_is_told_by_factor_and_by_level(folder, tiny_checkpoints):
    network = Network(tiny_checkpoints)
    assert network.described.startswith("synthetic weights: random ones, ")
    found = drift(photographs([folder / "a.png"]), network)
    assert found["photographs"] == ["a.png"]
    assert set(found["changes"]) == {
        "fast_decode, 2 times smaller",
        "fast_decode, 4 times smaller",
        "whole, saved once more with quality 85",
    }
    for change in found["changes"].values():
        assert set(change["crops"]) == set(LEVELS)
        assert set(change["probabilities"]) == {*LEVELS, VI, FINAL}
        assert change["labels"] % 52 == 0
        for crops in change["crops"].values():
            assert 0 < crops["mean"] <= crops["worst_mean"] < 10
        for said in change["probabilities"].values():
            assert 0 < said["mean"] < said["max"] < 1


def test_what_is_decoded_whole_is_compared_with_pillow(folder, monkeypatch):
    black = {SERVED: lambda photo: [0 * crop for crop in photos_ways.plain(photo)]}
    monkeypatch.setattr(photos_ways, "ways", lambda: black)
    with pytest.raises(AssertionError, match=r"served, Pillow's resize gives other crops of a.png"):
        drift(photographs([folder / "a.png"]), None)


def report(**changes):
    crops = {level: {"mean": 0.7, "worst_mean": 1.2, "p99": 3.0} for level in LEVELS}
    said = {level: {"mean": 0.001, "max": 0.01} for level in (*LEVELS, VI, FINAL)}
    change = {"crops": crops, "probabilities": said, "labels": 104, "labels_changed": 3}
    return {
        "time": "2026-11-26",
        "command": "python benchmarks/photos.py",
        "machine": {"cpu": "A CPU", "cores": 2},
        "pillow": "13.0.0",
        "turns": 3,
        "calls": 3,
        "time_ms": {
            "12 megapixels (2.4 MB)": {
                PLAIN: [100.0, 110.0, 90.0],
                SERVED: [50.0, 51.0, 49.0],
                FAST: [20.0, 28.0, 24.0],
            },
            "640x480 (0.1 MB)": {PLAIN: [10.0] * 3, SERVED: [8.0] * 3, FAST: [8.0] * 3},
        },
        "factors": {"12 megapixels (2.4 MB)": 2, "640x480 (0.1 MB)": 1},
        "drift": {"photographs": ["a.png"], "changes": {"fast_decode, 2 times smaller": change}},
        "weights": "synthetic weights",
        "peak_bytes": {"PNG": {"1": 400_000_000, "8": 401_000_000}},
        **changes,
    }


def test_report():
    lines = [" ".join(line.split()) for line in to_markdown(report()).splitlines()]
    assert (
        "| 12 megapixels (2.4 MB) | served, Pillow's resize | 50.0 (49.0 to 51.0) | 0.50 (0.46 to 0.54), met |" in lines
    )
    fast = "| 12 megapixels (2.4 MB) | served, fast_decode | 24.0 (20.0 to 28.0) | 0.25 (0.20 to 0.27), within noise |"
    assert fast in lines
    assert any("served, fast_decode (whole: its heads are too small)" in line for line in lines)
    assert "| fast_decode, 2 times smaller | head | 0.7 | 1.2 | 3 | 0.0010 | 0.0100 | |" in lines
    assert "| fast_decode, 2 times smaller | final | | | | 0.0010 | 0.0100 | 3 of 104 |" in lines
    assert "| PNG | 400 (8.0) | 401 (8.0) |" in lines
    without = to_markdown(report(drift={"photographs": [], "changes": {}}))
    assert "fast_decode changes" not in without
