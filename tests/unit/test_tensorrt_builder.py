"""ONNX -> plan, with the names of two real TensorRTs: what is asked of it, what is refused, what is left behind."""

import ast
import doctest
import gc
import os
import signal
import sys
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from polygraphy.exception import PolygraphyException

from cocoer_bls.inputs import MAX_BATCH_IMAGES, MAX_BATCH_PERSONS, Tensors
from cocoer_bls.plans import Gpu, Machine
from export.files import read_json
from export.models import CONTEXT_GATHER, HEAD_ENCODER, MODELS
from export.options import Options
from export.plans import profiles
from export.plans.builder import PlanBuild, plan_path, sidecar_path
from export.plans.profiles import profile
from export.plans.run import running
from export.plans.tensorrt import (
    PlanBuildError,
    TensorRTMissing,
    build_plan,
    check_library,
    load_tensorrt,
)
from export.publishing.layout import onnx_path
from tests import fake_cuda
from tests.conftest import PROJECT
from tests.fake_tensorrt import FakeTensorRT, install
from tests.tensorrt_api import VERSIONS, api

H100 = Machine((10, 16, 0), (Gpu("NVIDIA H100", "9.0"),))
GATHER = CONTEXT_GATHER


class Weightless:
    """Ingredients of a model that needs none."""

    options, network, weights = Options(), None, "none"


@pytest.fixture(scope="module")
def gather(tmp_path_factory):
    """The smallest of the ONNX files, which has no weights."""
    path = tmp_path_factory.mktemp("gather") / "model.onnx"
    weightless: Any = Weightless()
    GATHER.write(path, weightless)
    return path


@pytest.fixture(params=VERSIONS)
def trt(request, monkeypatch):
    return install(monkeypatch, FakeTensorRT(request.param))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_there(version):
    """Each ``trt.X`` and ``trt.X.Y`` in the source, which no path of a test may reach."""
    real = api(version)
    used = set()
    for node in ast.walk(ast.parse((PROJECT / "export" / "plans" / "tensorrt.py").read_text())):
        names = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if names and isinstance(node, ast.Name) and node.id == "trt":
            used.add(tuple(names[:2]))
    assert len(used) > 5
    for name, *rest in used - {("__version__",)}:
        assert name in real
        assert not rest or rest[0] in real[name], (name, rest)


def test_the_versions_differ_where_it_matters():
    """The test above can fail: 11 has lost what the older way of choosing precision needs."""
    old, new = (api(version) for version in VERSIONS)
    assert {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"} <= set(old["BuilderFlag"]) - set(new["BuilderFlag"])
    assert "EXPLICIT_BATCH" not in new["NetworkDefinitionCreationFlag"]


def test_defaults(trt, gather):
    told = []
    plan = build_plan(gather, GATHER, Options(), progress=told.append)
    (settings,) = trt.built
    assert settings["strongly_typed"]
    assert settings["flags"] == []  # no TF32, nothing that chooses a precision
    assert settings["level"] == "NONE"
    assert settings["workspace"] == 4 << 30
    assert plan.precisions == {"Half": 2, "Float": 1}
    assert told == ["context_gather: Building Engine"]


def test_options(trt, gather):
    options = Options(
        precision="fp16",
        workspace_gib=0.5,
        hardware_compatibility="ampere+",
        version_compatible=True,
        optimization_level=5,
    )
    plan = build_plan(gather, GATHER, options, timing_cache=f"{trt.__version__} 9.0 5".encode())
    (settings,) = trt.built
    assert settings["flags"] == ["VERSION_COMPATIBLE"]
    assert settings["level"] == "AMPERE_PLUS"
    assert settings["optimization_level"] == 5
    assert settings["workspace"] == 1 << 29
    assert settings["timing_cache"] == 5
    assert plan.timing_cache == f"{trt.__version__} 9.0 6".encode()


@pytest.mark.parametrize("other", ["8.6.1.6 9.0 5", "{version} 8.9 5", "cut off"])
def test_timing_caches_that_are_of_no_use(trt, gather, other):
    """Another version's, another GPU's, a damaged one: a new one is begun, which holds nothing of them."""
    plan = build_plan(gather, GATHER, Options(), timing_cache=other.format(version=trt.__version__).encode())
    assert plan.timing_cache == f"{trt.__version__} 9.0 1".encode()


def test_what_tensorrt_says_is_told(trt, gather, tmp_path, monkeypatch):
    with pytest.raises(PlanBuildError, match="can't build context_gather: .*insufficient workspace"):
        build_plan(gather, GATHER, Options(workspace_gib=1e-6))
    with pytest.raises(PlanBuildError, match=r"can't build head_encoder: .*Invalid inputs .* optimization profile"):
        build_plan(gather, HEAD_ENCODER, Options())
    monkeypatch.setattr(trt.Builder, "build_serialized_network", lambda *_: None)
    with pytest.raises(PlanBuildError, match=r"can't build context_gather: .*\(memory\? see --workspace\)"):
        build_plan(gather, GATHER, Options())
    text = '<ir_version: 10, opset_import: ["": 20]> g (uint8[n, 4] pixels) => (float[4, n] y) {'
    turned = parser.parse_model(text + "turned = Transpose (pixels) y = Cast <to = 1> (turned) }")
    onnx.save(turned, tmp_path / "turned.onnx")
    with pytest.raises(PlanBuildError, match=r"can't read turned.onnx: .*Transpose.*UINT8"):
        build_plan(tmp_path / "turned.onnx", GATHER, Options())


def test_ctrl_c_ends_a_build(trt, gather):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build_plan(gather, GATHER, Options(), progress=lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is before


def test_without_tensorrt(monkeypatch):
    for name in ("tensorrt", "tensorrt_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TensorRTMissing, match="docker compose -f serving/deploy/compose.yaml run --rm engines"):
        load_tensorrt()


def test_without_polygraphy(monkeypatch, trt):
    monkeypatch.setitem(sys.modules, "polygraphy.logger", None)
    with pytest.raises(TensorRTMissing, match="pip install polygraphy"):
        load_tensorrt()


def test_bindings_of_another_version_than_the_library(trt):
    version = tuple(map(int, trt.__version__.split(".")[:3]))
    check_library(trt, version)
    check_library(trt, None)
    with pytest.raises(TensorRTMissing, match=r"library is 10.1.0, its Python bindings are .*install tensorrt-cu13"):
        check_library(trt, (10, 1, 0))


def test_bindings_alone_go_by_the_usual_name(monkeypatch):
    bindings = ModuleType("tensorrt_bindings")
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", bindings)
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("to be restored"))
    monkeypatch.delitem(sys.modules, "tensorrt")
    assert load_tensorrt() is bindings is sys.modules["tensorrt"]


def test_examples():
    assert doctest.testmod(profiles).failed == 0


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_profiles_reach_as_far_as_the_server_does(model):
    ranges = profile(model)
    assert list(ranges) == [tensor.name for tensor in model.inputs]
    for tensor in model.inputs:
        low, usual, high = ranges[tensor.name]
        assert low == (1, *tensor.dims)
        assert usual[1:] == high[1:] == tensor.dims
        assert 1 <= usual[0] <= high[0] == (model.max_batch_size or high[0])
    if model.batch is None:
        tops = {ranges[t.name].maximum[0] for t in model.inputs}
        assert tops == {MAX_BATCH_IMAGES, MAX_BATCH_PERSONS}


class Samples:
    """What the small model is verified with."""

    recognition = {"image_index": np.zeros(3, dtype=np.int64)}
    between = {"context_tokens": np.ones((1, 49, 256), dtype=np.float32)}


class Builds:
    """``PlanBuild`` on a repository with one model."""

    def __init__(self, trt, repository):
        self.trt, self.repository = trt, repository

    def __call__(self, machine=H100, **options):
        samples: Any = Samples()
        builder = PlanBuild(
            Options(repository=self.repository, backend="tensorrt", **options),
            samples,
            "python export/build_engines.py --backend tensorrt",
            machine=Machine(tuple(map(int, self.trt.__version__.split(".")[:3])), machine.gpus),
        )
        (result,) = builder.build([GATHER])
        return result


@pytest.fixture
def builds(trt, gather, tmp_path):
    target = onnx_path(tmp_path / "next", GATHER.name)
    target.parent.mkdir(parents=True)
    target.write_bytes(gather.read_bytes())
    return Builds(trt, tmp_path / "next")


def test_sidecar(builds):
    result = builds()
    assert (result.status, result.problem) == ("built", "")
    sidecar = read_json(sidecar_path(builds.repository, GATHER.name))
    assert sidecar["tensorrt"] == builds.trt.__version__
    assert (sidecar["gpu"], sidecar["compute_capability"]) == ("NVIDIA H100", "9.0")
    assert sidecar["profile"]["image_index"] == [[1], [32], [128]]
    assert sidecar["layer_precisions"] == {"Half": 2, "Float": 1}
    assert sidecar["parity"]["max_error"] == 0
    assert sidecar["command"].endswith("--backend tensorrt")
    assert sidecar["bytes"] == plan_path(builds.repository, GATHER.name).stat().st_size
    assert (builds.repository.parent / "tensorrt_timing.cache").read_text() == f"{builds.trt.__version__} 9.0 1"


def test_plans_for_later_versions_and_other_gpus(builds):
    """Built, read back and run, which needs a runtime that allows the code inside the plan."""
    result = builds(version_compatible=True, hardware_compatibility="ampere+")
    assert (result.status, result.problem) == ("built", "")
    sidecar = read_json(sidecar_path(builds.repository, GATHER.name))
    assert (sidecar["version_compatible"], sidecar["hardware_compatibility"]) == (True, "ampere+")


def test_a_gpu_too_old_for_the_compatibility_that_is_asked_for(builds):
    result = builds(Machine(None, (Gpu("Tesla T4", "7.5"),)), hardware_compatibility="ampere+")
    assert result.status == "failed"
    assert "--hardware-compatibility ampere+ needs a GPU of compute capability 8.0 or later, and this is 7.5" in (
        result.problem
    )
    assert not builds.trt.built


def test_nothing_stays_on_the_gpu(builds):
    """A plan's execution context has gigabytes at the release's size; the next plan is built in what is left."""
    builds()
    gc.collect()
    assert len(builds.trt.contexts) == 0
    assert fake_cuda.streams() == 0


def test_a_plan_that_fails_says_why(builds):
    """What TensorRT says while the plan runs, and nothing stays on the GPU."""
    builds()
    plan = plan_path(builds.repository, GATHER.name).read_bytes()
    inputs: Tensors = {"image_index": np.zeros(500, dtype=np.int64), "tokens": np.ones((1, 49, 256), dtype=np.float32)}
    shape = r"can't run the plan: setInputShape: image_index is \(500,\)"
    with pytest.raises(PlanBuildError, match=shape), running(plan) as run:
        run(inputs)
    with (
        pytest.raises(PlanBuildError, match="can't run the plan: deserializeCudaEngine: magic tag"),
        running(b"cut off"),
    ):
        pass
    with running(plan) as run:
        pass
    with pytest.raises(PolygraphyException, match="Must be activated"):
        run(inputs)
    assert fake_cuda.streams() == 0


def test_current_plans_are_kept(builds):
    builds()
    assert builds().status == "kept"
    assert builds(force=True).status == "built"
    assert builds(workspace_gib=8).status == "built"
    assert builds(workspace_gib=8).status == "kept"
    other = Machine(None, (Gpu("NVIDIA L4", "8.9"),))
    assert builds(other, workspace_gib=8).status == "built"


@pytest.mark.parametrize("damage", ["plan", "sidecar", "onnx"])
def test_damaged_plans_are_built_again(builds, damage):
    builds()
    model = onnx.load(onnx_path(builds.repository, GATHER.name))
    onnx.helper.set_model_props(model, {"changed": "1"})
    paths = {"plan": plan_path, "sidecar": sidecar_path, "onnx": onnx_path}
    content = {"plan": b"short", "sidecar": b"{}", "onnx": model.SerializeToString()}
    paths[damage](builds.repository, GATHER.name).write_bytes(content[damage])
    assert builds().status == "built"
    assert builds().status == "kept"


def test_a_wrong_plan_is_not_kept(builds):
    """It is no part of the build, and the plan of an earlier build, which may be the same file, stays as it was."""
    builds()
    published = plan_path(builds.repository, GATHER.name).with_name("published.plan")
    os.link(plan_path(builds.repository, GATHER.name), published)
    before = published.read_bytes()
    builds.trt.wrong = 0.25
    result = builds(force=True, workspace_gib=8)
    assert result.status == "failed"
    assert "error 0.25 against ONNX Runtime in person_tokens" in result.problem
    assert not sidecar_path(builds.repository, GATHER.name).exists()
    assert published.read_bytes() == before
    builds.trt.wrong = 0.0
    assert builds(workspace_gib=8).status == "built"


def test_a_tolerance_by_hand_accepts_a_plan_and_builds_none_anew(builds):
    builds.trt.wrong = 0.25
    result = builds()
    assert result.status == "failed"
    assert "the tolerance is 0" in result.problem
    assert "--tolerance context_gather=0.26" in result.problem
    result = builds(tolerances={GATHER.name: 0.26})
    assert (result.status, result.parity.tolerance, result.parity.default) == ("built", 0.26, 0.0)
    before = plan_path(builds.repository, GATHER.name).stat().st_mtime_ns
    assert builds(tolerances={GATHER.name: 0.5}).status == "kept"
    assert [builds(**options).status for options in ({}, {"tolerances": {GATHER.name: 0.2}})] == ["failed", "failed"]
    assert plan_path(builds.repository, GATHER.name).stat().st_mtime_ns == before
