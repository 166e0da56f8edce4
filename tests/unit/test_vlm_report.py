"""The report of ``cocoer-vlm``: what it says, what it holds, and how it looks, in Chromium."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cocoer.labels import EMOTIC_LABELS
from cocoer_client.sources import Source
from cocoer_client.vlm.answers import Answer
from cocoer_client.vlm.asking import Asked, Questions, Subject, lost_in_enhanced, only_in_enhanced
from cocoer_client.vlm.crops import ImageOptions, cut
from cocoer_client.vlm.endpoint import EndpointOptions, Usage
from cocoer_client.vlm.modes import MODES, USUAL, Mode, excluded_level
from cocoer_client.vlm.people import Recognised
from cocoer_client.vlm.prompt import Prompt
from cocoer_client.vlm.report import About, Person, write_report
from tests.browser import Opened, Scheme, axe_finds, chromium, opened
from tests.colours import contrast
from tests.conftest import SAMPLE
from tests.results import make_person, make_result

LABELS = tuple(EMOTIC_LABELS)
IMAGES = ImageOptions(longest_side=512)
KEY = "sk-the-key-of-somebody"
ENDPOINT = EndpointOptions(model="a-model", base_url="https://models.example.org:8443/secret/v1", key=KEY)
NASTY = "<script>alert(1)</script>\"'&\u202e\udcff.jpg"
HEBREW = "שלום: <b>לא</b>"
ANSWERS: dict[str, Answer] = {
    "single": Answer("labels", ("happiness",), text='{"labels": ["happiness"]}'),
    "multi": Answer("labels", ("excitement", "happiness"), text='{"labels": ["excitement", "happiness"]}'),
    "enhanced": Answer("labels", ("anticipation", "happiness"), text='{"labels": ["anticipation", "happiness"]}'),
    "exclude_random": Answer("unknown_label", ("pleasure",), ("<i>joyful</i>",), '{"labels": ["<i>joyful</i>"]}'),
    "exclude_last": Answer("refused", text=HEBREW),
}


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with Image.open(SAMPLE) as image:
        return image.convert("RGB")


def subject_of(photo: Image.Image, file: str = "a.jpg", number: int = 1) -> Subject:
    """The astronaut, as a server could have found her; her body is excluded first."""
    person = make_person(number, [60, 20, 460, 512], [170, 40, 290, 190], ("happiness", "engagement"))
    return Subject(file, person, cut(photo, person, replace(IMAGES, collage=True)))


def asked_of(
    subject: Subject, questions: Questions, modes: Sequence[Mode] = USUAL, /, **answers: Answer
) -> list[Asked]:
    """Made-up answers, with the images of the modes."""
    order = subject.person["emo_process"]
    given: dict[str, Answer] = {**ANSWERS, **answers}
    return [
        Asked(
            mode,
            excluded_level(mode, order, subject.identity),
            questions.sent(subject, mode),
            given[mode],
            Usage(100, 7),
            cached=mode == "multi",
        )
        for mode in modes
    ]


def questions_of(as_collage: bool = False, modes: tuple[Mode, ...] = USUAL) -> Questions:
    return Questions(modes, Prompt.load(None), LABELS, replace(IMAGES, collage=as_collage))


def recognised(name: str, persons: int = 1, synthetic: bool = False, damage: str | None = None) -> Recognised:
    result = make_result((512, 512), [{}] * persons, synthetic)
    result["image"]["damage"] = damage
    return Recognised(Source(name, "file", "a"), result)


def about_of(images: Sequence[Recognised] = (), modes: tuple[Mode, ...] = USUAL, as_collage: bool = False) -> About:
    date = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)
    return About(questions_of(as_collage, modes), ENDPOINT, images, ("it takes no <schema>",), date)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(people: Sequence[Person], about: About | None = None, **options: Any) -> str:
        write_report(tmp_path / "vlm.html", people, about or about_of(), **options)
        return (tmp_path / "vlm.html").read_text(encoding="utf-8")

    return write


def words(text: str) -> str:
    """A page's text as it is read, on one line."""
    text = re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL))
    return re.sub(r" ([,.:;])", r"\1", " ".join(html.unescape(text).split()))


def images_in(text: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)]


def rows_in(text: str) -> dict[str, list[str]]:
    """The first person's table: label -> what stands in its cells."""
    table = re.findall(r"<table>.*?</table>", text, re.DOTALL)[1]
    rows = re.findall(r'<tr><th scope="row"[^>]*>(.*?)</th>(.*?)</tr>', table, re.DOTALL)[1:]
    return {words(label): [words(cell) for cell in re.findall(r"<td.*?</td>", cells)] for label, cells in rows}


def test_images_are_the_bytes_that_were_sent_each_once(photo: Image.Image, written: Callable[..., str]) -> None:
    subject = subject_of(photo)
    text = written([(subject, asked_of(subject, questions_of(), MODES))])
    shown = images_in(text)
    assert shown == [subject.levels[level].data for level in ("context", "body", "head")]
    for level, image in subject.levels.items():
        width, height = image.size
        assert f"<b>{level}</b>" in text
        assert f"{width} x {height} pixels" in text
        assert hashlib.sha256(image.data).hexdigest() in text


def test_the_excluded_level_has_a_frame_and_a_word(photo: Image.Image, written: Callable[..., str]) -> None:
    subject = subject_of(photo)
    text = written([(subject, asked_of(subject, questions_of()))])
    (figure,) = re.findall(r'<figure class="first".*?</figure>', text, re.DOTALL)
    assert "body excluded first 400 x 492 pixels; sent in multi" in words(figure)
    assert "enhanced" not in words(figure)
    assert "body excluded first, head excluded second, context stays to the end" in words(text)
    assert "enhanced without body" in words(text)


def test_collages_are_shown_as_they_were_sent(photo: Image.Image, written: Callable[..., str]) -> None:
    subject = subject_of(photo)
    asked = asked_of(subject, questions_of(as_collage=True))
    text = written([(subject, asked)], about_of(as_collage=True))
    (multi,), (enhanced,) = asked[1].images, asked[2].images
    assert images_in(text)[3:] == [multi.data, enhanced.data]
    assert "side by side: context, body, head" in words(text)
    assert "400 x 492 pixels; side by side with others in multi" in words(text)  # the body
    assert "512 x 512 pixels; sent in single; side by side with others in multi, enhanced" in words(text)


def test_what_was_not_sent_is_told(photo: Image.Image, written: Callable[..., str]) -> None:
    subject = subject_of(photo)
    text = written([(subject, asked_of(subject, questions_of(), ("single",)))], about_of(modes=("single",)))
    assert words(text).count("pixels; not sent") == 2
    assert "new label" not in words(text.partition("How to read")[0])


def test_new_and_lost_labels(photo: Image.Image, written: Callable[..., str]) -> None:
    subject = subject_of(photo)
    text = written([(subject, asked_of(subject, questions_of(), MODES))], about_of(modes=MODES))
    assert rows_in(text) == {
        "happiness": ["0.95", "✓ yes", "✓ yes", "✓ yes", "· no", "no answer"],
        "engagement": ["0.90", "· no", "· no", "· no", "· no", "no answer"],
        "anticipation": ["0.10", "· no", "· no", "new", "· no", "no answer"],
        "excitement": ["0.10", "· no", "✓ yes", "lost", "· no", "no answer"],
        "pleasure": ["0.10", "· no", "· no", "· no", "✓ yes", "no answer"],
    }
    assert re.findall(r'<span class="name new">([^<]+)</span>', text) == ["anticipation"]
    assert re.findall(r'<th scope="row" class="lost"><span class="name">([^<]+)</span>', text) == ["excitement"]
    assert "1 new label in enhanced, of 1 person; 1 label of multi lost, of 1 person." in words(text)
    assert "person 1 +1 -1 !1" in words(text)


UNREAD = Answer("refused", text="No.")


@pytest.mark.parametrize(
    ("answers", "new", "lost", "said"),
    [
        ({}, ("anticipation",), ("excitement",), ""),
        ({"multi": UNREAD}, ("anticipation",), (), "Compared without multi"),
        ({"single": UNREAD}, ("anticipation",), ("excitement",), "Compared without single"),
        ({"single": UNREAD, "multi": UNREAD}, (), (), "Nothing can be called new"),
        ({"enhanced": UNREAD}, (), (), "Nothing can be called new"),
        ({"enhanced": Answer("labels")}, (), ("excitement", "happiness"), ""),
    ],
)
def test_nothing_is_new_or_lost_against_what_can_not_be_read(
    photo: Image.Image,
    written: Callable[..., str],
    answers: dict[str, Answer],
    new: tuple[str, ...],
    lost: tuple[str, ...],
    said: str,
) -> None:
    subject = subject_of(photo)
    asked = asked_of(subject, questions_of(), **answers)
    assert (only_in_enhanced(asked), lost_in_enhanced(asked)) == (new, lost)
    text = words(written([(subject, asked)]))
    assert said in text
    assert ("Nothing can be called new" in text or "Compared without" in text) == bool(said)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer("labels", (), text="{}"), "no label"),
        (Answer("unknown_label", ("fear",), ("joyful",), "raw text"), "fear, and unknown label: joyful"),
        (Answer("refused", text="raw text"), "refused, the model won't say"),
        (Answer("unparseable", text="raw text"), "unparseable, no labels can be read from what it said"),
        (Answer("cut_off", text="raw text"), "cut off, it came to its limit of 400 tokens"),
        (Answer("failed", text="raw text"), "failed, no answer came"),
    ],
)
def test_what_became_of_an_answer_is_told_with_its_text(
    photo: Image.Image, written: Callable[..., str], answer: Answer, told: str
) -> None:
    subject = subject_of(photo)
    text = written([(subject, asked_of(subject, questions_of(), multi=answer))])
    (details,) = re.findall(r"<details><summary><b>multi</b>.*?</details>", text, re.DOTALL)
    assert told in words(details)
    assert f">{answer.text}</pre>" in details
    kind = answer.kind.replace("_", " ")
    counts = re.search(rf'<th scope="row">{kind}\b.*?</tr>', text)
    assert counts
    assert re.findall(r"<td[^>]*>(\d)</td>", counts[0]) == (["1", "1", "1"] if kind == "labels" else ["0", "1", "0"])


def test_the_run_is_told_without_the_key(photo: Image.Image, written: Callable[..., str]) -> None:
    subject = subject_of(photo)
    text = written([(subject, asked_of(subject, questions_of()))])
    prompt = Prompt.load(None)
    for said in (
        "a-model",
        "Asked at models.example.org:8443 Prompt",
        f"{prompt.version}, digest {prompt.digest}",
        "200 sent, 14 came back; 1 answer kept from before cost nothing anew",
        "2026-01-02 03:04 +0000",
        "Server it takes no <schema>",
    ):
        assert said in words(text)
    assert KEY not in text
    assert "secret" not in text


def test_a_prompt_of_another_language_is_shown(photo: Image.Image, written: Callable[..., str]) -> None:
    about = about_of()
    prompt = replace(about.questions.prompt, data="# version\nשלום <b>\n# système\n感情を\x1b".encode())
    text = written([], replace(about, questions=replace(about.questions, prompt=prompt)))
    assert "# version\nשלום &lt;b&gt;\n# système\n感情を\\x1b</pre>" in text


def test_warnings_and_images_without_persons(photo: Image.Image, written: Callable[..., str]) -> None:
    subject = subject_of(photo)
    images = [
        recognised("a.jpg", 3, synthetic=True, damage="it <ends>"),
        recognised("nobody.png", 0, synthetic=True),
        Recognised(Source("bad.jpg", "file", "a"), error="not an image <x>"),
    ]
    text = words(written([(subject, asked_of(subject, questions_of()))], about_of(images)))
    assert "SYNTHETIC WEIGHTS: random numbers, these are not predictions DAMAGED IMAGE (in 1 of 2 images)" in text
    assert "a.jpg damaged: person 1 +1 -1 2 not on this page" in text
    assert "DAMAGED IMAGE: it <ends>" in text
    assert "nobody.png: nobody was found" in text
    assert "bad.jpg: not an image <x>" in text


def test_everything_of_others_is_escaped(photo: Image.Image, written: Callable[..., str]) -> None:
    subject = subject_of(photo, NASTY)
    nasty = Answer("unknown_label", (), (NASTY, "</details>"), f"{NASTY}\x00\ud800\n</pre>{HEBREW}")
    asked = asked_of(subject, questions_of(), multi=nasty, single=Answer("failed", text=NASTY))
    about = about_of([recognised(NASTY, damage=NASTY), Recognised(Source("b", "file", "b"), error=NASTY)])
    text = written([(subject, asked)], replace(about, endpoint=replace(ENDPOINT, model=NASTY)))
    shown = "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;\\u202e\\xff.jpg"
    assert "<script" not in text
    assert text.count("<details") == text.count("</details>")
    assert text.count("<pre") == text.count("</pre>")
    assert f"{shown}\\x00\\ud800\n&lt;/pre&gt;שלום: &lt;b&gt;לא&lt;/b&gt;</pre>" in text
    # Title, heading and facts; contents, its heading and the person's; damage; error; unknown label; two answers.
    assert text.count(shown) == 3 + 3 + 1 + 1 + 1 + 2


def test_no_more_persons_than_asked_for(photo: Image.Image, written: Callable[..., str]) -> None:
    people = [(one, asked_of(one, questions_of())) for one in (subject_of(photo, f"{n}.jpg") for n in range(4))]
    text = written(people, about_of([recognised(f"{n}.jpg") for n in range(4)]), most=3)
    assert re.findall(r'<article class="person" id="(.*?)"', text) == ["person-1", "person-2", "person-3"]
    assert "This page shows the first 3 of 4 persons" in text
    assert "4 new labels in enhanced, of 4 persons" in words(text)
    assert "3.jpg: 1 not on this page" in words(text)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r' id="([^"]+)"', text))
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "This page shows the first" not in written(people)


def test_a_page_is_written_whole_or_not_at_all(photo: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "vlm.html").write_text("before")
    person = {**subject_of(photo).person, "scores": {}}
    broken = replace(subject_of(photo), person=person)
    with pytest.raises(KeyError):
        write_report(tmp_path / "vlm.html", [(broken, asked_of(broken, questions_of()))], about_of())
    assert os.listdir(tmp_path) == ["vlm.html"]
    assert (tmp_path / "vlm.html").read_text() == "before"


def test_many_persons_take_no_more_memory_than_one(photo: Image.Image, tmp_path: Path) -> None:
    """Beyond their images, which are there before: the page is written while it is made."""
    subject = subject_of(photo)
    asked = asked_of(subject, questions_of())
    tracemalloc.start()
    try:
        write_report(tmp_path / "vlm.html", [(subject, asked)] * 100, about_of())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = (tmp_path / "vlm.html").stat().st_size
    assert size > 100 * sum(len(image.data) for image in subject.levels.values())
    assert peak < size / 5


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def page_file(photo: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Persons with answers of every kind, in all modes and as collages; names that break nothing."""
    long = "a/" + "name_without_an_end_" * 8 + ".jpg"
    questions = questions_of()
    many = Answer("labels", LABELS[::2], text="x" * 300)
    small = subject_of(photo, long)
    thin = {**small.person, "body_box": [200, 10, 230, 512], "head_box": [200, 10, 230, 30], "pred": []}
    thin["emo_process"] = ["context-level", "head-level", "body-level"]
    one, two, three, four = (
        subject_of(photo),
        subject_of(photo, number=2),
        Subject(long, thin, cut(photo.resize((900, 512)), thin, replace(IMAGES, collage=True))),
        subject_of(photo, NASTY),
    )
    bad = {"single": Answer("cut_off", text='{"labels": ["'), "multi": Answer("unparseable", text=HEBREW)}
    people = [
        (one, asked_of(one, questions, MODES)),
        (two, asked_of(two, questions, MODES, enhanced=UNREAD, **bad)),
        (three, asked_of(three, questions, MODES, multi=many, single=Answer("failed", text="no answer" * 99))),
        (four, asked_of(four, questions_of(as_collage=True), MODES)),
    ]
    images = [recognised("a.jpg", 2, synthetic=True), recognised(long), recognised(NASTY, damage="cut off")]
    path = tmp_path_factory.mktemp("report") / "vlm.html"
    write_report(path, people, about_of(images, MODES))
    return path


def everything_laid_out(one: Opened) -> None:
    """Chromium lays out persons when they come into view."""
    one.page.add_style_tag(content=".person { content-visibility: visible !important }")


BEYOND_THEIR_CARDS = """() => [...document.querySelectorAll(".person, .top, .key")].flatMap(card =>
    [...card.querySelectorAll("*:not(.hidden)")]
        .filter(one => one.getBoundingClientRect().right > card.getBoundingClientRect().right + 1)
        .map(one => `${card.id} ${one.localName}.${one.className} ${one.textContent.slice(0, 40)}`))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_layout(browser: Any, page_file: Path, width: int, scheme: Scheme) -> None:
    with opened(browser, page_file.as_uri(), (width, 900), scheme) as one:
        everything_laid_out(one)
        for state in ("closed", "open"):
            assert one.sticking_out == [], state
            assert one.page.evaluate(BEYOND_THEIR_CARDS) == [], state
            assert axe_finds(one.page) == [], state
            one.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert one.problems == []
        assert one.fetched == [page_file.as_uri()]
        assert one.page.evaluate("document.scripts.length") == 0


def test_images_are_opened_larger_by_click_and_key(browser: Any, page_file: Path) -> None:
    with opened(browser, page_file.as_uri(), (1440, 900)) as one:
        head = one.page.locator("#person-1 figure").nth(2)
        image = head.locator("img")
        image.scroll_into_view_if_needed()
        assert image.evaluate("async one => { await one.decode(); return one.naturalWidth; }") == 179
        small = image.bounding_box()["height"]
        assert small < 310
        image.click()
        assert image.bounding_box()["height"] > 1.5 * small
        assert "SHA-256" in head.inner_text()
        head.locator("summary").focus()
        one.page.keyboard.press("Enter")
        assert image.bounding_box()["height"] == pytest.approx(small)
        assert "SHA-256" not in head.inner_text()


def test_marks_are_seen_without_their_colours(browser: Any, page_file: Path) -> None:
    """The frame of the level that is excluded first is thicker, new labels are underlined, lost ones struck out."""
    with opened(browser, page_file.as_uri(), (1440, 900)) as one:
        style = "one => { const s = getComputedStyle(one); return [s.color, s.textDecorationLine, s.borderTopWidth]; }"
        person = one.page.locator("#person-1")
        frames = person.locator("figure").evaluate_all(f"all => all.map({style})")
        assert [width for *_, width in frames] == ["1px", "4px", "1px"]
        colour, line, _ = person.locator("th .name.new").evaluate(style)
        assert (colour, line) == ("rgb(11, 80, 196)", "underline")
        assert person.locator("th.lost .name").evaluate(style)[1] == "line-through"
        frame = person.locator("figure.first").evaluate("one => getComputedStyle(one).borderTopColor")
        assert frame == "rgb(176, 0, 32)"


@pytest.mark.parametrize(("scheme", "ground"), [("light", "#f6f7f9"), ("dark", "#1d2026")])
def test_colours_are_legible(written: Callable[..., str], scheme: str, ground: str) -> None:
    """WCAG's 4.5 : 1 for text and 3 : 1 for the frame, on the cards."""
    styles = re.findall(r"--red: (#\w+); --blue: (#\w+); --bad: (#\w+);", written([]))
    red, blue, bad = styles[scheme == "dark"]
    assert contrast(red, ground) >= 3
    assert min(contrast(blue, ground), contrast(bad, ground)) >= 4.5


def test_on_paper(browser: Any, page_file: Path) -> None:
    """Links are left out, answers are there in full, and nothing is cut off at the right of A4."""
    with opened(browser, page_file.as_uri(), (688, 900)) as one:  # A4 without its margins, at 96 pixels an inch
        one.page.emulate_media(media="print")
        assert one.sticking_out == []
        assert not one.page.locator("nav").is_visible()
        assert not one.page.locator(".jumps").first.is_visible()
        assert one.page.locator("#person-2 pre").first.bounding_box()["height"] > 15
        assert one.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_keyboard_goes_from_person_to_person(browser: Any, page_file: Path) -> None:
    with opened(browser, page_file.as_uri(), (768, 900)) as one:
        one.page.locator("nav a").nth(2).focus()
        one.page.keyboard.press("Enter")
        assert one.page.evaluate("location.hash") == "#person-3"
        one.page.keyboard.press("Tab")
        assert one.page.evaluate("document.activeElement.getAttribute('aria-label')") == "To the previous person"
        box = one.page.locator("#person-3").bounding_box()
        assert -20 < box["y"] < 900
