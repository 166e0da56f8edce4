"""What a user would write instead: the network ported to PyTorch with care, but without what this project derived.

Evaluation mode, no gradients but for coordination's step, all persons of an image in one batch, context and V-I once
per image. As in the release, and unlike in ``cocoer.network``: the V-I layer keeps its 26 repeated column blocks, the
step is taken by autograd on each person's classifiers, which then run again, and cvxopt solves the QPs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from benchmarks.release import ReleaseInference, weigh
from cocoer.network.coordination import exclusion_order, pseudo_labels
from cocoer_bls.inputs import Tensors

LAMBDAS = ("lambda_w1", "lambda_b1", "lambda_w2", "lambda_b2")


class TorchPort:
    """CocoER, an image with all of its persons at a time.

    Args:
        release: whose modules and weights are used, ``VI_ffn.1.weight`` as it is stored; they are not changed.
    """

    def __init__(self, release: ReleaseInference) -> None:
        self.release = release

    @torch.no_grad()
    def image(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Recognise the P persons of one image.

        Args:
            inputs: ``recognition_inputs`` of one image.

        Returns:
            ``logits`` [P, 26], ``order`` [P, 3], ``losses`` [P, 3], ``lambda_w1`` and ``lambda_b1`` [P, 3],
            ``lambda_w2`` and ``lambda_b2`` [P, 2].
        """
        normalise, encoders = self.release.normalise, self.release.encoders()
        context, head, body = (normalise(torch.from_numpy(inputs[x])) for x in ("image", "head_crop", "body_crop"))
        activations = self._activations(
            context, {"head": (head, inputs["head_box"]), "body": (body, inputs["body_box"])}
        )
        vi_logits, vi_feature = self._vi(context)
        labels, weights = pseudo_labels(vi_logits)
        logits = {level: encoders[level].classifier[1:](x) for level, x in activations.items()}
        losses = torch.cat(
            [
                F.binary_cross_entropy_with_logits(x, labels.expand_as(x), weight=weights, reduction="none").sum(1)[
                    :, None
                ]
                for x in logits.values()
            ],
            dim=1,
        )
        order = exclusion_order(losses)
        rows = []
        for person in range(len(losses)):
            stepped = [
                refined(encoders[level].classifier, x[person : person + 1], labels, weights)
                for level, x in activations.items()
            ]
            lambdas = dict(zip(LAMBDAS, weigh([last for _, last in stepped], losses[person], order[person])))
            fused = torch.cat([*(feature for feature, _ in stepped), vi_feature], dim=-1)
            rows.append({"logits": self.release.model.fusion.classifier(fused)[0].numpy(), **lambdas})
        found = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return {**found, "order": order.numpy(), "losses": losses.numpy()}

    def _activations(self, image: Tensor, crops: dict[str, tuple[Tensor, np.ndarray]]) -> dict[str, Tensor]:
        """What each level's first Linear reads: head and body [P, 12544], the context's repeated for each person."""
        context = self.release.model.context_encoder
        tokens, grid = context.tokenise(image), context.position.tokens()
        found, persons = {}, 0
        for level, (pixels, boxes) in crops.items():
            encoder = self.release.encoders()[level]
            persons = len(pixels)
            x, position = encoder.tokenise(pixels), encoder.position.roi_tokens(torch.from_numpy(boxes))
            for block in encoder.blocks:
                x = block(x, position, tokens.expand(persons, -1, -1), grid)
            found[level] = F.gelu(encoder.norm(x).flatten(1))
        x = tokens
        for block in context.blocks:
            x = block(x, grid, x, grid)
        return {**found, "context": F.gelu(context.norm(x).flatten(1)).expand(persons, -1)}

    def _vi(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """V-I logits [1, 26] and feature [1, 256], with the layer as it is stored."""
        head = self.release.model.vi_head
        hidden = self.release.wide(head.ffn[0](self.release.repeated(image)))
        feature = head.ffn[2:5](hidden)
        return head.ffn[5](feature), feature


def refined(classifier: nn.Sequential, x: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One person's feature of a level after a gradient step of size 1 on the first Linear, found by autograd.

    Args:
        classifier: the level's; not changed.
        x: FP32 [1, 12544], what the Linear reads.
        labels, weights: [1, 26], the pseudo-label.

    Returns:
        the feature [1, 256], and the gradients of the last Linear's weight and bias, flat.
    """
    first, last = classifier[1], classifier[4]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    parameters = [first.weight, first.bias, last.weight, last.bias]
    with torch.enable_grad():
        loss = F.binary_cross_entropy_with_logits(classifier[1:](x), labels, weight=weights, reduction="sum")
        step_weight, step_bias, *gradients = torch.autograd.grad(loss, parameters)
    state = {"weight": first.weight - step_weight, "bias": first.bias - step_bias}
    feature = classifier[2:4](functional_call(first, state, (x,)))
    return feature, [gradient.flatten() for gradient in gradients]
