"""The page in a real browser, through the gateway and the server."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serving.server import RunningServer
from tests.browser import Opened, Scheme, axe_finds, chromium, opened
from tests.conftest import SAMPLE
from tests.gateway import Gateway, gateway
from tests.waiting import until

pytestmark = pytest.mark.needs("checkout")
PATIENCE = 60.0
WIDE = (1440, 900)
READY = "document.getElementById('progress').hidden && !document.getElementById('results').hidden"
TEXTS = "all => all.map(one => one.textContent)"
"""Of elements."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as running:
        yield running


@pytest.fixture
def look(browser: Any, web: Gateway) -> Iterator[Callable[..., Opened]]:
    """Opens the page; at the end the console has said nothing, and nobody else was asked for anything."""
    with contextlib.ExitStack() as stack:
        looks: list[Opened] = []

        def open_page(size: tuple[int, int] = WIDE, scheme: Scheme = "light") -> Opened:
            permissions = ["camera", "clipboard-read", "clipboard-write"]
            one = stack.enter_context(opened(browser, web.url, size, scheme, permissions, PATIENCE))
            one.page.wait_for_selector("#choose-first:enabled")
            looks.append(one)
            return one

        yield open_page
        for one in looks:
            assert one.problems == []
            assert [url for url in one.fetched if not url.startswith((f"{web.url}/", "blob:"))] == []


def wait_for(page: Any, expression: str) -> None:
    """Until an expression is true. Playwright's own way evaluates strings in the page, whose policy forbids it."""
    until(lambda: page.evaluate(expression), patience=PATIENCE)


def ask(page: Any, do: Callable[[], object]) -> dict[str, Any]:
    """RESULT that comes of doing something, once the page shows it."""
    with page.expect_response("**/v1/recognise") as response:
        do()
    result: dict[str, Any] = response.value.json()
    wait_for(page, READY)
    assert len(page.query_selector_all("#persons > .person")) == len(result["persons"])
    return result


def choose(page: Any) -> dict[str, Any]:
    """Give the sample to the file chooser."""
    return ask(page, lambda: page.set_input_files("#file", SAMPLE))


def asked_persons(page: Any) -> Any:
    """Boxes of the last request, off the line that repeats it."""
    (persons,) = (word[8:] for word in shlex.split(page.text_content("#code")) if word.startswith("persons="))
    return json.loads(persons)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_layout(look: Callable[..., Opened], width: int, scheme: Scheme) -> None:
    one = look((width, 900), scheme)
    page = one.page
    assert axe_finds(page) == []
    choose(page)
    assert axe_finds(page) == []
    assert one.sticking_out == []
    image, persons = (page.query_selector(name).bounding_box() for name in ("#stage", "#results"))
    if width == 1440:
        assert persons["x"] >= image["x"] + image["width"]
        assert persons["y"] < image["y"] + image["height"]
    else:
        assert persons["y"] >= image["y"] + image["height"]
    page.click("#edit")
    assert axe_finds(page) == []
    assert one.sticking_out == []


def test_about_page(look: Callable[..., Opened]) -> None:
    one = look((390, 900))
    one.page.click("text=What it must not be used for")
    one.page.wait_for_selector("h1:has-text('Intended use')")
    assert axe_finds(one.page) == []
    assert one.sticking_out == []
    one.page.click("text=Back to the page")
    one.page.wait_for_selector("#choose-first:enabled")


DROP = """([name, content, type]) => {
    const bytes = Uint8Array.from(atob(content), one => one.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "sample.png", {type: "image/png"}));
    if (name === "paste") dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
    else for (const kind of ["dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_an_image_is_pasted_or_dropped(look: Callable[..., Opened], way: str) -> None:
    page = look().page
    content = base64.b64encode(SAMPLE.read_bytes()).decode()
    result = ask(page, lambda: page.evaluate(DROP, [way, content, "image/png"]))
    assert result["image"]["width"] == 512
    assert page.text_content("#image-name") == "sample.png"


def test_an_image_is_chosen(look: Callable[..., Opened]) -> None:
    page = look().page
    with page.expect_file_chooser() as chooser:
        page.click("#choose-first")
    assert page.get_attribute("#file", "accept") == "image/jpeg,image/png,image/webp,image/bmp"
    ask(page, lambda: chooser.value.set_files(SAMPLE))
    assert page.text_content("#image-size") == "512 × 512"


def test_a_photo_is_taken(look: Callable[..., Opened]) -> None:
    page = look().page
    page.click("#photograph-first")
    page.wait_for_selector("#camera-shoot:enabled")
    page.evaluate("globalThis.stream = document.getElementById('camera-video').srcObject")
    result = ask(page, lambda: page.click("#camera-shoot"))
    assert result["image"]["width"] > 100
    assert page.evaluate("stream.getTracks().every(track => track.readyState === 'ended')")


@pytest.mark.parametrize("example", ["astronaut", "portrait", "photographer", "two"])
def test_examples(look: Callable[..., Opened], example: str) -> None:
    page = look().page
    ask(page, lambda: page.click(f"[data-example='{example}.jpg']"))
    assert page.evaluate("document.getElementById('photo').naturalWidth") > 200


def test_a_person_is_looked_at(look: Callable[..., Opened]) -> None:
    """Boxes and numbers lie over the image where RESULT says; pointer and focus show one person."""
    page = look().page
    persons = [
        {"body": [10, 10, 250, 500], "head": [60, 60, 160, 160]},
        {"body": [260, 10, 500, 500], "head": [300, 60, 400, 160]},
    ]
    choose(page)
    result = given(page, persons)
    frame = page.query_selector(".frame").bounding_box()
    box = page.query_selector("#figures [data-person='2'] .figure-body").bounding_box()
    assert box["x"] - frame["x"] == pytest.approx(260 / 512 * frame["width"], abs=1)
    page.mouse.move(0, 0)
    page.hover("#persons [data-person='2']")
    wait_for(
        page,
        "getComputedStyle(document.querySelector(\"#figures [data-person='1']\")).opacity < 0.5"
        " && getComputedStyle(document.querySelector(\"#figures [data-person='2']\")).opacity == 1",
    )
    page.focus("#figures [data-person='2'] .figure-body")
    assert page.get_attribute("#persons [data-person='2'] button", "aria-pressed") == "true"
    shown = page.eval_on_selector_all("#persons [data-person='2'] .bar-name", TEXTS)
    assert sorted(shown) == sorted(result["persons"][1]["pred"])


def given(page: Any, persons: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Have these boxes asked about: drawn with the mouse, heads put in their places with the keyboard."""
    page.click("#edit")
    while page.query_selector(".edited"):
        page.focus(".body-box")
        page.keyboard.press("Delete")
    for number, person in enumerate(persons):
        if page.get_attribute("#draw-person", "aria-pressed") == "false":
            page.click("#draw-person")
        draw(page, person["body"])
        if "head" in person:
            page.click("#add-head")
            fit(page, f"{number}-head", person["head"])
    return ask(page, lambda: page.click("#edit-ask"))


def draw(page: Any, box: list[int]) -> None:
    """With the mouse, in pixels of the sample."""
    page.evaluate("scrollTo(0, 0)")
    frame = page.query_selector("#boxes").bounding_box()
    scale = frame["width"] / 512
    page.mouse.move(frame["x"] + box[0] * scale, frame["y"] + box[1] * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + box[2] * scale, frame["y"] + box[3] * scale, steps=3)
    page.mouse.up()


def fit(page: Any, name: str, box: list[int]) -> None:
    """With the keyboard, a pixel at a time where needed."""
    page.focus(f"[data-box='{name}']")
    for _ in range(200):
        words = page.get_attribute(f"[data-box='{name}']", "aria-label").replace(",", "").split()
        width, height, x, y = (int(words[place]) for place in (-7, -5, -2, -1))
        differences = (box[0] - x, box[1] - y, box[2] - box[0] - width, box[3] - box[1] - height)
        place = next((place for place, one in enumerate(differences) if one), None)
        if place is None:
            return
        difference = differences[place]
        keys = ("ArrowRight", "ArrowDown") if difference > 0 else ("ArrowLeft", "ArrowUp")
        modifiers = ("Alt+" if abs(difference) < 5 else "") + ("Shift+" if place > 1 else "")
        page.keyboard.press(modifiers + keys[place % 2])
    pytest.fail(f"{name} is not at {box}: {words}")


def test_boxes_by_hand(look: Callable[..., Opened]) -> None:
    """Drawn with the mouse, moved, resized and deleted with mouse and keyboard; a head left out is looked for."""
    page = look().page
    choose(page)
    page.click("#edit")
    while page.query_selector(".edited"):
        page.focus(".body-box")
        page.keyboard.press("Delete")
    assert page.is_disabled("#edit-ask")
    if page.get_attribute("#draw-person", "aria-pressed") == "false":
        page.click("#draw-person")
    draw(page, [80, 20, 360, 500])
    fit(page, "0-body", [84, 20, 363, 512])
    frame = page.query_selector("#boxes").bounding_box()
    scale = frame["width"] / 512
    page.mouse.move(frame["x"] + 200 * scale, frame["y"] + 300 * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + 220 * scale, frame["y"] + 300 * scale, steps=3)
    page.mouse.up()
    page.mouse.move(frame["x"] + 104 * scale, frame["y"] + 266 * scale)  # the left edge's handle
    page.mouse.down()
    page.mouse.move(frame["x"] + 64 * scale, frame["y"] + 266 * scale, steps=3)
    page.mouse.up()
    ask(page, lambda: page.click("#edit-ask"))
    (person,) = asked_persons(page)
    assert person == {"body": pytest.approx([64, 20, 383, 512], abs=2)}, "no head: it is looked for"
    result = given(page, [{"body": [84, 20, 363, 512], "head": [177, 67, 270, 160]}])
    assert result["persons"][0]["head_box"] == [177, 67, 270, 160]


@pytest.fixture
def recognised(look: Callable[..., Opened]) -> tuple[Any, dict[str, Any]]:
    """The page with a person in the sample, and RESULT."""
    page = look().page
    choose(page)
    return page, given(page, [{"body": [84, 20, 363, 512], "head": [177, 67, 270, 160]}])


def slide(page: Any, name: str, value: float) -> None:
    page.eval_on_selector(
        f"#{name}",
        "(slider, value) => { slider.value = value; for (const kind of ['input', 'change'])"
        " slider.dispatchEvent(new Event(kind, {bubbles: true})); }",
        value,
    )


def test_thresholds_act_at_once(recognised: tuple[Any, dict[str, Any]]) -> None:
    page, result = recognised
    (person,) = result["persons"]
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    slide(page, "final-threshold", 0.45)
    slide(page, "level-threshold", 0.3)
    above = [label for label, score in zip(result["labels"], person["scores"]["pred"]) if score > 0.45]
    assert sorted(page.eval_on_selector_all("#persons .bar-name", TEXTS)) == sorted(above)
    levels = page.eval_on_selector_all("#before-head .label", "all => all.map(one => one.dataset.label)")
    assert levels == [label for label, score in zip(result["labels"], person["scores"]["head"]) if score > 0.3]
    assert requests == []
    page.click("#reset")
    assert sorted(page.eval_on_selector_all("#persons .bar-name", TEXTS)) == sorted(person["pred"])


def test_the_detectors_threshold_asks_again(look: Callable[..., Opened]) -> None:
    page = look().page
    choose(page)
    assert ask(page, lambda: slide(page, "min-score", 1))["persons"] == []
    assert page.is_visible("#nobody")
    assert page.is_hidden("#method")


def test_curl_line_and_downloads(recognised: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    """The copied line gives the persons and labels that are shown, at the thresholds that are set."""
    page, _ = recognised
    slide(page, "final-threshold", 0.45)
    page.click("#copy")
    wait_for(page, "document.getElementById('copied').textContent === 'Copied.'")
    words = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    shutil.copy(SAMPLE, tmp_path)
    done = subprocess.run([*words, "--silent"], cwd=tmp_path, capture_output=True, check=True, timeout=PATIENCE)
    with page.expect_download() as download:
        page.click("#download-json")
    assert download.value.suggested_filename == f"{SAMPLE.stem}.json"
    shown = json.loads(Path(download.value.path()).read_text())
    assert json.loads(done.stdout)["persons"] == shown["persons"]
    assert shown["persons"]
    with page.expect_download() as download:
        page.click("#download-image")
    with Image.open(io.BytesIO(Path(download.value.path()).read_bytes())) as image:
        assert image.format == "PNG"
    with page.expect_download() as download:
        page.click("#download-page")
    text = Path(download.value.path()).read_text()
    assert "Coordination weights" in text
    assert ">0.45<" in text, "the threshold that is set"


def test_python_lines_run(recognised: tuple[Any, dict[str, Any]], server: RunningServer, tmp_path: Path) -> None:
    page, result = recognised
    shutil.copy(SAMPLE, tmp_path)
    for kind in ("client", "requests"):
        page.check(f"[name=code][value={kind}]")
        code = page.text_content("#code").replace("localhost:8001", server.url)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE
        )
        assert done.stdout.strip() == " ".join(["1", *result["persons"][0]["pred"]])


def test_what_the_method_did(recognised: tuple[Any, dict[str, Any]]) -> None:
    page, result = recognised
    (person,) = result["persons"]
    order = [name.removesuffix("-level") for name in person["emo_process"]]
    assert page.eval_on_selector_all("#exclusion .chip", TEXTS) == order
    assert page.eval_on_selector_all("#exclusion s", TEXTS) == order[:1]
    pseudo = [label for label, score in zip(result["labels"], person["scores"]["VI"]) if score > 0.3]
    assert page.eval_on_selector_all("#pseudo .label", "all => all.map(one => one.dataset.label)") == pseudo
    for level in ("head", "body", "context"):
        pixels = f"[...document.getElementById('crop-{level}').getContext('2d').getImageData(0, 0, 224, 224).data]"
        assert page.evaluate(f"new Set({pixels}).size") > 50
    rows = "#coordination tbody th"
    assert page.eval_on_selector_all(rows, TEXTS)[0] == max(zip(person["scores"]["pred"], result["labels"]))[1]
    page.select_option("#order", "name")
    assert page.eval_on_selector_all(rows, TEXTS) == sorted(result["labels"])
    label = person["pred"][0]
    page.hover(f"#coordination [data-label='{label}']")
    same = page.eval_on_selector_all(".same-label", "all => all.map(one => one.dataset.label)")
    assert set(same) == {label}
    assert len(same) >= 2, "in the table and among the person's labels"


def test_warnings_are_on_top(recognised: tuple[Any, dict[str, Any]]) -> None:
    page, result = recognised
    assert result["model"]["synthetic"]
    assert "SYNTHETIC WEIGHTS" in page.text_content("#warnings .warning")
    assert page.query_selector("#warnings .warning").bounding_box()["width"] == WIDE[0]


def test_a_size_is_refused_before_it_is_sent(browser: Any, web: Gateway) -> None:
    def smaller(route: Any) -> None:
        about = route.fetch().json()
        about["limits"]["max_bytes"] = 1000
        route.fulfill(json=about)

    with opened(browser, "about:blank", WIDE, patience=PATIENCE) as one:
        one.page.route("**/v1/model", smaller)
        one.page.goto(web.url)
        one.page.wait_for_selector("#choose-first:enabled")
        one.page.set_input_files("#file", SAMPLE)
        one.page.wait_for_selector("#problem")
        assert "at most 1 KiB" in one.page.text_content("#problem-detail")
        assert not [url for url in one.requests if "recognise" in url]


def test_what_is_no_image_is_refused_in_words(look: Callable[..., Opened], tmp_path: Path) -> None:
    one = look()
    (tmp_path / "a.jpg").write_bytes(b"not an image")
    with one.page.expect_response("**/v1/recognise") as response:
        one.page.set_input_files("#file", tmp_path / "a.jpg")
    one.page.wait_for_selector("#problem", state="visible")
    assert one.page.text_content("#problem-detail") == response.value.json()["detail"]
    assert axe_finds(one.page) == []
    one.problems[:] = [text for text in one.problems if f"status of {response.value.status}" not in text]


def test_a_damaged_image_is_used_if_the_reader_says_so(look: Callable[..., Opened], tmp_path: Path) -> None:
    one = look()
    (tmp_path / "cut.png").write_bytes(SAMPLE.read_bytes()[:400_000])
    one.page.set_input_files("#file", tmp_path / "cut.png")
    one.page.wait_for_selector("#problem", state="visible")
    result = ask(one.page, lambda: one.page.click("text=Use what there is of it"))
    assert result["image"]["damage"]
    assert "DAMAGED IMAGE" in one.page.text_content("#warnings")
    assert "on_damage=accept" in one.page.text_content("#code")
    one.problems[:] = [text for text in one.problems if "Failed to load resource" not in text]


def test_no_answer_and_again(look: Callable[..., Opened]) -> None:
    one = look()
    one.page.route("**/v1/recognise", lambda route: route.abort())
    one.page.set_input_files("#file", SAMPLE)
    one.page.wait_for_selector("#problem", state="visible")
    assert "does not answer" in one.page.text_content("#problem-detail")
    one.page.unroute("**/v1/recognise")
    ask(one.page, lambda: one.page.click("#retry"))
    assert one.page.is_hidden("#problem")
    one.problems[:] = [text for text in one.problems if "ERR_FAILED" not in text]


def test_a_request_is_cancelled(look: Callable[..., Opened]) -> None:
    page = look().page
    held: list[Any] = []
    page.route("**/v1/recognise", lambda route: held.append(route))
    page.set_input_files("#file", SAMPLE)
    page.wait_for_selector("#cancel", state="visible")
    assert page.text_content("#status") == "Asking the server …"
    page.click("#cancel")
    wait_for(page, "document.getElementById('status').textContent === 'Cancelled.'")
    assert page.is_hidden("#progress")
    assert page.is_hidden("#problem")


def test_keys(browser: Any, server: RunningServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("lab a-key-that-is-long-enough-to-be-one\n")
    keys.chmod(0o600)
    with (
        gateway(server.url, tmp_path / "log", "--keys", str(keys)) as guarded,
        opened(browser, guarded.url, WIDE, patience=PATIENCE) as one,
    ):
        page = one.page
        for value in ("wrong", "a-key-that-is-long-enough-to-be-one"):
            page.wait_for_selector("#key[open]")
            assert axe_finds(page) == []
            page.fill("#key-value", value)
            with page.expect_response("**/v1/model"):
                page.keyboard.press("Enter")
        page.wait_for_selector("#choose-first:enabled")
        choose(page)
        assert "Bearer $COCOER_KEY" in page.text_content("#code")
        assert "long-enough" not in page.content()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_images_of_before(look: Callable[..., Opened]) -> None:
    page = look().page
    choose(page)
    ask(page, lambda: page.click("[data-example='portrait.jpg']"))
    page.click("#history-list li:nth-child(2) button")
    assert page.text_content("#image-name") == SAMPLE.name
    assert page.text_content("#image-size") == "512 × 512"
