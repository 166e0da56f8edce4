"""cocoer-vlm as its users run it: a server of RESULTs and a server with OpenAI's interface, both made up."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest
from PIL import Image

from cocoer_client.vlm.arguments import parse_args
from cocoer_client.vlm.command import main
from cocoer_client.vlm.prompt_file import BUILT_IN
from tests import vlm_server
from tests.builds import PROJECT
from tests.conftest import SAMPLE
from tests.fake_server import FakeServer, Refused
from tests.results import make_person, make_result
from tests.vlm_server import VlmServer
from tests.waiting import until

BODY, HEAD = [84, 20, 363, 512], [177, 67, 270, 160]
ALL = "single,multi,enhanced,exclude_random,exclude_last"


def found(data, number):
    """RESULT of an image: one person, if it is large enough."""
    if data.startswith(b"refuse me"):
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE is not an image in JPEG, PNG, WebP or BMP format")
    with Image.open(io.BytesIO(data)) as image:
        size = image.size
    return make_result(size, [make_person(1, BODY, HEAD, ["peace", "happiness"])] if min(size) > 500 else [])


@pytest.fixture
def triton(monkeypatch):
    """Answers as ``found`` says."""
    server = FakeServer(found)
    server.start()
    monkeypatch.setenv("COCOER_URL", server.url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    yield server
    server.kill()


@pytest.fixture
def run(triton, tmp_path, monkeypatch, capsys):
    """Run the command: exit status, what it printed, what it said; its answers are kept in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, model=vlm_server.MODEL):
        status = main([*map(str, arguments), "--model", model, "--cache", str(tmp_path / "cache")])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def by_images(request):
    """One label for one image, more for more, and one that only two images have."""
    names = {1: ["peace"], 2: ["peace", "yearning"], 3: ["peace", "anger"]}[len(request.images)]
    return vlm_server.labels(*names)


def test_three_answers_and_what_only_one_has(run):
    with VlmServer(by_images) as server:
        status, printed, told = run(SAMPLE, "--base-url", server.base_url)
    assert status == 0, told
    assert printed.splitlines() == [
        f"{SAMPLE}, person 1  (excluded first: body, then head, context)",
        "  CocoER         peace 0.95, happiness 0.90",
        "  single         peace",
        "  multi          anger, peace",
        "  enhanced       peace, yearning  (without body)",
        "  only enhanced  yearning",
    ]
    assert "1 person: 3 requests" in told
    assert "enhanced: labels 1" in told
    assert "tokens: 300 sent, 30 came back" in told
    assert [request.body["temperature"] for request in server.requests] == [0, 0, 0]


def test_what_is_sent_in_each_mode(run):
    """Levels of the same bytes; the one that is excluded first is in multi, and not in enhanced."""
    with VlmServer(by_images) as server:
        assert run(SAMPLE, "--base-url", server.base_url, "--modes", ALL)[0] == 0
    single, multi, enhanced, *_ = server.requests
    assert [image.level for image in single.images] == ["context"]
    assert [image.level for image in multi.images] == ["context", "body", "head"]
    assert [image.level for image in enhanced.images] == ["context", "head"]
    of = {image.level: image.data for image in multi.images}
    assert single.images[0].data == of["context"]
    assert [image.data for image in enhanced.images] == [of["context"], of["head"]]
    last = [request for request in server.requests if [image.level for image in request.images] == ["body", "head"]]
    assert len(last) == 1, "without the last of the sequence, the context"


def test_equal_questions_are_asked_once(run, tmp_path):
    """The random control leaves out one of three levels, as another mode does or not."""
    with VlmServer(by_images) as server:
        status, _, told = run(SAMPLE, "--base-url", server.base_url, "--modes", ALL, "--json", "out.json")
    assert status == 0
    sent = [tuple(image.level for image in request.images) for request in server.requests]
    assert len(sent) == len(set(sent))
    answers = json.loads((tmp_path / "out.json").read_text())["images"][0]["persons"][0]["answers"]
    without = {mode: answer["excluded"] for mode, answer in answers.items()}
    assert without["enhanced"] == "body"
    assert without["exclude_last"] == "context"
    assert f"{len(sent)} requests" in told


def test_a_second_run_asks_nothing(run):
    with VlmServer(by_images) as server:
        run(SAMPLE, "--base-url", server.base_url)
        status, printed, told = run(SAMPLE, "--base-url", server.base_url)
        assert len(server.requests) == 3
        assert status == 0
        assert "no requests, 3 more answers without one" in told
        assert "only enhanced  yearning" in printed
        assert run(SAMPLE, "--base-url", server.base_url, "--no-cache")[0] == 0
        assert len(server.requests) == 6


def test_a_dry_run_sends_nothing(run):
    """Not even where it may: the destination matters only when something is sent."""
    status, printed, told = run(SAMPLE, "--dry-run", "--prices", "1000,0")
    assert (status, printed) == (0, "")
    told = re.search(r"3 requests; about ([\d,]+) tokens are sent, at most 1,200 come back: (.*) at most", told)
    assert told is not None
    sent, money = told.groups()
    assert float(money) == round(int(sent.replace(",", "")) / 1000, 2) > 0


def test_too_many_requests_are_not_begun(run):
    with VlmServer(by_images) as server:
        status, _, told = run(SAMPLE, "--base-url", server.base_url, "--max-requests", 2)
        assert server.paths == []
    assert status == 2
    assert "3 requests are more than --max-requests 2" in told


def test_images_leave_the_machine_only_where_they_may(run):
    status, _, told = run(SAMPLE, "--base-url", "https://models.example/v1")
    assert status == 2
    assert "--send-images-to models.example" in told
    status, _, told = run(SAMPLE)
    assert status == 2
    assert "api.openai.com" in told


def test_json_has_all_of_it(run):
    with VlmServer([vlm_server.labels("peace"), vlm_server.refuses("No."), vlm_server.prose("anger")]) as server:
        status, printed, _ = run(SAMPLE, "--base-url", server.base_url, "--json", "-")
    assert status == 0
    whole = json.loads(printed)
    assert (whole["model"], whole["base_url"], whole["modes"]) == (
        vlm_server.MODEL,
        server.base_url,
        ["single", "multi", "enhanced"],
    )
    (image,) = whole["images"]
    (person,) = image["persons"]
    assert person["emo_process"] == ["body-level", "head-level", "context-level"]
    single, multi, enhanced = person["answers"].values()
    assert (single["kind"], single["labels"]) == ("labels", ["peace"])
    assert (multi["kind"], multi["labels"], multi["text"]) == ("refused", [], "No.")
    assert (enhanced["excluded"], enhanced["labels"]) == ("body", ["anger"])
    assert [one["levels"] for one in multi["images"]] == [["context"], ["body"], ["head"]]
    assert person["only_enhanced"] == ["anger"]
    assert whole["counts"] == {"single": {"labels": 1}, "multi": {"refused": 1}, "enhanced": {"labels": 1}}


def test_one_failure_stays_with_its_person(run, tmp_path):
    """Of three images one is refused by CocoER, one by the model; the third has its answers."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "a.png")
    Image.open(SAMPLE).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "b.png")
    (folder / "c.png").write_bytes(b"refuse me")
    bright = {}

    def script(request):
        first = np.asarray(request.images[0].picture.convert("L"))[:, :100].mean()
        bright.setdefault(round(float(first)), len(bright))
        return vlm_server.labels("peace") if bright[round(float(first))] == 0 else vlm_server.error(400, "too blue")

    with VlmServer(script) as server:
        options = ("--modes", "single", "--concurrency", 1, "--json", "out.json")
        status, printed, told = run(folder, "--base-url", server.base_url, *options)
    assert status == 1
    assert "  single         peace" in printed
    assert "failed: " in printed
    assert "too blue" in printed
    assert "error: in/c.png: IMAGE is not an image" in told.replace(str(folder), "in")
    whole = json.loads((tmp_path / "out.json").read_text())
    assert ["error" in image for image in whole["images"]] == [False, False, True]


def test_a_failed_answer_is_asked_again_by_the_next_run(run):
    with VlmServer([vlm_server.error(400, "not now"), vlm_server.labels("peace")]) as server:
        assert run(SAMPLE, "--base-url", server.base_url, "--modes", "single")[0] == 1
        status, printed, _ = run(SAMPLE, "--base-url", server.base_url, "--modes", "single")
    assert status == 0
    assert "  single         peace" in printed


def test_nobody_is_not_asked_about(run, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "empty.png")
    with VlmServer(by_images) as server:
        status, printed, told = run("empty.png", "--base-url", server.base_url)
        assert server.requests == []
    assert (status, printed) == (0, "")
    assert "nobody was found" in told


def test_a_wrong_key_ends_the_run(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    with VlmServer(lambda request: vlm_server.wrong_key()) as server:
        status, _, told = run(SAMPLE, "--base-url", server.base_url)
        assert server.requests[0].key == "sk-mine"
    assert status == 3
    assert "sk-mine" not in told


def test_no_cocoer_is_told(run, triton):
    triton.kill()
    status, _, told = run(SAMPLE, "--base-url", "http://127.0.0.1:9/v1")
    assert status == 3
    assert triton.url in told
    triton.start()


def test_outputs_are_not_inputs(run):
    status, _, told = run(SAMPLE, "--base-url", "http://127.0.0.1:9/v1", "--json", "x.jpg")
    assert status == 2
    assert "named like an image" in told


def test_videos_are_not_asked_about(run):
    status, _, told = run("film.mp4", "--base-url", "http://127.0.0.1:9/v1")
    assert status == 2
    assert "film.mp4" in told


def test_the_prompt_is_shown_and_replaced(run, tmp_path, capsys):
    assert main(["--show-prompt"]) == 0
    shown = capsys.readouterr().out
    assert shown == BUILT_IN.read_text()
    (tmp_path / "mine.md").write_text(shown.replace("# system\n", "# system\nBe kind.\n"))
    with VlmServer(by_images) as server:
        assert run(SAMPLE, "--base-url", server.base_url, "--prompt", "mine.md")[0] == 0
        assert run(SAMPLE, "--base-url", server.base_url)[0] == 0
    assert len(server.requests) == 6, "another prompt, another question"
    assert "Be kind." in server.requests[0].text
    assert "Be kind." not in server.requests[3].text


@pytest.mark.parametrize("arguments", [[], ["a.png"], ["a.png", "--model", "m", "--modes", "single,double"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_args(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_modes_are_asked_in_their_order():
    assert parse_args(["a.png", "--model", "m", "--modes", "enhanced, single"]).modes == ("single", "enhanced")


class TestInterrupted:
    """A process of its own, with a model that does not answer."""

    @pytest.fixture
    def begin(self, triton, tmp_path):
        started = []

        def begin(server, *arguments):
            command = [sys.executable, str(PROJECT / "client" / "vlm.py"), str(SAMPLE), "--model", vlm_server.MODEL]
            command += ["--base-url", server.base_url, "--cache", str(tmp_path / "cache"), *arguments]
            environment = {**os.environ, "COCOER_URL": triton.url}
            process = subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            started.append(process)
            return process

        yield begin
        for process in started:
            process.kill()
            process.communicate()

    def test_what_is_under_way_is_kept(self, begin, tmp_path):
        """Ctrl-C waits for the answer that is paid for, and begins no other."""
        go_on = threading.Event()
        with VlmServer(lambda request: vlm_server.silence(go_on, by_images(request))) as server:
            process = begin(server, "--json", "out.json")
            until(lambda: server.requests)
            process.send_signal(signal.SIGINT)
            assert any("are waited for" in line for line in process.stderr)
            go_on.set()
            _, told = process.communicate(timeout=60)
            assert process.returncode == 130, told
            assert "the same command goes on" in told
            (person,) = json.loads((tmp_path / "out.json").read_text())["images"]
            assert person["persons"] == [], "not the whole of this person was asked"
            assert len(server.requests) == 1
            again = begin(server)
            printed, told = again.communicate(timeout=60)
            assert again.returncode == 0, told
            assert "2 requests, 1 more answer without one" in told
            assert "only enhanced  yearning" in printed

    def test_a_second_signal_ends_it(self, begin):
        with VlmServer(lambda request: vlm_server.silence()) as server:
            process = begin(server)
            until(lambda: server.requests)
            process.send_signal(signal.SIGINT)
            assert any("are waited for" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
