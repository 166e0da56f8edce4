"""insightface's SCRFD files: what their outputs mean, and reading them with a dynamic batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from cocoer_bls.images import LETTERBOX
from export.graphs import OPSET

BATCH_FIRST, BATCH_INSIDE, ONE_BY_ONE = "batch first", "batch inside", "one by one"
"""How rows of several images lie in an output: image by image; cell by cell, then images, then anchors; or the
network takes one image only (a batch size is baked in) and is run in a loop over the batch."""


class DetectorError(Exception):
    """A detector file that can't be used; the message says which and why."""


@dataclass(frozen=True)
class ScrfdLayout:
    """What the outputs of an SCRFD file mean; boxes and scores come first, keypoints are not used."""

    strides: tuple[int, ...]
    anchors: int

    def rows(self, stride: int) -> int:
        return (LETTERBOX // stride) ** 2 * self.anchors

    def centres(self) -> np.ndarray:
        """FP32 [N, 2], (x, y) of each anchor in the letterbox: (column, row) * stride, no half-cell offset."""
        grids = []
        for stride in self.strides:
            side = LETTERBOX // stride
            row, column = np.mgrid[:side, :side].astype(np.float32)
            cells = np.stack([column, row], axis=-1).reshape(-1, 2) * stride
            grids.append(np.repeat(cells, self.anchors, axis=0))
        return np.concatenate(grids)

    def stride_of_row(self) -> np.ndarray:
        """FP32 [N, 1]."""
        return np.concatenate([np.full((self.rows(s), 1), s, dtype=np.float32) for s in self.strides])


def scrfd_layout(outputs: int) -> ScrfdLayout:
    """The layout for a number of outputs: 6 or 9 (3 strides, 2 anchors), 10 or 15 (5 strides, 1 anchor).

    Raises:
        DetectorError: another number.
    """
    if outputs in (6, 9):
        return ScrfdLayout((8, 16, 32), anchors=2)
    if outputs in (10, 15):
        return ScrfdLayout((8, 16, 32, 64, 128), anchors=1)
    raise DetectorError(f"an SCRFD detector has 6, 9, 10 or 15 outputs, this one has {outputs}")


def load_network(source: Path) -> tuple[onnx.ModelProto, ScrfdLayout, str]:
    """Read an SCRFD file at 640x640 with a dynamic batch; score and distance outputs only.

    Returns:
        the network (opset 20), its layout, and how a batch lies in its rows, found by running it.
    """
    try:
        model = onnx.load(source)
        layout = scrfd_layout(len(model.graph.output))
    except DetectorError as error:
        raise DetectorError(f"{source}: {error}") from error
    except Exception as error:  # protobuf's DecodeError is not public API
        raise DetectorError(f"{source} is not an ONNX file ({error})") from error
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise DetectorError(f"{source}: expected one image input of rank 4, got {[value.name for value in inputs]}")
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    set_shape(model.graph.input[0], ["batch", 3, LETTERBOX, LETTERBOX])
    del model.graph.output[2 * len(layout.strides) :]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    model = compose.add_prefix(version_converter.convert_version(model, OPSET), "network_")
    del model.metadata_props[:]
    model.ir_version = 10
    order = _find_order(model, layout)
    if order == ONE_BY_ONE:
        model = _loop_over_batch(model, layout)
    return model, layout, order


def _find_order(model: onnx.ModelProto, layout: ScrfdLayout) -> str:
    """Run two different images together and one by one, and see which reading of the rows agrees."""
    session = ort.InferenceSession(model.SerializeToString(), _quiet())
    name = session.get_inputs()[0].name
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, LETTERBOX, LETTERBOX)).astype(np.float32)
    alone = [session.run(None, {name: image[None]}) for image in images]
    try:
        together = session.run(None, {name: images})
    except Exception:  # a baked-in batch size surfaces as any of ONNX Runtime's error types
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


def image_rows(output: np.ndarray, order: str, layout: ScrfdLayout, batch: int) -> np.ndarray:
    """A network's output for ``batch`` images as [batch, rows, width]."""
    width = output.shape[-1]
    if order == BATCH_INSIDE:
        output = output.reshape(-1, batch, layout.anchors, width).transpose(1, 0, 2, 3)
    return output.reshape(batch, -1, width)


def _quiet() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def set_shape(value: onnx.ValueInfoProto, dims: list[int | str]) -> None:
    shape = onnx.TensorShapeProto()
    for dim in dims:
        shape.dim.add(**{"dim_param" if isinstance(dim, str) else "dim_value": dim})
    value.type.tensor_type.shape.CopyFrom(shape)


def _shape_of(value: onnx.ValueInfoProto) -> list[int]:
    """A tensor's dimensions, all of them fixed."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _loop_over_batch(model: onnx.ModelProto, layout: ScrfdLayout) -> onnx.ModelProto:
    """The network inside an ONNX Scan over the images, for files with a batch of one baked in."""
    body = onnx.GraphProto()
    body.CopyFrom(model.graph)
    body.name = "one_image"
    (source,) = body.input
    axes = numpy_helper.from_array(np.array([0]), "scan_axes")
    body.node.insert(0, helper.make_node("Unsqueeze", ["scan_image", "scan_axes"], [source.name]))
    body.initializer.append(axes)
    results = []
    for index, output in enumerate(list(body.output)):
        stride = layout.strides[index % len(layout.strides)]
        width = 1 if index < len(layout.strides) else 4
        shape = numpy_helper.from_array(np.array([layout.rows(stride), width]), f"scan_shape_{index}")
        body.initializer.append(shape)
        body.node.append(helper.make_node("Reshape", [output.name, shape.name], [f"scan_rows_{index}"]))
        results.append(
            helper.make_tensor_value_info(f"scan_rows_{index}", TensorProto.FLOAT, [layout.rows(stride), width])
        )
    image = helper.make_tensor_value_info("scan_image", TensorProto.FLOAT, [3, LETTERBOX, LETTERBOX])
    del body.input[:], body.output[:]
    body.input.append(image)
    body.output.extend(results)
    names = [f"looped_{index}" for index in range(len(results))]
    scan = helper.make_node("Scan", ["looped_input"], names, num_scan_inputs=1, body=body)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *_shape_of(result)])
        for name, result in zip(names, results)
    ]
    whole = helper.make_tensor_value_info("looped_input", TensorProto.FLOAT, ["batch", 3, LETTERBOX, LETTERBOX])
    graph = helper.make_graph([scan], "looped", [whole], outputs)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=10)
