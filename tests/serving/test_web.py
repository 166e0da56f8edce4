"""The gateway in front of the real server: what it answers is what the server says."""

import io

import requests
from PIL import Image

from tests.conftest import SAMPLE


def test_recognise(web, client):
    expected = client.infer_raw(SAMPLE)
    with SAMPLE.open("rb") as image:
        answer = requests.post(f"{web.url}/v1/recognise", files={"image": image}, timeout=120)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == expected
    answer = requests.post(f"{web.url}/v1/recognise?final_threshold=0.9", data=SAMPLE.read_bytes(), timeout=120)
    assert answer.json() == client.infer_raw(SAMPLE, final_threshold=0.9)


def test_annotate(web):
    answer = requests.post(
        f"{web.url}/v1/annotate", data=SAMPLE.read_bytes(), headers={"accept": "image/webp"}, timeout=120
    )
    assert answer.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == "WEBP"


def test_explain(web):
    answer = requests.post(f"{web.url}/v1/explain", data=SAMPLE.read_bytes(), timeout=120)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Competition: who is excluded first" in answer.text
