"""Add classes that the base does not know: the head gets rows for them and keeps its old rows.

Only the new rows are learned, on the features that the frozen rest of the model computes. The old rows are
kept, bit for bit, and so are the logits of old classes, up to rounding. A new class can still attract
samples of an old one, which is decided on held-out samples of old classes. While learning, features sampled
from the card (mean features and their spread) stand in for old classes; they are too coarse to decide with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tbft.base import Base, as_base
from tbft.data.forms import as_samples
from tbft.data.manner import SplitBy
from tbft.data.parts import as_parts
from tbft.data.prepared import prepared
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.observation import observe
from tbft.errors import DataError, PlanError
from tbft.metering import Measurement, Meter
from tbft.patches import Patch, make_patch

#: Number of features sampled from the card for each old class.
REPLAYED = 50
#: Share of old samples that new classes may attract while learning, and maximum loss of accuracy on old
#: classes.
TAKEN_WHILE_LEARNING, MAX_OLD_LOSS = 0.005, 0.01
#: Minimum accuracy on held-out samples of new classes.
MIN_NEW_ACCURACY = 0.5

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NewClasses:
    """The result of adding classes.

    Attributes:
        classes: names of the new classes, whose outputs come after the old ones.
        patch: the larger head; empty if it was rejected.
        new_accuracy: accuracy on held-out samples of the new classes.
        old_before, old_after: accuracy on held-out samples of the old classes.
        old_count, new_count: number of samples on which these were measured.
    """

    base: Base
    classes: tuple[str, ...]
    patch: Patch
    new_accuracy: float
    new_count: int
    old_before: float
    old_after: float
    old_count: int
    measurement: Measurement
    notes: tuple[str, ...]

    @property
    def status(self) -> Literal["patched", "rejected"]:
        """``patched``, or ``rejected`` if old classes lost too much or new ones were not learned."""
        return "patched" if self.patch.tensors else "rejected"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        figures = ("classes", "new_accuracy", "new_count", "old_before", "old_after", "old_count")
        return {
            "status": self.status,
            **{name: getattr(self, name) for name in figures},
            "patch_bytes": len(self.patch.to_bytes()),
            **asdict(self.measurement),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"new classes  {', '.join(self.classes)}"]
        lines.append(f"learned      {100 * self.new_accuracy:.1f} % of {self.new_count} held-out samples")
        change = f"{100 * self.old_before:.1f} % -> {100 * self.old_after:.1f} %"
        lines.append(f"old classes  {change} of {self.old_count} held-out samples")
        size = f"{len(self.patch.to_bytes()):,} bytes" if self.status == "patched" else "none: rejected"
        lines.append(f"patch        {size}, {self.measurement.cpu_seconds:.2f} s of processor time")
        return "\n".join([*lines, *(f"note         {note}" for note in self.notes)])


def add_classes(
    model: Any,
    train: Any,
    *,
    card: Any = None,
    val: Any = None,
    cuts: Sequence[str] | None = None,
    seed: int = 0,
) -> NewClasses:
    """Add classes to a classifier and keep the old ones.

    Args:
        model, train, val: in any form that :func:`tbft.personalize` takes. Samples are matched to the model's
            classes by name, or by number if it does not name them; all others are new. Samples of old classes
            are needed among them, or in `val`, to decide acceptance.
        card: source card of the base; its statistics of old classes help learning.
        cuts: where to cut a module into blocks.
        seed: random seed for the split and for the features sampled from the card.

    Raises:
        DataError: no samples of new classes, or too few.
        PlanError: the model's head is not an ``nn.Linear``.
    """
    base = as_base(model, card, cuts)
    head = _head(base)
    samples = as_samples(train, replace(base.inputs, class_names=None))
    old = base.inputs.class_names or tuple(str(i) for i in range(head.out_features))
    classes = _new_among(samples, old)
    if base.card is not None:
        base.card.check_inputs(samples)

    def labeled(data: Any) -> Samples:
        return _labeled(as_samples(data, replace(base.inputs, class_names=None)), (*old, *classes))

    own_val = labeled(val) if isinstance(val, Samples) else val
    parts = as_parts(_labeled(samples, (*old, *classes)), own_val, by=SplitBy(seed), as_samples=labeled)
    for part, use in ((parts.train, "to learn from"), (parts.val, "held out, which decide")):
        for label, name in enumerate(classes, head.out_features):
            if not (part.labels == label).any():
                raise DataError(f"there are no samples of {name!r} {use}: give more samples of it, or val=")
    new = torch.from_numpy(parts.val.labels >= head.out_features)
    if new.all():
        raise DataError(
            "no held-out sample is of a class that the model knows, so it cannot be checked what new classes "
            "take from old ones (a card is not enough): add samples of known classes, or give them in val="
        )
    with Meter() as meter:
        features, labels = _features(base, parts.train)
        replay, replay_labels = _replayed(base.card, head, seed)
        rows = _learned(head, torch.cat([features, replay]), torch.cat([labels, replay_labels]), len(classes))
    held_features, held_labels = _features(base, parts.val)
    before, after = _accuracies(head, rows, held_features[~new], held_labels[~new])
    _, new_accuracy = _accuracies(head, rows, held_features[new], held_labels[new])
    accepted = new_accuracy >= MIN_NEW_ACCURACY and before - after <= MAX_OLD_LOSS
    return NewClasses(
        base=base,
        classes=classes,
        patch=_patch(base, head, rows if accepted else None, classes, meter.measurement, samples),
        new_accuracy=new_accuracy,
        new_count=int(new.sum()),
        old_before=before,
        old_after=after,
        old_count=int((~new).sum()),
        measurement=meter.measurement,
        notes=tuple(dict.fromkeys((*samples.notes, *parts.notes))),
    )


def _head(base: Base) -> nn.Linear:
    module = base.model.get_submodule(base.blocks.head_layer)
    if not isinstance(module, nn.Linear) or module.bias is None:
        raise PlanError(
            f"classes can be added to a head that is an nn.Linear with a bias; that of {base.name} is a "
            f"{type(module).__name__}"
        )
    return module


def _new_among(samples: Samples, old: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes that the samples have, but the model does not."""
    used = (samples.class_names[i] for i in np.unique(samples.labels))
    new = tuple(name for name in used if name not in old)
    if not new:
        raise DataError(f"{samples.name}: the model knows all of its classes; use tbft.personalize")
    return new


def _labeled(samples: Samples, names: tuple[str, ...]) -> Samples:
    """The samples labeled by position in `names`."""
    position = {name: i for i, name in enumerate(names)}
    for label in np.unique(samples.labels):
        if samples.class_names[label] not in position:
            raise DataError(
                f"{samples.name}: class {samples.class_names[label]!r} is not among {list(names)}"
            )
    positions = np.array([position.get(name, 0) for name in samples.class_names])
    return replace(samples, labels=positions[samples.labels], class_names=names)


def _features(base: Base, samples: Samples) -> tuple[Tensor, Tensor]:
    """Inputs of the head, (n, d), and labels (n,)."""
    features = observe(base.blocks, samples, "float32").features
    return torch.from_numpy(features), torch.from_numpy(np.array(samples.labels))


def _replayed(card: SourceCard | None, head: nn.Linear, seed: int) -> tuple[Tensor, Tensor]:
    """Features of old classes sampled from the card, (n, d), and their labels (n,); none without a card."""
    if card is None or "classes/mean" not in card.tensors:
        return torch.zeros(0, head.in_features), torch.zeros(0, dtype=torch.int64)
    mean, spread = card.tensors["classes/mean"], card.tensors["classes/spread"]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((REPLAYED, *mean.shape), generator=generator)
    features = (mean + noise * spread).flatten(0, 1)
    return features, torch.arange(len(mean)).repeat(REPLAYED)


def _learned(head: nn.Linear, features: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Weights (count, d) and biases (count,) of the new rows, by logistic regression with fixed old rows."""
    old = _old_logits(head, features)
    scale = features.std(0).clamp_min(1e-3)
    weight = torch.zeros(count, features.shape[1], requires_grad=True)
    bias = torch.full((count,), float(old.max(1).values.median()), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")
    # All classes have the same weight, regardless of their number of samples.
    counts = torch.bincount(labels, minlength=head.out_features + count).clamp_min(1)
    weights = (1.0 / counts)[labels]

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = torch.cat([old, (features / scale) @ weight.T + bias], dim=1)
        each = nn.functional.cross_entropy(logits, labels, reduction="none")
        total = (each * weights).sum() / weights.sum() + 1e-3 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    rows = (weight / scale).detach()
    return rows, bias.detach() - _offset(head, rows, bias.detach(), features, labels)


def _offset(head: nn.Linear, rows: Tensor, bias: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """How much to lower the new logits so that new classes attract only few samples of old classes."""
    known = labels < head.out_features
    old = _old_logits(head, features[known])
    correct = old.argmax(1) == labels[known]
    if not correct.any():
        return torch.zeros(())
    excess = (features[known][correct] @ rows.T + bias).max(1).values - old[correct].max(1).values
    allowed = int(TAKEN_WHILE_LEARNING * len(excess))
    return excess.sort(descending=True).values[allowed].clamp_min(0)


@torch.no_grad()
def _old_logits(head: nn.Linear, features: Tensor) -> Tensor:
    return nn.functional.linear(features, head.weight.cpu().float(), head.bias.cpu().float())


def _logits(head: nn.Linear, rows: tuple[Tensor, Tensor], features: Tensor) -> Tensor:
    return torch.cat([_old_logits(head, features), features @ rows[0].T + rows[1]], dim=1)


def _accuracies(
    head: nn.Linear, rows: tuple[Tensor, Tensor], features: Tensor, labels: Tensor
) -> tuple[float, float]:
    before = _old_logits(head, features).argmax(1) == labels
    after = _logits(head, rows, features).argmax(1) == labels
    return float(before.float().mean()), float(after.float().mean())


def _patch(
    base: Base,
    head: nn.Linear,
    rows: tuple[Tensor, Tensor] | None,
    classes: tuple[str, ...],
    measurement: Measurement,
    samples: Samples,
) -> Patch:
    prefix = f"{base.blocks.head_layer}." if base.blocks.head_layer else ""
    changed = {}
    if rows is not None:
        for key, old, new in zip(("weight", "bias"), (head.weight, head.bias), rows, strict=True):
            changed[prefix + key] = torch.cat([old.detach(), new.to(old)], dim=0)
    return make_patch(
        base.model.state_dict(),
        changed,
        arm=base.blocks.head,
        model=base.name,
        cuts=base.blocks.cuts,
        new_classes=classes if changed else (),
        measured=asdict(measurement),
        preprocessing=prepared(samples),
    )
