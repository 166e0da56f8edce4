"""Answers on disk: whose they are, what is not read, and what becomes of a run where nothing can be written."""

import contextlib
import copy
import errno
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from cocoer_client.vlm import cache as module
from cocoer_client.vlm.cache import Cache
from cocoer_client.vlm.endpoint import Endpoint, EndpointOptions, Reply, Usage
from tests.conftest import PROJECT
from tests.vlm_server import VlmServer, cut_off, error, fails, labels, refuses

REPLY = Reply('{"labels": ["peace"]}', "no\u00e9", "length", Usage(120, 7), {"yes": -0.25, " Yes": -3.0})
KEY = "ab" + 62 * "0"
URL = "http://localhost:8000/v1"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "some" / "cache")


def body(**changes):
    picture = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,QUJD", "detail": "high"}}
    text = {"type": "text", "text": "Which labels?"}
    return {
        "model": "m",
        "messages": [{"role": "system", "content": "You see."}, {"role": "user", "content": [text, picture]}],
        "temperature": 0,
        "max_tokens": 400,
        "response_format": {"type": "json_schema", "json_schema": {"name": "emotions", "schema": {"enum": ["peace"]}}},
        **changes,
    }


def test_an_answer_comes_back_as_it_was(cache):
    assert cache.get(KEY) is None
    cache.put(KEY, REPLY)
    assert cache.get(KEY) == REPLY == Cache(cache.directory).get(KEY)
    cache.put(KEY, replace(REPLY, text="anew"))
    assert cache.get(KEY).text == "anew"


def test_nobody_else_reads_it(cache):
    before = os.umask(0)
    try:
        cache.put(KEY, REPLY)
    finally:
        os.umask(before)
    modes = {
        path.relative_to(cache.directory.parent): path.stat().st_mode & 0o777 for path in cache.directory.rglob("*")
    }
    assert {str(path): oct(mode) for path, mode in modes.items()} == {
        "cache/ab": "0o700",
        f"cache/ab/{KEY}.json": "0o600",
    }
    assert cache.directory.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_there_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    Cache(tmp_path).put(KEY, REPLY)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "ab" / f"{KEY}.json").stat().st_mode & 0o777 == 0o600


def test_all_that_is_sent_is_in_the_key():
    def key(url=URL, **changes):
        return Cache.key(url, body(**changes))

    told, asked = copy.deepcopy(body())["messages"], []
    for change in (
        lambda messages: messages[0].update(content="You look."),
        lambda messages: messages[1]["content"][0].update(text="What?"),
        lambda messages: messages[1]["content"][1]["image_url"].update(url="data:image/jpeg;base64,QUJE"),
        lambda messages: messages[1]["content"][1]["image_url"].update(detail="low"),
        lambda messages: messages[1]["content"].reverse(),
        lambda messages: messages[1]["content"].pop(),
    ):
        messages = copy.deepcopy(told)
        change(messages)
        asked.append(key(messages=messages))
    keys = [
        key(), key("http://localhost:8001/v1"), key(model="n"), key(temperature=1), key(max_tokens=1),
        key(logprobs=True), key(response_format={"type": "json_object"}), *asked,
    ]  # fmt: skip
    assert len(set(keys)) == len(keys) == 13
    assert all(len(one) == 64 for one in keys)
    # What makes no difference: the order of fields, a slash at the end.
    assert Cache.key(f"{URL}/", dict(reversed(body().items()))) == key()


def ask(asked, cache):
    """As a run does."""
    wanted = asked.body(body()["messages"], None)
    key = cache.key(asked.options.base_url, wanted)
    if (kept := cache.get(key)) is not None:
        return kept
    reply = asked.ask(wanted)
    cache.put(key, reply)
    return reply


def test_what_a_server_takes_does_not_change_the_key(cache):
    """The next run finds the answer without finding out first that the server takes no temperature."""

    def picky(seen):
        return labels() if "temperature" not in seen.body else error(400, "Unsupported value", param="temperature")

    with VlmServer(picky) as server:
        for _ in range(2):
            with Endpoint(EndpointOptions(model="m", base_url=server.base_url, retries=0)) as asked:
                ask(asked, cache)
    assert [seen.body.get("temperature") for seen in server.requests] == [0, None]


@pytest.mark.parametrize(
    "answer", [labels("peace"), refuses("no"), cut_off("peace")], ids=["labels", "refused", "cut off"]
)
def test_answers_are_paid_for_once(answer, cache):
    with VlmServer([fails(), answer]) as server:
        with Endpoint(EndpointOptions(model="m", base_url=server.base_url, retries=0)) as asked:
            with contextlib.suppress(Exception):
                ask(asked, cache)  # a failure is not kept
            first, second = ask(asked, cache), ask(asked, cache)
        with Endpoint(EndpointOptions(model="m", base_url=server.base_url, retries=0)) as later:
            third = ask(later, Cache(cache.directory))
    assert first == second == third
    assert len(server.requests) == 2


def changed(**changes):
    kept = json.loads(module._kept.dump_json(module._Kept(1, KEY, REPLY)))
    return json.dumps(kept | changes).encode()


WHOLE = changed()
BROKEN = {
    "empty": b"",
    "cut short": WHOLE[:-20],
    "zeros": bytes(len(WHOLE)),
    "no text": b"\xff\xfe" + WHOLE,
    "another program's": b'{"answer": 42}',
    "a list": b"[1, 2]",
    "of before formats": json.dumps(json.loads(WHOLE)["reply"]).encode(),
    "newer": changed(format=2),
    "of another request": changed(key="cd" + 62 * "0"),
    "without a text": changed(reply={"refusal": ""}),
    "of other types": changed(reply={"text": 7}),
    "with words for numbers": changed(reply={"text": "a", "usage": {"prompt": "many", "completion": 1}}),
    "with a word for a number": changed(format="1"),
    "with other candidates": changed(reply={"text": "a", "first_token": ["yes"]}),
    "null": changed(reply=None),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_and_foreign_files_are_replaced(content, cache, caplog):
    path = cache.directory / "ab" / f"{KEY}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(WHOLE)
    assert cache.get(KEY) == REPLY
    path.write_bytes(content)
    assert cache.get(KEY) is None
    cache.put(KEY, REPLY)
    assert cache.get(KEY) == REPLY
    assert caplog.records == []


def test_a_directory_in_the_place_of_a_file(cache, caplog):
    (cache.directory / "ab" / f"{KEY}.json").mkdir(parents=True)
    assert cache.get(KEY) is None
    cache.put(KEY, REPLY)
    assert cache.get(KEY) == REPLY
    assert len(caplog.records) == 1


def test_without_a_directory_a_run_remembers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = Cache(None)
    assert cache.get(KEY) is None
    cache.put(KEY, REPLY)
    assert cache.get(KEY) == REPLY
    assert Cache(None).get(KEY) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trouble", ["a file in its place", "a full disk", "a full disk at the end"])
def test_what_can_t_be_written_is_not_lost(trouble, tmp_path, monkeypatch, caplog):
    """One warning, however many answers; and nothing half is left behind."""
    directory = tmp_path / "cache"
    if trouble == "a file in its place":
        directory.write_text("mine")
    else:

        def full(path, content):
            if trouble.endswith("end"):
                path.write_bytes(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(module, "_write_private", full)
    cache = Cache(directory)
    for key in (KEY, KEY[::-1]):
        cache.put(key, REPLY)
        assert cache.get(key) == REPLY
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert f"answers can't be kept in {directory} (" in warning.getMessage()
    assert "the next run will ask again" in warning.getMessage()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == ([directory] if directory.is_file() else [])
    assert Cache(directory).get(KEY) is None


WRITER = """
import sys
import time
from pathlib import Path
from cocoer_client.vlm.cache import Cache
from cocoer_client.vlm.endpoint import Reply
cache, text = Cache(Path(sys.argv[1])), sys.argv[2] * 20000
for number in range(30):
    cache.put("ab%062d" % (number % 3), Reply(text))
    assert len(set(cache.get("ab%062d" % (number % 3)).text)) == 1
"""


def test_two_processes_at_once(cache):
    """Both write the same answers: each is there whole, at any time."""
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, os.fspath(cache.directory), letter], cwd=PROJECT / "client")
        for letter in "xy"
    ]
    keys, seen = [f"ab{number:062d}" for number in range(3)], set[str]()
    while any(process.poll() is None for process in running):
        for key in keys:
            if (reply := cache.get(key)) is not None:
                assert len(reply.text) == 20000
                seen |= set(reply.text)
        time.sleep(0.005)  # the writers are to come to something, too
    assert [process.returncode for process in running] == [0, 0]
    assert seen <= {"x", "y"}
    assert all(cache.get(key) is not None for key in keys)
    assert sorted(path.name for path in cache.directory.rglob("*") if path.is_file()) == [f"{key}.json" for key in keys]
