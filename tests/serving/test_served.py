"""The served ``cocoer``: values, batches, crowds, bad input, statistics."""

import io
import json
import math
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from insightface.model_zoo.scrfd import SCRFD
from PIL import Image
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from cocoer.labels import EMOTIC_LABELS, LEVELS
from cocoer_bls.boxes import detected_persons
from cocoer_bls.inputs import MAX_BATCH_IMAGES
from cocoer_bls.options import DEFAULT_LIMITS
from cocoer_client import InvalidRequest
from export.models import DETECTORS, RECOGNITION
from export.publishing.configs import COCOER_INSTANCES, all_configs
from tests import golden as gold
from tests.golden import TOLERANCE
from tests.metrics import settled
from tests.traffic import MAX_CROWD, Sender, batch_inputs, check_scores, image_inputs, occupied, queued
from tests.waiting import until


@pytest.fixture(scope="module")
def triton(server):
    with grpcclient.InferenceServerClient(server.url) as connected:
        yield connected


def as_persons(rows):
    return [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in rows]


def check_result(result, expected):
    """A RESULT against a golden file, or one of that form: labels, order, and the logits behind the probabilities."""
    assert len(result["persons"]) == len(expected["pred"])
    worst = 0.0
    for index, person in enumerate(result["persons"]):
        assert person["id"] == index + 1
        assert person["body_box"] == expected["body_box"][index].tolist()
        assert person["head_box"] == expected["head_box"][index].tolist()
        for name, key in {"pred": "pred", "VI": "vi", "head": "head", "body": "body", "ctx": "ctx"}.items():
            worst = max(worst, np.abs(gold.logits_of(person["scores"][name]) - expected[key][index]).max())
            gold.check_labels(person[name], expected[key][index], gold.FINAL if name == "pred" else gold.LEVEL)
        assert person["emo_process"] == [f"{LEVELS[level]}-level" for level in expected["order"][index]]
        losses = [person["losses"][level] for level in LEVELS]
        np.testing.assert_allclose(losses, expected["losses"][index], rtol=0, atol=TOLERANCE)
        weights = person["coordination"]
        for name in gold.LAMBDAS:
            found = list(weights[name].values())
            np.testing.assert_allclose(found, expected[name][index], rtol=0, atol=gold.WEIGHTS_TOLERANCE)
        assert set(weights["lambda_w2"]) == set(LEVELS) - {LEVELS[expected["order"][index][0]]}
        assert abs(weights["grad_distance"] - expected["grad_distance"][index]) < TOLERANCE
    print(f"parity of RESULT, tolerance {TOLERANCE:g}: logits {worst:.1e}")
    assert worst < TOLERANCE


def test_timing_on_request(client, expected, sample_bytes):
    persons = as_persons(np.concatenate([expected["body_box"], expected["head_box"]], axis=1))
    assert "timing_ms" not in client.infer_raw(sample_bytes, persons)
    started = time.perf_counter()
    stages = client.infer_raw(sample_bytes, persons, timing=True)["timing_ms"]
    elapsed = 1000 * (time.perf_counter() - started)
    assert list(stages) == ["decode", "windows", "recognition", "result"]
    assert min(stages.values()) > 0
    assert sum(stages.values()) < elapsed  # the stages of one image follow each other


@pytest.mark.needs("golden")
def test_result(client, expected, sample_bytes):
    result = client.infer_raw(sample_bytes, as_persons(gold.person_rows(expected)))
    check_result(result, expected)
    assert result["image"] == {"width": 512, "height": 512, "damage": None}
    assert tuple(result["labels"]) == EMOTIC_LABELS


@pytest.mark.needs("tiny_build")
def test_facts_of_the_build(client, sample_bytes):
    model = client.infer_raw(sample_bytes, [])["model"]
    assert model["weights"].startswith("synthetic seed 0, tiny")
    assert model["synthetic"] is True
    assert model["detector"] == "scrfd (synthetic)"
    assert model["channel_order"] == "bgr"


def infer_ensemble(triton, name, inputs, outputs=None):
    tensors = []
    for key, array in inputs.items():
        tensor = grpcclient.InferInput(key, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return triton.infer(name, tensors, outputs=outputs)


def test_through_the_ensemble_alone(triton, expected, sample_bgr):
    answer = infer_ensemble(triton, "recognition", gold.inputs(sample_bgr, expected))
    outputs = {tensor.name: answer.as_numpy(tensor.name) for tensor in RECOGNITION.outputs}
    gold.check(outputs, expected, TOLERANCE)


def served_count(triton, model):
    """Rows the model has run so far."""
    stats = triton.get_inference_statistics(model, as_json=True)["model_stats"][0]
    return int(stats.get("inference_count", 0))


@pytest.mark.parametrize("count", [1, 6, 70])
@pytest.mark.needs("scrfd")
def test_context_and_vi_run_once_per_call(triton, client, expected, sample_bytes, count):
    """Of ``recognition``, which takes the persons of an image, or of a crowd as many as the limit says."""
    parameters = triton.get_model_config("cocoer", as_json=True)["config"]["parameters"]
    calls = math.ceil(count / int(parameters["max_batch_persons"]["string_value"]))
    rows = np.resize(gold.person_rows(expected), (count, 8))
    models = ("context_encoder", "vi_head", "head_encoder", "body_encoder", "person_detector")
    before = {model: served_count(triton, model) for model in models}
    client.infer_raw(sample_bytes, as_persons(rows))
    encoders = {"head_encoder": count, "body_encoder": count}
    wanted = {"context_encoder": calls, "vi_head": calls, **encoders, "person_detector": 0}

    def ran():
        return {model: served_count(triton, model) - before[model] for model in models}

    # Native backends count after they have answered.
    until(lambda: ran() == wanted, lambda: f"{ran()} is to be {wanted}", patience=10)


@pytest.mark.parametrize("count", [0, 1, 2, 33, 70, 130])
def test_crowds(client, expected, sample_bytes, count):
    """Every person of any crowd gets the answer it gets alone."""
    rows = np.resize(gold.person_rows(expected), (count, 8))
    result = client.infer_raw(sample_bytes, as_persons(rows))
    assert [person["id"] for person in result["persons"]] == list(range(1, count + 1))
    logits = expected["pred"][np.arange(count) % 6]
    found = gold.logits_of([person["scores"]["pred"] for person in result["persons"]]).reshape(count, 26)
    assert np.abs(found - logits).max(initial=0) < TOLERANCE


@pytest.mark.needs("scrfd")
def test_heads_that_are_missing_take_the_face_detector_alone(triton, client, sample_bytes):
    """The person detector is not asked where bodies are given, and the heads are those of whole detection."""
    found = client.infer_raw(sample_bytes)["persons"]
    assert found
    before = {model: served_count(triton, model) for model in ("person_detector", "face_detector")}
    given = client.infer_raw(sample_bytes, [{"body": person["body_box"]} for person in found])["persons"]
    assert [person["head_box"] for person in given] == [person["head_box"] for person in found]

    def ran():
        return {model: served_count(triton, model) - before[model] for model in before}

    until(lambda: ran() == {"person_detector": 0, "face_detector": 1}, lambda: f"{ran()}", patience=10)


@pytest.mark.needs("tiny_build")
def test_detection_end_to_end(client, tiny_checkpoints, sample_bytes, sample_bgr):
    """Persons found by the server are those of insightface's class and the release's matching."""
    found = {}
    for detector in DETECTORS:
        peer = SCRFD(str(tiny_checkpoints / detector.file))
        peer.prepare(-1, nms_thresh=detector.iou_threshold, input_size=(640, 640))
        found[detector.name] = peer.detect(sample_bgr)[0][:, :4]
    expected = detected_persons(found["person_detector"], found["face_detector"], 512, 512)
    assert expected
    result = client.infer_raw(sample_bytes)
    assert [person["body_box"] for person in result["persons"]] == [list(person.body) for person in expected]
    assert [person["head_box"] for person in result["persons"]] == [list(person.head) for person in expected]


@pytest.mark.needs("scrfd")
def test_min_score_and_thresholds(client, sample_bytes):
    assert client.infer_raw(sample_bytes, min_score=1.0)["persons"] == []
    boxes = [{"body": [84, 20, 363, 512], "head": [177, 67, 270, 160]}]
    (person,) = client.infer_raw(sample_bytes, boxes, final_threshold=0.0, level_threshold=1.0)["persons"]
    assert person["pred"] == list(EMOTIC_LABELS)
    assert person["head"] == person["VI"] == []


def results_of(answer):
    return [json.loads(text) for text in answer.as_numpy("RESULT")[:, 0]]


def test_batch_with_a_corrupt_image(triton, expected, sample_bytes):
    """Three images in one request, the middle one damaged: it fails alone, in its place."""
    rows = gold.person_rows(expected)
    answer = triton.infer(
        "cocoer", batch_inputs([sample_bytes, sample_bytes[:4000], sample_bytes], np.stack([rows] * 3))
    )
    first, second, third = results_of(answer)
    check_result(first, expected)
    check_result(third, expected)
    assert second["error"]["code"] == "INVALID_ARG"
    assert second["error"]["reason"] == "damaged"
    assert second["error"]["message"].startswith("IMAGE is damaged: the file ends inside its image data, and about ")


def encode(image, form):
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def test_concurrent_requests_get_their_own_answers(client, expected, sample_bytes):
    """Good and bad requests at once: each answer is the one it gets alone, and a bad neighbour hurts nobody."""
    rows = gold.person_rows(expected)
    small = encode(Image.open(io.BytesIO(sample_bytes)).resize((200, 180)), "JPEG")
    requests = [(sample_bytes, rows[index : index + 1]) for index in range(6)] + [(sample_bytes, rows), (small, None)]
    alone = [client.infer_raw(image, None if box is None else as_persons(box)) for image, box in requests]

    def ask(index):
        if index % 5 == 4:
            with pytest.raises(InvalidRequest):
                client.infer_raw(b"junk %d" % index)
            return None
        image, box = requests[index % len(requests)]
        return client.infer_raw(image, None if box is None else as_persons(box))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    for index, answer in enumerate(answers):
        if answer is not None:
            assert_same_result(answer, alone[index % len(requests)])


def assert_same_result(one, other):
    """Equal but for the last bits, which depend on who shared the batch."""
    assert len(one["persons"]) == len(other["persons"])
    for a, b in zip(one["persons"], other["persons"]):
        assert {key: a[key] for key in ("body_box", "head_box", "emo_process")} == {
            key: b[key] for key in ("body_box", "head_box", "emo_process")
        }
        for name in a["scores"]:
            np.testing.assert_allclose(a["scores"][name], b["scores"][name], atol=TOLERANCE)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
def test_formats(client, form):
    result = client.infer_raw(encode(Image.new("RGB", (64, 48), "gray"), form))
    assert result["image"] == {"width": 64, "height": 48, "damage": None}


@pytest.mark.parametrize(
    ("image", "persons", "parameters", "reason", "message"),
    [
        (b"", None, {}, "empty", "IMAGE is empty"),
        (b"GIF89a", None, {}, "format", "not an image in JPEG, PNG, WebP or BMP"),
        (
            None,
            [[9, 9, 5, 5, 1, 1, 2, 2]],
            {},
            "persons",
            "PERSONS row 0: the body box [9, 9, 5, 5] has no pixel in the 512x512 image",
        ),
        (None, [[1, 1, 9, 9, float("nan"), 1, 2, 2]], {}, "persons", "PERSONS row 0 is not finite"),
        (None, [[1, 1, 9, 9, 1, 1, 2, 2]] * 513, {}, "persons", "PERSONS has 513 rows, more than the allowed 512"),
        (None, None, {"final_threshold": 7.0}, "parameter", "final_threshold must be a number from 0 to 1"),
        (None, None, {"thresold": 0.1}, "parameter", "unknown request parameter thresold"),
    ],
)
def test_bad_input_is_an_invalid_argument(triton, sample_bytes, image, persons, parameters, reason, message):
    """And with ``on_refusal`` an answer that says the same, and its reason."""
    boxes = None if persons is None else np.array([persons], dtype=np.float32)
    inputs = batch_inputs([sample_bytes if image is None else image], boxes)
    with pytest.raises(InferenceServerException) as caught:
        triton.infer("cocoer", inputs, parameters=parameters)
    assert "INVALID_ARGUMENT" in caught.value.status()
    assert message in caught.value.message()
    assert "Traceback" not in caught.value.message()
    (answer,) = results_of(triton.infer("cocoer", inputs, parameters={**parameters, "on_refusal": "answer"}))
    told = caught.value.message().partition("; there are ")[0]
    assert list(answer) == ["error"]
    assert answer["error"].pop("message").startswith(told)
    assert answer["error"] == {"code": "INVALID_ARG", "reason": reason}


def test_a_parameter_that_is_wrong_is_told_in_place_of_each_image(triton, sample_bytes):
    parameters = {"on_refusal": "answer", "min_score": 7.0}
    answers = results_of(triton.infer("cocoer", batch_inputs([sample_bytes, b"junk"]), parameters=parameters))
    assert [answer["error"]["reason"] for answer in answers] == ["parameter"] * 2


def test_shapes_are_tritons_to_refuse(triton, sample_bytes):
    with pytest.raises(InferenceServerException) as caught:
        triton.infer("cocoer", batch_inputs([sample_bytes], np.zeros((1, 2, 7), dtype=np.float32)))
    assert "INVALID_ARGUMENT" in caught.value.status()


@pytest.mark.needs("cpu_build")
def test_persons_of_different_requests_share_a_batch(triton, server, expected, sample_bytes):
    """24 requests of one person each, which all wait when the server comes to them: three runs of eight."""

    def runs():
        settled(server)
        return int(triton.get_inference_statistics("vi_head", as_json=True)["model_stats"][0]["execution_count"])

    rows, before = gold.person_rows(expected), runs()
    with occupied(server, sample_bytes, rows):
        waiting = Sender(server.url, image_inputs(sample_bytes, rows[None, :1]))
        waiting.send(24)
        queued(server, 24)
    check_scores(waiting.wait(), expected["pred"][0])
    of_the_crowds = COCOER_INSTANCES * MAX_CROWD / DEFAULT_LIMITS.max_batch_persons
    assert runs() - before <= of_the_crowds + 24 / MAX_BATCH_IMAGES


@pytest.mark.needs("scrfd")
def test_every_model_is_ready(triton, server):
    assert len(all_configs()) == 11
    for name in all_configs():
        assert triton.is_model_ready(name), name
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        assert "nv_inference_request_success" in answer.read().decode()


def test_labels_through_tritons_classification(triton, expected, sample_bgr):
    """``class_count`` of the ensemble names the categories."""
    wanted = [grpcclient.InferRequestedOutput("logits", class_count=26 * 6)]
    answer = infer_ensemble(triton, "recognition", gold.inputs(sample_bgr, expected), wanted)
    rows = answer.as_numpy("logits").reshape(-1)
    names = {row.decode().split(":")[2] for row in rows if row.decode().count(":") == 2}
    assert names == set(EMOTIC_LABELS)
