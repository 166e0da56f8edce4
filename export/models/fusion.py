"""Fusion: competition, coordination and the final logits, for persons whose images' rows go in beside theirs."""

from __future__ import annotations

from torch import Tensor, nn

from cocoer.network.fusion import Fusion
from cocoer.network.levels import LevelState
from cocoer.network.model import CocoER
from cocoer_bls.inputs import Tensors
from export.models.base import NetworkModel, Tolerances
from export.models.ingredients import Ingredients
from export.models.samples import Samples
from export.models.tensors import CHANNELS, IMAGE_INDEX, IMAGES, LABELS, PERSONS, TensorSpec, level_state
from export.precision import Precision


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


class FusionModel(NetworkModel):
    """``fusion``."""

    name = "fusion"
    inputs = (
        *level_state("head_", PERSONS),
        *level_state("body_", PERSONS),
        *level_state("context_", IMAGES),
        TensorSpec("vi_logits", IMAGES, (LABELS,)),
        TensorSpec("vi_feature", IMAGES, (CHANNELS,)),
        IMAGE_INDEX,
    )
    outputs = (
        TensorSpec("logits", PERSONS, (LABELS,), labelled=True),
        TensorSpec("order", PERSONS, (3,), "INT64"),
        TensorSpec("losses", PERSONS, (3,)),
        TensorSpec("lambda_w1", PERSONS, (3,)),
        TensorSpec("lambda_b1", PERSONS, (3,)),
        TensorSpec("lambda_w2", PERSONS, (2,)),
        TensorSpec("lambda_b2", PERSONS, (2,)),
        TensorSpec("grad_distance", PERSONS, (1,)),
        TensorSpec("refined_logits", PERSONS, (3, LABELS)),
    )
    batch = None
    tolerances = Tolerances(fp32=1e-3, fp16=1e-3, int8=1e-3, bf16=1e-3)

    def module(self, network: CocoER, channel_order: str, precision: Precision) -> nn.Module:
        return FusionGraph(network.fusion)

    def depends_on(self, made_of: Ingredients) -> dict[str, str | None]:
        return {**super().depends_on(made_of), "coordination_step": str(made_of.options.coordination_step)}

    def metadata(self, made_of: Ingredients) -> dict[str, str]:
        return {**super().metadata(made_of), "coordination_step": str(made_of.options.coordination_step)}

    def sample_inputs(self, samples: Samples, batch: int) -> Tensors:
        known = {**samples.recognition, **samples.between}
        return {
            tensor.name: known[tensor.name][:batch] if tensor.rows is PERSONS else known[tensor.name]
            for tensor in self.inputs
        }
