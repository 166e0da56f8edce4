"""``cocoer-vlm`` between the real server and a made-up model: what is sent is what the server found."""

import json

import cv2
import numpy as np
import pytest

from cocoer_client.protocol import CROP_SIDE
from cocoer_client.vlm.command import main
from cocoer_client.vlm.modes import MODES
from tests import vlm_server
from tests.conftest import SAMPLE
from tests.vlm_server import VlmServer


@pytest.fixture(scope="module")
def asked(server, client, tmp_path_factory):
    """RESULT of the sample, the run's record, and the requests that reached the model, by mode."""
    place = tmp_path_factory.mktemp("vlm")
    result = client.infer_raw(SAMPLE)
    with VlmServer(lambda request: vlm_server.labels("peace")) as model:
        arguments = [str(SAMPLE), "--url", server.url, "--model", vlm_server.MODEL, "--base-url", model.base_url]
        arguments += ["--modes", ",".join(MODES), "--json", str(place / "out.json"), "--no-cache", "--concurrency", "1"]
        assert main([*arguments, "--report", str(place / "out.html")]) == 0
    assert len((place / "out.html").read_text()) > 10_000
    return result, json.loads((place / "out.json").read_text()), model.requests


def test_the_levels_are_the_servers_boxes(asked, sample_bgr):
    """Cut by NumPy, encoded by OpenCV with the same quality: no pixel is another by more than rounding."""
    result, record, requests = asked
    persons = result["persons"]
    assert [person["body_box"] for person in record["images"][0]["persons"]] == [one["body_box"] for one in persons]
    quality = record["quality"]
    # Smaller ones are enlarged to what the network sees.
    whole = [person for person in persons if max(size_of(person["body_box"])) >= CROP_SIDE]
    assert whole
    for person in whole:
        multi = next(
            request
            for request in requests
            if len(request.images) == 3 and close(request.images[1].picture, sample_bgr, person["body_box"], quality)
        )
        assert [image.level for image in multi.images] == ["context", "body", "head"]
        context = np.asarray(multi.images[0].picture).astype(int)
        assert context.shape == sample_bgr.shape
        reddest = context[..., 0] - context[..., 1:].max(axis=-1) > 150
        x1, y1, x2, y2 = person["body_box"]
        rows, columns = np.nonzero(reddest)
        assert x1 - 12 <= columns.min() <= x1 + 12
        assert x2 - 12 <= columns.max() <= x2 + 12
        assert y1 - 12 <= rows.min() <= y1 + 12


def size_of(box):
    x1, y1, x2, y2 = box
    return x2 - x1, y2 - y1


def close(picture, image, box, quality):
    """Whether a sent image is this box of an image (BGR)."""
    x1, y1, x2, y2 = box
    crop = image[y1:y2, x1:x2]
    if picture.size != crop.shape[1::-1]:
        return False
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    encoded = cv2.imencode(".jpg", crop, options)[1]
    expected = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    return bool(np.abs(np.asarray(picture).astype(int) - expected).max() <= 2)


def test_the_level_that_the_server_excludes_first_is_not_sent(asked):
    result, record, requests = asked
    sent = {tuple(image.data for image in request.images): request for request in requests}
    (image,) = record["images"]
    for person, told in zip(result["persons"], image["persons"], strict=True):
        first, _, last = (name.removesuffix("-level") for name in person["emo_process"])
        answers = told["answers"]
        assert (answers["enhanced"]["excluded"], answers["exclude_last"]["excluded"]) == (first, last)
        for mode, without in (("multi", None), ("enhanced", first), ("exclude_last", last)):
            levels = [level for one in answers[mode]["images"] for level in one["levels"]]
            assert levels == [level for level in ("context", "body", "head") if level != without]
    known = {data for datas in sent for data in datas if len(datas) == 3}
    assert {data for datas in sent for data in datas} == known, "all modes send the same bytes"


def test_each_question_is_asked_once(asked):
    _, record, requests = asked
    answers = [answer for person in record["images"][0]["persons"] for answer in person["answers"].values()]
    assert len(requests) == sum(not answer["kept"] for answer in answers)
    assert record["usage"]["prompt_tokens"] == 100 * len(requests)
