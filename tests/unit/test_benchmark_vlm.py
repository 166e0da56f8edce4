"""``benchmarks/vlm.py`` from the command line to the report, with a CocoER and a model that are made up."""

import io
import itertools
import json
import math
import re
import signal
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support

from benchmarks import vlm
from benchmarks.datasets import Example, Subject
from benchmarks.vlm_people import Annotated, Reading, Recognised, people
from cocoer.labels import EMOTIC_LABELS
from cocoer_client.vlm.crops import ImageOptions
from cocoer_client.vlm.prompt_file import BUILT_IN
from tests.conftest import PROJECT
from tests.fake_server import FakeServer
from tests.results import make_person
from tests.vlm_data_set import MadeUp, guess
from tests.vlm_server import MODEL, VlmServer, cut_off, fails, labels, refuses, says, silence, unknown_model
from tests.waiting import until

MODES = ("single", "multi", "enhanced", "exclude_random", "exclude_last")
PERSONS = 60
PAIRS = ["enhanced - multi", "multi - single", "enhanced - exclude_random", "enhanced - exclude_last"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return MadeUp(tmp_path_factory.mktemp("emotic"), images=PERSONS // 2)


@pytest.fixture
def cocoer(data):
    server = FakeServer(data.result)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def command(data, cocoer, tmp_path, capsys, monkeypatch):
    """Runs it: status, the report, what was said. ``server`` is the model's."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    def run(server, *options):
        arguments = ["--annotations", data.annotations, "--images", data.root, "--url", cocoer.url, "--model", MODEL]
        arguments += ["--base-url", getattr(server, "base_url", server), "--output-dir", tmp_path / "out"]
        arguments += ["--cache", tmp_path / "cache", "--bootstrap", "300", "--model-retries", "0"]
        status = vlm.main([str(one) for one in [*arguments, *options]])
        path = tmp_path / "out" / "vlm.json"
        report = json.loads(path.read_text(), parse_constant=pytest.fail) if path.is_file() else None
        return status, report, capsys.readouterr()

    return run


def better_when_enhanced(data):
    def script(request):
        person, mode = data.asked(request)
        truth = data.truth[person]
        return labels(*(truth if mode == "enhanced" else guess(truth, 0.5, mode)))

    return script


def test_an_effect_that_was_put_in_is_found(data, command, tmp_path):
    with VlmServer(better_when_enhanced(data)) as server:
        status, report, said = command(server)
        asked = len(server.requests)
        again, same, _ = command(server)
        assert len(server.requests) == asked  # all was kept
    assert (status, again) == (0, 0)
    verdicts = {f"{one['of']} - {one['less']}": one["micro F1"]["verdict"] for one in report["figures"]["differences"]}
    assert verdicts == dict(zip(PAIRS, ["more", "no difference shown", "more", "more"]))
    assert "Shown here, multi: yes, exclude_random: yes, exclude_last: yes." in said.out
    assert report["persons"]["compared"] == report["persons"]["answered_in_every_mode"] == PERSONS
    assert report["answers"]["multi"] == dict.fromkeys(report["answers"]["multi"], 0) | {"labels": PERSONS}
    # What is in the report of each person gives the report's figures, by scikit-learn.
    for way, found in report["figures"]["ways"].items():
        truth, given = np.zeros((2, PERSONS, 26), dtype=bool)
        for row, one in enumerate(report["outcomes"]):
            answer = one["CocoER"] if way == "CocoER" else one["answers"][way]["labels"]
            truth[row] = [label in one["annotated"] for label in report["labels"]]
            given[row] = [label in answer for label in report["labels"]]
        for average, kept in (("micro", None), ("macro", np.flatnonzero(truth.any(axis=0)))):
            values = precision_recall_fscore_support(truth, given, labels=kept, average=average, zero_division=0)
            for name, value in zip(("precision", "recall", "F1"), values):
                assert found[f"{average} {name}"]["value"] == pytest.approx(value)
        assert found["labels"]["value"] == pytest.approx(given.sum() / PERSONS)
    assert report["figures"]["ways"]["enhanced"]["micro F1"]["value"] == 1
    assert [one["annotated"] for one in report["outcomes"]] == [sorted(labels) for labels in data.truth]
    # Levels: the one that comes first, the last one, and by chance.
    for one in report["outcomes"]:
        answers, order = one["answers"], [level.removesuffix("-level") for level in one["emo_process"]]
        assert answers["enhanced"]["excluded"] == order[0]
        assert answers["exclude_last"]["excluded"] == order[2]
        assert answers["single"]["excluded"] is answers["multi"]["excluded"] is None
    assert report["excluded"]["enhanced"] == {"head": 20, "body": 20, "context": 20}
    coincide = [
        one["answers"]["enhanced"]["excluded"] == one["answers"]["exclude_random"]["excluded"]
        for one in report["outcomes"]
    ]
    assert report["coincide"] == sum(coincide)
    assert 9 <= sum(coincide) <= 31  # by chance 20
    # What is sent twice is asked once.
    repeats = sum(
        one["answers"]["exclude_random"]["excluded"] in (one["answers"][mode]["excluded"] for mode in MODES[2::2])
        for one in report["outcomes"]
    )
    assert asked == 5 * PERSONS - repeats
    assert report["usage"] == {
        "prompt_tokens": 100 * asked, "completion_tokens": 10 * asked, "cost": None, "answers_kept": repeats
    }  # fmt: skip
    assert same["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "cost": None, "answers_kept": 5 * PERSONS}
    assert {**same, "usage": 0, "date": 0} == {**report, "usage": 0, "date": 0}
    with Image.open(tmp_path / "out" / "vlm.png") as plot:
        assert plot.width > 1000


def test_the_report_says_how_it_was_made(data, command, tmp_path):
    with VlmServer(better_when_enhanced(data)) as server:
        status, report, said = command(
            server, "--limit", "3", "--seed", "5", "--header", "authorization:Bearer secret-header"
        )
    assert status == 0
    text = (tmp_path / "out" / "vlm.md").read_text()
    assert said.out == text + "\n"
    assert report["prompt"]["text"].rstrip() in text
    for told in (
        MODEL, "127.0.0.1", report["date"], "A random sample of 3 of 30 images (seed 5)", report["prompt"]["version"],
        "longest\\_side 1024", "has neither them nor EMOTIC", "3 images are few", "300 resamplings", "Macro",
        "From so few images nothing is concluded.",
    ):  # fmt: skip
        assert told in text, told
    assert "synthetic weights" not in text
    assert re.search(r"\| enhanced +\| 100\.00 \(100\.00 \.\. 100\.00\) +\|", text)
    everything = text + (tmp_path / "out" / "vlm.json").read_text() + said.err
    assert "secret" not in everything
    assert str(server.port) not in text


def test_random_weights_are_told_first(data, command, cocoer, tmp_path):
    cocoer.answer = lambda image, number: data.result(image, number, synthetic=True, weights="synthetic seed 0")
    with VlmServer(better_when_enhanced(data)) as server:
        command(server, "--limit", "2")
    text = (tmp_path / "out" / "vlm.md").read_text()
    assert "this shows nothing about CocoER, whatever the intervals are" in text
    assert text.split("\n\n")[1].startswith(
        "**The served CocoER has synthetic weights: the level that it excludes first"
    )


def test_the_cost_is_known_before(data, command):
    with VlmServer(better_when_enhanced(data)) as server:
        status, report, said = command(server, "--dry-run", "--limit", "5")
        assert (status, report, server.requests) == (0, None, [])
        ((told, same),) = re.findall(
            r"10 persons: (\d+) requests \((\d+) questions? more, of the same\); about", said.err
        )
        assert int(told) + int(same) == 50
        told = int(told)
        status, report, said = command(server, "--limit", "5", "--max-requests", str(told - 1))
        assert (status, report, server.requests) == (2, None, [])
        assert f"{told} requests are more than --max-requests {told - 1}" in said.err
        status, report, said = command(server, "--limit", "5", "--max-requests", str(told), "--prices", "2000,10000")
        assert status == 0
        assert re.search(r"come back: \d+\.\d\d at most", said.err)
        assert report["usage"]["cost"] == pytest.approx((100 * told * 2000 + 10 * told * 10000) / 1e6)
        assert f"came back: {report['usage']['cost']:.2f}" in said.out
        assert len(server.requests) == told
        assert "no requests, 50 answers from before" in command(server, "--limit", "5", "--dry-run")[2].err


def test_refusals_count_as_empty_and_failures_are_left_out_of_all_modes(data, command, tmp_path):
    """And are asked again by the same command, alone."""
    is_down = True

    def script(request):
        person, mode = data.asked(request)
        truth = data.truth[person]
        if mode == "multi" and person == 4 and is_down:
            return fails()
        if mode == "enhanced":
            special = {
                0: refuses(),
                1: says("I think | they are *glad*."),
                2: cut_off(*truth),
                3: labels("glad", *truth),
            }
            return special.get(person, labels(*truth))
        return labels(*truth)

    with VlmServer(script) as server:
        status, report, said = command(server)
        assert status == 1
        assert (report["persons"]["asked"], report["persons"]["compared"]) == (PERSONS, PERSONS - 1)
        assert report["persons"]["answered_in_every_mode"] == PERSONS - 4
        assert "**Left out: 1 person of whom a mode has no answer." in said.out
        assert "Give the same command again" in said.out
        assert report["answers"]["multi"] == Counter(report["answers"]["multi"]) | {"labels": PERSONS - 1, "failed": 1}
        expected = {
            "refused": 1,
            "unparseable": 1,
            "cut_off": 1,
            "unknown_label": 1,
            "labels": PERSONS - 4,
            "failed": 0,
        }
        # Where exclude_random leaves out the first level too, it gets the same answers.
        assert report["answers"]["enhanced"] == expected
        assert "unparseable: I think \\| they are \\*glad\\*." in said.out
        micro = report["figures"]["ways"]["enhanced"]
        others = [data.truth[person] for person in range(PERSONS) if person != 4]
        total, lost = sum(map(len, others)), sum(len(data.truth[person]) for person in (0, 1, 2))
        assert micro["micro recall"]["value"] == pytest.approx(1 - lost / total)
        assert micro["micro precision"]["value"] == 1  # glad is no label, and counts as nothing
        assert report["figures"]["ways"]["multi"]["micro recall"]["value"] == 1
        answered = report["figures_of_answered"]
        assert (answered["persons"], answered["ways"]["enhanced"]["micro recall"]["value"]) == (PERSONS - 4, 1)
        assert f"{PERSONS - 4} persons of whom no answer was refused" in said.out
        is_down = False
        asked = len(server.requests)
        status, report, said = command(server)
        assert (status, len(server.requests) - asked) == (0, 1)
        assert report["persons"]["compared"] == PERSONS


def yes_or_no(data, given):
    """Log-probabilities that are right in ``enhanced`` and know nothing otherwise; ``given``: whether there are any."""

    def script(request):
        if "response_format" in request.body:
            return labels("peace")
        person, mode = data.asked(request)
        (label,) = [name for name in EMOTIC_LABELS if f" {name} (" in request.text]
        likely = 0.9 if label in data.truth[person] else 0.2
        share = likely if mode == "enhanced" else 0.5
        tokens = {"Yes": math.log(share * 0.8), "no": math.log((1 - share) * 0.8)}
        return says("Yes", first_token=tokens if given else None)

    return script


def test_average_precision_where_there_are_log_probabilities(data, command):
    with VlmServer(yes_or_no(data, given=True)) as server:
        _, _, said = command(server, "--limit", "4", "--modes", "multi,enhanced", "--average-precision", "--dry-run")
        assert f"8 persons: {8 * 2 * 27} requests" in said.err
        status, report, said = command(server, "--limit", "4", "--modes", "multi,enhanced", "--average-precision")
        assert len(server.requests) == 8 * 2 * 27
    assert status == 0
    found = report["average_precision"]
    assert (found["given"], found["persons"], found["left_out"]) == (True, 8, 0)
    assert found["ways"]["enhanced"]["value"] == 1
    shares = [value for value in found["labels"]["multi"].values() if value is not None]  # as many as persons have it
    assert found["ways"]["multi"]["value"] == pytest.approx(np.mean(shares))
    assert set(np.multiply(shares, 8).round(9)) <= set(range(9))
    (difference,) = found["differences"]
    assert difference["verdict"] == "more"
    assert "mAP" in said.out
    assert "can be told only with all of the modes" in said.out


def test_average_precision_where_there_are_none(data, command):
    """Nothing more is paid for than it takes to see that."""
    with VlmServer(yes_or_no(data, given=False)) as server:
        status, report, said = command(server, "--limit", "12", "--modes", "multi", "--average-precision")
        assert len(server.requests) <= 24 + 3 + 4
    assert status == 0
    assert report["average_precision"]["given"] is False
    assert "the model gives no log-probabilities" in said.out
    assert report["figures"] is not None


def test_who_may_be_asked(data, command, cocoer):
    status, _, said = command("https://api.openai.com/v1")
    assert status == 2
    assert "--send-images-to api.openai.com" in said.err
    assert cocoer.last_request is None  # it is looked at before anything is read


def test_a_model_that_is_not_there(data, command, tmp_path):
    with VlmServer(lambda request: unknown_model()) as server:
        status, report, said = command(server)
        assert len(server.requests) <= 8
    assert (status, report) == (3, None)
    assert "the same command goes on from here" in said.err


def test_no_cocoer(data, command, cocoer):
    cocoer.kill()
    with VlmServer([]) as server:
        status, _, said = command(server, "--retries", "0", "--timeout", "1")
    assert status == 3
    assert "no server at" in said.err


def test_another_model_meanwhile(data, command, cocoer):
    counted = itertools.count()
    cocoer.answer = lambda image, number: data.result(image, number, weights=f"w{next(counted) > 3}")
    with VlmServer([]) as server:
        status, _, said = command(server)
    assert status == 4
    assert "weights was wFalse and is wTrue" in said.err


def test_what_was_paid_for_is_kept(data, cocoer, tmp_path):
    """Ctrl-C waits for the answer under way, and begins no other; the same command asks for the rest."""
    go_on = threading.Event()
    command = [sys.executable, "-m", "benchmarks.vlm", "--annotations", data.annotations, "--images", data.root]
    command += ["--url", cocoer.url, "--model", MODEL, "--modes", "multi", "--limit", "2", "--concurrency", "1"]
    command += ["--cache", tmp_path / "cache", "--output-dir", tmp_path / "out"]
    with VlmServer(lambda request: silence(go_on, labels("peace"))) as server:
        command += ["--base-url", server.base_url]
        process = subprocess.Popen(list(map(str, command)), cwd=PROJECT, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: server.requests)
            process.send_signal(signal.SIGINT)
            assert any("are waited for" in line for line in process.stderr)
            go_on.set()
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130, told
        assert "the same command goes on from here" in told
        assert len(server.requests) == 1
        assert not (tmp_path / "out").exists()
        assert vlm.main([str(one) for one in command[3:]]) == 0
        assert len(server.requests) == 4
    assert (tmp_path / "out" / "vlm.md").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "m"], "--images is needed"),
        (["--images", "x", "--model", "m"], "needs --annotations"),
        (["--images", "x", "--annotations", "a.csv"], "--model is needed"),
        (["--images", "x", "--annotations", "a.csv", "--model", "m", "--modes", "double"], "there is no mode double"),
    ],
)
def test_usage(options, message, capsys):
    with pytest.raises(SystemExit) as end:
        vlm.main(options)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_persons_of_arrays(tmp_path, order):
    """Reduced copies of images: RESULT's boxes are in their pixels, and so are the crops."""
    pixels = np.full((120, 240, 3), (200, 100, 20), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    example = Example(tmp_path / "a.npy", (Subject((0, 0, 480, 240), None, frozenset({"peace"})),), (480, 240))
    result = make_person(3, [120, 0, 240, 120], [160, 20, 200, 60], ["peace"])
    reading = Reading(tmp_path, guess_heads=True, array_order=order, images=ImageOptions())
    image = Recognised(0, example, (Annotated(0, result, frozenset({"peace"}), guessed=False),))
    ((_, subject),) = people([image], reading, failures := [])
    assert (subject.name, failures) == ("a.npy, person 3", [])
    with Image.open(io.BytesIO(subject.levels["body"].data)) as body:
        expected = (200, 100, 20) if order == "rgb" else (20, 100, 200)
        np.testing.assert_allclose(np.asarray(body)[60, 60], expected, atol=2)
        assert body.width == body.height
    (tmp_path / "a.npy").write_bytes(b"damaged")
    assert list(people([image], reading, failures)) == []
    assert "a.npy: " in failures[0]


def test_the_prompt_is_shown(capfdbinary):
    assert vlm.main(["--show-prompt"]) == 0
    assert capfdbinary.readouterr().out == BUILT_IN.read_bytes()


def test_folders_of_classes(data, cocoer, command, tmp_path):
    """The largest person that CocoER finds has the folder's label."""
    (tmp_path / "Peace").mkdir()
    for number in (0, 1):
        (tmp_path / "Peace" / f"{number}.png").write_bytes((data.root / "f" / f"{number}.png").read_bytes())
    with VlmServer(better_when_enhanced(data)) as server:
        status, report, said = command(server, "--dataset", "caer-s", "--images", tmp_path)
    assert status == 0
    assert [one["annotated"] for one in report["outcomes"]] == [["peace"]] * 2
    assert [one["image"] for one in report["outcomes"]] == ["Peace/0.png", "Peace/1.png"]
    assert "The images have one label each" in said.out
