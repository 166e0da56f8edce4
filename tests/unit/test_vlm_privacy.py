"""Images of people leave this machine for one named host, and keys for nobody's eyes."""

import contextlib
import logging
import re
import socket
import threading

import openai
import pytest

from cocoer_client.errors import InvalidInput
from cocoer_client.vlm.endpoint import Endpoint, EndpointOptions, EndpointUnusable
from cocoer_client.vlm.privacy import check_destination, host_of, is_loopback, read_key, scrubbed
from tests.sockets import all_of
from tests.vlm_server import VlmServer, labels, redirects

KEY = "sk-proj-4f9a8b7c6d5e"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:11434/v1", "http://127.0.0.1/v1", "http://127.8.9.10:8000", "https://[::1]:8000/v1",
        "HTTP://LOCALHOST/v1", "http://[0:0:0:0:0:0:0:1]/v1",
    ],
)  # fmt: skip
def test_this_machine_needs_no_permission(url):
    check_destination(url, None)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1", "http://localhost.example.com/v1", "http://localhost./v1", "http://127.1/v1",
        "http://2130706433/v1", "http://0x7f000001/v1", "http://0.0.0.0:8000/v1", "http://[::]/v1", "http://0177.0.0.1/v1",
        "http://[::ffff:127.0.0.1]/v1", "http://127.0.0.1.nip.io/v1", "http://localtest.me/v1", "http://foo.localhost/v1",
        "http://10.0.0.7/v1", "http://169.254.169.254/v1",
    ],
)  # fmt: skip
def test_other_machines_need_permission(url):
    """A name that leads to this machine, or another way to write its address, is not enough."""
    host = host_of(url)
    with pytest.raises(
        InvalidInput, match=re.escape(f"images of people would leave this machine, to {host}; if")
    ) as told:
        check_destination(url, None)
    assert str(told.value).endswith(f"--send-images-to {host}")
    check_destination(url, host)


@pytest.mark.parametrize(
    "allowed",
    [
        "", "openai.com", "api.openai.com.", ".api.openai.com", "api.openai.com:443", "https://api.openai.com", "*",
        "api.openai.com.evil.com", "evil.api.openai.com", "*.openai.com", "api.openai.com/v1", " api.openai.com",
        "api.openai.com,other", "api_openai_com", "apiXopenai.com", "[api.openai.com]",
    ],
)  # fmt: skip
def test_permission_is_for_one_host(allowed):
    with pytest.raises(InvalidInput, match="would leave this machine"):
        check_destination("https://api.openai.com/v1", allowed)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.openai.com/v1", "API.OpenAI.com"),
        ("https://API.OPENAI.COM:443/v1/", "api.openai.com"),
        ("https://[2001:DB8::1]:8000/v1", "2001:db8::1"),
        ("https://[2001:db8::1]/v1", "[2001:DB8::1]"),
        ("https://xn--bcher-kva.example/v1", "xn--bcher-kva.example"),
        ("https://api.openai.com./v1", "api.openai.com."),
    ],
)
def test_the_host_itself_is_allowed(url, allowed):
    check_destination(url, allowed)


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:8000", "api.openai.com/v1", "ftp://localhost/v1", "file:///etc/passwd", "http:///v1", "http://",
        "//h/v1",
        "http://local host/v1", "http://localhost\\@evil.com/v1", "http://evil.com\\.localhost/v1", "http://localhost\n/v1",
        "http://localhost\t.evil.com/v1", "http://localhost:99999/v1", "http://localhost:80a/v1", "http://[::1/v1",
        "http://[::1]evil.com/v1", "http://[::1%25eth0]/v1", "http://[1.2.3.4]/v1x y", "https://b\u00fccher.example/v1",
        "https://api.openai\u3002com/v1", "https://\u0430pi.openai.com/v1", "http://127.0.0.1%2eevil.com/v1", "http://[:]/v1",
        "http://localhost/v1?key=abc", "http://localhost/v1#x", "http://evil.com#@localhost/v1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_taken(url):
    with pytest.raises(InvalidInput, match="--base-url must"):
        check_destination(url, "evil.com")
    with pytest.raises(InvalidInput, match="--base-url must"):
        EndpointOptions(model="m", base_url=url)


@pytest.mark.parametrize(
    "url", ["https://me:hunter2@host/v1", "https://hunter2@host/v1", "https://api.openai.com@hunter2/v1"]
)
def test_no_password_in_an_address(url):
    """It would stand in records, reports and lists of processes."""
    with pytest.raises(InvalidInput, match="--api-key-file") as told:
        EndpointOptions(model="m", base_url=url)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/v1", "https://API.openai.com:8443/v1/", "https://[2001:DB8::1]/v1", "http://127.0.0.1:1/",
        "http://2130706433/v1", "http://a_b.example/v1", "https://x/%40y/v1/~z", "http://0/v1",
    ],
)  # fmt: skip
def test_the_library_reads_the_same_host(url):
    with openai.OpenAI(base_url=url, api_key="x") as client:
        assert client.base_url.host.lower() == host_of(url)
    Endpoint(EndpointOptions(model="m", base_url=url)).__exit__()


def test_an_address_that_is_read_in_two_ways(monkeypatch):
    monkeypatch.setattr("cocoer_client.vlm.endpoint.host_of", lambda url: "127.0.0.1")
    with pytest.raises(InvalidInput, match="can be read in two ways"):
        Endpoint(EndpointOptions(model="m", base_url="http://evil.example/v1"))


def test_unencrypted_to_another_machine_is_warned_of(caplog):
    for url in ("http://localhost/v1", "https://gpu.example/v1", "http://gpu.example/v1"):
        check_destination(url, "gpu.example")
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "go to gpu.example unencrypted" in warning.getMessage()


def options(server, **more):
    return EndpointOptions(**{"model": "m", "base_url": server.base_url, "retries": 0, "key": KEY, **more})


def ask(asked):
    return asked.ask(asked.body([{"role": "user", "content": "?"}], None))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections_are_not_followed(status):
    with VlmServer([labels()]) as other:
        elsewhere = redirects(f"http://localhost:{other.port}/v1/chat/completions", status)
        with (
            VlmServer([elsewhere]) as server,
            Endpoint(options(server)) as asked,
            pytest.raises(EndpointUnusable) as told,
        ):
            ask(asked)
    assert "leads to another address" in str(told.value)
    assert len(server.requests) == 1
    assert other.paths == []


class RecordingProxy:
    """Keeps what it is asked for, and refuses it."""

    def __init__(self):
        self.asked = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *raised):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def asked_about(self, host):
        """Others in this process may ask meanwhile: ONNX Runtime's wheel tells its makers that it is used."""
        return [line for line in self.asked if host in line]

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.asked.append(connection.recv(1 << 16).split(b"\r\n")[0].decode())
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    connection.shutdown(socket.SHUT_WR)
                    all_of(connection)


@pytest.fixture
def proxy(monkeypatch):
    for name in (*PROXIES, "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with RecordingProxy() as running:
        for name in PROXIES:
            monkeypatch.setenv(name, running.url)
        yield running


def test_no_proxy_between_programs_of_this_machine(proxy):
    with VlmServer([labels("peace")]) as server, Endpoint(options(server)) as asked:
        assert "peace" in ask(asked).text
        assert proxy.asked_about(f"127.0.0.1:{server.port}") == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_environment_s_proxy_to_other_machines(proxy, scheme):
    address = f"{scheme}://gpu.example/v1"
    with Endpoint(EndpointOptions(model="m", base_url=address, retries=0)) as asked, pytest.raises(EndpointUnusable):
        ask(asked)
    assert proxy.asked_about("gpu.example") == [
        "CONNECT gpu.example:443 HTTP/1.1" if scheme == "https" else f"POST {address}/chat/completions HTTP/1.1"
    ]


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(f"\n  {KEY}\r\n\n")
    path.chmod(0o600)
    return path


def test_a_key_is_read(key_file, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", " of the environment\n".replace(" ", "-").strip())
    assert read_key(key_file) == KEY
    assert read_key(None) == "-of-the-environment"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert read_key(None) == ""
    assert caplog.records == []


@pytest.mark.parametrize("mode", [0o604, 0o644])
def test_a_key_that_everybody_can_read(key_file, mode, caplog):
    key_file.chmod(mode)
    assert read_key(key_file) == KEY
    (warning,) = caplog.records
    assert "can be read by every user" in warning.getMessage()
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "there is no key in"),
        (b" \n\n", "there is no key in"),
        (f"{KEY}\n{KEY}2\n".encode(), "has 2 lines; it must hold one key"),
        (f"# mine\n{KEY}\n".encode(), "has 2 lines"),
        (f"OPENAI_API_KEY={KEY}\n".encode(), "the key alone, without OPENAI_API_KEY="),
        (f"{KEY} {KEY}\n".encode(), "without spaces"),
        (f"{KEY}\u00e9\n".encode(), "of ASCII characters"),
        (f"{KEY}\x07\n".encode(), "of ASCII characters"),
        (KEY.encode() + b"\xff\xfe", "is not text"),
    ],
)
def test_files_that_hold_no_key(key_file, content, told):
    key_file.write_bytes(content)
    with pytest.raises(InvalidInput, match=told) as raised:
        read_key(key_file)
    assert KEY not in str(raised.value)


def test_keys_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match=r"can't read the key in .*/none: No such file"):
        read_key(tmp_path / "none")
    with pytest.raises(InvalidInput, match="Is a directory"):
        read_key(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(InvalidInput, match=r"what \$OPENAI_API_KEY holds can't be a key") as raised:
        read_key(None)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"key {KEY}.", "key [key]."),
        ("Incorrect API key provided: sk-ab***********wxyz. Find", "Incorrect API key provided: [key] Find"),
        ("provided: abcd****wxyz", "provided: [key]"),
        ("'Authorization': 'Bearer abc.def'", "'Authorization': '[key]'"),
        ("see https://me:pw@example.com/x", "see https://example.com/x"),
        (f"got data:image/jpeg;base64,{'Ab/9' * 30}== here", "got [data] here"),
        (f"got {'Ab9' * 30}", "got [data]"),
        ("a\n b\t\r\nc", "a b c"),
        ("x " * 400, "x " * 150 + "..."),
        ("response_format.type `json_schema` is unavailable", "response_format.type `json_schema` is unavailable"),
    ],
)
def test_what_is_told_of_others_messages(text, clean):
    assert scrubbed(text, KEY) == clean


def test_words_that_stand_in_for_a_key_are_no_secret():
    assert scrubbed("model EMPTY is not there", "EMPTY") == "model EMPTY is not there"


def test_loopback():
    assert not is_loopback("")
    assert not is_loopback("LOCALHOST")  # host_of has made it small
