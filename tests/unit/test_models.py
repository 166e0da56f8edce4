"""Kinds of model: what they are fed, and that tensors between them fit together, is what the table says."""

import numpy as np
import pytest

from cocoer_bls.inputs import detection_inputs, recognition_inputs
from export.models import DETECTORS, MODELS, RECOGNITION, model
from export.models.samples import SAMPLE_PERSONS, Samples
from export.models.tensors import PERSONS

DTYPES = {"UINT8": np.uint8, "FP32": np.float32, "INT64": np.int64}
BY_NAME = pytest.mark.parametrize("one", MODELS, ids=lambda one: one.name)


def no_network():
    raise AssertionError("the network is not needed here")


@pytest.fixture
def samples():
    """The sample image's inputs, with zeros in place of what the network makes of them."""
    made = Samples(no_network, "bgr")
    rows = {True: len(SAMPLE_PERSONS), False: 1}
    made.__dict__["between"] = {
        theirs: np.zeros((rows[tensor.rows is PERSONS], *tensor.dims), dtype=DTYPES[tensor.dtype])
        for step in RECOGNITION.steps
        for own, theirs in step.outputs.items()
        for tensor in model(step.model).outputs
        if tensor.name == own
    }
    return made


def assert_as_declared(one, inputs, images, persons):
    assert set(inputs) == {tensor.name for tensor in one.inputs}
    for tensor in one.inputs:
        array = inputs[tensor.name]
        assert array.shape == (persons if tensor.rows is PERSONS else images, *tensor.dims)
        assert array.dtype == DTYPES[tensor.dtype]


@BY_NAME
def test_random_inputs(one):
    inputs = one.example_inputs(images=2, persons=3, seed=1)
    assert_as_declared(one, inputs, images=2, persons=3)
    assert list(inputs) == [tensor.name for tensor in one.inputs]  # the module's order
    for name, array in one.example_inputs(images=2, persons=3, seed=1).items():
        np.testing.assert_array_equal(array, inputs[name])
    if "image_index" in inputs:
        assert inputs["image_index"].max() < 2
    if "box" in inputs:
        assert (inputs["box"][:, :2] <= inputs["box"][:, 2:]).all()


@pytest.mark.parametrize("batch", [1, 3])
@BY_NAME
def test_real_inputs(one, batch, samples):
    images = batch if one.batch else 1
    assert_as_declared(one, one.sample_inputs(samples, batch), images, persons=batch)


def test_real_inputs_are_the_servers(sample_bgr):
    samples = Samples(no_network, "bgr")
    sent = recognition_inputs([(sample_bgr, SAMPLE_PERSONS)])
    for name in ("context_encoder", "vi_head"):
        np.testing.assert_array_equal(model(name).sample_inputs(samples, 1)["image"], sent["image"])
    for detector in DETECTORS:
        for name, array in detection_inputs([sample_bgr], [0.5]).items():
            np.testing.assert_array_equal(detector.sample_inputs(samples, 1)[name], array)
    samples.__dict__["between"] = {"person_tokens": np.zeros((3, 49, 256), dtype=np.float32)}
    for level in ("head", "body"):
        inputs = model(f"{level}_encoder").sample_inputs(samples, 3)
        np.testing.assert_array_equal(inputs["crop"], sent[f"{level}_crop"])
        np.testing.assert_array_equal(inputs["box"], sent[f"{level}_box"])
