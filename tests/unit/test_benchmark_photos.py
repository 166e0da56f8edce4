"""The benchmark of photos: what it compares, and its report."""

import doctest

import numpy as np
import pytest

from benchmarks import photos
from benchmarks.photos import PLAIN, SERVED, figures, in_turn, peak, photo, to_markdown


def test_doctests():
    result = doctest.testmod(photos)
    assert result.attempted > 2
    assert result.failed == 0


@pytest.mark.parametrize("orientation", [1, 6])
def test_ways_are_compared_byte_for_byte(orientation, monkeypatch):
    small = photo("small", 400, 300, orientation)
    assert small.name.startswith("small (0.")
    assert all(0 < ms < 5000 for taken in in_turn(small, rounds=2).values() for ms in taken)

    def off_by_one(image):
        return [np.bitwise_xor(crop, np.uint8(1)) for crop in photos.plain(image)]

    monkeypatch.setitem(photos.WAYS, SERVED, off_by_one)
    with pytest.raises(AssertionError, match=r"served gives other crops of small"):
        in_turn(small, rounds=1)


def test_peaks_are_measured_apart(monkeypatch):
    """In a process of their own, which knows of nothing before."""
    monkeypatch.setattr(photos, "LARGEST", (2000, 1500))
    assert 4 * 3e6 * 0.9 < peak("PNG", 1) < 12 * 3e6


def test_report():
    taken = {PLAIN: [100.0, 110.0, 90.0], SERVED: [50.0, 51.0, 49.0]}
    report = {
        "time": "2026-11-26",
        "command": "python benchmarks/photos.py",
        "machine": {"cpu": "A CPU", "cores": 2},
        "rounds": 3,
        "time_ms": {"12 megapixels (2.4 MB)": figures(taken)},
        "drift": {"12 megapixels (2.4 MB)": {"mean_levels": 0.7, "p99_levels": 3.0, "mean_p": 0.001, "max_p": 0.01}},
        "weights": "synthetic weights",
        "peak_bytes": {"PNG": {"1": 400_000_000, "8": 401_000_000}},
    }
    text = to_markdown(report)
    assert "| 50.0 (49.2 to 50.8)   | 0.50 (0.47 to 0.54), met |" in text
    assert "| 0.7           | 3.0               | 0.0010                | 0.0100    |" in text
    assert "| PNG      | 400 (8.0) | 401 (8.0) |" in text
