"""What stands around every request to the gateway: ids, keys, hosts, origins, headers, its line in the log."""

import json
import logging
import re

import grpc
import pytest

from cocoer_bls.errors import REASONS as REFUSALS
from cocoer_client.errors import InvalidRequest
from cocoer_client.web import problems
from cocoer_client.web.app import create_app
from cocoer_client.web.guard import EXPLAIN_POLICY, NO_POLICY
from cocoer_client.web.log import Line, _Json, _Text
from cocoer_client.web.settings import Settings
from tests.asgi import NOWHERE, asking, opened
from tests.conftest import SAMPLE
from tests.fake_server import FakeServer, Refused
from tests.pages import read

KEY, OTHER_KEY = "alice-" + "a" * 20, "bob-" + "b" * 20
OWN = {"host": "gateway.example:8443"}
SECRET = "Affection-of-nobody"
MADE = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(scope="module")
def fake():
    def answer(image, now):
        if image == b"broken":
            raise Refused(grpc.StatusCode.INTERNAL, "it broke")
        return {"persons": [], "told": SECRET}

    server = FakeServer(answer)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def plain():
    with opened() as client:
        yield client


@pytest.fixture
def guarded(tmp_path):
    (tmp_path / "keys").write_text(f"alice {KEY}\nbob {OTHER_KEY}\n")
    (tmp_path / "keys").chmod(0o600)
    with opened(keys=tmp_path / "keys") as client:
        yield client


@pytest.fixture(scope="module")
def shared():
    """A gateway that lets pages of another origin ask."""
    with opened(origins=("https://app.example",)) as client:
        yield client


def reason(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["reason"]


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "0" * 64])
def test_sane_request_ids_are_kept(plain, given):
    assert plain.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "0" * 65, "a b", "a\x7f", "<b>", "a/b", "a%0d%0aSet-Cookie:x"])
def test_others_are_replaced(plain, given):
    assert MADE.fullmatch(plain.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nothing", (404, "not-found")),
        ("GET", "/page/nothing.js", (404, "not-found")),
        ("GET", "/page/../settings.py", (404, "not-found")),
        ("GET", "/page/%2e%2e/settings.py", (404, "not-found")),
        ("GET", "/v1/recognise/", (404, "not-found")),
        ("GET", "/v1/recognise", (405, "method")),
        ("OPTIONS", "/v1/recognise", (405, "method")),
        ("POST", "/page/nothing.js", (405, "method")),
        ("GET", "/readyz", (503, "unavailable")),
    ],
)
def test_every_error_is_a_problem(plain, method, path, expected):
    assert reason(plain.request(method, path)) == expected


def test_failures_of_ours_are_problems_that_tell_nothing(caplog):
    app = create_app(Settings(url=NOWHERE))

    @app.get("/fails")
    async def fails():
        raise ValueError(SECRET)

    with asking(app) as client:
        answer = client.get("/fails")
    assert reason(answer) == (500, "internal")
    assert SECRET not in answer.text
    assert "content-security-policy" in answer.headers
    (told,) = [record for record in caplog.records if record.exc_info]
    assert answer.headers["x-request-id"] in told.getMessage()
    assert "ValueError" in logging.Formatter().format(told)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/v1/model", "/nothing", "/metrics"])
def test_security_headers_are_everywhere(plain, path):
    headers = plain.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["permissions-policy"].startswith("camera=(self), microphone=()")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == ("no-cache" if path in ("/", "/docs", "/openapi.json") else "no-store")
    assert "server" not in headers
    assert not [name for name in headers if name.startswith("access-control")]


def test_the_explain_page_is_a_sandbox(fake):
    assert EXPLAIN_POLICY.startswith("sandbox; default-src 'none'")
    with opened(url=fake.url) as client:
        assert client.post("/v1/explain", content=b"x").headers["content-security-policy"] == NO_POLICY  # a refusal


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (401, "key")),
        ({"authorization": f"Bearer {KEY}x"}, (401, "key")),
        ({"authorization": f"Basic {KEY}"}, (401, "key")),
        ({"authorization": KEY}, (401, "key")),
        ({"authorization": "Bearer"}, (401, "key")),
        ({"x-api-key": ""}, (401, "key")),
        ({"x-api-key": "\u00e9".encode("latin-1") * 20}, (401, "key")),
        ({"authorization": f"Bearer {KEY}"}, (503, "unavailable")),
        ({"authorization": f"bearer  {OTHER_KEY} "}, (503, "unavailable")),
        ({"x-api-key": KEY}, (503, "unavailable")),
        ({"authorization": "Basic of-a-proxy", "x-api-key": KEY}, (503, "unavailable")),
    ],
)
def test_keys(guarded, headers, expected):
    """Who may ask gets as far as the server, which is not there."""
    for path in ("/v1/model", "/v1/nothing"):
        answer = guarded.get(path, headers=headers)
        assert reason(answer) == (expected if path == "/v1/model" or expected[0] == 401 else (404, "not-found"))
        assert (answer.headers.get("www-authenticate") == "Bearer") == (expected[0] == 401)
        assert KEY not in answer.text


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/metrics"])
def test_no_key_is_needed_beside_v1(guarded, path):
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", ["//v1/model", "/V1/model", "/v1//model", "/page/../v1/model", "/%76%31/model"])
def test_no_other_spelling_gets_past_the_keys(guarded, path):
    assert guarded.get(path).status_code in (401, 404)


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        ("LOCALHOST", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8080", False),
        ("", False),
    ],
)
def test_hosts(host, answered):
    """A page elsewhere whose name is made to lead here can't read anything (DNS rebinding)."""
    with opened(hosts=("localhost", "127.0.0.1", "[::1]")) as client:
        for path in ("/", "/v1/model", "/openapi.json"):
            answer = client.get(path, headers={"host": host})
            assert (answer.status_code != 421) == answered
            assert answered or reason(answer) == (421, "host")
        assert client.get("/healthz", headers={"host": "10.0.0.7:8080"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"origin": "https://gateway.example:8443"}, False),
        ({"origin": "http://gateway.example:8443", "sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "https://gateway.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"origin": "https://app.example"}, True),
    ],
)
def test_pages_elsewhere_can_not_ask(plain, headers, refused):
    answer = plain.get("/v1/model", headers={**OWN, **headers})
    assert reason(answer) == ((403, "origin") if refused else (503, "unavailable"))
    assert "access-control-allow-origin" not in answer.headers
    assert plain.get("/", headers={**OWN, **headers}).status_code == 200, "a link may lead to the page"


def test_pages_that_are_named_can(shared):
    headers = {**OWN, "origin": "https://app.example", "sec-fetch-site": "cross-site"}
    answer = shared.get("/v1/model", headers=headers)
    assert reason(answer) == (503, "unavailable")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in answer.headers
    for name in ("X-Request-Id", "Retry-After"):
        assert name in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]
    answer = shared.options("/v1/recognise", headers={**headers, "access-control-request-method": "POST"})
    assert (answer.status_code, answer.text) == (204, "")
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert "Authorization" in answer.headers["access-control-allow-headers"]


@pytest.mark.parametrize("origin", ["https://app.example.evil.example", "http://app.example", "https://app.example:1"])
def test_others_can_not(shared, origin):
    for method in ("GET", "OPTIONS"):
        headers = {**OWN, "origin": origin, "access-control-request-method": "POST"}
        answer = shared.request(method, "/v1/model", headers=headers)
        assert reason(answer) == (403, "origin")
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"


def test_a_preflight_needs_no_key(tmp_path):
    (tmp_path / "keys").write_text(f"alice {KEY}\n")
    with opened(keys=tmp_path / "keys", origins=("https://app.example",)) as client:
        headers = {**OWN, "origin": "https://app.example"}
        preflight = {**headers, "access-control-request-method": "POST"}
        assert client.options("/v1/recognise", headers=preflight).status_code == 204
        answer = client.get("/v1/model", headers=headers)
        assert reason(answer) == (401, "key")
        assert answer.headers["access-control-allow-origin"] == "https://app.example", "so that the page can read it"


def test_root_path(tmp_path):
    """With and without the part that a proxy takes off, keys are asked for."""
    (tmp_path / "keys").write_text(f"alice {KEY}\n")
    with opened(keys=tmp_path / "keys", root_path="/cocoer") as client:
        for path in ("/cocoer/cocoer/v1/model", "/cocoerv1/model", "/cocoer//v1/model"):
            assert reason(client.get(path)) == (404, "not-found")
        for path in ("/v1/model", "/cocoer/v1/model"):
            assert reason(client.get(path)) == (401, "key")
            assert reason(client.get(path, headers={"x-api-key": KEY})) == (503, "unavailable")


def test_lines_of_the_log(fake, tmp_path, caplog):
    caplog.set_level(logging.INFO, "cocoer_web")
    (tmp_path / "keys").write_text(f"alice {KEY}\n")
    (tmp_path / "keys").chmod(0o600)
    with opened(url=fake.url, keys=tmp_path / "keys") as client:
        image = SAMPLE.read_bytes()
        files = {"image": (f"{SECRET}.png", image)}
        headers = {"x-api-key": KEY, "x-request-id": "mine"}
        answer = client.post(f"/v1/recognise?min_score=0.123&{SECRET}=1", files=files, headers=headers)
        assert reason(answer) == (400, "parameter")
        assert client.post("/v1/recognise", files=files, headers=headers).json()["told"] == SECRET
        client.get(f"/v1/model?key={KEY}")
        client.get("/a%0d%0ab" + "x" * 500)
    lines = [record.request for record in caplog.records if record.name == "cocoer_web"]
    assert [(line.method, line.path[:13], line.status, line.reason, line.caller) for line in lines] == [
        ("POST", "/v1/recognise", 400, "parameter", "alice"),
        ("POST", "/v1/recognise", 200, "", "alice"),
        ("GET", "/v1/model", 401, "key", ""),
        ("GET", lines[3].path[:13], 404, "not-found", ""),
    ]
    assert lines[1].request_id == "mine"
    assert lines[1].bytes_in > len(image)
    assert lines[1].bytes_out > len(SECRET)
    assert len(lines[3].path) <= 100
    for secret in (KEY, SECRET, "0.123", "\n"):
        assert not [message for message in caplog.messages if secret in message and "/a" not in message]


@pytest.mark.parametrize("form", ["text", "json"])
def test_how_lines_look(form):
    line = Line("id", "GET", "/a\r\n\x1b[1mb", 404, "not-found", 1.5, 0, 7, "alice")
    record = logging.makeLogRecord({"msg": "%s", "args": (line,), "request": line, "levelname": "INFO"})
    text = (_Json if form == "json" else _Text)().format(record)
    assert text.isprintable()
    if form == "json":
        content = json.loads(text)
        assert content["request_id"] == "id"
        assert (content["status"], content["caller"], content["level"]) == (404, "alice", "info")
    else:
        assert re.match(r"\S+Z INFO GET /a\\x0d\\x0a\\x1b\[1mb 404 not-found 1.5 ms in 0 out 7 id alice$", text)


def test_every_reason_of_the_server_has_a_status():
    for name in REFUSALS:
        status, title = problems.REASONS[name]
        assert 400 <= status < 500
        assert problems.of_error(InvalidRequest("no", reason=name)).status == status
        assert title
    assert problems.of_error(InvalidRequest("no", reason="unheard-of")).reason == "request"
    assert problems.of_error(InvalidRequest("no")).reason == "request"


def test_the_page_has_every_reason():
    """docs/web.md's table."""
    rows = re.findall(r"^\| `([a-z-]+)` \| ([45]\d\d) \| ", read("docs/web.md"), re.MULTILINE)
    assert {reason: int(status) for reason, status in rows} == {
        reason: status for reason, (status, _) in problems.REASONS.items()
    }


def test_what_may_pass_says_when():
    for name, (status, _) in problems.REASONS.items():
        assert (
            (name in problems.MAY_PASS)
            == (status in (429, 503, 504))
            == ("Retry-After" in problems.Problem(name, "").headers)
        )
