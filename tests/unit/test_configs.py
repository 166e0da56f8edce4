"""Configurations: parsed back with Triton's schema, wired right, and the committed ones up to date."""

import subprocess
from pathlib import PurePosixPath

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from cocoer.labels import EMOTIC_LABELS
from export.models.specs import ENGINES, ENSEMBLES, engine
from export.publishing.configs import all_configs, to_text
from export.serving_options import Serving
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


SERVINGS = {
    "cpu": Serving(),
    "fp16": Serving("fp16"),
    "cuda": Serving("fp16", accelerator="cuda"),
    "ort-tensorrt": Serving(accelerator="tensorrt", engine_cache=PurePosixPath("/cache"), workspace_gib=0.5),
    "tensorrt": Serving("fp16", backend="tensorrt"),
    "tensorrt-opencv": Serving("fp16", backend="tensorrt", scrfd=False),
}


@pytest.mark.parametrize("serving", SERVINGS.values(), ids=SERVINGS)
def test_parsed_back(serving):
    for name, config in all_configs(serving).items():
        assert parse(to_text(config)) == config
        assert config.name == name
        assert bool(config.backend) != bool(config.platform)


def test_plans():
    """Every engine a plan, on GPUs; launches recorded where nothing varies but the batch."""
    configs = all_configs(SERVINGS["tensorrt"])
    for spec in ENGINES:
        config = configs[spec.name]
        assert config.backend == "tensorrt"
        assert [group.kind for group in config.instance_group] == [pb.ModelInstanceGroup.KIND_GPU]
        assert not config.parameters  # those are of backends for ONNX
        assert not config.optimization.HasField("graph")
    recorded = {name for name, config in configs.items() if config.optimization.cuda.graphs}
    assert recorded == {"context_encoder", "vi_head", "head_encoder", "body_encoder"}
    for name in recorded:
        graphs = configs[name].optimization.cuda.graph_spec
        assert graphs[0].batch_size == graphs[0].graph_lower_bound.batch_size == 1
        assert graphs[-1].batch_size == min(32, configs[name].max_batch_size)
        for smaller, larger in zip(graphs, graphs[1:]):
            assert larger.graph_lower_bound.batch_size == smaller.batch_size + 1  # no batch between them is missed
        for graph in graphs:
            assert {key: list(shape.dim) for key, shape in graph.input.items()} == {
                tensor.name: list(tensor.dims) for tensor in engine(name).inputs
            }


def test_absent_detectors_are_no_plans():
    """Without SCRFD nothing is built for a GPU that nobody calls."""
    configs = all_configs(SERVINGS["tensorrt-opencv"])
    backends = {spec.name: configs[spec.name].backend for spec in ENGINES}
    assert {name for name, backend in backends.items() if backend == "onnxruntime"} == {
        "person_detector",
        "face_detector",
    }
    assert all(SERVINGS["tensorrt-opencv"].runs_plan(spec) != spec.is_detector for spec in ENGINES)


def test_accelerators_of_onnx_runtime():
    for name, heavy in (("cuda", ["cuda"]), ("ort-tensorrt", ["tensorrt", "cuda"])):
        configs = all_configs(SERVINGS[name])
        for spec in ENGINES:
            config = configs[spec.name]
            found = [a.name for a in config.optimization.execution_accelerators.gpu_execution_accelerator]
            assert found == (heavy if spec.max_batch_size else ["cuda"])
            assert config.backend == "onnxruntime"
            assert "cpu_run_batch" not in config.parameters
    accelerator = configs["head_encoder"].optimization.execution_accelerators.gpu_execution_accelerator[0]
    assert accelerator.parameters["precision_mode"] == "FP32"
    assert accelerator.parameters["max_workspace_size_bytes"] == str(1 << 29)
    assert accelerator.parameters["trt_engine_cache_path"] == "/cache"
    assert accelerator.parameters["trt_engine_cache_prefix"] == "head_encoder"
    assert accelerator.parameters["trt_profile_min_shapes"] == "crop:1x224x224x3,box:1x4,context_tokens:1x49x256"


def test_a_gpu_is_fed_by_more_instances():
    for name in ("cuda", "ort-tensorrt", "tensorrt"):
        config = all_configs(SERVINGS[name])["cocoer"]
        assert config.instance_group[0].count == 16
        assert config.dynamic_batching.default_queue_policy.max_queue_size == 512


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
