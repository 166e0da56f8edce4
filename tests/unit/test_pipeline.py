"""The BLS's flow with a network that is a few lines of NumPy."""

import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cocoer.labels import EMOTIC_LABELS
from cocoer_bls import pipeline as pipeline_module
from cocoer_bls.boxes import Person
from cocoer_bls.errors import (
    Cancelled,
    InferenceError,
    InputError,
    ModelUnavailable,
    NoSharedMemory,
    describe,
    of_model,
)
from cocoer_bls.images import DecodeLimits
from cocoer_bls.inputs import MAX_BATCH_PERSONS
from cocoer_bls.jobs import Job
from cocoer_bls.options import Limits, Options, wants_answer
from cocoer_bls.pipeline import Pipeline
from cocoer_bls.recognition import split_crowds
from cocoer_bls.threads import Threads
from export.models import RECOGNITION
from export.publishing.configs import cocoer_config
from tests.conftest import PROJECT

OPTIONS = Options(final_threshold=0.26, level_threshold=0.6, min_score=0.5)
LIMITS = Limits(
    DecodeLimits(1_000_000, 10_000), max_batch_pixels=100_000, max_persons=300, max_batch_persons=MAX_BATCH_PERSONS
)
BUILD = {
    "version": "0",
    "weights": "none",
    "synthetic": True,
    "detection": "scrfd",
    "detector_size": 640,
    "detector": "any text",
    "channel_order": "bgr",
    "coordination_step": 1.0,
    "precision": "fp32",
}


def png(value: int, size: tuple[int, int] = (100, 80)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(stream, "PNG")
    return stream.getvalue()


class FakeModels:
    """Detection finds one person in a bright image; recognition answers with the image's brightness."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, inputs, outputs):
        self.calls.append((model, {name: array.shape for name, array in inputs.items()}))
        answer = getattr(self, model)(inputs)
        return {name: answer[name] for name in outputs}

    def detection(self, inputs):
        count = (inputs["image"].max(axis=(1, 2, 3)) > 100).astype(np.int32)[:, None]
        boxes = np.zeros((len(count), 256, 4), dtype=np.float32)
        return {
            "person_boxes": boxes + [10, 10, 50, 70],
            "face_boxes": boxes + [20, 15, 30, 25],
            "person_count": count,
            "face_count": count,
        }

    def face_detector(self, inputs):
        found = self.detection(inputs)
        return {"boxes": found["face_boxes"], "count": found["face_count"]}

    def recognition(self, inputs):
        images, index = inputs["image"], inputs["image_index"]
        answer = {}
        for tensor in RECOGNITION.outputs:
            rows = len(images) if tensor.name in ("context_logits", "vi_logits") else len(index)
            answer[tensor.name] = np.zeros((rows, *tensor.dims), dtype=np.float32)
        answer["logits"] += images[index, 0, 0, 0][:, None] / 100.0
        answer["order"] = np.tile([2, 0, 1], (len(index), 1))
        return answer


@pytest.fixture
def models():
    return FakeModels()


@pytest.fixture
def pipeline(models):
    return Pipeline(
        models,
        EMOTIC_LABELS,
        BUILD,
        Limits(DecodeLimits(1_000_000, 10_000), max_batch_pixels=100_000, max_persons=300, max_batch_persons=128),
    )


def test_one_detection_and_one_recognition_for_a_batch(pipeline, models):
    jobs = [Job(png(200), OPTIONS), Job(png(0), OPTIONS), Job(b"junk", OPTIONS), Job(png(150), OPTIONS)]
    pipeline.run(jobs)
    assert [model for model, _ in models.calls] == ["detection", "recognition"]
    assert models.calls[0][1]["image"] == (3, 640, 640, 3)
    assert models.calls[1][1]["image"] == (2, 224, 224, 3)
    assert isinstance(jobs[2].error, InputError)
    results = [json.loads(pipeline.result(job)) for job in (jobs[0], jobs[1], jobs[3])]
    assert [len(result["persons"]) for result in results] == [1, 0, 1]
    # Each image got its own row.
    logits = [
        np.log(p / (1 - p)) for result in results for person in result["persons"] for p in person["scores"]["pred"][:1]
    ]
    np.testing.assert_allclose(logits, [2.0, 1.5])


def test_nobody_anywhere_means_no_recognition(pipeline, models):
    job = Job(png(0), OPTIONS)
    pipeline.run([job])
    assert [model for model, _ in models.calls] == ["detection"]
    assert json.loads(pipeline.result(job))["persons"] == []


def test_given_boxes_mean_no_detection(pipeline, models):
    boxes = np.array([[1, 2, 50, 60, 5, 6, 20, 21]], dtype=np.float32)
    jobs = [Job(png(0), OPTIONS, boxes), Job(png(0), OPTIONS, np.zeros((0, 8), dtype=np.float32))]
    pipeline.run(jobs)
    assert [model for model, _ in models.calls] == ["recognition"]
    entry = json.loads(pipeline.result(jobs[0]))["persons"][0]
    assert (entry["id"], entry["body_box"], entry["head_box"]) == (1, [1, 2, 50, 60], [5, 6, 20, 21])
    assert entry["emo_process"] == ["context-level", "head-level", "body-level"]
    assert set(entry["coordination"]["lambda_w2"]) == {"head", "body"}
    assert json.loads(pipeline.result(jobs[1]))["persons"] == []


def test_thresholds(pipeline):
    job = Job(png(200), Options(final_threshold=0.9, level_threshold=0.4, min_score=0.5))
    pipeline.run([job])
    (entry,) = json.loads(pipeline.result(job))["persons"]
    assert entry["pred"] == []  # probability 0.88
    assert entry["VI"] == list(EMOTIC_LABELS)  # probability 0.5


def test_timing_is_given_where_it_is_asked_for(pipeline):
    jobs = [Job(png(200), OPTIONS), Job(png(200), OPTIONS.override('{"timing": true}'))]
    pipeline.run(jobs)
    without, timed = (json.loads(pipeline.result(job)) for job in jobs)
    assert "timing_ms" not in without
    stages = timed.pop("timing_ms")
    assert timed == without
    assert list(stages) == ["decode", "letterbox", "detection", "match", "windows", "recognition", "result"]
    assert all(milliseconds > 0 for milliseconds in stages.values())


class Failing(FakeModels):
    """Fails whenever a very dark, respectively a very bright image is in the batch."""

    def detection(self, inputs):
        if (inputs["image"].max(axis=(1, 2, 3)) == 13).any():
            raise InferenceError("detection: out of memory")
        return super().detection(inputs)

    def recognition(self, inputs):
        if (inputs["image"] == 255).any():
            raise InferenceError("recognition: NaN")
        return super().recognition(inputs)


@pytest.mark.parametrize("bad", [13, 255])
def test_a_image_that_a_model_fails_on_fails_alone(bad):
    models = Failing()
    pipeline = Pipeline(
        models,
        EMOTIC_LABELS,
        BUILD,
        Limits(DecodeLimits(1_000_000, 10_000), max_batch_pixels=100_000, max_persons=300, max_batch_persons=128),
    )
    jobs = [Job(png(value), OPTIONS) for value in (200, bad, 150)]
    pipeline.run(jobs)
    assert [type(job.error) for job in jobs] == [type(None), InferenceError, type(None)]
    for job, logit in ((jobs[0], 2.0), (jobs[2], 1.5)):
        (person,) = json.loads(pipeline.result(job))["persons"]
        p = person["scores"]["pred"][0]
        assert np.log(p / (1 - p)) == pytest.approx(logit)


def test_haar_that_fails_fails_alone(monkeypatch):
    pipeline = Pipeline(
        FakeModels(),
        EMOTIC_LABELS,
        {**BUILD, "detection": "opencv"},
        Limits(DecodeLimits(1_000_000, 10_000), 100_000, 300, 128),
    )

    def haar(image):
        if image.max() == 13:
            raise MemoryError
        return [Person((0, 0, 50, 60), (10, 5, 30, 25))]

    monkeypatch.setattr(pipeline.detection, "detector", haar)
    jobs = [Job(png(value), OPTIONS) for value in (200, 13, 150)]
    pipeline.run(jobs)
    assert [type(job.error) for job in jobs] == [type(None), MemoryError, type(None)]
    assert len(json.loads(pipeline.result(jobs[2]))["persons"]) == 1


def test_cancelled_images_are_left_out(pipeline, models):
    """Before the first stage, after decoding, and between the parts of a crowd."""
    gone = Job(png(200), OPTIONS, cancelled=lambda: True)
    stays = Job(png(200), OPTIONS)
    pipeline.run([gone, stays])
    assert isinstance(gone.error, Cancelled)
    assert gone.image.size == 0
    assert models.calls[0][1]["image"] == (1, 640, 640, 3)
    assert stays.error is None

    after_decoding = Job(png(200), OPTIONS, cancelled=lambda: bool(models.calls))
    models.calls.clear()
    pipeline.run([after_decoding])
    assert after_decoding.size == (100, 80)
    assert isinstance(after_decoding.error, Cancelled)
    assert [model for model, _ in models.calls] == ["detection"]

    crowd = Job(png(0), OPTIONS, np.tile(np.float32([1, 2, 50, 60, 5, 6, 20, 21]), (300, 1)))
    crowd.cancelled = lambda: len(models.calls) >= 2
    models.calls.clear()
    pipeline.run([crowd])
    assert isinstance(crowd.error, Cancelled)
    assert len(models.calls) == 2  # of three


def test_warming_up_calls_no_model(pipeline, models):
    pipeline.warm_up()
    assert models.calls == []


@pytest.mark.parametrize("counts", [[0], [3], [128], [129], [5, 0, 300, 2], [128, 128], [1] * 130])
def test_crowds_are_split_without_loss(counts):
    jobs = [Job(b"", OPTIONS, persons=dict(enumerate(range(count), start=1))) for count in counts]
    parts = list(split_crowds(jobs, MAX_BATCH_PERSONS))
    assert all(0 < sum(len(persons) for _, persons in part) <= MAX_BATCH_PERSONS for part in parts)
    assert len(parts) == -(-sum(counts) // MAX_BATCH_PERSONS)
    for job in jobs:
        taken = [person for part in parts for owner, persons in part if owner is job for person in persons]
        assert taken == list(job.persons.values())


def boxes_without_heads(*bodies):
    return np.array([[*body, 0, 0, 0, 0] for body in bodies], dtype=np.float32)


def test_heads_that_are_not_given_are_found(pipeline, models):
    """The face at 20..30 belongs to the first and third body; the second is dropped, and the numbers stay the rows'."""
    boxes = np.concatenate(
        [boxes_without_heads((15, 0, 40, 80), (50, 0, 90, 80), (0, 0, 60, 80)), [[*[5, 5, 60, 60] * 2]]]
    )
    job, whole = Job(png(200), OPTIONS, boxes), Job(png(150), OPTIONS, boxes[3:])
    pipeline.run([job, whole])
    assert [model for model, _ in models.calls] == ["face_detector", "recognition"]
    assert models.calls[0][1]["image"][0] == 1  # for the image that needs it
    persons = json.loads(pipeline.result(job))["persons"]
    assert [person["id"] for person in persons] == [1, 3, 4]
    assert [person["head_box"] for person in persons] == [[20, 15, 30, 25]] * 2 + [[5, 5, 60, 60]]
    assert [person["id"] for person in json.loads(pipeline.result(whole))["persons"]] == [1]


def test_no_face_for_a_body(pipeline):
    job = Job(png(0), OPTIONS, boxes_without_heads((15, 0, 40, 80)))
    pipeline.run([job])
    assert json.loads(pipeline.result(job))["persons"] == []


def test_of_a_batch_each_image_calls_the_detectors_it_needs(pipeline, models):
    """Both where nothing is given, the faces' where only heads are missing, none where all is given."""
    given = np.array([[5, 5, 60, 60] * 2], dtype=np.float32)
    jobs = [Job(png(200), OPTIONS, boxes) for boxes in (None, boxes_without_heads((15, 0, 40, 80)), given, None)]
    pipeline.run(jobs)
    calls = [(model, shapes["image"][0]) for model, shapes in models.calls]
    assert calls == [("detection", 2), ("face_detector", 1), ("recognition", 4)]
    heads = [[person.head for person in job.persons.values()] for job in jobs]
    assert heads == [[(20, 15, 30, 25)], [(20, 15, 30, 25)], [(5, 5, 60, 60)], [(20, 15, 30, 25)]]


class Watching(FakeModels):
    """Notes, at each call, the pixels that the batch's jobs hold."""

    def __init__(self):
        super().__init__()
        self.jobs, self.held = [], []

    def __call__(self, model, inputs, outputs):
        self.held.append((model, len(inputs["image"]), sum(job.image.size // 3 for job in self.jobs)))
        return super().__call__(model, inputs, outputs)


def watched(jobs, **limits) -> list[tuple[str, int, int]]:
    """(model, images, pixels that are held) of each call, for a batch of images of 8,000 pixels."""
    models = Watching()
    models.jobs = jobs
    Pipeline(models, EMOTIC_LABELS, BUILD, replace(LIMITS, **limits)).run(jobs)
    assert [job.error for job in jobs] == [None] * len(jobs)
    assert all(job.is_recognised and job.image.size == 0 and job.size == (100, 80) for job in jobs)
    return models.held


def test_images_of_a_batch_are_there_within_the_budget_and_dropped_before_recognition():
    one = {"max_batch_pixels": 10_000}
    two = {"max_batch_pixels": 16_000}
    detected = lambda: [Job(png(200), OPTIONS) for _ in range(5)]  # noqa: E731
    assert watched(detected()) == [("detection", 5, 40_000), ("recognition", 5, 0)]
    assert watched(detected(), **two) == [
        *(("detection", count, count * 8_000) for count in (2, 2, 1)),
        ("recognition", 5, 0),
    ]
    given = np.array([[5, 5, 60, 60] * 2], dtype=np.float32)
    assert watched([Job(png(200), OPTIONS, given) for _ in range(5)], **one) == [("recognition", 5, 0)]


def test_a_crowd_keeps_its_image_until_it_is_recognised_but_no_longer():
    """Its crops would take more than the image: they are cut out call by call, before others are decoded."""
    crowd = np.tile(np.float32([1, 2, 50, 60, 5, 6, 20, 21]), (40, 1))
    jobs = [Job(png(200), OPTIONS, crowd), Job(png(150), OPTIONS), Job(png(120), OPTIONS, crowd[:2])]
    assert watched(jobs, max_batch_pixels=10_000, max_batch_persons=32) == [
        ("recognition", 1, 8_000),
        ("recognition", 1, 8_000),
        ("detection", 1, 8_000),
        ("recognition", 2, 0),
    ]
    assert [len(job.rows) for job in jobs] == [40, 1, 2]
    assert [job.rows[-1]["logits"][0] for job in jobs] == pytest.approx([2.0, 1.5, 1.2])


def test_a_batch_is_decoded_by_several_threads(pipeline, monkeypatch):
    both, open_image = threading.Barrier(2), pipeline_module.open_image

    def opened(data, limits):
        found = open_image(data, limits)

        def load(accept):
            both.wait(timeout=20)  # breaks unless another one is loaded meanwhile
            return found.load(accept)

        return replace(found, load=load)

    monkeypatch.setattr(pipeline_module, "open_image", opened)
    pipeline.recognition.threads = Threads(2)
    jobs = [Job(png(200), OPTIONS), Job(png(150), OPTIONS)]
    pipeline.run(jobs)
    assert [job.error for job in jobs] == [None, None]


BATCH = """
import re, sys
from dataclasses import replace
from cocoer.labels import EMOTIC_LABELS
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS
from cocoer_bls.pipeline import Pipeline
from tests.unit.test_pipeline import BUILD, FakeModels

most = lambda: int(re.search("VmHWM:[ ]+([0-9]+)", open("/proc/self/status").read().replace("\t", " "))[1])
pipeline = Pipeline(FakeModels(), EMOTIC_LABELS, BUILD, replace(DEFAULT_LIMITS, max_batch_pixels=10_000_000))
pipeline.warm_up()
data = sys.stdin.buffer.read()
jobs = [Job(data, DEFAULT_OPTIONS) for _ in range(8)]
before = most()
pipeline.run(jobs)
assert [len(job.persons) for job in jobs] == [1] * 8, [job.error for job in jobs]
print((most() - before) / 1024)
"""


def test_memory_of_a_batch_is_that_of_one_image():
    """Eight images, of which each takes all of ``max_batch_pixels``."""
    data = png(200, (4000, 2500))
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'client'}"}
    run = subprocess.run([sys.executable, "-c", BATCH], input=data, capture_output=True, env=environment, check=True)
    megabytes = float(run.stdout)
    print(f"eight PNGs of 10 megapixels in one batch take {megabytes:.0f} MiB at their peak")
    assert 38 < megabytes < 160  # the pixels of one, four bytes each, are 38


CONFIG = {key: {"string_value": value.string_value} for key, value in cocoer_config().parameters.items()}


def test_defaults_are_the_releases():
    assert Options.from_config(CONFIG) == OPTIONS


def test_overrides():
    assert OPTIONS.override('{"final_threshold": 0, "min_score": 0.9}') == Options(0.0, 0.6, 0.9)
    assert OPTIONS.override('{"on_refusal": "answer"}').on_refusal == "answer"
    assert OPTIONS.override("") == OPTIONS
    assert OPTIONS.override('{"triton_enable_empty_final_response": true}') == OPTIONS


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            '{"final_treshold": 0.5}',
            "unknown request parameter final_treshold; there are final_threshold, level_threshold",
        ),
        ('{"final_threshold": 1.5}', "must be a number from 0 to 1, got 1.5"),
        ('{"final_threshold": -0.1}', "must be a number from 0 to 1"),
        ('{"timing": 1}', "timing must be true or false, got 1"),
        ('{"on_refusal": "shout"}', "on_refusal must be fail or answer, got 'shout'"),
        ('{"on_refusal": true}', "on_refusal must be fail or answer, got True"),
        (
            '{"min_score": 7, "on_refusal": true}',
            "on_refusal must be fail or answer, got True",
        ),  # the same in any order
        ('{"min_score": "high"}', "must be a number from 0 to 1, got 'high'"),
        ('{"min_score": true}', "must be a number"),
        ('{"min_score": NaN}', "must be a number"),
    ],
)
def test_bad_overrides(parameters, message):
    with pytest.raises(InputError, match=message):
        OPTIONS.override(parameters)


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ("", False),
        ("{}", False),
        ('{"on_refusal": "fail"}', False),
        ('{"on_refusal": "shout"}', False),
        ('{"on_refusal": ["answer"]}', False),
        ('{"on_refusal": "answer", "thresold": 7}', True),
    ],
)
def test_a_wrong_parameter_is_answered_where_that_could_be_read(parameters, wanted):
    assert wants_answer(parameters) is wanted


FAILURES_OF_MODELS = {
    ("UNAVAILABLE", "words of a Triton to come"): ModelUnavailable,
    ("INTERNAL", "Failed to process the request(s): Stub process 'x' is not healthy."): ModelUnavailable,
    ("INTERNAL", "in ensemble 'recognition', Exceeds maximum queue size"): ModelUnavailable,
    ("INTERNAL", "Server not ready"): ModelUnavailable,
    ("INTERNAL", "Failed to increase the shared memory pool size for key 'x' to 5 bytes."): NoSharedMemory,
    ("INTERNAL", "CUDA error"): InferenceError,
    ("INVALID_ARG", "Stub process"): InferenceError,
    ("CANCELLED", ""): Cancelled,
}
"""Triton's code for a call to another model, and its words -> what it is; a code is believed before words."""


@pytest.mark.parametrize(("code", "message"), FAILURES_OF_MODELS)
def test_the_class_of_a_models_failure(code, message):
    assert type(of_model("recognition", code, message)) is FAILURES_OF_MODELS[code, message]


def test_full_shared_memory_is_told_as_memory():
    code, message, reason = describe(NoSharedMemory("recognition: Failed to increase the shared memory pool size"))
    assert (code, reason) == ("UNAVAILABLE", "memory")
    assert "pool" not in message


def test_a_model_without_room_is_told_as_busy():
    code, message, reason = describe(of_model("recognition", "UNAVAILABLE", "Exceeds maximum queue size"))
    assert (code, reason) == ("UNAVAILABLE", "internal")
    assert "try again" in message
    assert "queue" not in message


def test_a_call_takes_as_many_persons_as_the_limit_says(models):
    """So that an operator bounds the memory of crowds; nobody is lost, and each image keeps its own rows."""
    limits = replace(LIMITS, max_batch_persons=32)
    boxes = np.tile(np.array([[1, 2, 50, 60, 5, 6, 20, 21]], dtype=np.float32), (40, 1))
    jobs = [Job(png(200), OPTIONS, boxes), Job(png(150), OPTIONS, boxes[:5])]
    pipeline = Pipeline(models, EMOTIC_LABELS, BUILD, limits)
    pipeline.run(jobs)
    assert [shapes["image_index"] for model, shapes in models.calls if model == "recognition"] == [(32,), (13,)]
    assert [len(json.loads(pipeline.result(job))["persons"]) for job in jobs] == [40, 5]
