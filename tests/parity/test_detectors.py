"""The detectors against insightface's own SCRFD class, on the same ONNX files."""

import itertools

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.detectors.files import DetectorError
from export.detectors.network import BATCH_FIRST, BATCH_INSIDE, ONE_BY_ONE, load_network
from export.detectors.scrfd import absent_detector, wrap_detector
from export.models import DETECTORS, FACE_DETECTOR
from tests.scrfd import assert_same_detections, inputs_of, insightface_detector, session_of

IOU_THRESHOLD = 0.4
SIZES = [(512, 512), (900, 700), (333, 720), (1280, 300), (60, 60)]


def photographs(sample: np.ndarray) -> list[np.ndarray]:
    """The sample at several sizes, some of it turned, so that the batch holds different images."""
    return [np.ascontiguousarray(np.rot90(cv2.resize(sample, size), k)) for k, size in enumerate(SIZES)]


@pytest.mark.parametrize("min_score", [0.5, 0.6])
@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
def test_real_layer_sizes(detector, min_score, checkpoints, sample_bgr):
    """The 2.5g and 10g shaped networks: same boxes, scores and order; a batch equal to one by one."""
    path, threshold = checkpoints(0) / detector.file, detector.iou_threshold
    session, images = session_of(wrap_detector(path, threshold, {})), photographs(sample_bgr)
    inputs = inputs_of(images, min_score)
    together = session.run(None, inputs)
    counts = assert_same_detections(together, insightface_detector(path, threshold, min_score), images)
    assert sum(counts) > 10
    for index in range(len(images)):
        alone = session.run(None, {key: array[index : index + 1] for key, array in inputs.items()})
        for one, batch in zip(alone, together):
            np.testing.assert_array_equal(one[0], batch[index])


def tiny_detector(path, strides: tuple[int, ...], anchors: int, keypoints: bool, order: str, rank3: bool) -> None:
    """An SCRFD of one convolution per output, in a given layout; some of its boxes are inside out.

    Args:
        order: how a batch lies in the rows; ONE_BY_ONE bakes in a batch of one.
        rank3: whether rows carry a leading batch axis.
    """
    rng = np.random.default_rng(len(strides) * anchors + keypoints)
    nodes, weights, outputs = [], [], []
    kinds = [("score", 1), ("box", 4)] + ([("kps", 10)] if keypoints else [])
    for kind, width in kinds:
        for stride in strides:
            tag = f"{kind}_{stride}"
            channels = anchors * width
            kernel = rng.standard_normal((channels, 3, stride, stride)).astype(np.float32)
            kernel *= {"score": 1.2, "box": 2.0, "kps": 0.5}[kind] / stride
            offset = np.full(channels, {"score": -2.5, "box": 3.0, "kps": 0.0}[kind], dtype=np.float32)
            weights += [numpy_helper.from_array(kernel, f"{tag}_w"), numpy_helper.from_array(offset, f"{tag}_b")]
            nodes.append(
                helper.make_node("Conv", ["input", f"{tag}_w", f"{tag}_b"], [f"{tag}_c"], strides=[stride] * 2)
            )
            source = f"{tag}_c"
            if kind == "score":
                nodes.append(helper.make_node("Sigmoid", [source], [f"{tag}_s"]))
                source = f"{tag}_s"
            permutation = [2, 3, 0, 1] if order == BATCH_INSIDE else [0, 2, 3, 1]
            rows = (640 // stride) ** 2 * anchors if order == ONE_BY_ONE else -1
            shape = [1 if order == ONE_BY_ONE else 0, -1, width] if rank3 else [rows, width]
            weights.append(numpy_helper.from_array(np.array(shape), f"{tag}_shape"))
            nodes.append(helper.make_node("Transpose", [source], [f"{tag}_t"], perm=permutation))
            nodes.append(helper.make_node("Reshape", [f"{tag}_t", f"{tag}_shape"], [tag]))
            outputs.append(
                helper.make_tensor_value_info(tag, TensorProto.FLOAT, [None, None, width] if rank3 else [None, width])
            )
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph(nodes, "tiny", [image], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)


LAYOUTS = {6: ((8, 16, 32), 2, False), 9: ((8, 16, 32), 2, True)}
LAYOUTS |= {10: ((8, 16, 32, 64, 128), 1, False), 15: ((8, 16, 32, 64, 128), 1, True)}
ORDERS = [(BATCH_FIRST, False), (BATCH_FIRST, True), (BATCH_INSIDE, False), (ONE_BY_ONE, False), (ONE_BY_ONE, True)]


@pytest.mark.parametrize(("outputs", "order"), list(itertools.product(LAYOUTS, ORDERS)), ids=str)
def test_every_layout(outputs, order, tmp_path, sample_bgr):
    """6, 9, 10 and 15 outputs, rows with and without a batch axis, batches merged in every way or impossible."""
    strides, anchors, keypoints = LAYOUTS[outputs]
    path = tmp_path / "tiny.onnx"
    tiny_detector(path, strides, anchors, keypoints, *order)
    _, layout, found = load_network(path, 640)
    # A leading axis of one baked in before the batch is merged: rows come image by image all the same.
    expected = BATCH_FIRST if order == (ONE_BY_ONE, True) else order[0]
    assert (layout.strides, layout.anchors, found) == (strides, anchors, expected)
    session, images = session_of(wrap_detector(path, IOU_THRESHOLD, {})), photographs(sample_bgr)[:3]
    inputs = inputs_of(images)
    together = session.run(None, inputs)
    counts = assert_same_detections(together, insightface_detector(path, IOU_THRESHOLD), images)
    assert min(counts) > 0
    alone = session.run(None, {key: array[1:2] for key, array in inputs.items()})
    for one, batch in zip(alone, together):
        np.testing.assert_allclose(one[0], batch[1], atol=2e-3)


def test_each_image_has_its_own_min_score(checkpoints, sample_bgr):
    path = checkpoints(0) / FACE_DETECTOR.file
    session = session_of(wrap_detector(path, FACE_DETECTOR.iou_threshold, {}))
    inputs = inputs_of([sample_bgr] * 3)
    inputs["min_score"][:, 0] = [0.5, 1.0, 0.7]
    _, scores, counts = session.run(None, inputs)
    assert counts[1, 0] == 0
    assert 0 < counts[2, 0] < counts[0, 0]
    assert scores[2][scores[2] > 0].min() >= 0.7


def test_not_a_detector(tmp_path):
    path = tmp_path / "other.onnx"
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])
    onnx.save(
        helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [made])), path
    )
    with pytest.raises(
        DetectorError, match=r"other\.onnx: an SCRFD detector has 6, 9, 10 or 15 outputs, this one has 1"
    ):
        load_network(path, 640)
    path.write_bytes(b"not onnx")
    with pytest.raises(DetectorError, match=r"other\.onnx is not an ONNX file"):
        load_network(path, 640)


def test_absent_detector_says_so(sample_bgr):
    _, _, counts = session_of(absent_detector({})).run(None, inputs_of([sample_bgr] * 2))
    assert counts.tolist() == [[-1], [-1]]
