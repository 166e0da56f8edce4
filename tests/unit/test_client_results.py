"""RESULT's one definition: what users read of it, and what is made from it."""

import copy
import json
import pickle
import threading
from typing import Any

import jsonschema
import pydantic
import pytest

from cocoer_bls import errors
from cocoer_bls.metrics import FAILURES
from cocoer_client import Box, Result, ServerError
from cocoer_client.batches import as_outcome, as_result
from cocoer_client.frozen import FrozenDict
from cocoer_client.protocol import LABEL_COUNT, LEVEL_KEYS, LEVELS
from cocoer_client.results import BOXES, CHOSEN, LISTS, REASONS, Failure, ModelInfo, Person
from cocoer_client.schema import json_schema, main, text
from tests.builds import PROJECT
from tests.results import make_person, make_result

BODY, HEAD = [0, 0, 60, 80], [10, 10, 30, 30]
SCHEMA_FILE = PROJECT / "docs" / "result.schema.json"


@pytest.fixture
def raw():
    return {
        **make_result((640, 480), [make_person(3, BODY, HEAD, ("happiness", "peace"))]),
        "timing_ms": {"decode": 1.5},
    }


def test_typed(raw):
    result = Result.from_raw(raw)
    (person,) = result.persons
    assert (result.width, result.height, len(result.labels)) == (640, 480, 26)
    assert (person.id, person.head_box.x2, person.body_box) == (3, 30, tuple(BODY))
    assert isinstance(person.body_box, Box)
    assert person.pred == ("happiness", "peace")
    assert person.scores["pred"]["happiness"] == pytest.approx(0.95)
    assert person.refined["ctx"]["peace"] == pytest.approx(0.9)
    assert person.losses["body"] == 3.0
    assert person.coordination.lambda_w2 == {"head": 0.5, "context": 0.5}
    assert result.timing_ms == {"decode": 1.5}
    assert result.model == ModelInfo(**raw["model"])
    assert result.raw is raw


def test_scores_are_a_mapping_and_the_lists_of_the_wire(raw):
    scores = Result.from_raw(raw).persons[0].scores
    assert list(scores) == ["pred", "VI", "head", "body", "ctx"] == list(scores.keys())
    assert list(dict(scores)["VI"]) == raw["labels"]
    assert [list(by_label.values()) for by_label in scores.values()] == list(raw["persons"][0]["scores"].values())
    assert scores.pred == tuple(raw["persons"][0]["scores"]["pred"])
    assert scores.get("final") is None
    with pytest.raises(KeyError):
        scores["refined"]


def test_the_releases_dictionary(raw):
    labels = ["happiness", "peace"]
    order = ["body-level", "head-level", "context-level"]
    person = {"pred": labels, "VI": labels, "head": labels, "body": labels, "ctx": labels, "emo_process": order}
    assert Result.from_raw(raw).to_dict() == {"0": person}


def test_frozen(raw):
    result = Result.from_raw(raw)
    for name in ("width", "persons", "made_up"):
        with pytest.raises(AttributeError):
            setattr(result, name, 1)
    (person,) = result.persons
    mappings: tuple[Any, ...] = (person.scores["pred"], person.scores, person.losses, person.coordination.lambda_w1)
    for mapping in mappings:
        with pytest.raises(TypeError):
            mapping["peace"] = 1
    for change in (
        lambda losses: losses.clear(),
        lambda losses: losses.pop("head"),
        lambda losses: losses.popitem(),
        lambda losses: losses.setdefault("ctx", 1),
        lambda losses: losses.update(head=1),
        lambda losses: losses.__ior__({"head": 1}),
        lambda losses: losses.__delitem__("head"),
    ):
        with pytest.raises(TypeError, match="can't be changed"):
            change(person.losses)
    assert Result.from_raw(raw) == result


def test_nothing_of_the_wire_is_lost(raw):
    result = Result.from_raw(raw)
    assert result.model_dump(mode="json") == raw
    assert json.loads(result.model_dump_json()) == raw
    del raw["timing_ms"]
    assert Result.model_validate(raw).raw == raw, "no null where nothing was measured"


def test_results_travel_to_other_processes(raw):
    result = Result.from_raw(raw)
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert other == result
        assert other.persons[0].scores["pred"] == result.persons[0].scores["pred"]
    assert json.loads(json.dumps(FrozenDict(a=1))) == {"a": 1}


def test_a_newer_server_may_say_more(raw):
    more = copy.deepcopy(raw)
    more["persons"][0]["gaze"] = [0, 1]
    more["model"] |= {"precision": "fp8", "built": "today"}
    more["timing_ms"]["crops"] = 2.0
    result = Result.from_raw(more)
    assert result.model.precision == "fp8"
    assert result.raw["persons"][0]["gaze"] == [0, 1]
    with pytest.raises(pydantic.ValidationError):
        Result.model_validate(more)


def test_an_older_server_does_not_name_the_step(raw):
    """Before there was a choice it was 1."""
    del raw["model"]["coordination_step"]
    assert Result.from_raw(raw).model.coordination_step == 1


def test_an_answer_that_is_no_result(raw):
    del raw["persons"][0]["scores"]["VI"]
    with pytest.raises(ServerError, match=r"does not know \(persons.0.scores.VI: Field required\); use the client of"):
        as_result(raw)
    assert isinstance(as_outcome(raw), ServerError)
    assert "error.message: Field required" in str(as_outcome({"error": {"code": "INTERNAL"}}))


def test_first_answers_in_several_threads(raw):
    """What parses them is built once, whoever comes first."""
    results, start = [], threading.Barrier(8)

    def parse():
        start.wait()
        results.append(Result.from_raw(raw))

    threads = [threading.Thread(target=parse) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Result.from_raw(raw)] * 8


class TestSchema:
    def test_the_file_is_the_generated_one(self):
        assert SCHEMA_FILE.read_text() == text(), "python -m cocoer_client.schema docs/result.schema.json"

    def test_the_command(self, tmp_path):
        assert main([str(tmp_path / "new" / "schema.json")]) == 0
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["schema.json"]
        assert json.loads((tmp_path / "new" / "schema.json").read_text()) == json_schema()

    def test_takes_results_and_failures(self, raw):
        error = {"code": "INTERNAL", "message": "x"}
        for good in (raw, make_result((1, 1), []), {"error": error}, {"error": {**error, "reason": "internal"}}):
            jsonschema.validate(good, json_schema())

    @pytest.mark.parametrize("reason", [None, "bad luck"])
    def test_a_reason_is_one_of_those_there_are(self, reason):
        bad = {"error": {"code": "INTERNAL", "message": "x", "reason": reason}}
        assert not jsonschema.Draft202012Validator(json_schema()).is_valid(bad)

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("extra",), 1),
            (("timing_ms",), None),
            (("timing_ms", "lunch"), 1.0),
            (("timing_ms", "decode"), -1.0),
            (("image", "width"), 0),
            (("image", "depth"), 3),
            (("labels", 0), "yearning"),
            (("labels", 26), "boredom"),
            (("model", "precision"), "fp8"),
            (("model", "channel_order"), "gbr"),
            (("model", "built"), "today"),
            (("persons", 0, "id"), 0),
            (("persons", 0, "gaze"), []),
            (("persons", 0, "body_box", 0), -1),
            (("persons", 0, "body_box", 4), 1),
            (("persons", 0, "body_box", 0), 1.5),
            (("persons", 0, "pred", 0), "peace"),
            (("persons", 0, "emo_process", 0), "head-level"),
            (("persons", 0, "emo_process", 0), "head"),
            (("persons", 0, "scores", "pred", 0), 1.1),
            (("persons", 0, "scores", "pred", 26), 0.1),
            (("persons", 0, "scores", "levels"), []),
            (("persons", 0, "refined", "VI"), [0.1] * 26),
            (("persons", 0, "losses", "ctx"), 1.0),
            (("persons", 0, "losses", "head"), -1.0),
            (("persons", 0, "coordination", "lambda_w1", "head"), 1.1),
            (("persons", 0, "coordination", "lambda_w2", "body"), 0.1),
            (("persons", 0, "coordination", "lambda_w2", "ctx"), 0.1),
            (("persons", 0, "coordination", "grad_distance"), -0.1),
        ],
    )
    def test_refuses(self, place, value, raw):
        changed = copy.deepcopy(raw)
        *inside, last = place
        part = changed
        for key in inside:
            part = part[key]
        if isinstance(part, list) and last == len(part):
            part.append(value)
        else:
            part[last] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, json_schema())

    def test_nothing_may_be_missing(self, raw):
        """Of each object, whatever it is that is left out."""
        validator = jsonschema.Draft202012Validator(json_schema())

        def check(part):
            for key, value in list(part.items()):
                if key != "timing_ms" and part is not raw["timing_ms"]:
                    del part[key]
                    assert not validator.is_valid(raw), key
                    part[key] = value
                if isinstance(value, dict):
                    check(value)

        raw["persons"][0] = copy.deepcopy(raw["persons"][0])
        check(raw)
        check(raw["persons"][0])
        assert validator.is_valid(raw)

    def test_every_field_is_described(self):
        definitions = json_schema()["$defs"]
        assert set(definitions) >= {"Result", "Failure", "Person", "ModelInfo", "Coordination", "Box"}
        for name, definition in definitions.items():
            assert name == "Box" or definition["description"], name
        for name, field in definitions["Person"]["properties"].items():
            target = definitions[field["$ref"].rpartition("/")[2]] if "$ref" in field else {}
            assert {**target, **field}["description"], name


def test_names_that_others_go_by(raw):
    assert BOXES == ("body_box", "head_box")
    assert CHOSEN == ("pred", "VI", "head", "body", "ctx")
    assert (*CHOSEN, "emo_process") == LISTS
    assert set(LEVELS) == set(LEVEL_KEYS) == set(raw["persons"][0]["losses"])
    assert set(LEVEL_KEYS.values()) == set(raw["persons"][0]["refined"])
    assert len(raw["labels"]) == LABEL_COUNT
    assert Failure.model_validate({"error": {"code": "INTERNAL", "message": "x"}}).error.message == "x"
    assert (*errors.REASONS, *FAILURES) == REASONS
    assert list(Person.model_fields) == list(raw["persons"][0])
