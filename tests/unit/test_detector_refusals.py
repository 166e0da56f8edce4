"""What lies under a detector's name is told by name, with what to do; never decoded as something it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.detectors.files import DetectorError, check_detector, detector_digest
from export.detectors.layout import MAX_SIZE, MIN_SIZE, is_detector_size
from export.detectors.network import load_network
from export.models import DETECTORS
from tests.conftest import run_python

STRIDES = (8, 16, 32)


def model_file(
    path: Path,
    rows: list[list[int]] | None = None,
    *,
    size: int | str = "side",
    image: tuple[int | str, ...] | None = None,
    kind: int = TensorProto.FLOAT,
    value: float = 0.5,
    opset: int = 11,
    more: list[onnx.NodeProto] | None = None,
) -> Path:
    """A file whose outputs are constants of these shapes, whatever it is given; SCRFD's of 640x640 where not said."""
    shapes = rows or [[2 * (640 // s) ** 2, width] for width in (1, 4, 10) for s in STRIDES]
    nodes, weights, outputs = list(more or []), [], []
    for index, shape in enumerate(shapes):
        name = f"out{index}"
        weights += [numpy_helper.from_array(np.array(shape), f"shape{index}")]
        nodes.append(helper.make_node("ConstantOfShape", [f"shape{index}"], [name], value=scalar(value)))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    source = helper.make_tensor_value_info("image", kind, image or (1, 3, size, size))
    graph = helper.make_graph(nodes, "made", [source], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6), path)
    return path


def scalar(value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([value], dtype=np.float32))


def refusal(path: Path, size: int = 640) -> str:
    """What is said of a file; one line that begins with its name."""
    with pytest.raises(DetectorError) as caught:
        load_network(path, size)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


PAGE = "is a web page (HTML or XML), so its download failed; open it to see what it says, and download again"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 16923827\n" % (b"a" * 64)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; download it again"),
        (POINTER, "is a Git LFS pointer, not the file itself; fetch that with `git lfs pull`"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", PAGE),
        (b"\xef\xbb\xbf<HTML>Sign in</HTML>", PAGE),
        (
            b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
            "is a web page (HTML or XML), so its download failed",
        ),
        (b"PK\x03\x04" + bytes(100), "is an archive (ZIP, gzip or a PyTorch checkpoint), not an ONNX file"),
        (b"not onnx", "is not an ONNX file; download it again"),
        (b'{"message": "Not Found"}', "is not an ONNX file; download it again"),
        (b"\x08\x06\x12\x07pytorch", "is cut off or damaged: it holds no network (11 bytes)"),
    ],
    ids=["empty", "pointer", "html", "html with mark", "xml", "zip", "text", "json", "header alone"],
)
def test_no_onnx_file(content, told, tmp_path):
    path = tmp_path / "det_10g.onnx"
    path.write_bytes(content)
    assert told in refusal(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.999])
def test_cut_off(share, tmp_path):
    path = model_file(tmp_path / "det_10g.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "is cut off or damaged" in refusal(path)


def test_can_not_be_read(tmp_path):
    path = tmp_path / "det_10g.onnx"
    assert "can't be read (No such file or directory)" in refusal(path)
    path.mkdir()
    assert "is a directory; the ONNX file itself has to be there" in refusal(path)


def test_weights_in_a_file_of_their_own(tmp_path):
    """Missing: told; there: part of what decides whether a build is up to date."""
    path = baked(tmp_path / "det_10g.onnx", 640, declared=True)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    load_network(path, 640)
    before = detector_digest(path)
    data = tmp_path / "weights.bin"
    content = data.read_bytes()
    data.write_bytes(content + b"\0")
    assert detector_digest(path) != before
    data.unlink()
    assert "keeps its weights in weights.bin, not found beside it; copy both there" in refusal(path)


FIRST = [12800, 1], [3200, 1], [800, 1]
BOXES = [12800, 4], [3200, 4], [800, 4]
POINTS = [12800, 10], [3200, 10], [800, 10]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [*BOXES, *FIRST],
            "output 1 of 6 (out0) is [12800, 4] at 640x640, where SCRFD has [12800, 1], scores at stride 8",
        ),
        (
            [x for group in zip(FIRST, BOXES, POINTS) for x in group],
            "output 2 of 9 (out1) is [12800, 4] at 640x640, where SCRFD has [3200, 1], scores at stride 16",
        ),
        ([*FIRST[::-1], *BOXES[::-1]], "output 1 of 6 (out0) is [800, 1]"),
        ([[n, 80] for n, _ in FIRST] + [*BOXES], "output 1 of 6 (out0) is [12800, 80]"),
        ([[n // 2, w] for n, w in (*FIRST, *BOXES)], "output 1 of 6 (out0) is [6400, 1]"),
        ([*FIRST, *BOXES, *([n, 8] for n, _ in FIRST)], "output 7 of 9 (out6) is [12800, 8]"),
        ([*FIRST, *([n, 32] for n, _ in FIRST)], "output 4 of 6 (out3) is [12800, 32]"),
        (
            [[1, 2, 80, 80], [1, 2, 40, 40], [1, 2, 20, 20], [1, 8, 80, 80], [1, 8, 40, 40], [1, 8, 20, 20]],
            "[1, 2, 80, 80]",
        ),
        ([[1, 1000]] * 9, "output 1 of 9 (out0) is [1, 1000]"),
        ([[12800], [3200], [800], *BOXES], "output 1 of 6 (out0) is [12800]"),
    ],
    ids=[
        "boxes first",
        "by stride",
        "coarse first",
        "80 classes",
        "one anchor",
        "4 keypoints",
        "bins",
        "maps",
        "labels",
        "flat",
    ],
)
def test_outputs_of_something_else(rows, told, tmp_path):
    message = refusal(model_file(tmp_path / "det_10g.onnx", rows))
    assert told in message
    assert "insightface's own export gives scores, boxes and keypoints" in message


def test_outputs_that_no_image_changes(tmp_path):
    assert "gives the same scores and boxes for every image" in refusal(model_file(tmp_path / "det_10g.onnx"))


def test_scores_that_are_no_probabilities(tmp_path):
    path = model_file(tmp_path / "det_10g.onnx", value=-7.2)
    assert "its scores reach from -7.2 to -7.2, where SCRFD's are probabilities" in refusal(path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rows": [[1, 1000]]}, ": an SCRFD detector has 6, 9, 10 or 15 outputs, this one has 1"),
        ({"image": (1, 640, 640, 3)}, "takes [1, 640, 640, 3], SCRFD takes FLOAT [1, 3, height, width]"),
        ({"image": (1, 1, 640, 640)}, "takes [1, 1, 640, 640], SCRFD takes"),
        ({"image": (1, 3)}, "takes [1, 3], SCRFD takes"),
        ({"kind": TensorProto.FLOAT16}, "takes FLOAT16, SCRFD takes FLOAT"),
        ({"kind": TensorProto.UINT8}, "takes UINT8, SCRFD takes FLOAT"),
        ({"image": (8, 3, 640, 640)}, "was exported for batches of 8 images; export it for one"),
        ({"image": (1, 3, 480, 640)}, "was exported for images 640 wide and 480 high, and the server's are square"),
        ({"opset": 999}, "is of ONNX opset 999; this build reads 1 to"),
        (
            {"more": [helper.make_node("Frobnicate", ["image"], ["x"])]},
            "has operators that ONNX opset 11 lacks: Frobnicate; export it without them",
        ),
        (
            {"more": [helper.make_node("NMS", ["image"], ["x"], domain="mmdeploy")]},
            "has operators that ONNX opset 11 lacks: mmdeploy.NMS",
        ),
    ],
    ids=["outputs", "channels last", "grey", "rank", "half", "bytes", "batch", "oblong", "opset", "operator", "domain"],
)
def test_networks_of_another_form(options, told, tmp_path):
    path = model_file(tmp_path / "det_10g.onnx", **options)
    assert told in refusal(path)
    with pytest.raises(DetectorError):  # none of it needs the network to be run
        check_detector(path, 640)


def baked(path: Path, size: int, declared: bool) -> Path:
    """A file that can only be run at one size, which it declares or not."""
    shapes = [[2 * (size // s) ** 2, width] for width in (1, 4) for s in STRIDES]
    model_file(path, shapes, size=size if declared else "side")
    model = onnx.load(path)
    # Its image has to fit a tensor of its size, as in an Add of two levels.
    plane = np.zeros((1, 1, size, size), dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(plane, "plane"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, dtype=np.float32), "none"))
    model.graph.node.insert(0, helper.make_node("Add", ["image", "plane"], ["sum"]))
    model.graph.node.insert(1, helper.make_node("ReduceMin", ["sum"], ["least"], keepdims=0))
    model.graph.node.insert(2, helper.make_node("Mul", ["least", "none"], ["nothing"]))
    made = next(node for node in model.graph.node if node.output[0] == "out0")
    made.output[0] = "made"
    model.graph.node.append(helper.make_node("Add", ["made", "nothing"], ["out0"]))
    for value in model.graph.output if not declared else ():
        value.type.tensor_type.shape.dim[0].Clear()
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("size", [160, 320, 1280])
def test_fixed_size(size, declared, tmp_path):
    """Served at its size; at another it is named, whether the file declares it or only has it in its nodes."""
    path = baked(tmp_path / "det_10g.onnx", size, declared)
    assert load_network(path, size).layout.size == size
    assert refusal(path) == (
        f"{path} was exported for {size}x{size}, and this build's detectors are given 640x640; build with "
        f"--detector-size {size} (it counts for both), or export it with a dynamic input"
    )


def test_a_size_that_can_not_be_asked_for_is_not_recommended(tmp_path):
    message = refusal(model_file(tmp_path / "det_10g.onnx", size=400))
    assert message.endswith("export it with a dynamic input (--detector-size can't be 400)")


def test_sizes():
    sizes = [size for size in range(3000) if is_detector_size(size)]
    assert (sizes[0], sizes[-1], len(sizes)) == (MIN_SIZE, MAX_SIZE, 77) == (128, 2560, 77)
    assert {160, 320, 640, 1280} <= set(sizes)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is a directory"),
        (b"", "is empty"),
        (POINTER, "is a Git LFS pointer"),
        (b"<html></html>", "is a web page"),
        ("cut off", "is cut off or damaged"),
        ("fixed", "was exported for 320x320"),
    ],
)
def test_told_by_the_command(content, told, tiny_checkpoints, tmp_path, monkeypatch, capsys):
    """In one sentence, before anything is built."""
    from export import build_engines

    checkpoints = tmp_path / "checkpoints"
    person, face = (checkpoints / detector.file for detector in DETECTORS)
    face.parent.mkdir(parents=True)
    for name in ("GWT.pth", "clip"):
        (checkpoints / name).symlink_to(tiny_checkpoints / name)
    person.symlink_to(tiny_checkpoints / DETECTORS[0].file)
    if content is None:
        face.mkdir()
    elif content == "cut off":
        whole = (tiny_checkpoints / DETECTORS[1].file).read_bytes()
        face.write_bytes(whole[: len(whole) // 2])
    elif content == "fixed":
        baked(face, 320, declared=True)
    else:
        face.write_bytes(content)
    arguments = ["--checkpoints", str(checkpoints), "--repository", str(tmp_path / "repository")]
    assert build_engines.main(arguments) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if "Notice" not in line]
    assert line.startswith(f"error: {face} {told}")
    assert captured.out == ""
    assert not (tmp_path / "repository").exists()


def test_the_real_command(tiny_checkpoints, tmp_path):
    """No traceback, nothing on standard output."""
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "insightface").mkdir(parents=True)
    for name in ("GWT.pth", "clip"):
        (checkpoints / name).symlink_to(tiny_checkpoints / name)
    for detector in DETECTORS:
        (checkpoints / detector.file).write_bytes(POINTER)
    result = run_python("export/build_engines.py", "--checkpoints", checkpoints, "--repository", tmp_path / "r")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {checkpoints / DETECTORS[0].file} is a Git LFS pointer")
    assert len(result.stderr.splitlines()) == 1
