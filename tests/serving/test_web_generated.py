"""What tools make of the gateway's OpenAPI document: a client that works, and an attack that finds nothing."""

import importlib
import json
import re
import subprocess
import sys
from collections import Counter

import pytest
import requests

from tests.conftest import SAMPLE

REASON = "openapi-python-client and schemathesis are there from Python 3.11 on"
pytest.importorskip("openapi_python_client", reason=REASON)
schemathesis = pytest.importorskip("schemathesis", reason=REASON)

PACKAGE = "generated_from_openapi"
CONFIG = {
    "post_hooks": [],  # which would format it
    "content_type_overrides": {f"image/{kind}": "application/octet-stream" for kind in ("png", "jpeg", "webp")},
}
NOT_GENERATED = "Unsupported content type image/*"
"""The generator's one complaint: it writes the form and application/octet-stream, which do the same."""
EXAMPLES = 40
"""Of each operation, in each mode."""


@pytest.fixture(scope="module")
def generated(web, tmp_path_factory):
    """A package that is made of what the gateway says of itself, and of nothing else."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(requests.get(f"{web.url}/openapi.json", timeout=60).text)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none"]
    command += ["--output-path", PACKAGE, "--config", "config.json"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    complaints = re.findall(r"^WARNING.*\n\n(.*)$", made.stdout + made.stderr, re.MULTILINE)
    assert set(complaints) == {NOT_GENERATED}, made.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")


@pytest.fixture(scope="module")
def connected(web, generated):
    with generated("client").Client(base_url=web.url, timeout=120) as client:
        yield client


def photo(generated):
    return generated("types").File(payload=SAMPLE.open("rb"), file_name="astronaut.png", mime_type="image/png")


def test_a_generated_client_recognises(client, generated, connected):
    """Persons and labels come typed, and are the server's."""
    expected = client.infer(SAMPLE)
    recognise = generated("api.recognition.recognise").sync
    image = photo(generated)
    form = generated("models").RecogniseFilesBody(image=image)
    with image.payload:
        result = recognise(client=connected, body=form)
    assert isinstance(result, generated("models").Result)
    assert result.to_dict() == client.infer_raw(SAMPLE)
    assert [person.pred for person in result.persons] == [list(person.pred) for person in expected.persons]
    assert [person.body_box for person in result.persons] == [list(person.body_box) for person in expected.persons]
    assert result.persons[0].scores.pred == list(expected.persons[0].scores.pred)
    assert result.labels == list(expected.labels)


def test_and_with_options_in_the_query_and_the_image_as_the_body(client, generated, connected):
    boxes = [{"body": [94, 20, 400, 512], "head": [177, 66, 272, 161]}]
    image = photo(generated)
    with image.payload:
        result = generated("api.recognition.recognise").sync(
            client=connected, body=image, persons=json.dumps(boxes), final_threshold=0.4, timing=True
        )
    expected = client.infer(SAMPLE, boxes, final_threshold=0.4)
    assert [person.pred for person in result.persons] == [list(person.pred) for person in expected.persons]
    assert result.persons[0].head_box == [177, 66, 272, 161]
    assert result.timing_ms["recognition"] > 0


def test_and_draws_and_explains(generated, connected):
    for name, start in (("annotate", b"\x89PNG"), ("explain", b"<!DOCTYPE html>")):
        image = photo(generated)
        with image.payload:
            answer = generated(f"api.recognition.{name}").sync_detailed(client=connected, body=image)
        assert answer.status_code == 200
        assert answer.content[:20].lower().startswith(start.lower())


def test_and_knows_the_model_and_its_problems(client, generated, connected):
    about = generated("api.recognition.get_model").sync(client=connected)
    assert about.model.to_dict() == client.model_info().model_dump(mode="json")
    assert about.limits.max_bytes == client.model_limits().max_bytes
    File = generated("types").File
    problem = generated("api.recognition.recognise").sync(client=connected, body=File(payload=b"GIF89a"))
    assert isinstance(problem, generated("models").Problem415)
    assert (problem.status, problem.reason.value) == (415, "format")
    assert "is a GIF file" in problem.detail


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_an_attack_by_the_document_finds_nothing(web, mode):
    """Hundreds of requests, within the document and against it: no 5xx, and every answer is as documented."""
    import hypothesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    ours = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.response_headers_conformance,
    ]
    schema = schemathesis.openapi.from_url(f"{web.url}/openapi.json")
    session = requests.Session()
    statuses = Counter()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def attack(case):
        answer = case.call(session=session, timeout=120)
        statuses[case.operation.label, answer.status_code] += 1
        case.validate_response(answer, checks=ours)

    with session:
        operations = [found.ok() for found in schema.get_all_operations()]
        for operation in operations:
            strategy = operation.as_strategy(generation_mode=GenerationMode(mode))
            if mode == "negative" and not operation.body:
                continue  # there is nothing to get wrong
            hypothesis.given(strategy)(attack)()
    assert {path for path, _ in statuses} >= {f"POST /v1/{name}" for name in ("recognise", "annotate", "explain")}
    assert sum(statuses.values()) > 100
    refused = [status for _, status in statuses if status >= 400]
    assert len(set(refused)) > 1, statuses
