"""bf16: where it is refused, what a build writes for OpenVINO, and how the stand-in for its backend reads that.

None of this needs a CPU with bf16 or the package openvino: ``tests/parity/test_bf16.py`` runs the real one.
"""

import copy
import doctest
import importlib.util
import json
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from tritonclient.grpc import model_config_pb2 as pb

from benchmarks import bf16 as benchmark
from benchmarks import bf16_report as report
from cocoer.network.architecture import TINY
from cocoer.network.levels import PersonEncoder
from cocoer.network.model import CocoER
from cocoer.network.normalise import Normalise, imagenet_normalise
from export import arguments, build_engines
from export.detectors.reference import ScrfdFile
from export.models import CONTEXT_ENCODER, HEAD_ENCODER, MODELS, VI_HEAD, model
from export.options import Options
from export.precision.bf16 import ScaledFirst, scaled_first
from export.precision.bf16_encoder import SplitLinear, SummedLinear, balanced, rounded, suit_encoder
from export.publishing.configs import all_configs
from serving import bf16, launcher
from serving.flags import LauncherError, check_bf16
from serving.wheel import PYTHON_BACKENDS, WheelTriton
from tests.conftest import PROJECT, run_python

BF16 = Options(precision="bf16", backend="openvino", cores=4)
RUN_IN_BF16 = {"person_detector", "face_detector", "context_encoder", "head_encoder", "body_encoder"}
NATIVE = {
    "PERFORMANCE_HINT": "LATENCY, THROUGHPUT or CUMULATIVE_THROUGHPUT",
    "INFERENCE_NUM_THREADS": "threads that compute",
    "COMPILATION_NUM_THREADS": "threads that compile",
    "HINT_BF16": "YES, and nothing else",
    "NUM_STREAMS": "runs side by side: a number, AUTO or NUMA",
}
"""Key -> what it does; openvino_backend's README and src/openvino.cc of 26.06."""
NOT_READ = {
    "CPU_EXTENSION_PATH": "kernels of one's own; no graph of ours needs any",
    "SKIP_OV_DYNAMIC_BATCHSIZE": "of batches that Triton makes; ours has none",
    "ENABLE_BATCH_PADDING": "likewise",
    "RESHAPE_IO_LAYERS": "other shapes than the graph's; ours has its own",
    "TARGET_DEVICE": "CPU unless told otherwise",
}
"""The same source's other keys -> why the stand-in does without."""


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Makes a CPU with these flags, and the package openvino there or not."""

    def become(flags, package):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags} avx512f\n\nbugs\t: amx_bf16x\n")
        monkeypatch.setattr(bf16, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(bf16, "has_openvino", lambda: package)

    return become


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx512_bf16", 1), ("amx_tile amx_bf16", 1), ("avx512_bf16x", 0), ("", 0)]
)
def test_cpus(cpu, flags, expected):
    cpu(flags, package=True)
    assert bf16.multiplies_bf16() == expected
    assert bool(bf16.why_not_bf16()) != expected


def test_a_machine_that_tells_nothing_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(bf16, "CPUINFO", tmp_path / "none")
    assert not bf16.multiplies_bf16()


@pytest.mark.parametrize(
    ("flags", "package", "message"),
    [
        ("", True, "bf16 needs a CPU with amx_bf16 or avx512_bf16, and"),
        ("amx_bf16", False, "bf16 needs the package openvino: make setup-openvino, or pip install --no-deps"),
    ],
)
def test_a_build_is_refused_before_anything_is_done(cpu, flags, package, message, tmp_path, capsys):
    cpu(flags, package)
    command = ["--checkpoints", str(tmp_path / "none"), "--repository", str(tmp_path / "r"), "--precision", "bf16"]
    assert build_engines.main(command) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "No checkpoint" not in told
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--precision bf16 --backend tensorrt", "--precision bf16 is for CPUs; on GPUs, --precision fp16"),
        ("--precision bf16 --accelerator cuda", "--precision bf16 is for CPUs; on GPUs, --precision fp16"),
        ("--precision bf16 --backend onnxruntime", "ONNX Runtime computes no bf16 on CPUs"),
        ("--backend openvino", "--backend openvino is for --precision bf16"),
        ("--precision bf16 --calibration x", "--precision int8 and --calibration FOLDER"),
    ],
)
def test_options_that_do_not_go_together(given, message):
    with pytest.raises(arguments.UsageError, match=message):
        arguments.check_usage(arguments.parse_args(given.split()))


def repository(path, text):
    (path / "cocoer" / "1").mkdir(parents=True)
    (path / "cocoer" / "1" / "build.json").write_text(text)
    return path


def test_a_server_is_refused(cpu, tmp_path):
    """By both launchers, each for what it lacks: the native backend needs no package."""
    place = repository(tmp_path / "bf16", json.dumps({"precision": "bf16"}))
    given = [f"--model-repository={place}"]
    cpu("", package=True)
    for run in (lambda: launcher.run_wheel(WheelTriton(), given), lambda: launcher.run_installed(place, given)):
        with pytest.raises(LauncherError, match="bf16 was built with --precision bf16, which .*: bf16 needs a CPU"):
            run()
    cpu("avx512_bf16", package=False)
    with pytest.raises(LauncherError, match="needs the package openvino: make setup"):
        launcher.run_wheel(WheelTriton(), given)
    check_bf16(given, needs_package=False)


@pytest.mark.parametrize("text", ['{"precision": "fp32"}', "{}", "[]", "no JSON"])
def test_other_repositories_are_served_as_ever(cpu, tmp_path, text):
    cpu("", package=False)
    check_bf16(["--model-repository", str(repository(tmp_path / "r", text))], needs_package=True)
    check_bf16(["--model-repository", "s3://bucket/models"], needs_package=True)


def test_which_models_are_in_bf16():
    configs = all_configs(BF16)
    assert {name for name, config in configs.items() if config.backend == "openvino"} == RUN_IN_BF16
    for one in MODELS:
        assert one.runs_in_bf16(BF16) == (one.name in RUN_IN_BF16)
        assert not one.runs_in_bf16(Options())
    ordinary = all_configs(Options(cores=4))
    for name in ("fusion", "context_gather", "cocoer", "detection", "recognition"):
        assert configs[name] == ordinary[name]


def test_detectors_that_are_not_there_need_no_openvino():
    configs = all_configs(Options(precision="bf16", backend="openvino", detection="opencv"))
    assert {configs[f"{kind}_detector"].backend for kind in ("person", "face")} == {"onnxruntime"}


@pytest.mark.parametrize("name", sorted(RUN_IN_BF16))
def test_configuration_of_the_native_backend(name):
    """What it would refuse, or fix at the largest batch, is not in it."""
    config, one = all_configs(BF16)[name], model(name)
    assert (config.default_model_filename, config.max_batch_size) == ("model.onnx", 0)
    assert not config.HasField("dynamic_batching")
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, pb.ModelInstanceGroup.KIND_CPU)]
    assert not set(config.parameters) - set(NATIVE)
    assert config.parameters["HINT_BF16"].string_value == "YES"
    for tensors, specs in ((config.input, one.inputs), (config.output, one.outputs)):
        assert [list(tensor.dims) for tensor in tensors] == [[-1, *spec.dims] for spec in specs]
    (sample,) = config.model_warmup
    assert all(entry.dims[0] == 1 for entry in sample.inputs.values())


def test_threads():
    """As in other builds; the V-I head has all cores, for its work is three times that of what runs beside it."""
    configs = all_configs(BF16)
    threads = {name: configs[name].parameters["INFERENCE_NUM_THREADS"].string_value for name in RUN_IN_BF16}
    assert threads == {
        "person_detector": "1", "face_detector": "3", "context_encoder": "2", "head_encoder": "2", "body_encoder": "2",
    }  # fmt: skip
    assert configs["vi_head"].parameters["intra_op_thread_count"].string_value == "4"


class Unreadable(Exception):
    """In the place of the Python backend's own."""


@pytest.fixture
def stand_in(monkeypatch):
    """The backend's module, with an OpenVINO that adds one."""

    class Request:
        def infer(self, feed, share_inputs):
            self.answer = {"b": feed["a"] + 1}

        def get_tensor(self, name):
            return SimpleNamespace(data=self.answer[name])

    compiled = []

    def compile_model(*arguments):
        compiled.append(arguments)
        return SimpleNamespace(create_infer_request=Request)

    triton = SimpleNamespace(
        TritonModelException=Unreadable,
        TritonError=str,
        Tensor=lambda name, x: (name, x),
        InferenceResponse=lambda tensors=None, error=None: error or dict(tensors),
        get_input_tensor_by_name=lambda request, name: SimpleNamespace(as_numpy=lambda: request[name]),
        Logger=SimpleNamespace(log_error=lambda text: None),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    openvino = SimpleNamespace(Core=lambda: SimpleNamespace(compile_model=compile_model))
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    module = load()
    module.compiled = compiled
    return module


def load():
    spec = importlib.util.spec_from_file_location("openvino_backend", PROJECT / "serving/backends/openvino/model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def configured(**parameters):
    return {"parameters": {key: {"string_value": value} for key, value in parameters.items()}}


@pytest.mark.parametrize(
    ("key", "value", "property_name", "expected"),
    [
        ("INFERENCE_NUM_THREADS", "3", "INFERENCE_NUM_THREADS", 3),
        ("COMPILATION_NUM_THREADS", "2", "COMPILATION_NUM_THREADS", 2),
        ("HINT_BF16", "yes", "INFERENCE_PRECISION_HINT", "bf16"),
        ("NUM_STREAMS", "1", "NUM_STREAMS", "1"),
        ("NUM_STREAMS", "auto", "NUM_STREAMS", "AUTO"),
        ("PERFORMANCE_HINT", "latency", "PERFORMANCE_HINT", "LATENCY"),
    ],
)
def test_keys_of_the_stand_in(stand_in, key, value, property_name, expected):
    assert stand_in.properties_of(configured(**{key: value})) == {"ENABLE_CPU_PINNING": False, property_name: expected}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INFERENCE_NUM_THREADS", "-1", "must be a non-negative number, got -1"),
        ("HINT_BF16", "NO", "HINT_BF16 must be YES, got NO"),
        ("NUM_STREAMS", "many", "NUM_STREAMS must be AUTO, NUMA or a number, got many"),
        ("PERFORMANCE_HINT", "FAST", "PERFORMANCE_HINT must be one of LATENCY"),
    ],
)
def test_what_the_native_backend_refuses(stand_in, key, value, message):
    with pytest.raises(ValueError, match=message):
        stand_in.properties_of(configured(**{key: value}))


def test_the_stand_in_knows_every_key(stand_in):
    assert set(stand_in.PARAMETERS) == set(NATIVE)
    assert not set(NATIVE) & set(NOT_READ)
    assert (PROJECT / "serving/backends" / PYTHON_BACKENDS[-1] / "model.py").is_file()
    assert PYTHON_BACKENDS[-1] == "openvino"


def initialised(stand_in, tmp_path, **changes):
    config = {"name": "m", **configured(HINT_BF16="YES"), "input": [{"name": "a"}], "output": [{"name": "b"}]}
    instance = stand_in.TritonPythonModel()
    place = {"model_repository": str(tmp_path), "model_version": "1"}
    instance.initialize({"model_config": json.dumps({**config, **changes}), **place})
    return instance


def test_the_stand_in_serves(stand_in, tmp_path):
    """Two requests in one call have two answers; one without rows has an error, and its neighbour an answer."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").touch()
    instance = initialised(stand_in, tmp_path, default_model_filename="model.onnx")
    ((path, device, properties),) = stand_in.compiled
    assert (path, device) == (tmp_path / "1" / "model.onnx", "CPU")
    assert properties == {"ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "bf16"}
    ones, none, fours = (np.full((rows, 2), rows, np.float32) for rows in (1, 0, 4))
    first, refused, last = instance.execute([{"a": ones}, {"a": none}, {"a": fours}])
    np.testing.assert_array_equal(first["b"], ones + 1)
    assert refused == "a batch has at least one row"
    np.testing.assert_array_equal(last["b"], fours + 1)


def test_what_the_stand_in_can_not_serve(stand_in, tmp_path):
    with pytest.raises(Unreadable, match=r"1/model.xml not found; build it with"):
        initialised(stand_in, tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.xml").touch()
    with pytest.raises(Unreadable, match="m: the OpenVINO backend would fix the batch at max_batch_size"):
        initialised(stand_in, tmp_path, max_batch_size=8)


def test_without_the_package_the_stand_in_says_what_is_missing(stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(Unreadable, match="needs the package openvino: make setup-openvino, or pip"):
        load()


IMPORTS_OPENVINO = {
    "the package itself": "import openvino",
    "a build": "from export.precision.bf16 import version; version()",
    "the stand-in": """
import runpy, sys, types
sys.modules["triton_python_backend_utils"] = types.SimpleNamespace()
runpy.run_path("serving/backends/openvino/model.py")
""",
}


@pytest.mark.parametrize("what", IMPORTS_OPENVINO)
def test_no_telemetry(what, tmp_path):
    """Importing openvino tells Intel of it where openvino-telemetry is installed too, and not when it is ours to do."""
    package = tmp_path / "openvino_telemetry"
    package.mkdir()
    (package / "__init__.py").write_text("print('telemetry'); raise ImportError")
    done = run_python("-c", IMPORTS_OPENVINO[what], PYTHONPATH=f"{tmp_path}:{PROJECT}")
    assert done.returncode == 0, done.stderr
    assert ("telemetry" in done.stdout) == (what == "the package itself")


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_pixels_are_the_same_scaled_first(order):
    pixels = torch.arange(2 * 4 * 32 * 3).reshape(2, 4, 32, 3).remainder(256).byte()
    usual = imagenet_normalise(order)
    torch.testing.assert_close(scaled_first(usual)(pixels), usual(pixels), rtol=0, atol=1e-6)


def test_encoders_in_bf16_scale_first():
    """So that no preparation of the graph can move the product into the first convolution."""
    network = CocoER()
    for one in (HEAD_ENCODER, CONTEXT_ENCODER):
        kinds = [type(one.module(network, "bgr", precision).normalise) for precision in ("bf16", "fp32")]
        assert kinds == [ScaledFirst, Normalise]
    assert type(VI_HEAD.module(network, "bgr", "bf16").normalise) is Normalise


def test_balanced_weights(rng):
    """Each is one of its two neighbours in bf16, and a filter's sum is right where the nearest ones' is not."""
    weight = torch.from_numpy(rng.normal(size=(32, 64, 3, 3)).astype(np.float32))
    weight[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    found, nearest = balanced(weight), rounded(weight)
    assert torch.equal(found, rounded(found))
    assert torch.equal(found[0, 0, 0, :2], weight[0, 0, 0, :2])
    spacing = 2.0 ** (torch.frexp(weight).exponent - 8)
    assert ((found - weight).abs() < spacing).all()
    assert (found != nearest).float().mean() < 0.05
    off, was_off = ((x - weight).double().sum((1, 2, 3)).abs() for x in (found, nearest))
    assert off.max() < 2**-6  # less than the next step of the largest weight
    assert off.mean() < was_off.mean() / 8


def test_layers_of_an_encoder_in_bf16():
    """In FP32 it is the same encoder, but for weights that are rounded: 2 ** -9 of each, at most twice that."""
    torch.manual_seed(0)
    encoder = PersonEncoder(TINY).eval()
    suited = copy.deepcopy(encoder)
    suit_encoder(suited)
    linear, wide = nn.Linear(256, 26), torch.randn(3, 256)
    torch.testing.assert_close(SummedLinear(linear)(wide), linear(wide), rtol=0, atol=1e-5)
    torch.testing.assert_close(SplitLinear(linear)(wide), linear(wide), rtol=0, atol=1e-5)
    high, low = SplitLinear(linear).both.weight.chunk(2, dim=1)
    assert torch.equal(high, rounded(high))
    torch.testing.assert_close(high + rounded(low), linear.weight, rtol=2**-16, atol=0)
    crop, box, tokens = torch.randn(2, 3, 224, 224), torch.tensor([[0.0, 10, 90, 200]] * 2), torch.randn(2, 49, 256)
    with torch.no_grad():
        before, after = encoder(crop, box, tokens), suited(crop, box, tokens)
    assert 0 < (after.logits - before.logits).abs().max() < 2**-6 * before.logits.abs().max()
    assert not [one for one in suited.modules() if isinstance(one, nn.BatchNorm2d)]
    assert all(
        torch.equal(conv.weight, rounded(conv.weight)) for conv in suited.modules() if isinstance(conv, nn.Conv2d)
    )


@pytest.fixture
def decode():
    """Decodes one stride of 8 pixels, an anchor a cell, on a letterbox of 24: squares around the cells' corners."""
    file = object.__new__(ScrfdFile)
    file.levels, file.anchors, file.iou_threshold = 1, 1, 0.4

    def found(scores, orders, sides=0.5):
        heads = [np.array(scores, np.float32)[:, None], np.full((9, 4), sides, np.float32)]
        return file.decode(heads, 24, 1.0, 0.5, None, orders)[0][:, :2].tolist()

    return found


AT_ROW = {row: [8.0 * (row % 3) - 4, 8.0 * (row // 3) - 4] for row in range(9)}
SCORES = [0.75, 0, 0.75, 0.9, 0, 0, 0, 0, 0.75]


@pytest.mark.parametrize(
    ("orders", "rows"),
    [
        (None, [3, 0, 2, 8]),
        (([3, 8, 0, 2, 1, 4, 5, 6, 7], [0, 1, 2, 3]), [3, 8, 0, 2]),
        (([3, 0, 2, 8], [0, 3, 2, 1, 4, 5]), [3, 8, 2, 0]),
        (([8, 2, 0, 3], [3, 2, 1, 0]), [3, 0, 2, 8]),  # the best comes first, whatever the model says
        (([3, 0], [0]), [3, 0, 2, 8]),
    ],
)
def test_equal_scores_come_in_the_models_order(decode, orders, rows):
    """In bf16 scores are often equal; that the model orders them in its own way is no mistake of its decoding."""
    assert decode(SCORES, orders) == [AT_ROW[row] for row in rows]


@pytest.mark.parametrize(("first", "kept"), [([3, 4, 0], [3]), ([4, 3, 0], [4])])
def test_of_equal_boxes_that_overlap_the_models_is_kept(decode, first, kept):
    """Boxes of neighbours overlap by 0.6 here."""
    found = decode([0, 0, 0, 0.75, 0.75, 0, 0, 0, 0], (first, [0]), sides=2.0)
    assert found == [[8.0 * (row % 3) - 16, 8.0 * (row // 3) - 16] for row in kept]


def test_examples():
    assert doctest.testmod(report) == (0, 1)


def test_in_turn():
    """Every round has each once, and does not always begin with the same."""
    called = []
    times = benchmark.in_turn({name: partial(called.append, name) for name in "ab"}, rounds=3)
    assert "".join(called) == "ba" + "ab" + "ba" + "ab"
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}


MEASURED = {
    "machine": {"cpu": "A CPU", "cores": 2},
    "time": "2026-11-27",
    "command": "c",
    "rounds": 2,
    "openvino": "1",
    "threads": 2,
    "models": [],
    "ensembles": {},
    "served": {},
}
TIMES = {report.RELEASE: [300.0, 270.0], report.FP32: [20.0, 30.0], report.BF16: [10.0, 15.0]}
WITHOUT_RELEASE = {name: each for name, each in TIMES.items() if name != report.RELEASE}


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if " to " in line]


def test_the_reports_figures():
    """Ratios are of the same round; a target that one round meets and another misses is within noise."""
    served = {report.BURST + report.ONE: WITHOUT_RELEASE, report.FOUR: TIMES, report.DETECTED: TIMES}
    text = report.to_markdown({**MEASURED, "models": [("fusion", 4, TIMES)], "served": served})
    assert "# bf16 on A CPU, 2 cores" in text
    release, fp32, fast = "285.0 (270.0 to 300.0)", "25.0 (20.0 to 30.0)", "12.5 (10.0 to 15.0)"
    faster, than_release = "2.0 (2.0 to 2.0)", "24.0 (18.0 to 30.0)"
    found = rows(text)
    assert [f"{report.BURST}1 person given: bf16 than {report.FP32}", faster, ">= 1.7", "met"] in found
    assert [f"4 persons given: bf16 than {report.RELEASE}", than_release, ">= 25", "within noise"] in found
    assert [f"1 person detected: bf16 than {report.RELEASE}", than_release, ">= 7", "met"] in found
    assert ["fusion", "4", fp32, fast, faster] in found
    assert ["4 persons given", release, fp32, fast, faster, than_release] in found
    assert [report.BURST + report.ONE, "", fp32, fast, faster, ""] in found


def test_what_was_not_measured_is_not_in_the_report():
    text = report.to_markdown({**MEASURED, "ensembles": {"detection": WITHOUT_RELEASE}})
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# bf16 on A CPU, 2 cores",
        "## The networks of a request, in one process",
    ]
    assert "target |" not in text
