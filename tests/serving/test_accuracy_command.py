"""``benchmarks/accuracy.py`` through real servers, on a small data set in the formats of the real ones."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.metrics import average_precision_score

from cocoer_client import CocoerClient
from tests.conftest import SAMPLE, run_python
from tests.unit.test_accuracy import HEADER, image, person

COMMAND = "benchmarks/accuracy.py"
BODY, HEAD = [84, 20, 363, 512], [177, 67, 270, 160]
CATEGORIES = ("Peace", "Anger", "Doubt/Confusion")


@pytest.fixture(scope="module")
def emotic(tmp_path_factory):
    """Eight images of the sample's person, three categories, the head annotated in half of them; one is damaged."""
    root = tmp_path_factory.mktemp("emotic")
    folder = root / "mscoco" / "images"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries, rows = [], []
    with Image.open(SAMPLE) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    for index in range(8):
        changed = np.clip(pixels * rng.uniform(0.5, 1.4, 3), 0, 255).astype(np.uint8)
        Image.fromarray(changed).save(folder / f"{index}.png")
        labels = [name for bit, name in enumerate(CATEGORIES) if (index + 1) >> bit & 1] or ["Peace"]
        head = HEAD if index % 2 else None
        entries.append(image(f"{index}.png", [person(BODY, [], head=head, combined=labels)]))
        rows.append(f'{index},mscoco/images,{index}.png,"[512, 512]","{BODY}","{labels}","[5, 5, 5]",Female,Adult\n')
    (folder / "7.png").write_bytes(b"damaged")
    savemat(root / "Annotations.mat", {"test": np.array(entries, dtype=object)})
    (root / "test.csv").write_text(HEADER + "".join(rows))
    return root


def measure(server, root, *arguments):
    out = root / f"report-{abs(hash(arguments))}"
    options = ["--images", root, "--output-dir", out, "--bootstrap", "50", "--url", server.url]
    run = run_python(COMMAND, *arguments, *options)
    assert run.returncode == 0, run.stderr
    return json.loads((out / "accuracy.json").read_text()), run.stdout, out


def test_emotic(opencv_server, emotic):
    """The .mat and the CSV; against scikit-learn on what the client is told."""
    report, text, out = measure(
        opencv_server, emotic, "--annotations", emotic / "Annotations.mat", "--missing-head", "drop"
    )
    (variant,) = report["variants"]
    assert (report["persons"]["annotated"], report["persons"]["compared"]) == (8, variant["answered"])
    assert len(variant["failures"]) == 1
    assert "7.png: IMAGE is not an image" in variant["failures"][0]
    truth, scores = [], []
    with CocoerClient(opencv_server.url) as client:
        for index in range(7):
            head = {"head": HEAD} if index % 2 else {}
            for one in client.infer(emotic / "mscoco/images" / f"{index}.png", [{"body": BODY, **head}]).persons:
                truth.append([(index + 1) >> bit & 1 for bit in range(3)])
                scores.append([one.scores["pred"][name] for name in ("peace", "anger", "doubt / confusion")])
    expected = [average_precision_score(np.array(truth)[:, c], np.array(scores)[:, c]) for c in range(3)]
    found = [variant["AP"][name]["value"] for name in ("peace", "anger", "doubt / confusion")]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert variant["mAP"]["value"] == pytest.approx(np.mean(expected))
    assert variant["AP"]["fear"]["value"] is None
    assert re.search(r"\| peace +\|", text)
    assert "Synthetic weights" in text
    with Image.open(out / "accuracy.png") as plot:
        assert plot.width > 800
    again, _, _ = measure(opencv_server, emotic, "--annotations", emotic / "test.csv")
    assert again["variants"][0]["answered"] == 7
    assert again["persons"]["compared"] == 7
    (guessing,) = again["variants"]
    assert guessing["coordination_step"] == 1
    assert guessing["faces_only"]["compared"] == 7 - guessing["guessed_heads"]


def test_a_box_outside_the_image_loses_its_person_alone(opencv_server, emotic, tmp_path):
    persons = [person([600, 600, 700, 700], [], combined=["Fear"]), person(BODY, [], head=HEAD, combined=["Peace"])]
    persons.append(person([-50, 20, 363, 900], [], combined=["Anger"]))
    entries = [image("0.png", persons), image("absent.png", [person(BODY, [], combined=["Anger"])])]
    savemat(tmp_path / "a.mat", {"test": np.array(entries, dtype=object)})
    report, _, _ = measure(opencv_server, emotic, "--annotations", tmp_path / "a.mat")
    (variant,) = report["variants"]
    assert (report["persons"]["annotated"], variant["answered"]) == (4, 2)
    assert len(variant["refused"]) == 1
    assert "0.png, person 1: " in variant["refused"][0]
    assert len(variant["failures"]) == 1
    assert "absent.png" in variant["failures"][0]
    assert [report["examples"][report["labels"].index(name)] for name in ("fear", "peace", "anger")] == [0, 1, 1]


def test_folders_of_classes(opencv_server, emotic, tmp_path):
    for name, source in (("Anger", 0), ("Anger", 1), ("Happy", 2), ("Neutral", 3)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"{source}.png").write_bytes((emotic / "mscoco/images" / f"{source}.png").read_bytes())
    common = [COMMAND, "--dataset", "caer-s", "--images", tmp_path, "--url", opencv_server.url]
    refused = run_python(*common, "--output-dir", tmp_path / "out")
    assert refused.returncode == 1
    assert "no label 'happy', 'neutral'" in refused.stderr
    report, text, _ = measure(
        opencv_server, tmp_path, "--dataset", "caer-s", "--map", "Happy=happiness", "--map", "Neutral="
    )
    assert report["persons"]["annotated"] == 3
    # Right are those whose category is the more probable one of the two that occur.
    right = []
    with CocoerClient(opencv_server.url) as client:
        for name, label, source in (("Anger", "anger", 0), ("Anger", "anger", 1), ("Happy", "happiness", 2)):
            for one in client.infer(tmp_path / name / f"{source}.png").persons:
                scores = one.scores["pred"]
                right.append(label == max(("anger", "happiness"), key=lambda category: scores[category]))
    assert report["persons"]["compared"] == len(right) > 0
    assert report["variants"][0]["top1"]["value"] == pytest.approx(np.mean(right))
    assert "most probable label is right" in text


def test_no_server(emotic, tmp_path):
    options = ["--annotations", emotic / "test.csv", "--images", emotic, "--url", "127.0.0.1:9"]
    run = run_python(COMMAND, *options, "--output-dir", tmp_path / "out")
    assert run.returncode == 1
    told = "error: no server at 127.0.0.1:9; start one with: tritonserver --model-repository model_repository"
    assert run.stderr.splitlines()[-1] == told
