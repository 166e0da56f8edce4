"""What goes into each ONNX graph: a part of the network with flat, named tensors and its preprocessing.

Pixels enter as the server holds them, UINT8 NHWC in BGR; normalising, channel order and layout are in the graph.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from cocoer.network.fusion import Fusion
from cocoer.network.levels import ContextEncoder, LevelEncoder, LevelState, PersonEncoder
from cocoer.network.model import CocoER
from cocoer.network.normalise import Normalise, imagenet_normalise
from cocoer.network.vi_head import VIHead


class Half(nn.Module):
    """A part in FP16 between FP32 neighbours; takes the module over."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part.half()

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        return self.part(*(x.half() for x in inputs), **{name: x.half() for name, x in named.items()}).float()


def halve(part: LevelEncoder | VIHead) -> None:
    """Put what a part's time goes into in FP16, in place: trunk, attention, the wide Linear layers of its head.

    What the graph says is what TensorRT does (strong typing). FP32 stay the residual stream with its LayerNorms,
    softmax, CLIP's norm, the last layers (a few thousand multiplications), and ``energy``: |a|^2 + 1 of 12,544 numbers
    can pass FP16's 65,504, and coordination multiplies with it.
    """
    if isinstance(part, VIHead):
        part.clip = Half(part.clip)  # type: ignore[assignment]
        layers = [1, 3]
        head = part.ffn
    else:
        part.trunk, part.proj = Half(nn.Sequential(part.trunk, part.proj)), nn.Identity()  # type: ignore[assignment]
        for block in part.blocks:
            for name in ("cross_attn", "feed_forward"):
                setattr(block, name, Half(getattr(block, name)))
        layers = [1]
        head = part.classifier
    for layer in layers:
        head[layer] = Half(head[layer])


class ContextEncoderGraph(nn.Module):
    """UINT8 [I, 224, 224, 3] to tokens, hidden, logits, energy."""

    def __init__(self, encoder: ContextEncoder, normalise: Normalise) -> None:
        super().__init__()
        self.encoder, self.normalise = encoder, normalise

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.encoder(self.normalise(image))


class PersonEncoderGraph(nn.Module):
    """UINT8 [P, 224, 224, 3], box [P, 4], context tokens [P, 49, 256] to hidden, logits, energy."""

    def __init__(self, encoder: PersonEncoder, normalise: Normalise) -> None:
        super().__init__()
        self.encoder, self.normalise = encoder, normalise

    def forward(self, crop: Tensor, box: Tensor, context_tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.encoder(self.normalise(crop), box, context_tokens))


class VIHeadGraph(nn.Module):
    """UINT8 [I, 224, 224, 3] to V-I logits and V-I feature."""

    def __init__(self, head: VIHead, normalise: Normalise) -> None:
        super().__init__()
        self.head, self.normalise = head, normalise

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.normalise(image))


class ContextGatherGraph(nn.Module):
    """The context tokens of each person's image: [I, 49, 256] and [P] to [P, 49, 256]."""

    def forward(self, tokens: Tensor, image_index: Tensor) -> Tensor:
        return tokens[image_index]


class FusionGraph(nn.Module):
    """``Fusion`` with the level states as separate tensors."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(
        self,
        head_hidden: Tensor,
        head_logits: Tensor,
        head_energy: Tensor,
        body_hidden: Tensor,
        body_logits: Tensor,
        body_energy: Tensor,
        context_hidden: Tensor,
        context_logits: Tensor,
        context_energy: Tensor,
        vi_logits: Tensor,
        vi_feature: Tensor,
        image_index: Tensor,
    ) -> tuple[Tensor, ...]:
        fused = self.fusion(
            LevelState(head_hidden, head_logits, head_energy),
            LevelState(body_hidden, body_logits, body_energy),
            LevelState(context_hidden, context_logits, context_energy),
            vi_logits,
            vi_feature,
            image_index,
        )
        return fused[:-1]  # the features are for tests; nothing downstream reads them


def build_graph(name: str, model: CocoER, channel_order: str, precision: str) -> nn.Module:
    """The module to export for a served model.

    Args:
        name: its name in the repository.
        model: the network.
        channel_order: "bgr" or "rgb", see ``imagenet_normalise``.
        precision: "fp32", or "fp16" (see ``halve``); of INT8, the FP32 graph that is quantised.
    """
    normalise = imagenet_normalise(channel_order)
    if name == "context_gather":
        return ContextGatherGraph()
    if name == "fusion":
        return FusionGraph(model.fusion)
    part = getattr(model, name)
    if precision == "fp16":
        part = copy.deepcopy(part)
        halve(part)
    graphs = {"context_encoder": ContextEncoderGraph, "vi_head": VIHeadGraph}
    return graphs.get(name, PersonEncoderGraph)(part, normalise).eval()
