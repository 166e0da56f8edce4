"""API keys of the gateway: what a file may hold, who a key stands for, files that change while it runs."""

import hashlib
import logging
import os

import pytest

from cocoer_client.errors import InvalidInput
from cocoer_client.web.keys import MIN_KEY, RELOAD, Keys, make_key, read_keys

ALICE, BOB, OTHER = "alice-" + "a" * 20, "bob#key-" + "b" * 20, "nobody-" + "c" * 20


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"# who may ask\nalice {ALICE}  # until June\n\nbob sha256:{digest(BOB)}\nalice {ALICE}2\n")
    path.chmod(0o600)
    return path


def test_keys_stand_for_names(file):
    keys = Keys(file)
    known = {ALICE: "alice", ALICE + "2": "alice", BOB: "bob"}
    assert {key: keys.caller(key) for key in known} == known
    for key in (OTHER, "", ALICE[:-1], ALICE.upper(), digest(BOB), f"sha256:{digest(BOB)}", "é"):
        assert keys.caller(key) is None, key


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "there is no API key in"),
        ("# nothing\n", "there is no API key in"),
        (f"{ALICE}\n", "line 1 of .*: must be NAME KEY"),
        (f"a b {ALICE}\n", "must be NAME KEY"),
        (f"a/b {ALICE}\n", "must be NAME KEY"),
        (f"{'a' * 65} {ALICE}\n", "must be NAME KEY"),
        (f"alice {ALICE}\nbob {'b' * (MIN_KEY - 1)}\n", "line 2 of .*: the key must have 16 to 512 characters"),
        (f"bob {'b' * 513}\n", "16 to 512 characters"),
        (f"bob {'é' * 20}\n", "ASCII"),
        (f"bob sha256:{'0' * 63}\n", "64 hexadecimal digits"),
        (b"bob \xff\xfe" + b"b" * 20, "are not text"),
    ],
)
def test_files_that_are_not_taken(tmp_path, content, told):
    path = tmp_path / "keys.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput, match=told) as caught:
        read_keys(path)
    for secret in (ALICE, "bbbb", "000"):
        assert secret not in str(caught.value), "a message is no place for a key"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInput, match=r"can't read the API keys in .*nothing.txt: No such file"):
        Keys(tmp_path / "nothing.txt")


def test_a_key_may_have_a_hash_sign(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"bob {BOB}\n")
    assert Keys(path).caller(BOB) == "bob"


def test_made_keys_work(tmp_path):
    key, line = make_key("carol")
    assert key not in line
    assert make_key("carol")[0] != key
    path = tmp_path / "keys.txt"
    path.write_text(line + "\n")
    assert Keys(path).caller(key) == "carol"


def test_a_changed_file_is_read_again_once_a_second(file, caplog):
    caplog.set_level(logging.INFO, "cocoer_web")
    clock = Clock()
    keys = Keys(file, clock)
    file.write_text(f"carol {OTHER}\n")
    assert keys.caller(OTHER) is None, "not looked at yet"
    clock.now = RELOAD
    assert (keys.caller(OTHER), keys.caller(ALICE)) == ("carol", None)
    assert [record.message for record in caplog.records] == [f"keys read again from {file}: 1"]


def test_a_file_that_became_invalid_leaves_the_keys_and_is_told_once(file, caplog):
    clock = Clock()
    keys = Keys(file, clock)
    file.write_text(f"alice {ALICE[:10]}\n")
    for now in (1, 2, 3):
        clock.now = now
        assert keys.caller(ALICE) == "alice"
    (told,) = caplog.messages
    assert "the keys from before are still used" in told
    assert ALICE[:10] not in told
    file.unlink()
    clock.now = 4
    assert keys.caller(ALICE) == "alice"
    file.write_text(f"carol {OTHER}\n")
    clock.now = 5
    assert (keys.caller(OTHER), keys.caller(ALICE)) == ("carol", None)


def test_links_that_are_swapped(tmp_path):
    """As Kubernetes replaces a secret: the file is a link into a folder, which is a link too."""
    for folder, key in (("one", ALICE), ("two", BOB)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "keys").write_text(f"{folder} {key}\n")
        os.utime(tmp_path / folder / "keys", (1, 1))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "keys").symlink_to("data/keys")
    clock = Clock()
    keys = Keys(tmp_path / "keys", clock)
    assert keys.caller(ALICE) == "one"
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "data")
    clock.now = RELOAD
    assert (keys.caller(BOB), keys.caller(ALICE)) == ("two", None)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everybody_may_read_is_told(file, caplog, mode, warned):
    file.chmod(mode)
    Keys(file)
    assert any("can be read by every user" in message for message in caplog.messages) == warned
