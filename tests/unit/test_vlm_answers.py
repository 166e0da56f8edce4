"""Answers of vision-language models: read by what is written in them, counted by what they are."""

import json
import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cocoer.labels import EMOTIC_LABELS
from cocoer_client.vlm.answers import KINDS, Answer, read_answer, yes_probability
from cocoer_client.vlm.prompt import Prompt, schema_of
from cocoer_client.vlm.spellings import NOTHING, SPELLINGS, matched, plain

DOUBT = "doubt / confusion"
FEAR = '{"labels": ["fear"]}'
PEACE = '{"labels": ["peace"]}'


def read(text, finish_reason="stop", refusal=""):
    return read_answer(text, refusal, finish_reason, EMOTIC_LABELS)


def outcome(text, finish_reason="stop"):
    """Kind, labels, unknown names; the text is always kept."""
    answer = read(text, finish_reason)
    assert answer.text == text
    return answer.kind, answer.labels, answer.unknown


def labels(*names):
    return "labels", names, ()


UNPARSEABLE, CUT_OFF, REFUSED = (("unparseable", (), ()), ("cut_off", (), ()), ("refused", (), ()))


# ---- names


@pytest.mark.parametrize(
    "name",
    [
        "doubt / confusion", "Doubt/Confusion", "DOUBT / CONFUSION", "doubt/confusion", "doubt & confusion",
        "doubt, confusion", "doubt_confusion", "doubt-confusion", "doubt \u2013 confusion", "doubt\u2044confusion",
        "DoubtConfusion",
        "doubt and confusion", "Doubt or confusion", "confusion / doubt", "confusion and doubt", "confusion or doubt",
        "doubt", "Doubt", "confusion", " Confusion. ", '"doubt"', "**doubt / confusion**", "`doubt / confusion`",
        "\uff44\uff4f\uff55\uff42\uff54", "doubt\u00a0/\u00a0confusion", "doubt;", "(confusion)", "- doubt",
    ],
)  # fmt: skip
def test_doubt_has_many_spellings(name):
    assert matched([name], EMOTIC_LABELS) == ((DOUBT,), ())


@pytest.mark.parametrize("label", EMOTIC_LABELS)
def test_letters_and_signs_do_not_matter(label):
    for name in (
        label,
        label.upper(),
        label.title(),
        f" {label}\n",
        f"{label}.",
        f'"{label}"',
        f"'{label}',",
        f"_{label}_",
    ):
        assert matched([name], EMOTIC_LABELS) == ((label,), ())


@pytest.mark.parametrize(
    "name",
    [
        "happy", "joy", "angry", "sad", "fearful", "tired", "confused", "doubtful", "disquiet", "disquietude",
        "disquietement", "anxious", "neutral", "surprised", "esteem/respect", "hapiness", "happines", "pleasures",
        "not fear", "no fear", "fear of heights", "fear (mild)", "fear: 0.9", "1. fear", "fear and anger",
        "doubt / confusion / fear", "doubtful confusion", "dis engagement",
        "sympathy: sharing what others feel", "", "!", "\u6050\u60e7",
    ],
)  # fmt: skip
def test_guesses_are_no_names(name):
    assert matched([name], EMOTIC_LABELS) == ((), (name,))
    assert matched(["fear", name], EMOTIC_LABELS) == (("fear",), (name,))


def test_the_table_holds_labels_alone_and_none_twice():
    assert set(SPELLINGS.values()) <= set(EMOTIC_LABELS)
    own = [plain(label) for label in EMOTIC_LABELS]
    assert len(set(own)) == 26
    assert not set(own) & set(SPELLINGS)
    assert not NOTHING & {*own, *SPELLINGS}
    assert all(plain(name) == name for name in (*SPELLINGS, *NOTHING))


def test_the_table_adds_no_label_that_is_not_served():
    assert matched(["doubt", "fear"], ["fear"]) == (("fear",), ("doubt",))


@pytest.mark.parametrize("names", [[], ["none"], ["None."], ["no label"], ["No labels"], ["none of the above", "none"]])
def test_no_label_is_an_answer(names):
    assert outcome(json.dumps({"labels": names})) == labels()
    assert read(json.dumps({"labels": names})).is_read


def test_none_beside_a_label_contradicts_it():
    assert outcome('{"labels": ["none", "fear"]}') == ("unknown_label", ("fear",), ("none",))


def test_labels_come_once_and_in_their_order_and_unknown_names_in_the_models():
    text = '{"labels": ["peace", "Zeal", "confusion", "happy", "Peace", "doubt", "Zeal ", "anger"]}'
    assert outcome(text) == ("unknown_label", ("anger", DOUBT, "peace"), ("Zeal", "happy"))


# ---- where the answer is


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FEAR, labels("fear")),
        ('{\n  "labels": [\n    "fear",\n    "peace"\n  ]\n}\n', labels("fear", "peace")),
        (f"```json\n{FEAR}\n```", labels("fear")),
        (f"```\n{FEAR}\n```", labels("fear")),
        (f"```JSON\n{FEAR}\n```\nHope this helps!", labels("fear")),
        (f"```json\n{FEAR}", labels("fear")),
        (f"Here you go: {FEAR} That is all.", labels("fear")),
        (f'The "person" {{looks}} scared (":-{{").\n{FEAR}', labels("fear")),
        (f"{FEAR} Wait, no: {PEACE}", labels("peace")),
        (f'{FEAR}\n{{"confidence": 0.9}}', labels("fear")),
        (f'{FEAR}\n{{"labels": "peace"}}', labels("fear")),
        (f'{FEAR}\n{{"labels": ["peace",]}}', labels("fear")),
        (f"[{FEAR}]", labels("fear")),
        ('{"reason": "a {brace} and a \\"quote\\"", "labels": ["fear"], "score": 1e3}', labels("fear")),
        (f'{{"answer": {FEAR}}}', UNPARSEABLE),
        (f"\\boxed{{{FEAR}}}", labels("fear")),
        (f"{{{FEAR}}}", labels("fear")),
        (f'An unfinished {{"labels": ["peace", and then\n{FEAR}', labels("fear")),
        (f'Broken off {{"labels\n{FEAR}\n}}', labels("fear")),
        (f'Form: {{"labels": [...]}}. {FEAR}', labels("fear")),
        (f'Form: {{"labels": {{...}}}}. {FEAR}', labels("fear")),
        ('{"labels": ["\\u0066ear"]}', labels("fear")),
        ('["fear", "peace"]', labels("fear", "peace")),
        ('```json\n["fear"]\n```', labels("fear")),
        ('The labels:\n```json\n["fear"]\n```\nBest wishes', labels("fear")),
        ('```\n["fear"]\n```\nrather\n```\n["peace"]\n```', labels("peace")),
        ('The labels: ["fear"]', UNPARSEABLE),
        ("[]", labels()),
        ("\ufeff" + FEAR, labels("fear")),
        ('"fear"', UNPARSEABLE),
        ("fear, peace", UNPARSEABLE),
        ("The person feels fear.", UNPARSEABLE),
        ('{"emotions": ["fear"]}', UNPARSEABLE),
        ('{"Labels": ["fear"]}', UNPARSEABLE),
        ('{"labels": "fear"}', UNPARSEABLE),
        ('{"labels": null}', UNPARSEABLE),
        ('{"labels": {"fear": true, "peace": false}}', UNPARSEABLE),
        ('{"labels": {"fear": 0.9}}', UNPARSEABLE),
        ('{"labels": ["fear", 3]}', UNPARSEABLE),
        ('{"labels": ["fear", null]}', UNPARSEABLE),
        ('{"labels": [["fear"]]}', UNPARSEABLE),
        ('{"labels": [{"label": "fear"}]}', UNPARSEABLE),
        ('{"labels": ["fear",]}', UNPARSEABLE),
        ("{'labels': ['fear']}", UNPARSEABLE),
        ('{"labels": ["fear"], "score": NaN}', UNPARSEABLE),
        ('{"labels": ["fear"], "score": -Infinity}', UNPARSEABLE),
        ('{labels: ["fear"]}', UNPARSEABLE),
        ('{"labels": ["fear" "peace"]}', UNPARSEABLE),
        ('{"labels": ["...", "..."]}', UNPARSEABLE),
        ('{"labels": ["\u2026"]}', UNPARSEABLE),
        ('["..."]', UNPARSEABLE),
        (f'{FEAR} in the form {{"labels": ["...", "..."]}}', labels("fear")),
        ("{}", UNPARSEABLE),
        ("null", UNPARSEABLE),
        ("", UNPARSEABLE),
        (" \n", UNPARSEABLE),
    ],
)
def test_texts(text, expected):
    assert outcome(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"<think>Perhaps {PEACE}? No.</think>\n{FEAR}", labels("fear")),
        (f"Perhaps {PEACE}? No.</think>{FEAR}", labels("fear")),
        (f"<THINKING>a</THINKING><think>b</think>{FEAR}", labels("fear")),
        (f"<reasoning>{PEACE}</reasoning>", UNPARSEABLE),
        (f"{FEAR}<think>was that right? {PEACE}", labels("fear")),
        (f"<think>I can't tell.</think>{FEAR}", labels("fear")),
        ("<think>I can't tell.</think>The person is afraid.", UNPARSEABLE),
        ("<think>Fear.</think>I can't tell.", REFUSED),
        ('<think>x</think>["fear"]', labels("fear")),
    ],
)
def test_what_was_thought_is_no_answer(text, expected):
    assert outcome(text) == expected


def test_the_prompt_and_its_schema_given_back_are_no_answer():
    prompt = Prompt.load(None)
    schema = json.dumps(schema_of(EMOTIC_LABELS))
    for echo in (prompt.text, prompt.sections["question"], schema, f"The schema is {schema}"):
        assert outcome(echo) == UNPARSEABLE
        assert outcome(f"{FEAR} {echo}") == labels("fear")
        assert outcome(f"{echo}\n{FEAR}") == labels("fear")


# ---- cut off, refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"labels": ["fear", "pea', CUT_OFF),
        ('{"labels": ["fear", "peace"', CUT_OFF),
        ('["fear", "pea', CUT_OFF),
        ("", CUT_OFF),
        ("The person", CUT_OFF),
        (f"<think>Perhaps {PEACE}, since", CUT_OFF),
        (FEAR, labels("fear")),
        (f'{FEAR} On second thought, {{"labels": ["pea', labels("fear")),
        ('["fear"]', labels("fear")),
        ("I'm sorry, but I can't say who", REFUSED),
    ],
)
def test_at_the_limit_of_tokens_what_is_complete_is_read(text, expected):
    assert outcome(text, "length") == expected


REFUSED_IN_PROSE = [
    "I'm sorry, I can't help with identifying people in images.",
    "I\u2019m sorry, but I can\u2019t assist with that request.",
    "I'm sorry, but this isn't something I can do.",
    "I am sorry, I cannot determine emotions from a photo.",
    "Sorry, but I won't do that.",
    "Sorry, I can't.",
    "I apologize, but I'm unable to analyze the person.",
    "My apologies, this is beyond what I can do.",
    "I can't determine how this person feels.",
    "I cannot\nidentify people.",
    "I'm unable to assist with that.",
    "I am not able to tell.",
    "I won't guess at feelings.",
    "I must decline.",
    "Unfortunately, I cannot see that.",
    "As an AI language model, I can't judge emotions.",
    "**I'm sorry, but I can't help with that.**",
    '"I can\'t help with that."',
    "\n  I'M SORRY, I CAN'T.",
]


@pytest.mark.parametrize("text", REFUSED_IN_PROSE)
def test_refusals_in_prose(text):
    assert outcome(text) == REFUSED
    assert not read(text).is_read
    assert outcome(f"{text}\n{FEAR}") == labels("fear"), "an apology before an answer is none"


@pytest.mark.parametrize(
    "text",
    [
        "The person looks sorry.",
        "As an AI, I see a person who is afraid.",
        "He says: I'm sorry.",
        "I see fear.",
        "I think I can't rule out fear.",
        "Apologies",
        "Sorrynotsorry",
        '{"error": "I can\'t help with that."}',
    ],
)
def test_what_only_resembles_a_refusal(text):
    assert outcome(text) == UNPARSEABLE


def test_the_interfaces_word_for_a_refusal_counts_before_all():
    assert read(FEAR, refusal="I can't help with that.") == Answer("refused", text="I can't help with that.")
    assert read(FEAR, "content_filter") == Answer("refused", text=FEAR)
    assert read("", "content_filter") == Answer("refused")


# ---- any text


def test_halves_of_surrogate_pairs_do_not_get_out():
    answer = read('{"labels": ["\\ud800 fright", "fear\ud83d", "\\ud83d\\ude00"]}')
    assert answer.unknown == ("? fright", "\U0001f600")
    assert answer.labels == ("fear",)
    assert read("x", refusal="\udfff").text == "?"
    for text in (answer.text, *answer.unknown):
        text.encode()


HUNDRED_KB = 100_000


@pytest.mark.parametrize(
    "unit",
    [
        "{", "}", "[", "]", '"', "\\", "{}", '{"', '{"a":', '{"a":{', '{"labels":[', '{"labels":["', "{ ", '{"a": "{',
        "```", "``` ", "```json ", "<think>", "</think>", '{"a":1}', FEAR, '["fear"]', '["', "{\n", '"\n', '{"a\\',
        "\ufdfa", "_ ", "1", " ", "a", "I can't ",
    ],
)  # fmt: skip
def test_long_texts_take_time_in_proportion(unit):
    text = unit * (HUNDRED_KB // len(unit))
    started = time.process_time()
    for long in (
        text,
        FEAR + text,
        text + FEAR,
        '{"labels": ["' + text + '"]}',
        f'{{"labels": ["fear"], "x": [{text}]}}',
    ):
        for finish_reason in ("stop", "length"):
            assert read(long, finish_reason).kind in KINDS
    assert time.process_time() - started < 5, "ten texts of 100 KB, which take less than one"


def test_many_names_are_read():
    names = [f"word {number}" for number in range(10_000)]
    answer = read(json.dumps({"labels": [*names, *EMOTIC_LABELS] * 2}))
    assert answer.labels == EMOTIC_LABELS
    assert answer.unknown == tuple(names)


PROSE = st.sampled_from(
    [
        "",
        "Here is my answer:\n",
        "Sure!\n\n",
        "I'm sorry, but I see:\n",
        'The "form" is {labels}: ',
        "(-: {} ",
        "\u611f\u60c5 ",
    ]
)
WRAPPINGS = st.sampled_from(
    [
        "@", "```json\n@\n```", "```\n@```", f"<think>maybe {PEACE}</think>@", "<think>{</think>\n\n@",
        f"{PEACE} no: @", '@ The form was {"labels": ["..."]}', "\\boxed{@}", "  @  \n", "\ufeff@",
        '@\n{"note": "done"}', "> @",
    ]
)  # fmt: skip
STYLES = st.sampled_from([str, str.upper, str.title, lambda name: f" {name}. ", lambda name: name.replace(" / ", "_")])


@given(
    names=st.lists(st.sampled_from(EMOTIC_LABELS)),
    style=STYLES,
    indent=st.sampled_from([None, 0, 2]),
    wrapping=WRAPPINGS,
    before=PROSE,
    after=PROSE,
    extra=st.dictionaries(st.sampled_from(["reason", "person"]), st.text()),
    escaped=st.booleans(),
    finish_reason=st.sampled_from(["stop", "length", ""]),
)
def test_any_labels_in_any_wrapping_are_read_back(
    names, style, indent, wrapping, before, after, extra, escaped, finish_reason
):
    written = json.dumps({**extra, "labels": [style(name) for name in names]}, indent=indent, ensure_ascii=escaped)
    answer = read(before + wrapping.replace("@", written) + after, finish_reason)
    assert answer.kind == "labels"
    assert answer.labels == tuple(label for label in EMOTIC_LABELS if label in names)


WORDS = st.sampled_from(
    [
        *EMOTIC_LABELS, "doubt", "none", "{", "}", "[", "]", '"', ",", ":", '"labels"', "\\", "\n", "```", "json",
        "<think>", "</think>", "null", "1", "happy", '{"labels": ["', '"]}', '", "', "...", "I can't", "\ud800",
    ]
)  # fmt: skip


@given(
    text=st.one_of(st.text(), st.lists(WORDS).map("".join), st.lists(WORDS).map(" ".join)),
    finish_reason=st.sampled_from(["stop", "length", "content_filter", "tool_calls", ""]),
)
@example('{"labels": ["fear"', "length")
@example(FEAR, "stop")
def test_no_text_fails_or_yields_labels_that_are_not_written_in_it(text, finish_reason):
    answer = read(text, finish_reason)
    assert answer.kind in KINDS
    assert answer.kind != "failed"
    assert answer.labels == tuple(label for label in EMOTIC_LABELS if label in answer.labels)
    for label in answer.labels:
        assert any(half in text for half in label.split(" / ")), (label, text)
    assert bool(answer.unknown) == (answer.kind == "unknown_label")
    assert answer.is_read or not answer.labels
    for kept in (answer.text, *answer.unknown):
        kept.encode()


# ---- yes or no


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ({"Yes": 0.6, "No": 0.2, "I": 0.2}, 0.75),
        ({"Yes": 0.3, " yes": 0.1, "YES": 0.1, "yes.": 0.1, "\u2581Yes": 0.1, "\u0120Yes": 0.05, "no": 0.25}, 0.75),
        ({"No": 0.5, " no": 0.1, "NO,": 0.1, "**No": 0.1, '"Yes': 0.2}, 0.2),
        ({"Yes": 0.01, "Maybe": 0.99}, 1.0),
        ({"No": 0.01}, 0.0),
        ({"Yesterday": 0.5, "None": 0.2, "Not": 0.1, "Y": 0.1, "": 0.05, "n": 0.05}, None),
        ({}, None),
    ],
)
def test_the_probability_of_yes(tokens, expected):
    logarithms = {token: math.log(probability) for token, probability in tokens.items()}
    assert yes_probability(logarithms) == (None if expected is None else pytest.approx(expected))


def test_improbable_tokens_are_compared_too():
    assert yes_probability({"Yes": -9999.0, "No": -9999.0}) == 0.5
    assert yes_probability({"Yes": -9999.0, "No": -0.1}) == 0.0
    assert yes_probability({"Yes": -math.inf, "No": -math.inf}) is None
    assert yes_probability({"Yes": math.nan, "No": -1.0}) == 0.0


LOGARITHMS = st.floats(-1e4, 0)


@given(LOGARITHMS, LOGARITHMS)
def test_yes_and_no_share_what_there_is(yes, no):
    one, other = yes_probability({"Yes": yes, "No": no}), yes_probability({"Yes": no, "No": yes})
    assert one is not None
    assert other is not None
    assert 0 <= one <= 1
    assert one + other == pytest.approx(1)
    assert one <= 0.5 or yes > no
