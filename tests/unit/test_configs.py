"""Configurations: parsed back with Triton's schema, wired right, and the committed ones up to date."""

import subprocess
from pathlib import PurePosixPath

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from cocoer.labels import EMOTIC_LABELS, LEVELS
from cocoer_bls import options as bls_options
from cocoer_bls import result
from cocoer_bls.inputs import MAX_BATCH_IMAGES, MAX_BATCH_PERSONS
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS, Limits
from export.models import DETECTORS, ENSEMBLES, MODELS, model
from export.options import Options
from export.plans.profiles import profile
from export.publishing.configs import all_configs, to_text
from export.publishing.repository import complete
from tests.conftest import PROJECT

REPOSITORY = PROJECT / "tests" / "data" / "model_repository"
"""The default build's configurations: to read, and to see what a change does to them."""
CONFIGS = all_configs()


def parse(text: str) -> pb.ModelConfig:
    return text_format.Parse(text, pb.ModelConfig())


@pytest.mark.parametrize("name", CONFIGS)
def test_committed_is_what_the_export_writes(name):
    assert (REPOSITORY / name / "config.pbtxt").read_text() == to_text(CONFIGS[name])


def test_nothing_else_is_committed():
    assert {path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.rglob("*.*")} == {
        f"{name}/config.pbtxt" for name in CONFIGS
    }


def test_no_build_shows_up_as_a_change():
    """Of the checkout's own repository, and of what lies beside it."""
    paths = ["model_repository/fusion/config.pbtxt", ".model_repository.builds/previous/fusion/config.pbtxt"]
    ignored = subprocess.run(["git", "check-ignore", *paths], cwd=PROJECT, capture_output=True, text=True)
    assert ignored.stdout.split() == paths
    assert not subprocess.check_output(["git", "ls-files", "model_repository"], cwd=PROJECT)


SERVED = {
    "cpu": Options(),
    "fp16": Options(precision="fp16"),
    "bf16": Options(precision="bf16", backend="openvino"),
    "cuda": Options(precision="fp16", accelerator="cuda"),
    "ort-tensorrt": Options(accelerator="tensorrt", engine_cache=PurePosixPath("/cache"), workspace_gib=0.5),
    "tensorrt": Options(precision="fp16", backend="tensorrt"),
    "tensorrt-opencv": Options(precision="fp16", backend="tensorrt", detection="opencv"),
}


@pytest.mark.parametrize("options", SERVED.values(), ids=SERVED)
def test_parsed_back(options):
    for name, config in all_configs(options).items():
        assert parse(to_text(config)) == config
        assert config.name == name
        assert bool(config.backend) != bool(config.platform)


def test_plans():
    """Every model a plan, on GPUs; launches recorded where nothing varies but the batch."""
    configs = all_configs(SERVED["tensorrt"])
    for one in MODELS:
        config = configs[one.name]
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
                tensor.name: list(tensor.dims) for tensor in model(name).inputs
            }


def test_absent_detectors_are_no_plans():
    """Without SCRFD nothing is built for a GPU that nobody calls."""
    configs = all_configs(SERVED["tensorrt-opencv"])
    backends = {one.name: configs[one.name].backend for one in MODELS}
    assert {name for name, backend in backends.items() if backend == "onnxruntime"} == {
        "person_detector",
        "face_detector",
    }
    assert all(SERVED["tensorrt-opencv"].runs_plan(one) != (one in DETECTORS) for one in MODELS)


def test_accelerators_of_onnx_runtime():
    for name, heavy in (("cuda", ["cuda"]), ("ort-tensorrt", ["tensorrt", "cuda"])):
        configs = all_configs(SERVED[name])
        for one in MODELS:
            config = configs[one.name]
            found = [a.name for a in config.optimization.execution_accelerators.gpu_execution_accelerator]
            assert found == (heavy if one.has_trunk else ["cuda"])
            assert config.backend == "onnxruntime"
            assert not config.parameters  # threads and memory are of CPUs
    accelerator = configs["head_encoder"].optimization.execution_accelerators.gpu_execution_accelerator[0]
    assert accelerator.parameters["precision_mode"] == "FP32"
    assert accelerator.parameters["max_workspace_size_bytes"] == str(1 << 29)
    assert accelerator.parameters["trt_engine_cache_path"] == "/cache"
    assert accelerator.parameters["trt_engine_cache_prefix"] == "head_encoder"
    assert accelerator.parameters["trt_profile_min_shapes"] == "crop:1x224x224x3,box:1x4,context_tokens:1x49x256"


def test_a_gpu_is_fed_by_more_instances():
    for name in ("cuda", "ort-tensorrt", "tensorrt"):
        config = all_configs(SERVED[name])["cocoer"]
        assert config.instance_group[0].count == 16
        assert config.dynamic_batching.default_queue_policy.max_queue_size == 512
        assert config.parameters["max_batch_persons"].string_value == str(MAX_BATCH_PERSONS)


def test_every_model_says_how_many_instances():
    for config in CONFIGS.values():
        if config.platform != "ensemble":
            assert [group.count for group in config.instance_group] == [2 if config.name == "cocoer" else 1]
            assert "runtime" not in {field.name for field, _ in config.ListFields()}


def test_heavy_models_batch_across_requests():
    heavy = {"person_detector", "face_detector", "context_encoder", "vi_head", "head_encoder", "body_encoder", "cocoer"}
    assert {name for name, config in CONFIGS.items() if config.HasField("dynamic_batching")} == heavy
    assert all(CONFIGS[name].max_batch_size >= 8 for name in heavy)


def test_models_warm_up_with_all_their_inputs():
    for one in MODELS:
        (sample,) = CONFIGS[one.name].model_warmup
        assert set(sample.inputs) == {tensor.name for tensor in one.inputs}


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=lambda ensemble: ensemble.name)
def test_wiring(ensemble):
    """Every tensor of every step has a source of the same type, shape and kind of rows; every output is made."""
    known = {tensor.name: (tensor.dtype, tensor.dims, tensor.rows) for tensor in ensemble.inputs}
    for step in ensemble.steps:
        used = model(step.model)
        assert set(step.inputs) == {tensor.name for tensor in used.inputs}
        for tensor in used.inputs:
            assert known[step.inputs[tensor.name]] == (tensor.dtype, tensor.dims, tensor.rows)
        made = {tensor.name: (tensor.dtype, tensor.dims, tensor.rows) for tensor in used.outputs}
        known |= {theirs: made[own] for own, theirs in step.outputs.items()}
    for tensor in ensemble.outputs:
        assert known[tensor.name] == (tensor.dtype, tensor.dims, tensor.rows)


def test_what_the_server_splits_is_what_models_take():
    assert CONFIGS["head_encoder"].max_batch_size == CONFIGS["body_encoder"].max_batch_size == MAX_BATCH_PERSONS
    per_image = ("cocoer", "person_detector", "face_detector", "context_encoder", "vi_head")
    assert {CONFIGS[name].max_batch_size for name in per_image} == {MAX_BATCH_IMAGES}


def test_parameters_are_the_servers_defaults():
    parameters = {key: {"string_value": value.string_value} for key, value in CONFIGS["cocoer"].parameters.items()}
    assert Limits.from_config(parameters) == DEFAULT_LIMITS
    assert bls_options.Options.from_config(parameters) == DEFAULT_OPTIONS


def test_levels_have_one_order():
    """The one constant that the served model can't import: it stands alone."""
    assert result.LEVELS == LEVELS


def test_labels_files(tmp_path):
    complete(Options(repository=tmp_path), {})
    for path in ("cocoer/1", "fusion", "recognition"):
        assert tuple((tmp_path / path / "labels.txt").read_text().splitlines()) == EMOTIC_LABELS


def test_unknown_model_lists_the_known():
    with pytest.raises(KeyError, match="no model 'heads'; there are person_detector"):
        model("heads")


SIDE_BY_SIDE = (
    ("person_detector", "face_detector"),
    ("context_encoder", "vi_head"),
    ("head_encoder", "body_encoder"),
    ("context_gather",),
    ("fusion",),
)
"""Models that run at the same time, in one request."""


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 8, 16, 64])
def test_models_that_run_side_by_side_share_the_cores(cores):
    """In the native backend's words, which are the stand-in's too; small models have one thread."""
    configs = all_configs(Options(cores=cores))
    threads = {one.name: int(configs[one.name].parameters["intra_op_thread_count"].string_value) for one in MODELS}
    for together in SIDE_BY_SIDE:
        assert sum(threads[name] for name in together) <= cores + 1
    assert threads["fusion"] == threads["context_gather"] == 1
    assert threads["head_encoder"] == threads["vi_head"] == max(1, round(cores / 2))
    assert threads["face_detector"] >= 3 * threads["person_detector"] - 1 or cores < 4
    assert {name for together in SIDE_BY_SIDE for name in together} == {one.name for one in MODELS}


def test_large_batches_give_their_memory_back():
    shrinking = {
        name for name, config in CONFIGS.items() if "memory.enable_memory_arena_shrinkage" in config.parameters
    }
    assert shrinking == {one.name for one in MODELS if one.has_trunk}


def test_detectors_of_another_size():
    """Both, and the ensemble of both, take letterboxes of it; nothing else changes."""
    configs = all_configs(Options(detector_size=320))
    for name, config in configs.items():
        tensors = {tensor.name: list(tensor.dims) for tensor in config.input}
        if name in ("person_detector", "face_detector"):
            assert tensors["image"] == [320, 320, 3]
            assert list(config.model_warmup[0].inputs["image"].dims) == [320, 320, 3]
        elif name == "detection":
            assert tensors["image"] == [-1, 320, 320, 3]
        else:
            assert config == CONFIGS[name]
    assert {one.name: profile(one) for one in Options(detector_size=320).models}["face_detector"]["image"] == (
        (1, 320, 320, 3),
        (8, 320, 320, 3),
        (8, 320, 320, 3),
    )
