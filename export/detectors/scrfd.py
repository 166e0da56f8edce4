"""insightface's SCRFD files as batched graphs: preprocessing, box decoding, top-K and NMS in the graph.

The file's own network is kept as it is. Before it: UINT8 BGR letterboxes to ``(RGB - 127.5) / 128``. Behind it: a row
per anchor, boxes in the pixels of the original image, the best candidates, greedy NMS with insightface's "+1"
areas, and outputs of fixed size. No operator is a plugin.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import compose, helper, numpy_helper, parser
from onnxruntime.transformers import float16
from onnxruntime.transformers.onnx_model import OnnxModel

from cocoer_bls.images import LETTERBOX
from export.detectors.layout import ScrfdLayout, set_shape
from export.detectors.network import BATCH_INSIDE, ONE_BY_ONE, load_network, loop_over_batch
from export.graphs import OPSET
from export.precision import Precision

logger = logging.getLogger(__name__)

MAX_DETECTIONS = 256
"""Boxes a detector returns for one image."""
MAX_CANDIDATES = 3840
"""Boxes that enter NMS: TensorRT's largest TopK."""


def wrap_detector(
    source: Path,
    iou_threshold: float,
    metadata: dict[str, str],
    precision: Precision = "fp32",
    size: int = LETTERBOX,
) -> onnx.ModelProto:
    """Build a detector's graph from an insightface file.

    Args:
        source: the file.
        iou_threshold: overlap above which the lower score is suppressed.
        metadata: to store in it.
        precision: "fp16" puts the file's network in half precision; decoding and NMS stay FP32.
        size: side of the letterbox, pixels.

    Returns:
        a model with inputs image UINT8 [N, size, size, 3] (BGR letterbox), scale FP32 [N, 1] (letterbox pixels per
        original pixel), min_score FP32 [N, 1]; outputs boxes FP32 [N, K, 4] ((x1, y1, x2, y2), original pixels),
        scores FP32 [N, K] descending, zero where unused, count INT32 [N, 1].

    Raises:
        DetectorError: not an SCRFD file, or one for another size.
    """
    loaded = load_network(source, size)
    network, layout, order = loaded
    logger.info("%s: %d strides, %d anchors, rows %s", source.name, len(layout.strides), layout.anchors, order)
    if precision == "fp16":
        network = float16.convert_float_to_float16(network, keep_io_types=True)
        OnnxModel(network).topological_sort()  # it appends the casts
    if order == ONE_BY_ONE:
        network = loop_over_batch(loaded._replace(model=network))
    before = _onnx_graph(
        _PREPROCESS.format(size=size),
        {
            "offset": np.array(127.5, dtype=np.float32),
            "divisor": np.array(128, dtype=np.float32),
            "rgb": np.array([2, 1, 0]),
        },
    )
    after = _postprocess(layout, order, iou_threshold)
    used = [v.name for v in network.graph.output]
    model = compose.merge_models(before, network, io_map=[("blob", network.graph.input[0].name)])
    io_map = [(output, f"raw_{index}") for index, output in enumerate(used)]
    model = compose.merge_models(model, after, io_map=io_map)
    model.ir_version = 10
    del model.opset_import[1:]  # merging repeats it
    _fix_batch(model)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


_PREPROCESS = """
preprocess (uint8[batch, {size}, {size}, 3] image) => (float[batch, 3, {size}, {size}] blob) {{
    levels = Cast <to = 1> (image)
    planes = Transpose <perm = [0, 3, 1, 2]> (levels)
    swapped = Gather <axis = 1> (planes, rgb)
    centred = Sub (swapped, offset)
    blob = Div (centred, divisor)
}}
"""

# Candidates are in descending order of score after the first TopK, so that "kept" flags and a second TopK (ties:
# lower index first) give the kept boxes in insightface's order. A box that is inside out gets no area: it then
# neither suppresses nor is suppressed, as there. The masked scores make ">= min_score" of insightface out of the
# strict ">" of NonMaxSuppression, for each image its own.
_DECODE = """
decode ({inputs}, float[batch, 1] scale, float[batch, 1] min_score)
    => (float[batch, K, 4] boxes, float[batch, K] scores, int32[batch, 1] count) {{
{rows}
    all_scores_3d = Concat <axis = 1> ({scores})
    all_scores = Squeeze (all_scores_3d, axis_2)
    distances = Concat <axis = 1> ({distances})
    pixels = Mul (distances, stride_of_row)
    left_top, right_bottom = Split <axis = 2, num_outputs = 2> (pixels)
    low = Sub (centres, left_top)
    high = Add (centres, right_bottom)
    corners = Concat <axis = 2> (low, high)
    scale_3d = Unsqueeze (scale, axis_2)
    all_boxes = Div (corners, scale_3d)

    eligible = GreaterOrEqual (all_scores, min_score)
    masked = Where (eligible, all_scores, zero)
    top_scores, top_index = TopK <axis = 1> (masked, candidates)
    top_index_3d = Unsqueeze (top_index, axis_2)
    top_boxes = GatherND <batch_dims = 1> (all_boxes, top_index_3d)

    top_low, top_high = Split <axis = 2, num_outputs = 2> (top_boxes)
    past_high = Add (top_high, one)
    closed_high = Max (past_high, top_low)
    inclusive = Concat <axis = 2> (top_low, closed_high)
    class_scores = Unsqueeze (top_scores, axis_1)
    selected = NonMaxSuppression (inclusive, class_scores, max_detections, iou_threshold, zero_1)
    position = Gather <axis = 1> (selected, batch_and_box)
    selected_count = Shape <start = 0, end = 1> (selected)
    ones = Expand (one, selected_count)
    none_kept = Mul (top_scores, zero)
    kept = ScatterND (none_kept, position, ones)

    kept_scores = Mul (top_scores, kept)
    scores, kept_index = TopK <axis = 1> (kept_scores, max_detections)
    kept_index_3d = Unsqueeze (kept_index, axis_2)
    best_boxes = GatherND <batch_dims = 1> (top_boxes, kept_index_3d)
    used = Greater (scores, zero)
    used_3d = Unsqueeze (used, axis_2)
    boxes = Where (used_3d, best_boxes, zero)
    used_int = Cast <to = 6> (used)
    count = ReduceSum <keepdims = 1> (used_int, axis_1)
}}
"""


def _postprocess(layout: ScrfdLayout, order: str, iou_threshold: float) -> onnx.ModelProto:
    strides = len(layout.strides)
    rows = []
    constants: dict[str, np.ndarray] = {}
    for index in range(2 * strides):
        stride, width = layout.strides[index % strides], 1 if index < strides else 4
        if order == BATCH_INSIDE:
            cells = layout.rows(stride) // layout.anchors
            constants[f"split_{index}"] = np.array([cells, -1, layout.anchors * width])
            rows.append(f"    inside_{index} = Reshape (raw_{index}, split_{index})")
            rows.append(f"    first_{index} = Transpose <perm = [1, 0, 2]> (inside_{index})")
        constants[f"shape_{index}"] = np.array([-1, layout.rows(stride), width])
        source = f"first_{index}" if order == BATCH_INSIDE else f"raw_{index}"
        rows.append(f"    rows_{index} = Reshape ({source}, shape_{index})")
    constants |= {
        "stride_of_row": layout.stride_of_row()[None],
        "centres": layout.centres()[None],
        "axis_1": np.array([1]),
        "axis_2": np.array([2]),
        "zero": np.array(0, dtype=np.float32),
        "zero_1": np.zeros(1, dtype=np.float32),
        "one": np.ones(1, dtype=np.float32),
        "candidates": np.array([min(MAX_CANDIDATES, len(layout.centres()))]),
        "max_detections": np.array([MAX_DETECTIONS]),
        "iou_threshold": np.array([iou_threshold], dtype=np.float32),
        "batch_and_box": np.array([0, 2]),
    }
    text = _DECODE.format(
        inputs=", ".join(f"float raw_{index}" for index in range(2 * strides)),
        rows="\n".join(rows),
        scores=", ".join(f"rows_{index}" for index in range(strides)),
        distances=", ".join(f"rows_{index}" for index in range(strides, 2 * strides)),
    )
    model = _onnx_graph(text, constants)
    for value in model.graph.input[: 2 * strides]:
        value.type.tensor_type.ClearField("shape")
    return model


def _onnx_graph(text: str, constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A model from ONNX's textual form, with constants as initializers."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": {OPSET}]>\n{text}')
    model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
    return model


def _fix_batch(model: onnx.ModelProto) -> None:
    """One name for the leading dimension everywhere, and the true K."""
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    set_shape(model.graph.output[0], ["batch", MAX_DETECTIONS, 4])
    set_shape(model.graph.output[1], ["batch", MAX_DETECTIONS])
    set_shape(model.graph.output[2], ["batch", 1])


def absent_detector(metadata: dict[str, str]) -> onnx.ModelProto:
    """The graph that stands where a build has no SCRFD file: every image's ``count`` is -1, "no detector here"."""
    # Why there is one: the models of the repository, their tracked configurations and the ensemble that names them are
    # then the same in every build. The BLS never calls it.
    text = f"""
absent (uint8[batch, {LETTERBOX}, {LETTERBOX}, 3] image, float[batch, 1] scale, float[batch, 1] min_score)
    => (float[batch, K, 4] boxes, float[batch, K] scores, int32[batch, 1] count) {{
    rows = Shape <start = 0, end = 1> (min_score)
    boxes_shape = Concat <axis = 0> (rows, box_dims)
    boxes = Expand (zero, boxes_shape)
    scores_shape = Concat <axis = 0> (rows, score_dims)
    scores = Expand (zero, scores_shape)
    count_shape = Concat <axis = 0> (rows, one)
    count = Expand (minus_one, count_shape)
}}
"""
    constants = {
        "box_dims": np.array([MAX_DETECTIONS, 4]),
        "score_dims": np.array([MAX_DETECTIONS]),
        "one": np.array([1]),
        "zero": np.zeros(1, dtype=np.float32),
        "minus_one": np.array([-1], dtype=np.int32),
    }
    model = _onnx_graph(text, constants)
    _fix_batch(model)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model
