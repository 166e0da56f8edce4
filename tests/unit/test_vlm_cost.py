"""About how many tokens: by the rules that are public, and of what is really sent."""

import json

import pytest

from cocoer_client.vlm.cost import GENERIC, Estimate, Patches, Tiles, money, prompt_tokens, rule_of
from cocoer_client.vlm.crops import SentImage
from cocoer_client.vlm.prompt import Message, Prompt, schema_of

SIZES = [(1, 1), (100, 30), (512, 512), (513, 512), (1024, 768), (1024, 1024), (4000, 3000), (20000, 40), (7, 9000)]


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        ("gpt-4o", Tiles(85, 170)),
        ("gpt-4o-2024-11-20", Tiles(85, 170)),
        ("chatgpt-4o-latest", Tiles(85, 170)),
        ("gpt-4-turbo", Tiles(85, 170)),
        ("gpt-4.1", Tiles(85, 170)),
        ("openai/gpt-4.1", Tiles(85, 170)),
        ("gpt-4o-mini", Tiles(2833, 5667)),
        ("ft:gpt-4o-mini-2024-07-18:me::x", Tiles(2833, 5667)),
        ("GPT-4O-MINI", Tiles(2833, 5667)),
        ("gpt-5", Tiles(70, 140)),
        ("gpt-5.1-chat", Tiles(70, 140)),
        ("o1", Tiles(75, 150)),
        ("o3-2025-04-16", Tiles(75, 150)),
        ("o4-mini", Patches(1.72)),
        ("gpt-4.1-mini-2025-04-14", Patches(1.62)),
        ("gpt-4.1-nano", Patches(2.46)),
        ("gpt-5-mini", Patches(1.62)),
        ("gpt-5-nano", Patches(2.46)),
        ("gpt-5.4-mini", Patches(1.2, most=2500)),
        ("gpt-6", Patches(1.2, most=2500)),
        ("Qwen/Qwen2.5-VL-7B-Instruct", GENERIC),
        ("llava", GENERIC),
        ("my-gpt-4o", GENERIC),
        ("", GENERIC),
    ],
)
def test_each_family_has_its_rule(model, rule):
    assert rule_of(model) == rule


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        # OpenAI's own examples.
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4.1-nano", (1024, 1024), "auto", 2520),  # 1024 x 2.46
        ("gpt-4.1-mini", (1800, 2400), "auto", 2353),  # 1452 x 1.62
        # And by hand.
        ("gpt-4o", (1024, 1024), "auto", 765),
        ("gpt-4o", (512, 512), "high", 255),  # one tile: it is not enlarged
        ("gpt-4o", (513, 512), "high", 425),
        ("gpt-4o-mini", (512, 512), "high", 8500),
        ("gpt-4o-mini", (512, 512), "low", 2833),
        ("gpt-4.1-mini", (512, 512), "low", 415),  # detail does not matter: 256 x 1.62
        ("gpt-4.1-mini", (1, 1), "high", 2),
        ("llava", (280, 140), "high", 50),
        ("llava", (281, 140), "high", 55),
    ],
)
def test_tokens_of_an_image(model, size, detail, tokens):
    assert rule_of(model).tokens(size, detail) == tokens


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rule", [Tiles(85, 170), Patches(1.0), Patches(2.46), GENERIC], ids=str)
def test_any_size_costs_something_and_not_without_end(rule, size):
    tokens = rule.tokens(size, "high")
    most = 85 + 170 * 8 if isinstance(rule, Tiles) else rule.most * rule.factor + 1
    assert 1 <= tokens <= most
    assert tokens == rule.tokens(size[::-1], "high")
    assert rule.tokens(size, "low") <= tokens


def image(width, height):
    return SentImage(("head",), b"\xff" * 5000, (width, height))


def test_tokens_of_a_request():
    """Text, images, the form of the answer; not the images' bytes."""
    picture = {"type": "image_url", "image_url": {"url": "z" * 9999}}
    messages: list[Message] = [
        {"role": "system", "content": "x" * 400},
        {"role": "user", "content": [{"type": "text", "text": "y" * 42}, picture]},
    ]
    images, form = [image(512, 512), image(1024, 1024)], {"type": "json_object"}
    text = -(-442 // 4) + 2 * 4
    assert prompt_tokens(messages, [], "high", "gpt-4o") == text
    assert prompt_tokens(messages, images, "high", "gpt-4o") == text + 255 + 765
    assert prompt_tokens(messages, images, "low", "gpt-4o") == text + 2 * 85
    assert prompt_tokens(messages, [], "high", "gpt-4o", form) == -(-(442 + len(json.dumps(form))) // 4) + 2 * 4
    assert prompt_tokens(messages, images, "high") == text + 19**2 + 37**2


def test_the_prompt_s_own_size():
    """A question with its 26 labels is of the order of a thousand tokens: neither nothing nor the images' base64."""
    prompt = Prompt.load(None)
    asked = prompt.question([image(100, 100)])
    form = {"type": "json_schema", "json_schema": {"schema": schema_of(list(prompt.labels))}}
    assert 300 < prompt_tokens(asked, [], "auto", "gpt-4o", form) < 3000


def test_estimates_add_up_to_money():
    one, other = Estimate(2, 1, 1000, 800), Estimate(3, 0, 500, 1200)
    total = sum((one, other), Estimate())
    assert total == Estimate(5, 1, 1500, 2000)
    assert total.money((2.5, 10.0)) == pytest.approx(1500 * 2.5e-6 + 2000 * 10e-6)
    assert total.money((0, 0)) == 0
    assert money(1_000_000, 0, (2.5, 10.0)) == 2.5
