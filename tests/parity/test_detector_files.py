"""SCRFD files in every form that exporters leave them in: built at their size, with insightface's boxes."""

from __future__ import annotations

import numpy as np
import pytest

from cocoer_bls.boxes import detected_persons
from cocoer_bls.detection import detection_of
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_OPTIONS
from export.detectors.network import BATCH_FIRST, BATCH_INSIDE, ONE_BY_ONE, load_network
from export.detectors.reference import DetectorReference
from export.detectors.scrfd import wrap_detector
from tests.scrfd import Form, assert_same_detections, export_scrfd, inputs_of, insightface_detector, session_of

IOU_THRESHOLD = 0.4
OUTPUTS = (6, 9, 10, 15)
CASES = [
    *((Form(outputs, "flat", None, opset), size) for outputs in OUTPUTS for opset, size in ((11, 320), (12, 640))),
    *((Form(outputs, "computed", size, 12, "shape"), size) for outputs in OUTPUTS for size in (160, 320, 640)),
    (Form(15, "computed", None, 11, "shape"), 1280),
    *((Form(outputs, "flat", size, 11, "factor"), size) for outputs, size in zip(OUTPUTS, (160, 320, 640, 320))),
    *((Form(outputs, "batched", size, 12), size) for outputs, size in zip(OUTPUTS, (640, 160, 160, 320))),
    *((Form(outputs, "flat by image", None, 11, "shape"), size) for outputs, size in ((6, 1280), (15, 320))),
    *((Form(outputs, "baked", size, 11, "shape"), size) for outputs, size in zip(OUTPUTS, (320, 640, 320, 160))),
    *((Form(outputs, "baked flat", size, 12), size) for outputs, size in zip(OUTPUTS, (640, 320, 160, 320))),
]


def name(value: object) -> str | None:
    if not isinstance(value, Form):
        return None
    return f"{value.outputs} outputs, {value.rows}, {value.size or 'any'}, opset {value.opset}, {value.resize}"


@pytest.fixture(scope="module")
def images(sample_bgr):
    """Whole, a strip, and turned."""
    return [sample_bgr, sample_bgr[150:350], np.ascontiguousarray(np.rot90(sample_bgr))]


@pytest.mark.parametrize(("form", "size"), CASES, ids=name)
def test_built_and_decoded_as_insightface_does(form, size, images, tmp_path):
    path = export_scrfd(form, tmp_path / "det.onnx", images[0])
    model = wrap_detector(path, IOU_THRESHOLD, {}, size=size)
    counts = assert_same_detections(
        session_of(model).run(None, inputs_of(images, size=size)),
        insightface_detector(path, IOU_THRESHOLD, size=size),
        images,
        atol=1e-3,
    )
    assert counts[0] > 3


@pytest.mark.parametrize(
    ("form", "order"),
    [
        (Form(9, "flat"), BATCH_INSIDE),
        (Form(9, "flat by image"), BATCH_FIRST),
        (Form(6, "computed", None, 12, "shape"), BATCH_FIRST),
        (Form(6, "batched"), BATCH_FIRST),
        (Form(15, "baked", 320), ONE_BY_ONE),
        (Form(10, "baked flat", 320), ONE_BY_ONE),
    ],
    ids=name,
)
def test_fp16(form, order, images, tmp_path):
    """Every way a batch lies in the rows, in half precision, the loop over one image included: the same boxes."""
    path = export_scrfd(form, tmp_path / "det.onnx", images[0])
    assert load_network(path, 320).order == order
    inputs = inputs_of(images, size=320)
    half = wrap_detector(path, IOU_THRESHOLD, {}, "fp16", 320)
    kinds = {tensor.data_type for graph in graphs(half.graph) for tensor in graph.initializer}
    assert half.graph.initializer
    assert 10 in kinds, "no weight is FLOAT16"
    peer = insightface_detector(path, IOU_THRESHOLD, size=320)
    boxes, counts = session_of(half).run(["boxes", "count"], inputs)
    for image, found, count in zip(images, boxes, counts[:, 0]):
        expected = peer.detect(image)[0][:, :4]
        assert count > 0
        few = 1 + len(expected) // 20  # scores near the threshold, overlaps near theirs
        assert abs(len(expected) - count) <= few
        same = [box for box in expected if np.abs(found[:count] - box).max(axis=1).min() < 0.5]
        assert len(same) >= len(expected) - few


def graphs(graph):
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


@pytest.mark.parametrize(
    "form", [Form(9, "flat"), Form(15, "computed", 320, 12, "shape"), Form(6, "baked", 320)], ids=name
)
def test_the_builds_check_is_insightfaces_class(form, images, tmp_path):
    """What a build compares a detector with gives the boxes of insightface's own class."""
    path = export_scrfd(form, tmp_path / "det.onnx", images[0])
    built = tmp_path / "model.onnx"
    built.write_bytes(wrap_detector(path, IOU_THRESHOLD, {}, size=320).SerializeToString())
    pairs = DetectorReference(path, built, IOU_THRESHOLD).compare(inputs_of(images, size=320))
    expected = [pairs[key][1] for key in ("boxes", "scores", "count")]
    counts = assert_same_detections(expected, insightface_detector(path, IOU_THRESHOLD, size=320), images, atol=1e-3)
    assert min(counts) > 0
    assert all(np.abs(value - reference).max() < 1e-3 for value, reference in pairs.values())


def test_the_builds_check_knows_the_limit_of_candidates(images, tmp_path):
    """More anchors over the threshold than enter NMS, as random weights have at large sizes: no false alarm."""
    path = export_scrfd(Form(9, "flat"), tmp_path / "det.onnx", images[0], found=3000)
    built = tmp_path / "model.onnx"
    built.write_bytes(wrap_detector(path, IOU_THRESHOLD, {}, size=960).SerializeToString())
    reference, inputs = DetectorReference(path, built, IOU_THRESHOLD), inputs_of(images[:1], size=960)
    pairs = reference.compare(inputs)
    assert sum((rows >= 0.5).sum() for rows in reference.source.heads(inputs["image"][0])[:3]) > 3840
    assert all(np.abs(value - expected).max() < 1e-3 for value, expected in pairs.values())


@pytest.mark.parametrize("wrong", ["centres", "strides", "order", "cells"])
def test_the_builds_check_sees_a_layout_that_is_wrong(wrong, images, tmp_path, monkeypatch):
    """A mistake in what makes the graph is not made again by what checks it."""
    from export.detectors import layout, scrfd

    path = export_scrfd(Form(9, "flat"), tmp_path / "det.onnx", images[0])
    right = layout.ScrfdLayout.centres, layout.ScrfdLayout.stride_of_row, scrfd.load_network
    if wrong == "centres":
        monkeypatch.setattr(layout.ScrfdLayout, "centres", lambda self: right[0](self) + 0.5)
    elif wrong == "strides":
        monkeypatch.setattr(layout.ScrfdLayout, "stride_of_row", lambda self: right[1](self)[::-1].copy())
    elif wrong == "cells":
        monkeypatch.setattr(layout.ScrfdLayout, "centres", lambda self: np.roll(right[0](self), self.anchors, axis=0))
    else:
        monkeypatch.setattr(scrfd, "load_network", lambda *given: right[2](*given)._replace(order=BATCH_FIRST))
    built = tmp_path / "model.onnx"
    built.write_bytes(wrap_detector(path, IOU_THRESHOLD, {}, size=320).SerializeToString())
    pairs = DetectorReference(path, built, IOU_THRESHOLD).compare(inputs_of(images, size=320))
    assert max(np.abs(value - reference).max() for value, reference in pairs.values()) > 0.1


@pytest.mark.parametrize("size", [320, 640, 1280])
def test_served_pipeline_letterboxes_at_the_builds_size(size, images, tmp_path):
    """``detector_size`` of ``build.json`` decides; what the BLS then has are insightface's boxes at that size."""
    path = export_scrfd(Form(9, "flat"), tmp_path / "det.onnx", images[0])
    session = session_of(wrap_detector(path, IOU_THRESHOLD, {}, size=size))
    seen: list[np.ndarray] = []

    def infer(model, inputs, outputs):
        assert model == "detection"
        boxes, _, count = session.run(None, inputs)
        seen.append(inputs["image"])
        both = {"person_boxes": boxes, "person_count": count, "face_boxes": boxes, "face_count": count}
        return {name: both[name] for name in outputs}

    jobs = [Job(b"", DEFAULT_OPTIONS, image=image) for image in images]
    detection_of({"detection": "scrfd", "detector_size": size}, infer, 100)(jobs)
    assert seen[0].shape == (len(images), size, size, 3)
    peer = insightface_detector(path, IOU_THRESHOLD, size=size)
    for job in jobs:
        boxes = peer.detect(job.image)[0][:, :4]
        # Every face lies in the body of the same box, so that all are persons: the official script's rounding.
        expected = [person.body for person in detected_persons(boxes, boxes, *job.size)]
        assert [person.body for person in job.persons.values()] == expected
    assert jobs[0].persons
