"""Heads in closed form: a linear head computed from features in one forward pass, without gradients.

``ridge`` moves the base's head by ridge regression, as far as the labels support it: without labels it is the
base's, with many it is a new head. ``prototypes`` compares features with the mean of each class, in which the
means of the source card count as a few samples. Both are linear, so that they replace the weights of the
model's own head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.blocks import Blocks
from tbft.blocks.hooks import on_input
from tbft.blocks.solvable import linear_head
from tbft.data.samples import Samples
from tbft.errors import PlanError
from tbft.verification.ridge import leverages, ridge_solution, with_constant
from tbft.verification.running import Runnable, predict

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

#: The number of samples that a class's mean on the source counts as.
PRIOR_SAMPLES = 3.0
#: The number of samples that the spread of features on the source counts as.
SPREAD_SAMPLES = 10.0
#: How strongly ridge regression on d standardized features holds on to the base's head, in units of d: this
#: much for a base that is never right, and this much more for one that always is. Set on motion and on
#: pictures with 1 to 10 labels per class.
RIDGE, RIDGE_IF_RIGHT = 1.0, 8.0
#: Factors on logits among which the one with the lowest leave-one-out loss is taken.
SCALES = (1.0, 0.3, 3.0, 0.1, 10.0, 0.03, 30.0, 0.01)


@dataclass(frozen=True, eq=False)
class Prototypes:
    """The mean (classes, d) and the spread (d,) of the head's inputs on the source, from its card."""

    means: Floats
    spread: Floats


@dataclass(frozen=True)
class Solving:
    """How a head is solved for: the batch size of the forward pass, and the prototypes of the source."""

    batch_size: int
    source: Prototypes | None = None


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


@dataclass(frozen=True, eq=False)
class Solved:
    """A head in closed form.

    Attributes:
        left_out: (n, classes), the logits of each sample by a head without it.
    """

    head: LinearHead
    left_out: Floats


def solve(
    name: str, features: Floats, labels: Labels, base: LinearHead, source: Prototypes | None = None
) -> Solved:
    """The head ``ridge`` or ``prototypes`` for features (n, d), with the scale of the lowest loss.

    Args:
        base: the model's own head.
        source: prototypes of the source; without them, ``prototypes`` needs labels of every class.

    Raises:
        PlanError: a class has neither labels nor a prototype.
    """
    solved = _prototypes if name == "prototypes" else _ridge
    head, left_out = solved(features, labels, base, source)
    losses = [_loss(scale * left_out, labels) for scale in SCALES]
    scale = SCALES[int(np.argmin(losses))]
    return Solved(head.scaled(scale), scale * left_out)


def _ridge(
    features: Floats, labels: Labels, base: LinearHead, source: Prototypes | None
) -> tuple[LinearHead, Floats]:
    """The base's head times a slope, plus ridge regression of the residual, and leave-one-out logits."""
    count, classes = len(features), len(base.bias)
    mean, variance = features.mean(0), features.var(0)
    if source is not None:
        variance = (count * variance + SPREAD_SAMPLES * source.spread**2) / (count + SPREAD_SAMPLES)
    spread = np.sqrt(variance) + 1e-3
    x = with_constant((features - mean) / spread)
    base = LinearHead(base.weight - base.weight.mean(0), base.bias - base.bias.mean())
    logits, targets = base(features), np.eye(classes)[labels] - 1 / classes
    along, square = (logits * targets).sum(1), (logits**2).sum(1) + 1e-9
    slope = max(0.0, along.sum() / square.sum())
    accuracy = ((logits.argmax(1) == labels).sum() + 2 / classes) / (count + 2)
    ridge = (RIDGE + RIDGE_IF_RIGHT * accuracy**2) * features.shape[1]
    solution = ridge_solution(x, ridge)
    moved = solution @ (targets - slope * logits)
    absent = np.setdiff1d(np.arange(classes), labels)
    moved[:, absent] = 0  # labels say nothing of these classes: they stay the base's
    weight = moved[:-1].T / spread
    head = LinearHead(slope * base.weight + weight, slope * base.bias + moved[-1] - weight @ mean)
    # A sample's residual without it, as in Allen's PRESS; the slope differs then, too.
    slopes = np.maximum(0.0, (along.sum() - along) / np.maximum(square.sum() - square, 1e-9))[:, None]
    residuals = targets - x @ (solution @ targets) - slopes * (logits - x @ (solution @ logits))
    left_out = targets - residuals / (1 - leverages(x, solution))
    left_out[:, absent] = (slopes * logits)[:, absent]
    return head, left_out


def _prototypes(
    x: Floats, labels: Labels, base: LinearHead, source: Prototypes | None
) -> tuple[LinearHead, Floats]:
    """The nearest class mean in standardized features, and leave-one-out logits (n, classes)."""
    classes = len(base.bias)
    missing = np.setdiff1d(np.arange(classes), labels)
    if len(missing) and source is None:
        raise PlanError(
            f"prototypes needs labels of every class, and there are none for {len(missing)} (the first is "
            f"class {missing[0]}): label some, build a source card, or take ridge"
        )
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


def head_weights(head: nn.Linear) -> LinearHead:
    """The weights of a linear layer."""
    weight, bias = (p.detach().double().cpu().numpy() for p in (head.weight, head.bias))
    return LinearHead(weight, bias)


def solvable_head(blocks: Blocks) -> nn.Linear:
    """The model's head.

    Raises:
        PlanError: it cannot be solved for.
    """
    head = linear_head(blocks)
    if head is None:
        raise PlanError("this head is not a linear layer that may be changed: tune the head instead")
    return head


def features_of(head: nn.Linear, part: Runnable, samples: Samples, batch_size: int) -> tuple[Floats, Tensor]:
    """The inputs (n, d) of a linear head at the end of `part`, and the logits, in evaluation mode."""
    found: list[Tensor] = []
    with on_input(head, lambda x: found.append(x.detach().float().cpu())):
        logits = predict(part, samples, batch_size)
    features = torch.cat(found)
    if features.ndim != 2 or len(features) != len(samples):
        raise PlanError("the head is not called once with one vector per sample: tune the head instead")
    if logits.ndim != 2 or logits.shape[1] != head.out_features:
        raise PlanError("the head does not give the logits one by one: tune the head instead")
    return features.double().numpy(), logits


def solve_head(head: nn.Linear, name: str, part: Runnable, samples: Samples, how: Solving) -> None:
    """Replace the weights of a linear head at the end of `part` by those in closed form, in place."""
    features, _ = features_of(head, part, samples, how.batch_size)
    solved = solve(name, features, samples.labels, head_weights(head), how.source).head
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(solved.weight))
        head.bias.copy_(torch.from_numpy(solved.bias))
