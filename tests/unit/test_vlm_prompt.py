"""The prompt of ``cocoer-vlm``: what a model reads, files that are taken and that are not, and their versions."""

import base64
import json
import re

import pytest

from cocoer.labels import EMOTIC_LABELS
from cocoer_client.errors import InvalidInput
from cocoer_client.vlm.command import main
from cocoer_client.vlm.crops import SentImage
from cocoer_client.vlm.prompt import Prompt, as_read, schema_of
from cocoer_client.vlm.prompt_file import BUILT_IN, SECTIONS

DIGESTS = {"emotic-1": "5e877e2975ca7186"}
"""Version -> digest of each prompt that has been there. One that is changed gets a new version, in a new file: answers
to the old one are not comparable to answers to it. Lines are added here, never changed."""
TEXT = BUILT_IN.read_text()
WAYS = {
    "single": ["context"],
    "multi": ["context", "body", "head"],
    "without context": ["body", "head"],
    "without body": ["context", "head"],
    "without head": ["context", "body"],
}


@pytest.fixture(scope="module")
def prompt():
    return Prompt.load(None)


def images(*levels):
    return [SentImage((level,), f"image of {level}".encode(), (10, 20)) for level in levels]


def collage(*levels):
    return [SentImage(levels, b"image of all", (30, 20))]


def without(levels, text):
    """A text without the lines that say which images there are."""
    lines = [line for line in text.splitlines() if not re.match(r"Image \d: |\[image\]$", line)]
    assert len(text.splitlines()) - len(lines) == 2 * len(levels)
    return lines


def put(section, body):
    """The built-in prompt with another text in one of its sections."""
    changed, count = re.subn(
        rf"(?<=^# {section}\n).*?(?=^# |\Z)", lambda _: body + "\n\n", TEXT, flags=re.MULTILINE | re.DOTALL
    )
    assert count == 1
    return changed


def refusal(content):
    """Why a file is not taken."""
    with pytest.raises(InvalidInput) as caught:
        Prompt.parse(content if isinstance(content, bytes) else content.encode(), "my.md")
    told = str(caught.value)
    assert "\n" not in told
    assert len(told) < 500
    assert told.startswith("my.md")
    return told


def test_a_changed_prompt_has_a_new_version():
    files = sorted(BUILT_IN.parent.iterdir())
    assert BUILT_IN in files
    loaded = {path: Prompt.load(path) for path in files}
    assert {path.stem: prompt.version for path, prompt in loaded.items()} == {path.stem: path.stem for path in files}
    assert {prompt.version: prompt.digest for prompt in loaded.values()} == DIGESTS, (
        "a prompt that is in use was changed: give it a new version in a new file, and add its digest"
    )


def test_it_explains_the_26_labels_and_no_other(prompt):
    assert tuple(prompt.labels) == EMOTIC_LABELS
    prompt.check_labels(reversed(EMOTIC_LABELS))
    assert len(set(prompt.labels.values())) == 26
    told = as_read(prompt.question(images("context")))
    assert re.findall(r"^- ([^:]+): .+$", told, re.MULTILINE) == list(EMOTIC_LABELS)


@pytest.mark.parametrize(
    ("served", "told"),
    [
        ((*EMOTIC_LABELS, "boredom"), "it lacks boredom"),
        (EMOTIC_LABELS[1:], "it has affection, which the server doesn't know"),
        (
            (*(label for label in EMOTIC_LABELS if "/" not in label), "doubt/confusion"),
            "it lacks doubt/confusion; it has doubt / confusion, which",
        ),
    ],
)
def test_its_labels_must_be_the_servers(prompt, served, told):
    with pytest.raises(InvalidInput, match=re.escape(told)) as caught:
        prompt.check_labels(served)
    assert str(caught.value).startswith(f'{BUILT_IN}: section "labels"')


def test_modes_differ_in_their_images_alone(prompt):
    told = {way: without(levels, as_read(prompt.question(images(*levels)))) for way, levels in WAYS.items()}
    assert all(lines == told["single"] for lines in told.values())


@pytest.mark.parametrize("levels", WAYS.values(), ids=WAYS)
def test_each_image_follows_what_it_is(prompt, levels):
    system, user = prompt.question(images(*levels), "low")
    assert (system["role"], user["role"]) == ("system", "user")
    introduction, *shown, asked = user["content"]
    assert introduction["text"] == prompt.sections["introduction"]
    for number, (level, caption, image) in enumerate(zip(levels, shown[::2], shown[1::2]), 1):
        assert caption == {"type": "text", "text": f"Image {number}: {prompt.sections[level]}."}
        assert image["image_url"]["detail"] == "low"
        kind, _, data = image["image_url"]["url"].partition(";base64,")
        assert (kind, base64.b64decode(data)) == ("data:image/jpeg", f"image of {level}".encode())
    assert '{"labels": ["...", "..."]}' in asked["text"]


def test_what_is_not_sent_is_not_spoken_of(prompt):
    for levels in (way for name, way in WAYS.items() if name.startswith("without")):
        for sent in (images(*levels), collage(*levels)):
            told = as_read(prompt.question(sent))
            (missing,) = {"context", "body", "head"} - set(levels)
            assert prompt.sections[missing] not in told
            assert not re.search(r"\b(missing|left out|excluded?|only (the )?(head|body))\b", told)
    assert "red box" not in as_read(prompt.question(images("body", "head")))


def test_a_collage_is_one_image_whose_parts_are_told(prompt):
    told = as_read(prompt.question(collage("context", "head")))
    assert told.count("[image]") == 1
    assert "Image 1" not in told
    assert (
        "from left to right:\n1. the whole photograph, with a red box around the person to judge\n"
        "2. the head of the person to judge, cut out of the photograph\nOther people" in told
    )


def test_one_label_is_asked_for_by_yes_or_no(prompt):
    asked = {label: as_read(prompt.yes_or_no(images("context"), label)) for label in EMOTIC_LABELS}
    assert len(set(asked.values())) == 26
    for label, told in asked.items():
        assert f"{label} ({prompt.labels[label]})?" in told
        assert told.endswith("Answer with one word, Yes or No.")
        assert "JSON" not in told, "the answer's first token would be a brace"
    with pytest.raises(InvalidInput, match='has no "joy"'):
        prompt.yes_or_no(images("context"), "joy")


def test_it_reads_as_one_would_write_it(prompt):
    every = [prompt.question(images(*levels)) for levels in WAYS.values()]
    every += [prompt.question(collage(*WAYS["multi"])), prompt.yes_or_no(images("head"), "fear")]
    for messages in every:
        for text in [messages[0]["content"], *(part["text"] for part in messages[1]["content"] if "text" in part)]:
            assert text == text.strip()
            assert "\n\n\n" not in text
            assert not re.search(r"[{%}]{2}|[ \t]$|  ", text, re.MULTILINE), text
    question = every[0][1]["content"][-1]["text"]
    assert question.count("\n\n") == 2, "between what is asked, the labels and the form of the answer"
    assert question.isascii()


def test_the_form_it_shows_suits_the_schema(prompt):
    shown = json.loads(as_read(prompt.question(images("context"))).splitlines()[-1])
    schema = schema_of(EMOTIC_LABELS)
    assert list(shown) == schema["required"] == ["labels"]
    assert schema["properties"]["labels"]["items"]["enum"] == list(EMOTIC_LABELS)


def test_show_prompt_gives_the_file_back(tmp_path, capfdbinary):
    mine = tmp_path / "my.md"
    for content in (
        TEXT.encode(),
        put("system", "Du beurteilst Gefühle.").encode(),
        TEXT.encode().rstrip(),
        TEXT.replace("\n", "\r\n").encode(),
    ):
        mine.write_bytes(content)
        assert main(["--show-prompt", "--prompt", str(mine)]) == 0
        assert capfdbinary.readouterr().out == content
    assert main(["--show-prompt"]) == 0
    assert capfdbinary.readouterr().out == BUILT_IN.read_bytes()


def test_a_prompt_that_is_none_is_told_by_the_command(tmp_path, capsys):
    mine = tmp_path / "my.md"
    mine.write_text(put("question", "{{ lables }}"))
    assert main(["--show-prompt", "--prompt", str(mine)]) == 2
    assert capsys.readouterr() == ("", f'error: {mine}: section "question" uses lables, and may use labels only\n')


def test_shells_of_windows_do_not_change_it(prompt):
    for content in (TEXT.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + TEXT.encode()):
        mine = Prompt.parse(content, "my.md")
        assert mine.digest == prompt.digest
        assert mine.data == content
        assert mine.question(images("context")) == prompt.question(images("context"))
    assert "is not UTF-8: byte 1 can't be read" in refusal(TEXT.encode("utf-16"))


def test_a_changed_prompt_has_another_digest(prompt):
    mine = Prompt.parse(put("system", "Judge.").encode(), "my.md")
    assert mine.version == prompt.version
    assert mine.digest != prompt.digest
    assert mine.question(images("head"))[0]["content"] == "Judge."


@pytest.mark.parametrize("section", SECTIONS)
def test_no_section_may_be_missing_or_empty_or_there_twice(section):
    (whole,) = re.findall(rf"^# {section}\n.*?(?=^# |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert f'has no section "# {section}"' in refusal(TEXT.replace(whole, ""))
    assert f'section "{section}" is empty' in refusal(TEXT.replace(whole, f"# {section}\n \n"))
    assert f'section "{section}" is there twice' in refusal(TEXT + "\n" + whole)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", 'has no section "# version", "# system"'),
        ("Hello\n" + TEXT, "text before the first heading"),
        (TEXT + "\n# notes\nnone", 'unknown section "notes"; lines that begin with "# " are headings: version, '),
        (TEXT + "\n#\nnone", 'unknown section ""'),
        (TEXT.replace("# head\n", "# Head\n"), 'unknown section "Head"'),
        (put("version", "one\ntwo"), 'section "version" must be one line'),
        (put("labels", "affection: love"), 'must be "- LABEL: MEANING", not "affection: love"'),
        (put("labels", "- affection"), 'not "- affection"'),
        (put("labels", "- affection:"), 'not "- affection:"'),
        (put("labels", "- : love"), 'not "- : love"'),
        (put("labels", "- fear: one\n- fear : two"), 'section "labels": "fear" is there twice'),
        (put("question", "{% for %}{{ labels }}"), 'section "question" can\'t be filled in: line 1 of it: '),
        (put("question", "{{ labels }}\n{{ labels"), "line 2 of it: unexpected end of template"),
        (put("question", "{% if false %}{{ oops }}{% endif %}{{ labels }}"), 'section "question" uses oops, and may'),
        (put("question", "{{ labels.first }}"), "has no attribute 'first'"),
        (put("question", "{{ labels | nothing }}"), "No filter named 'nothing'"),
        (put("question", "{{ labels | length // 0 }}"), "can't be filled in: "),
        (put("question", "{{ (labels | length) // 0 }}"), "can't be filled in: ZeroDivisionError: "),
        (put("question", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}{{ labels }}"), "RecursionError: "),
        (put("question", "{{ '(' * 0 }}{% if labels and " + "(" * 9999), "can't be filled in: "),
        (put("question", "{{ labels }}{% for i in range(10 ** 9) %}{{ i }}{% endfor %}"), "OverflowError: "),
        (put("question", "{{ labels.__class__.__mro__ }}"), "access to attribute '__class__'"),
        (put("question", "{{ labels.clear() }}"), "can't be filled in: "),
        (put("question", "{% if not labels %}Which?{% endif %}"), 'section "question" comes out empty'),
        (put("question", "Which? {labels}"), 'section "question" must use {{ labels }}'),
        (put("yes or no", "Does it apply? {{ meaning }}"), 'section "yes or no" must use {{ label }}'),
        (put("yes or no", "{{ labels }}"), 'section "yes or no" uses labels, and may use label, meaning only'),
        (put("caption", "Image {{ number }}"), 'section "caption" must use {{ view }}'),
        (put("collage", "{{ view }}"), 'section "collage" uses view, and may use views only'),
        (b"# version\n\xff", "is not UTF-8: byte 11 can't be read"),
    ],
)
def test_files_that_are_not_taken(content, told):
    assert told in refusal(content)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=rf"can't read the prompt {tmp_path}/no\.md: No such file"):
        Prompt.load(tmp_path / "no.md")
    with pytest.raises(InvalidInput, match=rf"can't read the prompt {tmp_path}: Is a directory"):
        Prompt.load(tmp_path)


def test_headings_of_lower_levels_and_blank_lines_are_text():
    mine = Prompt.parse(put("introduction", "\n\n## What you see\n\n#1 is the whole\n\n").encode(), "my.md")
    assert mine.sections["introduction"] == "## What you see\n\n#1 is the whole"
