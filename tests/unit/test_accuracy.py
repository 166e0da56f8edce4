"""Reading annotated data sets, and average precision checked by hand."""

import doctest
import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from scipy.io import savemat

from benchmarks import accuracy, accuracy_report, datasets, emotic, precision, predictions
from benchmarks.accuracy_report import compare, to_markdown, to_report, write_report
from benchmarks.datasets import DataSet, DatasetError, Example, Subject, check_labels, read_caers
from benchmarks.emotic import EDITIONS, read_emotic
from benchmarks.predictions import Predictions
from cocoer.labels import EMOTIC_LABELS
from cocoer_client import ModelInfo

MODEL = ModelInfo(
    version="0",
    weights="synthetic seed 0",
    synthetic=True,
    detector="scrfd",
    channel_order="bgr",
    coordination_step=1.0,
    precision="fp32",
)


@pytest.mark.parametrize("module", [datasets, emotic, precision, predictions])
def test_docstrings(module):
    assert doctest.testmod(module).failed == 0


def person(box, categories, head=None, combined=None):
    """A person as EMOTIC's file has them: in train one annotator, else several and what they say together."""
    entry = {
        "body_bbox": np.array(box, dtype=np.float64),
        "annotations_categories": {"categories": np.array(categories, dtype=object)},
        "annotations_continuous": {"valence": 5, "arousal": 4, "dominance": 6},
        "gender": "Female",
        "age": "Adult",
    }
    if combined is not None:
        entry["annotations_categories"] = [{"categories": np.array([name], dtype=object)} for name in combined]
        entry["combined_categories"] = np.array(combined, dtype=object)
    return entry | ({} if head is None else {"head_bbox": np.array(head, dtype=np.float64)})


def image(name, persons):
    return {
        "filename": name,
        "folder": "mscoco/images",
        "image_size": {"n_col": 640, "n_row": 480},
        "original_database": {"name": "mscoco", "info": {"image_id": 1}},
        "person": np.array(persons, dtype=object),
    }


@pytest.fixture
def mat(tmp_path):
    test = [
        image("a.jpg", [person([1, 2, 30, 40], ["Peace"], head=[5, 5, 9, 9], combined=["Peace", "Doubt/Confusion"])]),
        image("b.jpg", [person([1, 2, 3, 4], [], combined=["Anger"]), person([-3, 0, 7.5, 8], [], combined=[])]),
    ]
    train = [image("c.jpg", [person([0, 0, 5, 5], ["Disquietment"])])]
    savemat(tmp_path / "Annotations.mat", {"train": train, "test": np.array(test, dtype=object)})
    return tmp_path / "Annotations.mat"


def test_emotic_mat(mat, tmp_path):
    first, second = read_emotic(mat, tmp_path, "test").examples
    assert first.image == tmp_path / "mscoco/images/a.jpg"
    assert first.subjects == (Subject((1, 2, 30, 40), (5, 5, 9, 9), frozenset({"peace", "doubt / confusion"})),)
    assert [subject.labels for subject in second.subjects] == [{"anger"}]
    assert second.subjects[0].head is None
    (only,) = read_emotic(mat, tmp_path, "train").examples
    assert only.subjects[0].labels == {"disquietment"}
    with pytest.raises(DatasetError, match="no split 'val'; there are train, test"):
        read_emotic(mat, tmp_path, "val")


HEADER = "Index,Folder,Filename,Image Size,BBox,Categorical_Labels,Continuous_Labels,Gender,Age\n"
ROWS = (
    '0,emodb/images,a.jpg,[],"[86, 58, 564, 628]","[\'Disconnection\', \'Doubt/Confusion\']","[5, 3]",Male,Adult\n'
    '1,emodb/images,a.jpg,[],"[6, 5, 64, 62]","[\'Peace\']","[5, 3]",Male,Adult\n'
)


def test_emotic_csv(tmp_path):
    (tmp_path / "test.csv").write_text(HEADER + ROWS)
    (only,) = read_emotic(tmp_path / "test.csv", tmp_path, "test").examples
    assert only.image == tmp_path / "emodb/images/a.jpg"
    assert [subject.body for subject in only.subjects] == [(86, 58, 564, 628), (6, 5, 64, 62)]
    assert only.subjects[0].labels == {"disconnection", "doubt / confusion"}


def test_csv_as_numpy_writes_lists(tmp_path):
    """And a box that is none: its person alone is left out."""
    rows = ROWS.replace("[86, 58, 564, 628]", "[ 86  58 564 628]").replace(
        "['Disconnection', 'Doubt/Confusion']", "['Disconnection' 'Doubt/Confusion']"
    )
    (tmp_path / "test.csv").write_text(HEADER + rows.replace("[6, 5, 64, 62]", "[6, 5"))
    data = read_emotic(tmp_path / "test.csv", tmp_path, "test")
    (only,) = data.examples
    assert only.subjects == (Subject((86, 58, 564, 628), None, frozenset({"disconnection", "doubt / confusion"})),)
    assert data.dropped == ["emodb/images/a.jpg: line 3: the body box has 2 numbers instead of 4"]


def test_csv_with_a_column_for_each_category(tmp_path):
    (tmp_path / "x.csv").write_text(
        "Folder,Filename,Width,Height,X_min,Y_min,X_max,Y_max,Valence,Age,Peace,Doubt/Confusion,Anger\n"
        "f,a.jpg,640,1,1,2,30,40,1,1,1,1.0,0\n"
    )
    (only,) = read_emotic(tmp_path / "x.csv", tmp_path, "test").examples
    assert only.subjects == (Subject((1, 2, 30, 40), None, frozenset({"peace", "doubt / confusion"})),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2\n", "needs the columns Folder, Filename, BBox .*has a, b"),
        ("x.csv", HEADER, "no annotated person"),
        ("x.mat", "no matlab", "is not a MATLAB 5 to 7 file"),
        ("absent.mat", None, "no such file"),
    ],
)
def test_files_that_can_not_be_used_are_named(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_emotic(tmp_path / name, tmp_path, "test")


def test_folders_of_classes(tmp_path):
    for name in ("Anger/1.png", "Happy/2.jpg", "Neutral/3.png", "Anger/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    examples = read_caers(tmp_path, {"Happy": "happiness", "Neutral": ""}).examples
    assert [(example.image.name, *example.subjects[0].labels) for example in examples] == [
        ("1.png", "anger"),
        ("2.jpg", "happiness"),
    ]
    check_labels(examples, EMOTIC_LABELS)
    with pytest.raises(DatasetError, match="no label 'happy', 'neutral'.*--map"):
        check_labels(read_caers(tmp_path, {}).examples, EMOTIC_LABELS)
    with pytest.raises(DatasetError, match="no folders with images"):
        read_caers(tmp_path / "Anger", {})


def test_traps_of_the_mat(tmp_path):
    """Several annotators without their union, nobody, NaN, empty and half boxes: each concerns its person alone."""
    union = person([1, 2, 30, 40], [])
    union["annotations_categories"] = [
        {"categories": np.array(["Peace", "Anger"], dtype=object)},
        {"categories": np.array(["Fear"], dtype=object)},
    ]
    persons = [
        union,
        person([0, 0, 5, 5], []),
        person([np.nan, 0, 5, 5], ["Peace"]),
        person([5, 5, 5, 9], ["Peace"]),
        person([-100, 10, 50, 90], ["Disquietment"]),
        person([], ["Peace"]),
    ]
    savemat(tmp_path / "a.mat", {"val": np.array([image("a.jpg", persons)], dtype=object)})
    data = read_emotic(tmp_path / "a.mat", tmp_path, "val")
    assert data.examples == [
        Example(
            tmp_path / "mscoco/images/a.jpg",
            (
                Subject((1, 2, 30, 40), None, frozenset({"peace", "anger", "fear"})),
                Subject((-100, 10, 50, 90), None, frozenset({"disquietment"})),
            ),
        )
    ]
    assert [text.split(": ", 1)[1] for text in data.dropped] == [
        "person 2: nobody annotated a category",
        "person 3: the body box [nan, 0.0, 5.0, 5.0] is not finite",
        "person 4: the body box [5.0, 5.0, 5.0, 9.0] is empty",
        "person 6: the body box has 0 numbers instead of 4",
    ]
    assert data.edition == "not a known one (6 persons in val)"
    assert EDITIONS["Annotations.mat"] == (23706, 3334, 7280)


def test_editions_are_told_by_their_numbers_of_persons(tmp_path, monkeypatch):
    """Also of persons that are left out; of a CSV, by those of one split."""
    splits = {"train": [person([0, 0, 5, 5], [])] * 3, "val": [person([0, 0, 5, 5], ["Fear"])], "test": []}
    splits["test"] = [person([0, 0, 5, 5], ["Peace"])] * 2
    content = {name: np.array([image("a.jpg", persons)], dtype=object) for name, persons in splits.items()}
    savemat(tmp_path / "a.mat", content)
    (tmp_path / "test.csv").write_text(HEADER + ROWS)
    told = "3 persons in train, 1 persons in val, 2 persons in test"
    assert read_emotic(tmp_path / "a.mat", tmp_path, "val").edition == f"not a known one ({told})"
    monkeypatch.setitem(emotic.EDITIONS, "CVPR17_Annotations.mat", (3, 1, 2))
    assert read_emotic(tmp_path / "a.mat", tmp_path, "val").edition == f"CVPR17_Annotations.mat ({told})"
    edition = read_emotic(tmp_path / "test.csv", tmp_path, "test").edition
    assert edition == "test of CVPR17_Annotations.mat (2 persons)"


def test_archive_of_arrays(tmp_path):
    (tmp_path / "img_arrs").mkdir()
    np.save(tmp_path / "img_arrs" / "img_arr_0.npy", np.full((112, 224, 3), (1, 2, 3), dtype=np.uint8))
    (tmp_path / "annot_arrs_test.csv").write_text(
        "Filename,Width,Height,Age,Gender,Valence,Arousal,Dominance,Peace,Anger,X_min,Y_min,X_max,Y_max,Arr_name,"
        "Crop_name\na.jpg,448,448,Adult,Male,1,5,5,1,0,0,40,100,448,img_arr_0.npy,crop_arr_0.npy\n"
    )
    data = read_emotic(tmp_path / "annot_arrs_test.csv", tmp_path, "test")
    (only,) = data.examples
    assert only.subjects == (Subject((0, 40, 100, 448), None, frozenset({"peace"})),)
    assert "reduced" in data.notes[0]
    pixels, scale = predictions.image_of(only, "bgr")
    assert scale == (0.5, 0.25)
    assert pixels[0, 0].tolist() == [3, 2, 1]


def test_a_sample_is_random_and_repeatable(tmp_path):
    data = DataSet([Example(tmp_path / f"{index}.png", ()) for index in range(100)], "")
    first, again = data.sample(10, 0), data.sample(10, 0)
    assert first == again
    assert len({one.image for one in first.examples}) == 10
    assert first.examples != data.examples[:10]
    assert first.examples != data.sample(10, 1).examples
    assert "random sample of 10 of 100 images (seed 0)" in first.notes[0]


@pytest.mark.parametrize(("body", "size"), [((630, 470, 900, 900), (640, 480)), ((639, 0, 641, 1), (640, 480))])
def test_a_guessed_head_stays_in_the_image(body, size):
    x1, y1, x2, y2 = predictions.guess_head(body, size)
    assert 0 <= int(x1) < int(x2) <= size[0]
    assert 0 <= int(y1) < int(y2) <= size[1]


def test_the_releases_metric_on_ties_and_on_a_category_that_never_occurs():
    """torchmetrics 1.9.0's MultilabelAveragePrecision(3, average=None): 0.6667, 0.6667, -0.0 (with a warning).

    Its macro average, 0.4444, counts the category that never occurs as 0; here it is left out.
    """
    scores = np.array([[0.5, 0.9, 0.3], [0.5, 0.9, 0.2], [0.1, 0.9, 0.1], [0.5, 0.2, 0.7]])
    truth = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)
    found = precision.average_precision(truth, scores)
    np.testing.assert_allclose(found[:2], [2 / 3, 2 / 3], rtol=1e-12)
    assert np.isnan(found[2])
    assert precision.mean(found) == pytest.approx(2 / 3)
    assert np.nan_to_num(found).mean() == pytest.approx(0.4444, abs=1e-4)


def test_average_precision_by_hand():
    """Ranked: yes no yes yes no: precision 1, 2/3, 3/4 where recall grows by a third each: 0.8056."""
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    truth = np.array([1, 0, 1, 1, 0])
    expected = (1 + 2 / 3 + 3 / 4) / 3
    columns = np.stack([truth, 1 - truth, 0 * truth], axis=1).astype(bool)
    found = precision.average_precision(columns, np.stack([scores] * 3, axis=1))
    assert found[0] == pytest.approx(expected)
    assert found[1] == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert np.isnan(found[2])
    assert precision.mean(found) == pytest.approx((found[0] + found[1]) / 2)


def test_weights_are_repetitions(rng):
    truth, scores = rng.random((40, 3)) < 0.3, rng.random((40, 3))
    weights = precision.resamplings(np.repeat(np.arange(20), 2), repeats=1)[0]
    assert weights.sum() == pytest.approx(40, abs=20)
    assert np.array_equal(weights[::2], weights[1::2])  # persons of one image stay together
    times = weights.astype(int)
    repeated = precision.average_precision(np.repeat(truth, times, axis=0), np.repeat(scores, times, axis=0))
    np.testing.assert_allclose(precision.average_precision(truth, scores, weights), repeated, rtol=1e-12)


def test_resamplings_are_scored_as_one_at_a_time(rng, monkeypatch):
    """By scikit-learn: with scores that tie, categories that a resampling lacks, and in blocks that don't divide."""
    truth, scores = rng.random((40, 4)) < (0.4, 0.0, 0.0, 1.0), rng.random((40, 4)).round(1)
    truth[7, 1] = True
    weights = precision.resamplings(np.repeat(np.arange(20), 2), repeats=31)
    monkeypatch.setattr(precision, "BLOCK", 300)
    found = precision.bootstrap_ap(truth, scores, weights)
    expected = [precision.average_precision(truth, scores, sample) for sample in weights]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(found[:, 2]).all()
    assert 0 < np.isnan(found[:, 1]).sum() < 31


def test_intervals_shrink_with_the_number_of_images(rng):
    widths = []
    for count in (50, 800):
        truth = rng.random((count, 1)) < 0.4
        scores = truth * 0.3 + rng.random((count, 1))
        samples = precision.bootstrap_ap(truth, scores, precision.resamplings(np.arange(count), 200))
        value = precision.average_precision(truth, scores)[0]
        interval = precision.Interval.of(value, samples[:, 0])
        assert interval.low < value < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < 0.4 * widths[0]


def made_up(rng, skill, missing=()):
    """Predictions of a hundred persons in fifty images."""
    truth = np.random.default_rng(1).random((100, 26)) < 0.2
    truth[:, 7] = False
    scores = skill * truth + rng.random((100, 26))
    scores[list(missing)] = np.nan
    return Predictions(MODEL, tuple(EMOTIC_LABELS), np.repeat(np.arange(50), 2), truth, scores, ["x.jpg: damaged"])


def test_variants_are_compared_on_the_same_persons(rng, tmp_path):
    good, bad = made_up(rng, 1.0, missing=(3,)), made_up(rng, 0.1, missing=(5, 6))
    measured = compare([bad, good], repeats=100, with_top1=True)
    assert [one.compared for one in measured] == [97, 97]
    assert measured[0].gain is None
    assert measured[1].gain.low > 0
    assert measured[1].gain.value == pytest.approx(measured[1].mean_ap.value - measured[0].mean_ap.value)
    assert measured[1].top1.value > measured[0].top1.value
    report = write_report(measured, {"dataset": "emotic", "images": tmp_path}, tmp_path)
    written = json.loads((tmp_path / "accuracy.json").read_text())
    assert written["variants"][1]["mAP"]["value"] == pytest.approx(measured[1].mean_ap.value)
    assert written["variants"][0]["AP"]["disconnection"]["value"] is None
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    text = (tmp_path / "accuracy.md").read_text()
    assert text == to_markdown(report)
    assert "Synthetic weights" in text
    assert "- x.jpg: damaged" in text
    assert measured[0].name == "bgr fp32 step 1"  # all settings where nothing differs
    assert to_report(measured, {})["persons"] == {"annotated": 100, "compared": 97}


def test_persons_with_a_face_are_resampled_only_where_they_are_others(rng, monkeypatch):
    """Figures of both protocols are the same where no head was guessed, to the last digit, and cost one bootstrap."""
    good, bad = made_up(rng, 1.0, missing=(3,)), made_up(rng, 0.1)
    counted = Mock(wraps=accuracy_report.bootstrap_ap)
    monkeypatch.setattr(accuracy_report, "bootstrap_ap", counted)
    without = to_report(compare([bad, good], repeats=50, with_top1=False), {})
    assert counted.call_count == 2  # one for each variant
    for one in without["variants"]:
        assert one["faces_only"] == {"compared": 99, "mAP": one["mAP"], "gain": one["gain"]}
    monkeypatch.setattr(accuracy_report.np, "array_equal", lambda *_: False)
    assert json.dumps(to_report(compare([bad, good], 50, False), {})) == json.dumps(without)  # the long way
    assert counted.call_count == 6
    monkeypatch.undo()

    guessed = [replace(one, guesses=np.arange(100) < 20) for one in (bad, good)]
    told = to_report(compare(guessed, 50, False), {})
    assert [one["mAP"] for one in told["variants"]] == [one["mAP"] for one in without["variants"]]
    assert {one["faces_only"]["compared"] for one in told["variants"]} == {80}
    assert told["variants"][0]["faces_only"]["mAP"] != told["variants"][0]["mAP"]
    nobody = [replace(one, guesses=np.full(100, True)) for one in (bad, good)]
    assert [one["faces_only"] for one in to_report(compare(nobody, 50, False), {})["variants"]] == [None, None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "x"], "needs --annotations"),
        (["--images", "x", "--dataset", "caer-s", "--precisions", "int8"], "--cal"),
    ],
)
def test_usage(arguments, message, capsys):
    with pytest.raises(SystemExit):
        accuracy.main(arguments)
    assert message in capsys.readouterr().err


def test_images_that_are_not_there(tmp_path, capsys):
    (tmp_path / "test.csv").write_text(HEADER + ROWS)
    assert accuracy.main(["--annotations", str(tmp_path / "test.csv"), "--images", str(tmp_path)]) == 1
    assert "none of the 1 images is there; the first is" in capsys.readouterr().err
