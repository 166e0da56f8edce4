"""Figures of answered labels against scikit-learn, and their intervals against SciPy's and what is known."""

import doctest
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from benchmarks import tables, vlm_scores
from benchmarks.precision import Interval
from benchmarks.vlm_scores import FIGURES, figures, score, score_probabilities, verdict

MODES = ("single", "multi", "enhanced", "exclude_random", "exclude_last")


@pytest.mark.parametrize("module", [tables, vlm_scores])
def test_docstrings(module):
    assert doctest.testmod(module).failed == 0


def drawn(rng, persons, labels=26, rate=0.15):
    return rng.random((persons, labels)) < rate


def answered(rng, truth, skill):
    """Each annotated label is answered with this probability, and each other one with 0.1."""
    return np.where(truth, rng.random(truth.shape) < skill, rng.random(truth.shape) < 0.1)


def by_sklearn(truth, given, weights=None):
    found = {}
    occurring = np.flatnonzero(truth[(np.ones(len(truth)) if weights is None else weights) > 0].any(axis=0))
    for average, labels in (("micro", None), ("macro", occurring)):
        values = precision_recall_fscore_support(
            truth, given, average=average, labels=labels, sample_weight=weights, zero_division=0
        )
        found |= {f"{average} {name}": value for name, value in zip(("precision", "recall", "F1"), values)}
    return found


@pytest.mark.parametrize("persons", [1, 7, 200])
def test_figures_are_scikit_learns(rng, persons):
    """Also of labels that never occur or are never answered, and of persons that count several times or not at all."""
    truth = drawn(rng, persons)
    truth[:, 3], truth[0, 0] = False, True
    given = answered(rng, truth, 0.5)
    given[:, 5] = False
    weights = rng.integers(0, 3, (20, persons)).astype(float)
    weights[:, 0] = 1
    found = figures(truth, given, np.vstack([np.ones(persons), weights]))
    for row, sample in enumerate([None, *weights]):
        for name, value in by_sklearn(truth, given, sample).items():
            assert found[name][row] == pytest.approx(value, abs=1e-12), (name, row)
    assert found["labels"][0] == pytest.approx(given.sum() / persons)
    assert set(found) == set(FIGURES)


def test_nothing_answered_is_nought(rng):
    truth = drawn(rng, 20)
    found = score(truth, {"multi": np.zeros_like(truth)}, np.arange(20), repeats=50).ways["multi"]
    assert {name: interval.as_dict() for name, interval in found.items()} == {
        name: {"value": 0.0, "low": 0.0, "high": 0.0} for name in FIGURES
    }


def test_intervals_are_scipys(rng):
    """Of images with one to four persons, drawn with all of them: micro F1 of one mode, and a difference."""
    images = np.repeat(np.arange(80), rng.integers(1, 5, 80))
    truth = drawn(rng, len(images))
    answers = {"enhanced": answered(rng, truth, 0.6), "multi": answered(rng, truth, 0.5)}
    found = score(truth, answers, images, repeats=4000)
    rows = [np.flatnonzero(images == image) for image in range(80)]

    def f1(given, drawn_images):
        chosen = np.concatenate([rows[int(image)] for image in drawn_images])
        right = (truth[chosen] & given[chosen]).sum()
        return 2 * right / (truth[chosen].sum() + given[chosen].sum())

    def compare(statistic, interval):
        peer = stats.bootstrap(
            (np.arange(80),), statistic, n_resamples=4000, vectorized=False, method="percentile", rng=rng
        ).confidence_interval
        width = peer.high - peer.low
        assert interval.value == pytest.approx(statistic(np.arange(80)))
        assert interval.low == pytest.approx(peer.low, abs=0.08 * width)
        assert interval.high == pytest.approx(peer.high, abs=0.08 * width)

    compare(lambda drawn_images: f1(answers["multi"], drawn_images), found.ways["multi"]["micro F1"])
    compare(
        lambda drawn_images: f1(answers["enhanced"], drawn_images) - f1(answers["multi"], drawn_images),
        found.differences["enhanced", "multi"]["micro F1"],
    )


def test_interval_of_a_mean_is_the_known_one(rng):
    """Labels of an answer: mean of a binomial number, with a standard error that is known."""
    given = rng.random((900, 26)) < 0.2
    interval = score(drawn(rng, 900), {"multi": given}, np.arange(900), repeats=4000).ways["multi"]["labels"]
    error = np.sqrt(26 * 0.2 * 0.8 / 900)
    assert interval.value == pytest.approx(26 * 0.2, abs=3 * error)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_persons_of_an_image_are_not_evidence_of_their_own(rng):
    """The same person four times in each image tells no more than once; persons drawn alone would halve intervals."""
    truth = drawn(rng, 60)
    given = answered(rng, truth, 0.5)
    once = score(truth, {"multi": given}, np.arange(60), 500)
    often = score(truth.repeat(4, 0), {"multi": given.repeat(4, 0)}, np.arange(60).repeat(4), 500)
    assert often.ways["multi"]["micro F1"] == once.ways["multi"]["micro F1"]
    assert (once.images, often.persons, often.images) == (60, 240, 60)


def test_an_effect_is_found_and_none_is_not(rng):
    """Answers of ``enhanced`` are better by construction, those of the others equally good."""
    truth = drawn(rng, 300)
    skills = dict.fromkeys(MODES, 0.45) | {"enhanced": 0.7}
    answers = {mode: answered(rng, truth, skill) for mode, skill in skills.items()}
    found = score(truth, answers, np.arange(300), repeats=500).differences
    for figure in ("micro recall", "micro F1", "macro F1"):
        assert {pair: verdict(one[figure]) for pair, one in found.items()} == {
            ("enhanced", "multi"): "more",
            ("multi", "single"): "no difference shown",
            ("enhanced", "exclude_random"): "more",
            ("enhanced", "exclude_last"): "more",
        }, figure
    worse = score(truth, {"enhanced": answers["multi"], "multi": answers["enhanced"]}, np.arange(300), repeats=500)
    assert verdict(worse.differences["enhanced", "multi"]["micro F1"]) == "less"


def test_intervals_cover_what_is_true(rng):
    """Of a hundred data sets in which nothing differs, about 95 intervals hold 0 (87 or fewer: once in 700)."""
    covered = 0
    for _ in range(100):
        truth = drawn(rng, 80)
        answers = {mode: answered(rng, truth, 0.5) for mode in ("enhanced", "multi")}
        difference = score(truth, answers, np.arange(80) // 2, repeats=300).differences["enhanced", "multi"]["micro F1"]
        covered += verdict(difference) == "no difference shown"
    assert 88 <= covered <= 99


def test_differences_are_paired(rng):
    """Two modes that nearly agree differ by less than each is known: intervals of unpaired ones would be wider."""
    truth = drawn(rng, 200)
    multi = answered(rng, truth, 0.5)
    enhanced = multi | (truth & (rng.random(truth.shape) < 0.05))
    found = score(truth, {"multi": multi, "enhanced": enhanced}, np.arange(200), repeats=500)
    alone = found.ways["multi"]["micro F1"]
    difference = found.differences["enhanced", "multi"]["micro F1"]
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)
    assert difference.low > 0


def test_refusals_lower_recall(rng):
    truth = drawn(rng, 200)
    multi = answered(rng, truth, 0.6)
    refused = np.where(rng.random((200, 1)) < 0.3, False, multi)
    found = score(truth, {"enhanced": refused, "multi": multi}, np.arange(200), repeats=300)
    difference = found.differences["enhanced", "multi"]
    assert difference["micro recall"].high < -0.1
    assert verdict(difference["micro recall"]) == "less"
    assert verdict(difference["labels"]) == "less"
    assert verdict(difference["micro precision"]) == "no difference shown"


def test_of_one_image_there_is_no_interval(rng):
    truth = drawn(rng, 3)
    found = score(truth, {"enhanced": truth, "multi": ~truth}, np.zeros(3, dtype=int), repeats=50)
    difference = found.differences["enhanced", "multi"]["micro F1"]
    assert difference.value == pytest.approx(found.ways["enhanced"]["micro F1"].value)
    assert np.isnan([difference.low, difference.high, found.ways["multi"]["labels"].low]).all()
    assert verdict(difference) == "not known"


def test_only_modes_that_were_asked_are_compared(rng):
    truth = drawn(rng, 5)
    found = score(truth, {"single": truth, "enhanced": truth}, np.arange(5), repeats=5)
    assert not found.differences
    assert list(found.ways) == ["single", "enhanced"]


def test_average_precision_is_scikit_learns_and_an_effect_is_found(rng):
    truth = drawn(rng, 120)
    truth[:, 4] = False
    noise = {mode: rng.random(truth.shape) for mode in ("enhanced", "multi", "exclude_last")}
    given = {mode: values + (0.8 if mode == "enhanced" else 0.2) * truth for mode, values in noise.items()}
    found = score_probabilities(truth, given, np.arange(120), repeats=30)
    occurring = [label for label in range(26) if truth[:, label].any()]
    for mode, values in given.items():
        expected = [average_precision_score(truth[:, label], values[:, label]) for label in occurring]
        np.testing.assert_allclose([found.labels[mode][label] for label in occurring], expected)
        assert found.ways[mode].value == pytest.approx(np.mean(expected))
    assert np.isnan(found.labels["multi"][4])
    assert {pair: verdict(one) for pair, one in found.differences.items()} == {
        ("enhanced", "multi"): "more",
        ("enhanced", "exclude_last"): "more",
    }


def test_an_interval_that_ends_at_nought_shows_nothing():
    assert verdict(Interval(0.1, 0.0, 0.2)) == "no difference shown"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verdict(Interval(float("nan"), float("nan"), float("nan"))) == "not known"
