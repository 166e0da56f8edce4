"""INT8: which nodes are quantised, what becomes of a file, the folder, the drift report."""

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from cocoer.labels import EMOTIC_LABELS
from cocoer_bls.errors import InferenceError
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS
from cocoer_bls.pipeline import Pipeline
from export import build_engines
from export.models import MODELS, PERSON_DETECTOR, model
from export.precision.calibration import CalibrationError, CalibrationImages
from export.precision.int8 import NothingToQuantise, quantise, trunk_nodes
from export.verification.drift import _matches, describe

GRAPH = """<ir_version: 10, opset_import: ["": 20]>
g (float[n, 3, 16, 16] image) => (float[n, 8, 8] out)
<float[8, 3, 3, 3] w1, float[8, 8, 3, 3] w2, float[8, 8, 1, 1] w3, float[3, 1, 1] shift> {
    moved = Add (image, shift)
    a = Conv <pads = [1, 1, 1, 1]> (moved, w1)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1]> (b, w2)
    d = Add (b, c)
    e = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
    f = Conv (e, w3)
    g = ReduceMean <keepdims = 0> (f, last)
    h = Add (g, g)
    out = Relu (h)
}"""


@pytest.fixture
def graph(rng):
    made = parser.parse_model(GRAPH)
    for name, shape in {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 1, 1), "shift": (3, 1, 1)}.items():
        values = 0.3 * rng.standard_normal(shape, dtype=np.float32)
        made.graph.initializer.append(numpy_helper.from_array(values, name))
    made.graph.initializer.append(numpy_helper.from_array(np.array([3]), "last"))
    for index, node in enumerate(made.graph.node):
        node.name = f"{node.op_type}_{index}"
    onnx.helper.set_model_props(made, {"weights": "some"})
    return made


def feeds(rng, count):
    return [{"image": rng.uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32)} for _ in range(count)]


def test_the_trunk_ends_where_convolutions_do(graph):
    names, convolutions = trunk_nodes(graph.graph)
    # Not what comes before the first convolution, not the projection at the end, nothing behind it.
    assert names == ["Conv_1", "Relu_2", "Conv_3", "Add_4", "MaxPool_5"]
    assert convolutions == 2


def test_quantised_in_place(graph, tmp_path, rng):
    path = tmp_path / "model.onnx"
    onnx.save(graph, path)
    assert quantise(path, feeds(rng, 8)) == 2
    quantised = onnx.load(path)
    assert {entry.key: entry.value for entry in quantised.metadata_props} == {"weights": "some"}
    assert [(entry.domain, entry.version) for entry in quantised.opset_import] == [("", 20)]
    assert {x.data_type for x in quantised.graph.initializer if x.dims == [8, 8, 3, 3]} == {onnx.TensorProto.INT8}
    assert {x.data_type for x in quantised.graph.initializer if x.dims == [8, 8, 1, 1]} == {onnx.TensorProto.FLOAT}
    before, after = (ort.InferenceSession(m) for m in (graph.SerializeToString(), str(path)))
    (feed,) = feeds(rng, 1)
    expected, found = before.run(None, feed)[0], after.run(None, feed)[0]
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_no_trunk(tmp_path):
    path = tmp_path / "model.onnx"
    text = '<ir_version: 10, opset_import: ["": 20]> g (float[n, 3] x) => (float[n, 3] y) { y = Relu (x) }'
    onnx.save(parser.parse_model(text), path)
    with pytest.raises(NothingToQuantise, match=r"model\.onnx has no convolutional trunk"):
        quantise(path, [])


@pytest.fixture
def folder(tmp_path, rng):
    for index in range(7):
        size = (int(rng.integers(40, 300)), int(rng.integers(40, 300)), 3)
        cv2.imwrite(str(tmp_path / f"{index}.png"), rng.integers(0, 256, size, dtype=np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_images(folder):
    images = CalibrationImages(folder)
    calibrating, comparing = list(images.calibrating()), list(images.comparing())
    assert (len(calibrating), len(comparing)) == (5, 2)
    assert not {x.image.tobytes() for x in calibrating} & {x.image.tobytes() for x in comparing}
    for scene in calibrating + comparing:
        height, width = scene.image.shape[:2]
        for x1, y1, x2, y2 in (box for person in scene.persons for box in person):
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
    assert images.identity() == CalibrationImages(folder).identity()


WITH_TRUNKS = [one for one in MODELS if one.has_trunk]


def calibration(folder, model):
    return [feed for scene in CalibrationImages(folder).calibrating() for feed in model.calibration_inputs(scene)]


@pytest.mark.parametrize("model", WITH_TRUNKS, ids=lambda model: model.name)
def test_inputs_are_the_models(folder, model):
    given = calibration(folder, model)
    assert len(given) >= 5
    for tensor in model.inputs:
        assert given[0][tensor.name].shape == (1, *tensor.dims)
        assert given[0][tensor.name].dtype == {"UINT8": np.uint8, "FP32": np.float32}[tensor.dtype]


def test_models_without_a_trunk_are_not_calibrated(folder):
    assert [calibration(folder, one) for one in MODELS if not one.has_trunk] == [[], []]


class Recorder:
    """Models of a server: detection finds nobody, recognition is not asked for its answer."""

    def __init__(self):
        self.sent = {}

    def __call__(self, model, inputs, outputs):
        self.sent[model] = inputs
        raise InferenceError("seen")


@pytest.mark.parametrize("form", [".png", ".jpg", ".webp"])
def test_inputs_are_what_the_pipeline_sends(tmp_path, form, rng):
    """The very pixels: INT8 ranges are those of the server's letterboxes and crops."""
    for index, size in enumerate([(300, 200, 3), (97, 641, 3)]):
        noise = cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), size[1::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f"{index}{form}"), noise)
    images = CalibrationImages(tmp_path)
    for path, scene in zip(images.files, images.calibrating()):
        persons = np.array([[*person.body, *person.head] for person in scene.persons], dtype=np.float32)
        served = Recorder()
        pipeline = Pipeline(served, EMOTIC_LABELS, {"detection": "scrfd", "detector_size": 320}, DEFAULT_LIMITS)
        pipeline.run([Job(path.read_bytes(), DEFAULT_OPTIONS), Job(path.read_bytes(), DEFAULT_OPTIONS, persons)])
        sent = served.sent["recognition"]

        def rows(name, tensor, scene=scene):
            return np.concatenate([feed[tensor] for feed in model(name).calibration_inputs(scene)])

        np.testing.assert_array_equal(rows("context_encoder", "image"), sent["image"])
        np.testing.assert_array_equal(rows("vi_head", "image"), sent["image"])
        for level in ("head", "body"):
            np.testing.assert_array_equal(rows(f"{level}_encoder", "crop"), sent[f"{level}_crop"])
            np.testing.assert_array_equal(rows(f"{level}_encoder", "box"), sent[f"{level}_box"])
        (feed,) = PERSON_DETECTOR.sized(320).calibration_inputs(scene)
        for name, array in feed.items():
            np.testing.assert_array_equal(array, served.sent["detection"][name])


def test_few_images_do_both(folder):
    for path in sorted(folder.glob("*.png"))[2:]:
        path.unlink()
    images = CalibrationImages(folder)
    assert not images.held_out
    assert len(list(images.calibrating())) == len(list(images.comparing())) == 2


def test_folders_that_do_not_work(tmp_path):
    with pytest.raises(CalibrationError, match="nowhere is not a folder"):
        CalibrationImages(tmp_path / "nowhere")
    with pytest.raises(CalibrationError, match="has no image"):
        CalibrationImages(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"junk")
    with pytest.raises(CalibrationError, match=r"broken\.jpg can't be read as an image"):
        CalibrationImages(tmp_path)


@pytest.mark.parametrize("arguments", [["--precision", "int8"], ["--calibration", "somewhere"]])
def test_int8_and_calibration_go_together(arguments, capsys):
    assert build_engines.main(arguments) == 2
    assert "--precision int8 and --calibration FOLDER" in capsys.readouterr().err


def test_matching_boxes_one_to_one():
    one = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], dtype=np.float32)
    other = np.array([[1, 0, 11, 10], [80, 80, 90, 90]], dtype=np.float32)
    assert _matches(one, other) == 1
    assert _matches(one, one) == 3


def test_description_says_whether_images_were_held_out():
    values = {"persons": 4, "max_change": 0.1, "mean_change": 0.01, "label_agreement": 0.99, "same_labels": 0.5}
    for held_out, words in ((True, "images not calibrated with"), (False, "the images calibrated with")):
        recognition = {**values, "same_order": 1.0, "held_out": held_out}
        text = "\n".join(describe({"recognition": recognition, "detection": {}}))
        assert words in text
        assert "0.100 at most, 0.0100 on average" in text
        assert "99.0% of label decisions stay; 50% of persons keep all their labels" in text
