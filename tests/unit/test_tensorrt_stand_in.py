"""The stand-in for TensorRT refuses what the real one would, so that a build that passes on it may pass there."""

import numpy as np
import onnx
import pytest
from onnx import parser
from polygraphy.backend.trt import (
    CreateConfig,
    EngineFromBytes,
    Profile,
    TrtRunner,
    engine_bytes_from_network,
    network_from_onnx_path,
)
from polygraphy.backend.trt import util as trt_util

from export.plans.tensorrt import PlanBuildError, load_tensorrt, sentences
from tests.fake_tensorrt import FakeTensorRT, install
from tests.tensorrt_api import VERSIONS

OLD, NEW = VERSIONS
PROFILE = Profile().add("x", (1, 8), (4, 8), (16, 8))


@pytest.fixture
def graph(tmp_path):
    """A matrix product."""
    signature = "g (float[n, 8] x, float[8, 4] w) => (float[n, 4] y)"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {signature} {{y = MatMul (x, w)}}')
    weights = np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    del model.graph.input[1]
    onnx.save(model, tmp_path / "product.onnx")
    return tmp_path / "product.onnx"


@pytest.fixture
def trt(request, monkeypatch):
    trt = install(monkeypatch, FakeTensorRT(getattr(request, "param", NEW)))
    load_tensorrt()
    return trt


both = pytest.mark.parametrize("trt", VERSIONS, indirect=True)


def build(graph, strongly_typed=True, **options):
    network = network_from_onnx_path(str(graph), strongly_typed=strongly_typed)
    options.setdefault("memory_pool_limits", {load_tensorrt().MemoryPoolType.WORKSPACE: 1 << 30})
    with sentences("can't build"):
        return bytes(engine_bytes_from_network(network, CreateConfig(profiles=[PROFILE], **options)))


def product(plan, rows=4):
    x = np.random.default_rng(1).standard_normal((rows, 8), dtype=np.float32)
    with sentences("can't run"), TrtRunner(EngineFromBytes(plan)) as runner:
        return np.array(runner.infer({"x": x})["y"])


@both
def test_tf32_is_off_unless_asked_for_and_costs_precision(trt, graph):
    exact = product(build(graph))
    rounded = product(build(graph, tf32=True))
    assert 1e-4 < np.abs(rounded - exact).max() < 1e-2
    assert [settings["flags"] for settings in trt.built] == [[], ["TF32"]]
    # What a builder has that nobody clears.
    assert trt.IBuilderConfig(None).get_flag(trt.BuilderFlag.TF32)


@both
def test_host_code_has_to_be_allowed(trt, graph, caplog):
    plan = build(graph, version_compatible=True)
    runtime = trt.Runtime(trt_util.get_trt_logger())
    assert runtime.deserialize_cuda_engine(plan) is None
    assert "the plan has host code, which is not allowed" in caplog.text
    runtime.engine_host_code_allowed = True
    assert runtime.deserialize_cuda_engine(plan) is not None
    assert product(plan).shape == (4, 4)


@pytest.mark.parametrize(("built", "running", "runs"), [(OLD, NEW, True), (NEW, OLD, False), (OLD, OLD, True)])
def test_version_compatible_plans_run_on_later_versions(monkeypatch, graph, built, running, runs):
    install(monkeypatch, FakeTensorRT(built))
    load_tensorrt()
    plan, plain = build(graph, version_compatible=True), build(graph)
    install(monkeypatch, FakeTensorRT(running))
    for content, fits in ((plan, runs), (plain, built == running)):
        if fits:
            assert product(content).shape == (4, 4)
        else:
            with pytest.raises(PlanBuildError, match="deserializeCudaEngine: the plan is of version"):
                product(content)


def test_plans_of_another_gpu(monkeypatch, graph):
    trt = install(monkeypatch, FakeTensorRT(NEW, "9.0"))
    load_tensorrt()
    plain = build(graph)
    ampere = build(graph, hardware_compatibility_level=trt.HardwareCompatibilityLevel.AMPERE_PLUS)
    install(monkeypatch, FakeTensorRT(NEW, "8.9"))
    assert product(ampere).shape == (4, 4)
    with pytest.raises(PlanBuildError, match=r"the plan is for SM 9.0"):
        product(plain)
    install(monkeypatch, FakeTensorRT(NEW, "7.5"))
    with pytest.raises(PlanBuildError, match=r"not supported on SM 7.5"):
        build(graph, hardware_compatibility_level=load_tensorrt().HardwareCompatibilityLevel.AMPERE_PLUS)


@pytest.mark.parametrize("trt", [OLD], indirect=True)
@pytest.mark.parametrize("options", [{"fp16": True}, {"bf16": True}, {"precision_constraints": "obey"}])
def test_strongly_typed_networks_take_no_precision_flags(trt, graph, options):
    with pytest.raises(PlanBuildError, match="can't be set for a strongly typed network"):
        build(graph, **options)
    assert build(graph, strongly_typed=False, **options)


@pytest.mark.parametrize("trt", [NEW], indirect=True)
def test_what_11_has_removed(trt, graph):
    for options in (
        {"fp16": True},
        {"int8": True},
        {"precision_constraints": "obey"},
        {"algorithm_selector": object()},
    ):
        with pytest.raises(PlanBuildError, match="is not available on TensorRT version 11"):
            build(graph, **options)
    builder = trt.Builder(trt_util.get_trt_logger())
    for name in ("platform_has_fast_fp16", "platform_has_tf32", "build_engine"):
        with pytest.raises(AttributeError, match=f"Builder of TensorRT 11.4.0.106 has no {name}"):
            getattr(builder, name)
    assert builder.create_network(1 << 5) is None


@both
def test_profiles(trt, graph):
    with pytest.raises(PlanBuildError, match=r"setInputShape: x is \(17, 8\)"):
        product(build(graph), rows=17)
    with pytest.raises(RuntimeError, match="inconsistent with other shapes"):
        trt.IOptimizationProfile().set_shape("x", (4, 8), (1, 8), (16, 8))
    network = network_from_onnx_path(str(graph), strongly_typed=True)
    with pytest.raises(PlanBuildError, match="no optimization profile"), sentences("can't build"):
        engine_bytes_from_network(network, CreateConfig(profiles=[]))


@both
def test_timing_caches(trt):
    config = trt.IBuilderConfig(trt_util.get_trt_logger())
    assert config.create_timing_cache(b"damaged") is None
    assert config.create_timing_cache(b"8.6.1.6 9.0 5") is None
    other = config.create_timing_cache(f"{trt.__version__} 8.9 5".encode())
    assert not config.set_timing_cache(other, ignore_mismatch=False)
    assert config.get_timing_cache() is None
    with pytest.raises(TypeError, match="incompatible function arguments"):
        config.set_timing_cache(None, ignore_mismatch=False)
    own = config.create_timing_cache(b"")
    assert config.set_timing_cache(own, ignore_mismatch=False)
    assert not own.combine(other, ignore_mismatch=False)
