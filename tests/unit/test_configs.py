"""Configurations: parsed back with Triton's schema, wired right, and the committed ones up to date."""

import subprocess

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from cocoer.labels import EMOTIC_LABELS
from export.configs import all_configs, to_text
from export.specs import ENGINES, ENSEMBLES, engine
from tests.conftest import PROJECT

REPOSITORY = PROJECT / "model_repository"
CONFIGS = all_configs()


def parse(text: str) -> pb.ModelConfig:
    return text_format.Parse(text, pb.ModelConfig())


@pytest.mark.parametrize("name", CONFIGS)
def test_committed_is_what_the_export_writes(name):
    assert (REPOSITORY / name / "config.pbtxt").read_text() == to_text(CONFIGS[name])


def test_nothing_else_is_committed():
    listed = subprocess.run(
        ["git", "ls-files", "model_repository"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    names = {line.split("/")[1] for line in listed.stdout.splitlines()}
    assert names == set(CONFIGS)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parsed_back(precision):
    for name, config in all_configs(precision).items():
        assert parse(to_text(config)) == config
        assert config.name == name


def test_every_model_says_how_many_instances():
    for config in CONFIGS.values():
        if config.platform != "ensemble":
            assert [group.count for group in config.instance_group] == [2 if config.name == "cocoer" else 1]
            assert "runtime" not in {field.name for field, _ in config.ListFields()}


def test_heavy_models_batch_across_requests():
    heavy = {"person_detector", "face_detector", "context_encoder", "vi_head", "head_encoder", "body_encoder", "cocoer"}
    assert {name for name, config in CONFIGS.items() if config.HasField("dynamic_batching")} == heavy
    assert all(CONFIGS[name].max_batch_size >= 8 for name in heavy)


def test_engines_warm_up_with_all_their_inputs():
    for spec in ENGINES:
        (sample,) = CONFIGS[spec.name].model_warmup
        assert set(sample.inputs) == {tensor.name for tensor in spec.inputs}


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=lambda spec: spec.name)
def test_wiring(ensemble):
    """Every tensor of every step has a source of the same type and shape; every output is made."""
    known = {tensor.name: (tensor.dtype, tensor.dims) for tensor in ensemble.inputs}
    for step in ensemble.steps:
        spec = engine(step.model)
        assert set(step.inputs) == {tensor.name for tensor in spec.inputs}
        for tensor in spec.inputs:
            assert known[step.inputs[tensor.name]] == (tensor.dtype, tensor.dims)
        made = {tensor.name: (tensor.dtype, tensor.dims) for tensor in spec.outputs}
        known |= {theirs: made[own] for own, theirs in step.outputs.items()}
    for tensor in ensemble.outputs:
        assert known[tensor.name] == (tensor.dtype, tensor.dims)


def test_labels_files():
    for path in ("cocoer/1", "fusion", "recognition"):
        assert tuple((REPOSITORY / path / "labels.txt").read_text().splitlines()) == EMOTIC_LABELS


def test_unknown_engine_lists_the_known():
    with pytest.raises(KeyError, match="no engine 'heads'; there are person_detector"):
        engine("heads")


def test_engines_that_run_side_by_side_share_the_cores():
    shares = {
        name: config.parameters["cpu_thread_share"].string_value
        for name, config in CONFIGS.items()
        if "cpu_thread_share" in config.parameters
    }
    halves = {name for name, share in shares.items() if share == "0.5"}
    assert halves == {"context_encoder", "vi_head", "head_encoder", "body_encoder"}
