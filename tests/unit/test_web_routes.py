"""The gateway's endpoints in front of a server that answers as a test says."""

import asyncio
import io
import threading
import time

import grpc
import pytest
from PIL import Image

from cocoer_client.web import about, openapi, routes
from cocoer_client.web.accept import MAX_RANGES, acceptable
from cocoer_client.web.recognition import format_of
from tests import hostile
from tests.asgi import opened
from tests.conftest import SAMPLE
from tests.fake_server import FakeServer, Refused
from tests.results import make_person, make_result

PNG, JPEG, WEBP = "image/png", "image/jpeg", "image/webp"
RESULT = make_result((48, 36), [make_person(1, [2, 2, 40, 34], [10, 4, 20, 14], ("peace",))])
IMAGES = {kind: hostile.save(hostile.image(), kind.partition("/")[2].upper()) for kind in (PNG, JPEG, WEBP)}
FAILING = {
    b"GONE": (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", 503, "unavailable"),
    b"BUSY": (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", 503, "busy"),
    b"LATE": (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", 504, "timeout"),
    b"HURT": (grpc.StatusCode.INTERNAL, "secret of the server", 500, "internal"),
    b"POOR": (grpc.StatusCode.INVALID_ARGUMENT, "the image is poor", 400, "request"),
}
"""First bytes of an image -> how the server fails, and what a caller is told."""
REFUSED = {"error": {"code": "INVALID_ARG", "message": "IMAGE is a GIF", "reason": "format"}}


class Server(FakeServer):
    """Args: ``answer``. Counts what it is asked."""

    asked = 0


@pytest.fixture(scope="module")
def fake():
    def answer(image, now):
        server.asked += 1
        if image[:4] in FAILING:
            raise Refused(*FAILING[image[:4]][:2])
        return REFUSED if image.startswith(b"GIF") else RESULT

    server = Server(answer)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def web(fake):
    with opened(url=fake.url) as client:
        yield client


def is_problem(answer, status, reason):
    """Whether it is one, as documented."""
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert (answer.status_code, content["status"], content["reason"]) == (status, status, reason)
    assert content["request_id"] == answer.headers["x-request-id"]
    return content["detail"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, [PNG, JPEG, WEBP]),
        ("", [PNG, JPEG, WEBP]),
        ("*/*", [PNG, JPEG, WEBP]),
        ("image/*", [PNG, JPEG, WEBP]),
        (WEBP, [WEBP]),
        ("IMAGE/WebP", [WEBP]),
        ("image/webp;quality=3", [WEBP]),
        ("image/webp, image/jpeg", [JPEG, WEBP]),
        ("image/webp;q=0.9, image/jpeg;q=0.8", [WEBP, JPEG]),
        ("image/webp ; q=0.9 , image/jpeg;level=1;q=1.000", [JPEG, WEBP]),
        ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", [WEBP, PNG, JPEG]),
        ("*/*, image/png;q=0", [JPEG, WEBP]),
        ("image/*;q=0, */*", []),
        ("image/*;q=0, image/png", [PNG]),
        ("image/png;q=0.1, image/*;q=0.2", [JPEG, WEBP, PNG]),
        ("text/html, application/xhtml+xml", []),
        ("image/png;q=2", []),
        ("image/png;q=x, image/jpeg;q=.5", []),
        ("image, /, png, image/png/x, *", []),
        (",,;,q=1,", []),
        ("a/b," * MAX_RANGES + PNG, []),
    ],
)
def test_accept(accept, expected):
    assert acceptable(accept, [PNG, JPEG, WEBP]) == expected


def test_recognise(web):
    for sent in ({"files": {"image": ("a.png", IMAGES[PNG])}}, {"content": IMAGES[PNG]}):
        answer = web.post("/v1/recognise", **sent)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == RESULT
        assert answer.headers["server-timing"].startswith("triton;dur=")


def test_triton_is_asked_under_the_callers_id_and_for_reasons(web, fake):
    options = {"final_threshold": "0.5", "persons": '[{"body": [2, 2, 40, 34]}]', "timing": "true"}
    web.post("/v1/recognise", params=options, content=IMAGES[PNG], headers={"X-Request-Id": "mine-7"})
    request = fake.last_request
    assert request.id == "mine-7"
    assert request.parameters["on_refusal"].string_param == "answer"
    assert request.parameters["final_threshold"].double_param == 0.5
    assert request.parameters["timing"].bool_param
    assert [one.name for one in request.inputs] == ["IMAGE", "PERSONS"]


@pytest.mark.parametrize("own", IMAGES)
def test_an_annotated_image_is_in_the_images_own_format(web, own):
    answer = web.post("/v1/annotate", content=IMAGES[own])
    assert (answer.status_code, answer.headers["content-type"], answer.headers["vary"]) == (200, own, "Accept")
    assert format_of(answer.content) == own
    assert "draw;dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize("wished", IMAGES)
def test_or_in_the_one_that_is_accepted(web, wished):
    answer = web.post("/v1/annotate", content=IMAGES[JPEG], headers={"Accept": f"text/html, {wished}, */*;q=0.1"})
    assert (answer.headers["content-type"], format_of(answer.content)) == (wished, wished)


def test_or_png_where_its_own_is_not_drawn(web):
    answer = web.post("/v1/annotate", content=hostile.save(hostile.image(), "BMP"))
    assert (answer.headers["content-type"], format_of(answer.content)) == (PNG, PNG)


def test_options_of_drawing(web):
    small, large = (web.post("/v1/annotate", params={"quality": q}, content=IMAGES[JPEG]).content for q in (5, 100))
    assert len(small) < len(large)
    plain, drawn = (
        web.post("/v1/annotate", data={"drawn_boxes": boxes}, files={"image": IMAGES[PNG]}).content
        for boxes in ("none", "both")
    )
    assert plain != drawn
    panel, release = (web.post("/v1/annotate", params={"style": s}, content=IMAGES[PNG]) for s in ("panel", "release"))
    assert release.status_code == 200
    assert panel.content != release.content


def test_a_format_without_images_as_large_is_passed_over(web):
    # WebP ends at 16,383 pixels a side.
    wide = hostile.save(Image.new("RGB", (17_000, 40)), "PNG")
    answer = web.post("/v1/annotate", content=wide, headers={"Accept": f"{WEBP}, {JPEG};q=0.5"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, JPEG)
    detail = is_problem(web.post("/v1/annotate", content=wide, headers={"Accept": WEBP}), 406, "accept")
    assert "too many a side" in detail


def test_of_the_files_metadata_only_the_colour_profile_goes_along(web):
    exif = Image.Exif()
    exif[0x8298] = "somebody's copyright"
    stream = io.BytesIO()
    Image.new("RGB", (48, 36)).save(stream, "JPEG", exif=exif, comment=b"at home", icc_profile=bytes(16) + b"RGB ")
    drawn = web.post("/v1/annotate", content=stream.getvalue()).content
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.info.get("icc_profile") == bytes(16) + b"RGB "
        assert not image.getexif()
        assert "comment" not in image.info


@pytest.mark.parametrize(
    ("filename", "shown"),
    [("my photo (2).jpg", "my photo (2).jpg"), ("../../etc/passwd", "image"), ("<b>x</b>.png", "image"), ("", "image")],
)
def test_explain_shows_a_sane_name(web, filename, shown):
    answer = web.post("/v1/explain", files={"image": (filename or "x", IMAGES[PNG])} if filename else None,
                      content=None if filename else IMAGES[PNG])  # fmt: skip
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f"<title>{shown}" in answer.text
    assert "Competition: who is excluded first" in answer.text


@pytest.mark.parametrize(
    ("path", "accept"),
    [("recognise", "text/html"), ("annotate", "application/json"), ("explain", "image/png"), ("recognise", "*/*;q=0")],
)
def test_what_is_not_made_is_refused_before_the_server_is_asked(web, fake, path, accept):
    before = fake.asked
    detail = is_problem(web.post(f"/v1/{path}", content=IMAGES[PNG], headers={"Accept": accept}), 406, "accept")
    offered = openapi.document()["paths"][f"/v1/{path}"]["post"]["responses"]["200"]["content"]
    assert all(kind in detail for kind in offered)
    assert fake.asked == before


@pytest.mark.parametrize("path", ["recognise", "annotate", "explain"])
def test_a_refusal_of_the_servers_has_its_reason(web, path):
    detail = is_problem(web.post(f"/v1/{path}", content=b"GIF89a"), 415, "format")
    assert detail == "IMAGE is a GIF"


@pytest.mark.parametrize("image", FAILING)
def test_a_failure_of_the_servers(web, image):
    _, words, status, reason = FAILING[image]
    answer = web.post("/v1/recognise", content=image)
    detail = is_problem(answer, status, reason)
    assert (words in detail) == (reason == "request")
    assert ("retry-after" in answer.headers) == (status in (503, 504))


def test_an_image_that_cannot_be_drawn(web):
    """The server reads it, as it seems, and Pillow does not."""
    for path in ("annotate", "explain"):
        is_problem(web.post(f"/v1/{path}", content=b"\x89PNG\r\n\x1a\n no image at all"), 422, "damaged")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/recognise"), ("DELETE", "/v1/model"), ("PUT", "/healthz")])
def test_another_method(web, method, path):
    answer = web.request(method, path)
    is_problem(answer, 405, "method")
    assert answer.headers["allow"] in ("POST", "GET")


@pytest.mark.parametrize("path", ["/v2", "/v1/recognise/", "/v1", "/page/nothing"])
def test_nothing_there(web, path):
    is_problem(web.get(path, follow_redirects=False), 404, "not-found")


def test_the_model_is_asked_once_for_some_seconds(fake):
    with opened(url=fake.url, max_bytes=1000) as web:
        before = fake.asked
        answers = [web.get("/v1/model") for _ in range(3)]
        assert fake.asked == before + 1
    content = answers[0].json()
    about.About.model_validate(content)
    assert [answer.json() for answer in answers] == [content] * 3
    assert (content["model"], content["labels"]) == (RESULT["model"], RESULT["labels"])
    assert content["thresholds"] == {"final_threshold": 0.26, "level_threshold": 0.6, "min_score": 0.5}
    formats = ["image/jpeg", "image/png", "image/webp", "image/bmp"]
    assert content["limits"] == {
        "max_bytes": 1000, "max_pixels": 50_000_000, "max_persons": 512, "formats": formats
    }  # fmt: skip


def test_and_anew_after_that(fake, monkeypatch):
    monkeypatch.setattr(about, "KEPT", 0.0)
    with opened(url=fake.url) as web:
        before = fake.asked
        web.get("/v1/model")
        time.sleep(0.01)  # the clock's own step
        web.get("/v1/model")
        assert fake.asked == before + 2


def test_a_server_that_keeps_its_configuration_to_itself(fake, monkeypatch):
    def restricted(self, request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header 'key'")

    monkeypatch.setattr(Server, "ModelConfig", restricted, raising=False)
    server = Server(lambda image, now: RESULT)
    server.start()
    try:
        with opened(url=server.url) as web:
            content = web.get("/v1/model").json()
    finally:
        server.kill()
    assert content["thresholds"]["final_threshold"] == 0.26


def test_alive_without_a_server_but_not_ready():
    with opened() as web:
        assert (web.get("/healthz").status_code, web.get("/healthz").text) == (200, "ok\n")
        is_problem(web.get("/readyz"), 503, "unavailable")
        is_problem(web.get("/v1/model"), 503, "unavailable")


def test_ready_when_the_model_is(web, fake):
    answer = web.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ready\n")
    fake.ready = False
    try:
        is_problem(web.get("/readyz"), 503, "unavailable")
    finally:
        fake.ready = True


def test_a_silent_server_is_not_ready_in_time(monkeypatch):
    answered = threading.Event()

    def silent(self, request, context):
        answered.wait(30)

    monkeypatch.setattr(Server, "ModelReady", silent)
    monkeypatch.setattr(routes, "READY_TIMEOUT", 0.2)
    server = Server(lambda image, now: RESULT)
    server.start()
    try:
        with opened(url=server.url) as web:
            is_problem(web.get("/readyz"), 503, "unavailable")
    finally:
        answered.set()
        server.kill()


def test_as_many_images_are_drawn_at_a_time_as_there_are_threads(fake, monkeypatch):
    """The others wait with the bytes of their files."""
    from cocoer_client.web import recognition

    now, most, lock, full = [0], [0], threading.Lock(), threading.Event()

    def slow(*arguments):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == 2:
                full.set()
        full.wait(10)
        with lock:
            now[0] -= 1
        return b"", PNG

    monkeypatch.setattr(recognition, "_annotate", slow)
    with opened(url=fake.url, draw_threads=2) as web:

        async def ask():
            await asyncio.gather(*(asyncio.to_thread(web.post, "/v1/annotate", content=IMAGES[PNG]) for _ in range(6)))

        asyncio.run(ask())
    assert most == [2]


def test_the_sample(web):
    answer = web.post("/v1/annotate", files={"image": SAMPLE.read_bytes()}, headers={"Accept": JPEG})
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == "JPEG"
        assert image.width >= 512
