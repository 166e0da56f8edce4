"""The command line of cocoer-web: who may be served without keys, what is refused, what is said."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import fields

import pytest

from cocoer_client.errors import InvalidInput
from cocoer_client.web.arguments import LOOPBACK, make_parser, parse_args, settings_of
from cocoer_client.web.command import begins, listen, main
from cocoer_client.web.keys import Keys
from cocoer_client.web.settings import Settings
from tests.builds import PROJECT


def settings(*arguments):
    return settings_of(parse_args(arguments))


def test_without_options_it_is_for_this_machine_alone(monkeypatch):
    monkeypatch.delenv("COCOER_URL", raising=False)
    args = parse_args([])
    assert (args.host, args.port, args.processes) == ("127.0.0.1", 8080, 1)
    assert settings_of(args) == Settings(retries=2, hosts=LOOPBACK)


def test_every_setting_has_an_option(tmp_path):
    """Given another value each, no setting keeps its default."""
    key = tmp_path / "keys"
    given = settings(
        *(
            "--url",
            "a:1",
            "--timeout",
            "7",
            "--retries",
            "3",
            "--keys",
            str(key),
            "--allow-origin",
            "https://A.example/",
        ),
        *("--allow-host", "b.example", "--root-path", "/c/", "--max-bytes", "1M", "--max-requests", "8"),
        *("--max-per-caller", "9", "--max-uploads", "2G", "--body-timeout", "11", "--header-timeout", "12"),
        *("--max-connections", "13", "--threads", "14"),
    )
    unchanged = [one.name for one in fields(Settings) if getattr(given, one.name) == getattr(Settings(), one.name)]
    assert unchanged == []
    assert given.origins == ("https://a.example",)
    assert given.hosts == ("b.example", *LOOPBACK)
    assert (given.root_path, given.max_bytes, given.max_upload_bytes) == ("/c", 1 << 20, 2 << 30)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host):
    assert settings("--host", host).hosts == LOOPBACK


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gateway.example", "localhost.example", ""])
def test_no_other_address_is_served_without_keys(host, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_args(["--host", host])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "--keys FILE" in told
    assert "--without-keys" in told
    assert settings("--host", host, "--without-keys").hosts == ()
    assert settings("--host", host, "--keys", "file").hosts == ()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--keys", "a", "--without-keys"], "exclude each other"),
        (["--max-per-caller", "3"], "needs --keys"),
        (["--port", "65536"], "0 to 65535"),
        (["--processes", "0"], "must be 1 or more"),
        (["--max-bytes", "0"], "number of bytes from 1"),
        (["--max-bytes", "32 MB"], "number of bytes from 1"),
        (["--body-timeout", "nan"], "more than 0 seconds"),
        (["--linger", "-1"], "0 seconds or more"),
        (["--root-path", "cocoer"], "a path such as /cocoer"),
        (["--root-path", "/a b"], "a path such as /cocoer"),
        (["--allow-origin", "*"], "an origin such as"),
        (["--allow-origin", "https://a.example/page"], "an origin such as"),
        (["--allow-origin", "null"], "an origin such as"),
        (["--allow-host", "a.example:80"], "without a port"),
        (["--make-key", "a b"], "1 to 64 of the characters"),
        (["--header", "sesame"], "must be NAME:VALUE"),
        (["--tls-cert", "a.pem"], "go together"),
    ],
)
def test_what_makes_no_sense_ends_with_status_2(arguments, told, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_args(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_headers_from_a_file(tmp_path):
    path = tmp_path / "headers"
    path.write_text("# of Triton's gateway\nauthorization: Bearer sesame\n\n")
    given = settings("--header", "a:b", "--header-file", str(path))
    assert given.connection.headers == {"a": "b", "authorization": "Bearer sesame"}
    assert "sesame" not in repr(given)
    path.write_text("sesame\n")
    with pytest.raises(InvalidInput, match="its lines must be NAME:VALUE") as caught:
        settings("--header-file", str(path))
    assert "sesame" not in str(caught.value)
    with pytest.raises(InvalidInput, match="No such file"):
        settings("--header-file", str(tmp_path / "nothing"))


def test_a_new_key(tmp_path, capsys):
    assert main(["--make-key", "alice"]) == 0
    printed = capsys.readouterr()
    (tmp_path / "keys").write_text(printed.out)
    key = printed.err.split()[-1]
    assert key not in printed.out
    assert Keys(tmp_path / "keys").caller(key) == "alice"


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert f"error: can't listen on 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err


def test_an_address_that_there_is_not(capsys):
    assert main(["--host", "192.0.2.1", "--port", "0", "--without-keys"]) == 1
    assert "can't listen on 192.0.2.1" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "alice short\n"])
def test_keys_that_can_not_be_used(tmp_path, capsys, content):
    path = tmp_path / "keys"
    if content:
        path.write_text(content)
    assert main(["--keys", str(path), "--port", "0"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert str(path) in told.err
    assert "short" not in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_what_is_said_at_the_start(host, shown):
    args = parse_args(["--host", host, "--port", "0", "--without-keys", "--url", "triton:8001"])
    try:
        listening = listen(args.host, args.port)
    except OSError:
        assert ":" in host, "no IPv6 here"
        return
    with listening:
        port = listening.getsockname()[1]
        told = begins(args, listening)
    assert told == f"http://{shown}:{port}/ without API keys, in front of Triton at triton:8001"


def test_help_and_completion():
    text = make_parser().format_help()
    for part in ("examples:", "exit status:", "HTTPS is left to", "curl -F image=@"):
        assert part in text
    run = [sys.executable, "client/web.py", "--print-completion", "bash"]
    printed = subprocess.run(run, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "--allow-origin" in printed


def test_it_starts_without_the_packages_for_help_and_keys():
    """They come with an extra; what can be said without them is said."""
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'python_multipart'))\n"
        "from cocoer_client.web.command import main\n"
        "assert main(['--make-key', 'alice']) == 0\n"
        "main(['--help'])"
    )
    environment = {**os.environ, "COLUMNS": "200"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"--port PORT +port to listen on", run.stdout)
