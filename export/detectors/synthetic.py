"""SCRFD-shaped detectors with random weights, in insightface's ONNX layout.

Real layer sizes (Guo et al., 2022): ResNetV1e with a deep stem and average-pooled shortcuts, PAFPN, a shared head
with batch norm, two anchors per cell. They find nothing real; they let decoding, NMS and cost be exercised with no
download. The tiny ones have the same form, and cost next to nothing.

    python -m export.detectors.synthetic --seed 0 --out checkpoints
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocoer.checkpoints.synthetic import NOTICE, synthetic_array
from cocoer.files import replace_file
from cocoer.network.architecture import RELEASE, TINY
from cocoer_bls.images import LETTERBOX
from export.detectors.layout import set_shape
from export.graphs.pytorch import quiet_exporter

STRIDES = (8, 16, 32)
ANCHORS = 2


@dataclass(frozen=True)
class DetectorShape:
    """Sizes of one SCRFD model."""

    name: str
    blocks: tuple[int, int, int, int]
    planes: tuple[int, int, int, int]
    neck: int
    head_convs: int
    head_channels: int
    keypoints: bool
    firing: float = 1e-4
    """About this share of the anchors of a noise image scores over 0.5."""


PERSON_2_5G = DetectorShape("scrfd_person_2.5g", (3, 5, 3, 2), (24, 48, 48, 80), 24, 2, 64, keypoints=False)
FACE_10G = DetectorShape("det_10g", (3, 4, 2, 3), (56, 88, 88, 224), 56, 3, 80, keypoints=True)
SHAPES = {
    RELEASE.name: (PERSON_2_5G, FACE_10G),
    TINY.name: tuple(
        replace(shape, blocks=(1, 1, 1, 1), planes=(8, 8, 8, 8), neck=8, head_convs=1, head_channels=8, firing=1e-3)
        for shape in (PERSON_2_5G, FACE_10G)
    ),
}
"""Name of an architecture -> the detectors that go with it."""


def _conv_bn(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels, momentum=None),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that pools before its 1x1 (avg-down)."""

    def __init__(self, in_channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv_bn(in_channels, planes, stride=stride), _conv_bn(planes, planes, relu=False))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != planes:
            pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, _conv_bn(in_channels, planes, kernel=1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class Scrfd(nn.Module):
    """Backbone, neck and head; outputs in insightface's order: scores, distances[, keypoints], a map per stride."""

    def __init__(self, shape: DetectorShape) -> None:
        super().__init__()
        stem = shape.planes[0]
        self.stem = nn.Sequential(
            _conv_bn(3, stem // 2, stride=2), _conv_bn(stem // 2, stem // 2), _conv_bn(stem // 2, stem), nn.MaxPool2d(2)
        )
        self.stages = nn.ModuleList()
        channels = stem
        for index, (count, planes) in enumerate(zip(shape.blocks, shape.planes)):
            blocks = [BasicBlock(channels, planes, stride=1 if index == 0 else 2)]
            blocks += [BasicBlock(planes, planes, stride=1) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
            channels = planes
        neck = shape.neck
        self.lateral = nn.ModuleList(nn.Conv2d(planes, neck, 1) for planes in shape.planes[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(neck, neck, 3, padding=1) for _ in STRIDES)
        self.down = nn.ModuleList(nn.Conv2d(neck, neck, 3, stride=2, padding=1) for _ in STRIDES[1:])
        self.merge = nn.ModuleList(nn.Conv2d(neck, neck, 3, padding=1) for _ in STRIDES[1:])
        tower = [_conv_bn(neck, shape.head_channels)]
        tower += [_conv_bn(shape.head_channels, shape.head_channels) for _ in range(shape.head_convs - 1)]
        self.tower = nn.Sequential(*tower)
        widths = [1, 4] + ([10] if shape.keypoints else [])
        self.predict = nn.ModuleList(nn.Conv2d(shape.head_channels, ANCHORS * width, 3, padding=1) for width in widths)

    def maps(self, blob: Tensor) -> list[list[Tensor]]:
        """FP32 [N, 3, 640, 640] to raw maps [kind][stride], each [N, anchors * width, H, W]."""
        x = self.stem(blob)
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        levels = [lateral(x) for lateral, x in zip(self.lateral, pyramid[1:])]
        for index in (1, 0):
            levels[index] = levels[index] + F.interpolate(levels[index + 1], scale_factor=2.0, mode="nearest")
        levels = [smooth(x) for smooth, x in zip(self.smooth, levels)]
        for index in (1, 2):
            levels[index] = self.merge[index - 1](levels[index] + self.down[index - 1](levels[index - 1]))
        towers = [self.tower(x) for x in levels]
        return [[predict(x) for x in towers] for predict in self.predict]

    def forward(self, blob: Tensor) -> tuple[Tensor, ...]:
        kinds = self.maps(blob)
        kinds[0] = [torch.sigmoid(x) for x in kinds[0]]
        widths = (1, 4, 10)
        # Rows without a batch axis: cells, then images, then anchors, the layout that is hardest to batch.
        return tuple(x.permute(2, 3, 0, 1).reshape(-1, width) for width, maps in zip(widths, kinds) for x in maps)


def random_scrfd(shape: DetectorShape, seed: int) -> Scrfd:
    """A detector with random weights."""
    model = Scrfd(shape)
    state = {
        key: torch.from_numpy(synthetic_array(seed, f"{shape.name}.{key}", list(tensor.shape)))
        for key, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    _calibrate(model, seed, shape.firing)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def _calibrate(model: Scrfd, seed: int, firing: float) -> None:
    """Set batch-norm statistics and the last layers' scale from one smooth random image."""
    noise = torch.from_numpy(synthetic_array(seed, "calibration", [1, 3, 40, 40]))
    noise = noise / noise.std()
    image = F.interpolate(noise, size=(LETTERBOX, LETTERBOX), mode="bicubic").clamp(-1, 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    model.train().maps(image)
    scores, distances = model.eval().maps(image)[:2]

    score, distance = model.predict[0], model.predict[1]
    assert isinstance(score, nn.Conv2d)
    assert isinstance(distance, nn.Conv2d)
    assert score.bias is not None
    values = torch.cat([x.flatten() for x in scores])
    # Logits shifted until the wanted share is above zero, and narrow: scores that saturate would tie.
    width = 0.5 / values.std()
    score.weight *= width
    score.bias.copy_((score.bias - torch.quantile(values, 1 - firing)) * width)
    # Boxes of two to six strides on each side, none of them inside out.
    assert distance.bias is not None
    spread = torch.cat([x.flatten() for x in distances]).std()
    distance.weight *= 0.3 / spread
    distance.bias.copy_(torch.tensor([3.0, 4.0, 3.0, 4.0]).repeat(ANCHORS))


def write_detectors(seed: int, out: Path, architecture: str = RELEASE.name) -> list[Path]:
    """Write both detectors below ``out/insightface``; returns their paths."""
    return [write_detector(shape, seed, out / "insightface" / f"{shape.name}.onnx") for shape in SHAPES[architecture]]


def write_detector(shape: DetectorShape, seed: int, path: Path) -> Path:
    """Write one detector, marked as synthetic in its metadata; atomically."""
    with quiet_exporter():
        program = torch.onnx.export(
            random_scrfd(shape, seed),
            (torch.zeros(2, 3, LETTERBOX, LETTERBOX),),
            dynamo=True,
            opset_version=18,
            input_names=["input.1"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # As insightface's files: one image at a time, of any size (its Resizes have factors, its Reshapes count).
    set_shape(model.graph.input[0], [1, 3, "height", "width"])
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].Clear()
    onnx.helper.set_model_props(model, {"synthetic": f"seed {seed}: {NOTICE}"})
    return replace_file(path, lambda temporary: onnx.save(model, temporary))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.detectors.synthetic", description="Write SCRFD-shaped detectors with random weights."
    )
    parser.add_argument("--seed", type=int, default=0, help="any integer (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("checkpoints"), help="directory to write (default: checkpoints)"
    )
    parser.add_argument("--architecture", choices=tuple(SHAPES), default=RELEASE.name, help="their sizes")
    args = parser.parse_args(argv)
    for path in write_detectors(args.seed, args.out, args.architecture):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
