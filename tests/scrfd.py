"""SCRFD files in every form that people have, by PyTorch's own exporter, and insightface's class beside ours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from insightface.model_zoo.scrfd import SCRFD
from torch import Tensor, nn
from torch.nn import functional as F

from cocoer_bls.images import letterbox
from cocoer_bls.inputs import detection_inputs

Rows = Literal["flat", "flat by image", "computed", "batched", "baked", "baked flat"]
"""How a head's map [N, anchors * width, H, W] becomes rows: insightface's; image by image; a batch axis taken from the
map's shape while it runs; a batch axis of 1 written in; all of the shape written in, with and without batch axis."""


@dataclass(frozen=True)
class Form:
    """Of an SCRFD file.

    Args:
        outputs: 6, 9, 10 or 15.
        rows: how heads become rows.
        size: side of the images it is exported for; None: any.
        opset: of the file.
        resize: how the upper level is brought to the size of the lower: by a factor, or by the lower one's shape.
    """

    outputs: int = 9
    rows: Rows = "flat"
    size: int | None = None
    opset: int = 11
    resize: Literal["factor", "shape"] = "factor"

    @property
    def strides(self) -> tuple[int, ...]:
        return (8, 16, 32) if self.outputs in (6, 9) else (8, 16, 32, 64, 128)

    @property
    def anchors(self) -> int:
        return 2 if self.outputs in (6, 9) else 1

    @property
    def widths(self) -> tuple[int, ...]:
        return (1, 4, 10)[: self.outputs // len(self.strides)]


class TinyScrfd(nn.Module):
    """Strides of 8 and more by pooling, the second level added to the first, a convolution for each head."""

    def __init__(self, form: Form, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.form = form
        self.stem = nn.Conv2d(3, 6, 8, stride=8)
        self.heads = nn.ModuleList(nn.Conv2d(6, form.anchors * width, 3, padding=1) for width in form.widths)

    def maps(self, image: Tensor) -> list[list[Tensor]]:
        """Raw maps, [kind][stride]."""
        levels = [F.relu(self.stem(image))]
        for _ in self.form.strides[1:]:
            levels.append(F.avg_pool2d(levels[-1], 2))
        if self.form.resize == "factor":
            up = F.interpolate(levels[1], scale_factor=2.0, mode="nearest")
        else:
            up = F.interpolate(levels[1], size=levels[0].shape[2:], mode="nearest")
        levels[0] = levels[0] + up
        return [[head(level) for level in levels] for head in self.heads]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        kinds = self.maps(image)
        kinds[0] = [torch.sigmoid(x) for x in kinds[0]]
        return tuple(self.rows(x, width) for width, maps in zip(self.form.widths, kinds) for x in maps)

    def rows(self, x: Tensor, width: int) -> Tensor:
        """A head's map as rows."""
        if self.form.rows == "flat":
            return x.permute(2, 3, 0, 1).reshape(-1, width)
        x = x.permute(0, 2, 3, 1)
        count = int(x.shape[1]) * int(x.shape[2]) * self.form.anchors
        shape: dict[str, tuple[int, ...]] = {
            "flat by image": (-1, width),
            "computed": (x.shape[0], -1, width),
            "batched": (1, -1, width),
            "baked": (1, count, width),
            "baked flat": (count, width),
        }
        return x.reshape(shape[self.form.rows])

    @torch.no_grad()
    def calibrate(self, image: np.ndarray, size: int, found: int) -> None:
        """Have about ``found`` anchors score over 0.5 in an image, with boxes of some strides around them."""
        blob = torch.from_numpy((letterbox(image, size)[0][None, :, :, ::-1].copy() - 127.5) / 128).float()
        scores, distances = self.maps(blob.permute(0, 3, 1, 2))[:2]
        values = torch.cat([x.flatten() for x in scores])
        score, distance = self.heads[0], self.heads[1]
        assert isinstance(score, nn.Conv2d)
        assert isinstance(distance, nn.Conv2d)
        assert score.bias is not None
        assert distance.bias is not None
        score.bias -= values.sort().values[-found]
        spread = torch.cat([x.flatten() for x in distances]).std()
        distance.weight /= spread
        distance.bias.copy_(torch.tensor([2.0, 3.0, 2.0, 3.0]).repeat(self.form.anchors))


def export_scrfd(form: Form, path: Path, image: np.ndarray, found: int = 30, seed: int = 0) -> Path:
    """Write an SCRFD-shaped file with PyTorch's TorchScript exporter, which insightface's files come from.

    Args:
        form: which.
        path: the file.
        image: UINT8 [H, W, 3], BGR; in it about ``found`` anchors score over 0.5.
        found: see ``image``.
        seed: of the weights.
    """
    size = form.size or 320
    model = TinyScrfd(form, seed).eval()
    model.calibrate(image, size, found)
    names = [f"out{index}" for index in range(form.outputs)]
    axes: dict[str, dict[int, str]] = {}
    if form.size is None:
        axes["input.1"] = {2: "height", 3: "width"}
    if form.rows == "computed":  # the exporter folds what can't vary
        axes.setdefault("input.1", {})[0] = "batch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, size, size),),
            str(path),
            dynamo=False,
            opset_version=form.opset,
            input_names=["input.1"],
            output_names=names,
            dynamic_axes=axes,
        )
    if form.rows == "computed":
        _declare_batch_of_one(path, form)
    return path


def _declare_batch_of_one(path: Path, form: Form) -> None:
    """As exporters of PyTorch 1.8 leave it: shapes are computed, and those declared are of the image exported with."""
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.ir_version = 6
    levels = len(form.strides)
    for index, value in enumerate(model.graph.output):
        count = ((form.size or 320) // form.strides[index % levels]) ** 2 * form.anchors
        for dim, fixed in zip(value.type.tensor_type.shape.dim, (1, count, form.widths[index // levels])):
            dim.Clear()
            dim.dim_value = fixed
    del model.graph.value_info[:]
    onnx.save(model, path)


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def insightface_detector(path: Path, iou_threshold: float, min_score: float = 0.5, size: int = 640) -> SCRFD:
    """insightface's own class on a file."""
    peer = SCRFD(str(path))
    peer.prepare(-1, nms_thresh=iou_threshold, det_thresh=min_score, input_size=(size, size))
    return peer


def assert_same_detections(
    outputs: Sequence[np.ndarray], peer: SCRFD, images: Sequence[np.ndarray], atol: float = 2e-2
) -> list[int]:
    """Count, order, boxes and scores of a served detector are insightface's; returns the counts."""
    boxes, scores, counts = outputs
    for index, image in enumerate(images):
        expected, _ = peer.detect(image)
        count = counts[index, 0]
        assert count == min(len(expected), boxes.shape[1])
        np.testing.assert_allclose(boxes[index, :count], expected[:count, :4], atol=atol)
        np.testing.assert_allclose(scores[index, :count], expected[:count, 4], atol=1e-5)
        assert not boxes[index, count:].any()
        assert not scores[index, count:].any()
    return counts[:, 0].tolist()


def inputs_of(images: Sequence[np.ndarray], min_score: float = 0.5, size: int = 640) -> dict[str, np.ndarray]:
    return detection_inputs(images, [min_score] * len(images), size)
