"""Reading an insightface SCRFD file as a network of a dynamic batch, at one size of the letterbox.

What a file declares is often not what it does: rows may be computed while it runs, sizes and batches baked in. So it is
run, and what it does decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, compose, helper, numpy_helper, version_converter
from onnxruntime.transformers.onnx_model import OnnxModel

from cocoer.files import first_line
from export.detectors.files import (
    DetectorError,
    check_declared_size,
    image_input,
    other_size,
    read_detector,
)
from export.detectors.layout import ScrfdLayout, declared_shape, is_detector_size, scrfd_layout, set_shape
from export.graphs import OPSET

BATCH_FIRST, BATCH_INSIDE, ONE_BY_ONE = "batch first", "batch inside", "one by one"
"""How rows of several images lie in an output: image by image; cell by cell, then images, then anchors; or the
network takes one image only (a batch size is baked in) and is run in a loop over the batch."""
USUAL_SIZES = (640, 320, 160, 1280, 480, 512, 256, 416, 384, 224, 128, 448, 768, 960, 1024)
"""Tried one after the other where a file can't be run at the size asked for, to tell which one it is for."""


class Network(NamedTuple):
    """An SCRFD file's network: scores and distances of every stride, without keypoints."""

    model: onnx.ModelProto
    """Input FP32 [batch, 3, size, size]; outputs as the file's."""
    layout: ScrfdLayout
    order: str
    """How a batch lies in its rows; ``ONE_BY_ONE``: it takes a batch of one."""


def load_network(source: Path, size: int) -> Network:
    """Read an SCRFD file.

    Args:
        source: the file.
        size: side of the letterbox, pixels.

    Returns:
        the network at opset 20; layout and order are found by running it.

    Raises:
        DetectorError: it is something else, or not for this size.
    """
    model = read_detector(source)
    check_declared_size(source, model, size)
    image = image_input(model)
    del model.graph.input[:]
    model.graph.input.append(image)
    del model.graph.value_info[:]  # holds for the sizes it was exported with
    layout = scrfd_layout(len(model.graph.output), size)
    outputs = _measure(source, model, layout)
    for index, (value, output) in enumerate(zip(model.graph.output, outputs)):
        set_shape(value, [*(f"rows_{index}_{axis}" for axis in range(output.ndim - 1)), output.shape[-1]])
    del model.graph.output[2 * len(layout.strides) :]
    model = _at_our_opset(source, model)
    return Network(model, layout, _find_order(source, model, layout))


def image_rows(output: np.ndarray, order: str, layout: ScrfdLayout, batch: int) -> np.ndarray:
    """A network's output for ``batch`` images as [batch, rows, width]."""
    width = output.shape[-1]
    if order == BATCH_INSIDE:
        output = output.reshape(-1, batch, layout.anchors, width).transpose(1, 0, 2, 3)
    return output.reshape(batch, -1, width)


def _measure(source: Path, model: onnx.ModelProto, layout: ScrfdLayout) -> list[np.ndarray]:
    """The file's outputs for one image, if they are SCRFD's at this size."""
    declared = [declared_shape(value) for value in model.graph.output]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    names = [value.name for value in model.graph.output]
    try:
        outputs = _run_one(source, model, layout.size)
    except Exception as error:  # sizes that are baked in surface as any of ONNX Runtime's error types, at any time
        for size in _sizes_to_try(declared, layout):
            if _fits(source, model, size):
                raise DetectorError(other_size(source, size, layout.size)) from error
        if isinstance(error, DetectorError):
            raise
        raise DetectorError(
            f"{source} can't be run at {layout.size}x{layout.size}, nor at another usual size ({first_line(error)})"
        ) from error
    if difference := layout.difference(names, outputs):
        raise DetectorError(
            f"{source} is not a detector that insightface's SCRFD decodes: {difference}; insightface's own export "
            "gives scores, boxes and keypoints, each from the finest stride to the coarsest"
        )
    return outputs


def _run_one(source: Path, model: onnx.ModelProto, size: int) -> list[np.ndarray]:
    set_shape(model.graph.input[0], ["batch", 3, size, size])
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, size, size)).astype(np.float32)
    return _session(source, model).run(None, {model.graph.input[0].name: image})


def _sizes_to_try(declared: Sequence[list[int | str] | None], layout: ScrfdLayout) -> Iterator[int]:
    """Sizes a file may be for: first what the rows of its first output say, as far as they are declared."""
    rows = declared[0][-2] if declared[0] and len(declared[0]) > 1 else "?"
    said = [round((rows / layout.anchors) ** 0.5) * layout.strides[0]] if isinstance(rows, int) else []
    return (size for size in dict.fromkeys((*said, *USUAL_SIZES)) if size != layout.size and is_detector_size(size))


def _fits(source: Path, model: onnx.ModelProto, size: int) -> bool:
    """Whether a file gives SCRFD's outputs at a size."""
    try:
        outputs = _run_one(source, model, size)
    except Exception:
        return False
    return not scrfd_layout(len(outputs), size).difference([value.name for value in model.graph.output], outputs)


def _at_our_opset(source: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    shapes = [list(value.type.tensor_type.shape.dim) for value in model.graph.output]
    try:
        converted = version_converter.convert_version(model, OPSET)
    except Exception as error:
        version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        raise DetectorError(
            f"{source}: ONNX can't bring it from opset {version} to {OPSET} ({first_line(error)}); export it with "
            f"opset {OPSET}"
        ) from error
    for value, shape in zip(converted.graph.output, shapes):  # the converter drops what it can't infer
        del value.type.tensor_type.shape.dim[:]
        value.type.tensor_type.shape.dim.extend(shape)
    del converted.graph.value_info[:]
    _name_no_empty_inputs(converted.graph)
    converted = compose.add_prefix(converted, "network_")
    del converted.metadata_props[:]
    converted.ir_version = 10
    OnnxModel(converted).prune_graph()  # the keypoints are not looked at
    if not converted.graph.input:
        raise DetectorError(f"{source} gives the same scores and boxes for every image; it is no detector")
    return converted


def _name_no_empty_inputs(graph: onnx.GraphProto) -> None:
    """Leave out what a Resize is given as an empty tensor, as later opsets do; a cast of it hides that it is empty."""
    empty = {tensor.name for tensor in graph.initializer if 0 in tensor.dims}
    for node in graph.node:
        if node.op_type == "Constant" and any(0 in entry.t.dims for entry in node.attribute if entry.name == "value"):
            empty.update(node.output)
    for node in graph.node:
        if node.op_type == "Resize":
            node.input[:] = ["" if name in empty else name for name in node.input]


def _find_order(source: Path, model: onnx.ModelProto, layout: ScrfdLayout) -> str:
    """Run two different images together and one by one, and see which reading of the rows agrees."""
    session = _session(source, model)
    name = session.get_inputs()[0].name
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, layout.size, layout.size)).astype(np.float32)
    alone = [session.run(None, {name: image[None]}) for image in images]
    try:
        together = session.run(None, {name: images})
    except Exception:  # as above
        return ONE_BY_ONE
    for order in (BATCH_FIRST, BATCH_INSIDE):
        if all(
            both.size == sum(one[index].size for one in alone)
            and np.allclose(
                image_rows(both, order, layout, 2),
                [one[index].reshape(-1, both.shape[-1]) for one in alone],
                atol=1e-4,
            )
            for index, both in enumerate(together)
        ):
            return order
    return ONE_BY_ONE


def _session(source: Path, model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # any of ONNX Runtime's error types
        raise DetectorError(f"{source}: ONNX Runtime can't load it ({first_line(error)})") from error


def loop_over_batch(network: Network) -> onnx.ModelProto:
    """The network inside an ONNX Scan over the images, for files with a batch of one baked in."""
    layout, size = network.layout, network.layout.size
    body = onnx.GraphProto()
    body.CopyFrom(network.model.graph)
    body.name = "one_image"
    (source,) = body.input
    axes = numpy_helper.from_array(np.array([0]), "scan_axes")
    body.node.insert(0, helper.make_node("Unsqueeze", ["scan_image", "scan_axes"], [source.name]))
    body.initializer.append(axes)
    results = []
    for index, output in enumerate(list(body.output)):
        shape = [layout.rows(layout.strides[index % len(layout.strides)]), 1 if index < len(layout.strides) else 4]
        body.initializer.append(numpy_helper.from_array(np.array(shape), f"scan_shape_{index}"))
        body.node.append(helper.make_node("Reshape", [output.name, f"scan_shape_{index}"], [f"scan_rows_{index}"]))
        results.append(helper.make_tensor_value_info(f"scan_rows_{index}", TensorProto.FLOAT, shape))
    del body.input[:], body.output[:]
    body.input.append(helper.make_tensor_value_info("scan_image", TensorProto.FLOAT, [3, size, size]))
    body.output.extend(results)
    names = [f"looped_{index}" for index in range(len(results))]
    scan = helper.make_node("Scan", ["looped_input"], names, num_scan_inputs=1, body=body)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *(declared_shape(result) or ())])
        for name, result in zip(names, results)
    ]
    whole = helper.make_tensor_value_info("looped_input", TensorProto.FLOAT, ["batch", 3, size, size])
    graph = helper.make_graph([scan], "looped", [whole], outputs)
    return helper.make_model(graph, opset_imports=network.model.opset_import, ir_version=10)
