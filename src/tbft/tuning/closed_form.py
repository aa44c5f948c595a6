"""Heads in closed form: a linear head computed from features in one forward pass, without gradients.

``ridge`` regresses one-hot labels on features. ``prototypes`` compares features with the mean of each class,
in which the means of the source card count as a few samples. Both are linear, so that they replace the
weights of the model's own head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.blocks import Blocks
from tbft.blocks.hooks import on_input
from tbft.data.samples import Samples
from tbft.errors import PlanError
from tbft.verification.evaluation import predict
from tbft.verification.ridge import regress

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

#: How many samples of a class its mean on the source counts as.
PRIOR_SAMPLES = 3.0
#: Factors on logits among which the one with the lowest leave-one-out loss is taken.
SCALES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True, eq=False)
class Prototypes:
    """The mean (classes, d) and the spread (d,) of the head's inputs on the source, from its card."""

    means: Floats
    spread: Floats


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The weight (classes, d) and bias (classes,) of a linear head."""

    weight: Floats
    bias: Floats

    def __call__(self, features: Floats) -> Floats:
        """Logits (n, classes)."""
        return features @ self.weight.T + self.bias

    def scaled(self, factor: float) -> LinearHead:
        """The head with its logits multiplied by a factor."""
        return LinearHead(factor * self.weight, factor * self.bias)


def solve(name: str, features: Floats, labels: Labels, classes: int, source: Prototypes | None) -> LinearHead:
    """The head ``ridge`` or ``prototypes`` for features (n, d), with the scale of the lowest loss.

    Args:
        source: prototypes of the source; without them, a class without labels cannot be solved for.

    Raises:
        PlanError: a class has neither labels nor a prototype.
    """
    missing = np.setdiff1d(np.arange(classes), labels)
    if len(missing) and (name == "ridge" or source is None):
        raise PlanError(
            f"{name} needs labels of every class, and there are none of {len(missing)} (the first is class "
            f"{missing[0]}): label some, or tune the head"
        )
    if name == "ridge":
        weight, bias, left_out = regress(features, labels, classes)
        head = LinearHead(weight, bias)
    else:
        head, left_out = _prototypes(features, labels, classes, source)
    losses = [_loss(scale * left_out, labels) for scale in SCALES]
    return head.scaled(SCALES[int(np.argmin(losses))])


def _prototypes(
    x: Floats, labels: Labels, classes: int, source: Prototypes | None
) -> tuple[LinearHead, Floats]:
    """The nearest class mean in standardized features, and leave-one-out logits (n, classes)."""
    chosen = np.eye(classes)[labels]
    sums, counts = chosen.T @ x, chosen.sum(0)[:, None]
    if source is not None:
        sums, counts = sums + PRIOR_SAMPLES * source.means, counts + PRIOR_SAMPLES
    means = sums / np.maximum(counts, 1e-9)
    within = ((x - means[labels]) ** 2).mean(0) ** 0.5
    spread = (within if source is None else (within + source.spread) / 2) + 1e-3
    head = LinearHead(means / spread**2, -0.5 * ((means / spread) ** 2).sum(1))
    logits = head(x)
    others = (sums[labels] - x) / np.maximum(counts[labels] - 1, 1e-9)
    at = np.arange(len(x))
    logits[at, labels] = (x * others / spread**2).sum(1) - 0.5 * ((others / spread) ** 2).sum(1)
    return head, logits


def _loss(logits: Floats, labels: Labels) -> float:
    highest = logits.max(1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(1)) + highest[:, 0]
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def linear_head(blocks: Blocks) -> nn.Linear | None:
    """The model's head if it is a plain linear layer, which can be solved for."""
    head = blocks.model.get_submodule(blocks.head_layer) if blocks.head_layer else blocks.model
    return head if type(head) is nn.Linear and head.weight.requires_grad else None


def features_of(blocks: Blocks, samples: Samples, batch_size: int) -> tuple[Floats, Tensor]:
    """The inputs (n, d) of the linear head, and the logits (n, classes), in evaluation mode."""
    head = linear_head(blocks)
    if head is None:
        raise PlanError("this head is not a linear layer that may be changed: tune the head instead")
    found: list[Tensor] = []
    with on_input(head, lambda x: found.append(x.detach().float().cpu())):
        logits = predict(blocks, samples, batch_size)
    features = torch.cat(found)
    if features.ndim != 2 or len(features) != len(samples):
        raise PlanError("the head is not called once with one vector per sample: tune the head instead")
    if logits.ndim != 2 or logits.shape[1] != head.out_features:
        raise PlanError("the head does not give the logits one by one: tune the head instead")
    return features.double().numpy(), logits


def solve_head(
    blocks: Blocks, name: str, samples: Samples, batch_size: int, source: Prototypes | None
) -> None:
    """Replace the weights of the model's head by those in closed form, in place."""
    head = linear_head(blocks)
    features, _ = features_of(blocks, samples, batch_size)
    assert head is not None
    solved = solve(name, features, samples.labels, head.out_features, source)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(solved.weight))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(solved.bias))
