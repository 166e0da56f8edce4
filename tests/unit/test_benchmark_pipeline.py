"""The pipeline's benchmark: its arithmetic, and that its engines are what it says they are."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from benchmarks.pipeline_models import ORDER, SCENE, constant_answers, constant_model, constant_repository
from benchmarks.pipeline_parts import ALL, PILLOW, REST, of_repository, parts
from benchmarks.pipeline_report import to_markdown, totals
from benchmarks.pipeline_server import GIVEN, NOBODY, TARGET, WAYS, NotTwo, _request, check, per_image_ms
from cocoer.labels import EMOTIC_LABELS
from cocoer_bls import manifest
from cocoer_bls.inputs import Tensors
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS
from cocoer_bls.pipeline import Pipeline
from export.models import DETECTION, ENSEMBLES, MODELS, Ensemble, Model
from export.models.tensors import TensorSpec

TYPES = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8}


def turn(cocoer: float = 4.0, triton: float = 1.0, stand_in: float = 3.0) -> dict[str, object]:
    cpu_ms = {"cocoer": cocoer, "triton": triton, "stand-in": stand_in, "launcher": 0.0}
    return {"cpu_ms": cpu_ms, "images_per_second": 90.0, "images_per_run": 2.0}


TURN = turn()


@pytest.fixture(scope="module")
def sessions() -> dict[str, ort.InferenceSession]:
    """Name of a model -> its constant model."""
    return {model.name: ort.InferenceSession(constant_model(model).SerializeToString()) for model in MODELS}


class Engines:
    """Runs ensembles of constant models, step by step, as Triton does."""

    def __init__(self, sessions: dict[str, ort.InferenceSession]) -> None:
        self.sessions = sessions

    def __call__(self, name: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        ensemble: Ensemble = next(one for one in ENSEMBLES if one.name == name)
        there = dict(inputs)
        for step in ensemble.steps:
            wanted = list(step.outputs)
            fed = {own: there[shared] for own, shared in step.inputs.items()}
            found = self.sessions[step.model].run(wanted, fed)
            there |= {step.outputs[own]: array for own, array in zip(wanted, found)}
        return {output: there[output] for output in outputs}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_engines_have_the_tensors_of_the_models(model: Model, sessions: dict[str, ort.InferenceSession]) -> None:
    counts = {"images": 2, "persons": 3}
    if model.batch:
        counts = dict.fromkeys(counts, 3)
    inputs = model.example_inputs(counts["images"], counts["persons"])
    answer = dict(zip((one.name for one in model.outputs), sessions[model.name].run(None, inputs)))
    for tensor in model.outputs:
        assert answer[tensor.name].shape == (counts[tensor.rows.name], *tensor.dims)
        assert answer[tensor.name].dtype == TYPES[tensor.dtype]
        assert np.isfinite(answer[tensor.name]).all()
    assert [one.name for one in sessions[model.name].get_inputs()] == [one.name for one in model.inputs]


def test_boxes_are_in_pixels_of_the_image(sessions: dict[str, ort.InferenceSession]) -> None:
    ask = Engines(sessions)
    fed = {tensor.name: _zeros(tensor) for tensor in DETECTION.inputs}
    for scale in (1.0, 0.5):
        fed["scale"][:] = scale
        found = ask("detection", fed, ["person_boxes", "person_count"])
        np.testing.assert_allclose(found["person_boxes"][0, :2], SCENE.boxes[:, :4] / scale)
        assert found["person_count"][0, 0] == 2


def _zeros(tensor: TensorSpec) -> np.ndarray:
    return np.zeros((1, *tensor.dims), dtype=TYPES[tensor.dtype])


def test_two_persons_are_found_with_their_heads(tmp_path: Path, sessions: dict[str, ort.InferenceSession]) -> None:
    """Through the pipeline, from JPEG to RESULT, with the repository's own word of how it is built."""
    build = manifest.read(constant_repository(tmp_path / "repository") / "cocoer" / "1" / "build.json")
    pipeline = Pipeline(Engines(sessions), EMOTIC_LABELS, build, DEFAULT_LIMITS)
    jobs = [Job(SCENE.jpeg, DEFAULT_OPTIONS) for _ in range(3)]
    pipeline.run(jobs)
    text = check({pipeline.result(job).encode() for job in jobs})
    persons = json.loads(text)["persons"]
    assert len(persons) == 2
    assert all(
        person["emo_process"][0] == ("head-level", "body-level", "context-level")[ORDER[0]] for person in persons
    )


def test_another_code_can_be_served(tmp_path: Path) -> None:
    code = tmp_path / "other"
    code.mkdir()
    (code / "model.py").write_text("# another\n")
    repository = constant_repository(tmp_path / "repository", code)
    served = repository / "cocoer" / "1" / "cocoer_bls"
    assert [path.name for path in served.iterdir()] == ["model.py"]
    assert (served / "model.py").read_text() == "# another\n"


def test_other_answers_are_no_measurement() -> None:
    nobody = json.dumps({"persons": []}).encode()
    with pytest.raises(NotTwo, match="found \\[\\] instead"):
        check({nobody})
    check({nobody}, "none")
    with pytest.raises(NotTwo, match="2 different results"):
        check({nobody, nobody + b" "})


def test_processor_time_per_image() -> None:
    before, after = {"cocoer": 10.0, "triton": 3.0}, {"cocoer": 10.6, "triton": 3.0}
    assert per_image_ms(before, after, 200) == {"cocoer": 3.0, "triton": 0.0}
    assert totals([TURN]) == [8.0]
    assert totals([TURN], ["stand-in"]) == [5.0]


def report() -> dict[str, object]:
    ways = {way.name: [TURN, TURN] for way in WAYS}
    ways[NOBODY.name] = [turn(1.5, 0.25, 0.0)] * 2
    ways[GIVEN.name] = [turn(3.0, 0.75, 2.0)] * 2
    return {
        "time": "now",
        "command": "this",
        "machine": {"cpu": "CPU", "cores": 2},
        "plan": {"rounds": 2, "images": 64},
        "measured": {"this checkout": ways, "another": ways},
        "parts": [
            {"jpeg": 1.0, "crops": 0.5, REST: 0.5, ALL: 2.0, PILLOW: 4.0},
            {"jpeg": 1.5, "crops": 0.5, REST: 0.5, ALL: 2.5, PILLOW: 5.0},
        ],
    }


def test_the_report_says_what_is_a_bound() -> None:
    text = to_markdown(report())
    assert "8.0 (8.0 to 8.0) of all processes, missed; 5.0 (5.0 to 5.0) without the stand-in's, met" in text
    assert "| 2000 / 3200 " in text  # 16 cores, 8 and 5 ms
    assert "no measurement but a bound" in text
    assert "Pillow makes the same crops: 4.5 (4.0 to 5.0) ms" in text


def test_the_report_says_where_the_time_goes() -> None:
    """The rows add up to what was measured of all."""
    table = to_markdown(report()).split("Where it goes")[1]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")][2:]
    told = {row[0].strip(): float(row[1].split()[0]) for row in rows}
    assert told == {
        "`cocoer`: jpeg": 1.25,
        "`cocoer`: crops": 0.5,
        f"`cocoer`: {REST}": 0.5,
        "`cocoer`: tensors to and from Triton, two calls, threads": 1.75,
        "Triton: gRPC, queue and the call of `cocoer`": 0.25,
        "Triton: the call of `recognition`, six models": 0.5,
        "Triton: the call of `detection`, two models": 0.25,
        "stand-in: the call of `recognition`, six models": 2.0,
        "stand-in: the call of `detection`, two models": 1.0,
        "launcher": 0.0,
        "all, as measured": 8.0,
    }
    assert sum(told.values()) == 2 * told["all, as measured"]


@pytest.mark.parametrize("name", ["detection", "recognition"])
def test_answers_without_models_are_the_models(name: str, sessions: dict[str, ort.InferenceSession]) -> None:
    ensemble = next(one for one in ENSEMBLES if one.name == name)
    counts = {"images": 2, "persons": 3}
    fed = {tensor.name: np.repeat(_zeros(tensor), counts[tensor.rows.name], axis=0) for tensor in ensemble.inputs}
    if name == "detection":
        fed["scale"][:] = 1.0
    wanted = [tensor.name for tensor in ensemble.outputs]
    found, expected = constant_answers(name, fed, wanted), Engines(sessions)(name, fed, wanted)
    for output in wanted:
        np.testing.assert_array_equal(found[output], expected[output], err_msg=output)


def test_parts_are_those_of_the_served_code(tmp_path: Path) -> None:
    repository = constant_repository(tmp_path / "repository")
    found = parts(repository / "cocoer" / "1" / "build.json", repeats=1)
    own = {name: ms for name, ms in found.items() if name not in (ALL, PILLOW)}
    assert sum(own.values()) == pytest.approx(found[ALL], abs=0.01)
    (repository / "cocoer" / "1" / "cocoer_bls" / "pipeline.py").write_text("raise SystemExit('the served code')\n")
    with pytest.raises(subprocess.CalledProcessError) as failure:
        of_repository(repository)
    assert "the served code" in failure.value.stderr


def test_a_queue_delay_is_in_the_configuration(tmp_path: Path) -> None:
    text = (constant_repository(tmp_path / "repository", queue_delay=4000) / "cocoer" / "config.pbtxt").read_text()
    assert text_format.Parse(text, pb.ModelConfig()).dynamic_batching.max_queue_delay_microseconds == 4000


def test_requests_leave_out_what_their_way_says() -> None:
    assert [tensor.shape() for way in (TARGET, GIVEN, NOBODY) for tensor in _request(way)] == [
        [1, 1],
        [1, 1],
        [1, 2, 8],
        [1, 1],
        [1, 0, 8],
    ]
