"""What decides a result, and what is said where it is decided otherwise."""

import pytest

from cocoer_client import ModelChanged
from cocoer_client.key import ResultKey, require_same_model

MODEL = {
    "version": "0.1.0",
    "weights": "abc",
    "synthetic": False,
    "detector": "scrfd",
    "channel_order": "bgr",
    "coordination_step": 1.0,
    "precision": "fp32",
}


def test_equal_where_the_same_was_asked_of_the_same_model():
    key = ResultKey.of(MODEL, min_score=0.5, final_threshold=None)
    assert key == ResultKey.of({**MODEL, "version": "0.2.0"}, min_score=0.5)
    older = {name: value for name, value in MODEL.items() if name != "coordination_step"}
    assert key == ResultKey.of(older, min_score=0.5)


@pytest.mark.parametrize("name", ["weights", "precision", "detector", "channel_order", "coordination_step"])
def test_another_model_is_another_key(name):
    other = {**MODEL, name: "other"}
    assert ResultKey.of(MODEL) != ResultKey.of(other)
    with pytest.raises(ModelChanged, match=f"the server's model has changed: {name} was .* and is other"):
        require_same_model(MODEL, {"model": other})


def test_another_question_is_another_key():
    differences = ResultKey.of(MODEL, frame_step=30).differences(ResultKey.of(MODEL, min_score=0.7))
    assert differences == ["frame_step was 30 and is the default", "min_score was the default and is 0.7"]


def test_an_upgrade_of_the_server_alone_changes_nothing():
    require_same_model(MODEL, {"model": {**MODEL, "version": "9"}})
