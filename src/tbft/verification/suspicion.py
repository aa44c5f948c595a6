"""Is a model given what it was trained on? Looks for a wrong size, normalization, channel or class order.

A network whose inputs are prepared in another way than in training runs all the same, and every figure about
it is wrong. On source data that shows: accuracy is at chance, or far below what another preparation gives.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from tbft.blocks.state import batch_norms
from tbft.data.samples import Samples
from tbft.data.spec import NORMALIZATIONS
from tbft.errors import DataError
from tbft.verification.causes import Cause, causes
from tbft.verification.evaluation import predict

#: Samples on which each cause is tried, and on which the best one has to prove itself.
SCREENED, CONFIRMED = 64, 400
#: After so many seconds no further cause is tried.
MAX_SECONDS = 60.0
#: Agreement with the labels is chance below so many standard errors.
CHANCE_ERRORS = 3.0
#: A model that agrees with the labels this well is not suspected of anything.
TRUSTED_KAPPA = 0.8
#: Another preparation mends a model if it then agrees with the labels this well; less may be luck.
MENDED_KAPPA = 0.5
#: What another preparation has to gain to be believed, and so that no further kinds of cause are tried, as
#: shares of the samples; and what two that do about as well may differ by.
MIN_GAIN, CLEAR_GAIN, ALIKE = 0.05, 0.25, 0.05

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """How well predictions agree with labels beyond chance.

    Attributes:
        accuracy: share of the samples that are predicted right.
        kappa: Cohen's (1960): 0 for predictions that do not depend on the sample, 1 for perfect ones.
        errors: the agreement beyond chance in standard errors.
    """

    accuracy: float
    kappa: float
    errors: float

    @property
    def by_chance(self) -> bool:
        return self.errors < CHANCE_ERRORS


def agreement(predicted: Labels, labels: Labels) -> Agreement:
    """Of predictions (n,) with labels (n,).

    >>> agreement(np.array([0, 1, 0, 1]), np.array([0, 1, 0, 1])).kappa
    1.0
    >>> agreement(np.zeros(4, np.int64), np.array([0, 1, 0, 1])).errors  # always the same
    0.0
    """
    count = len(labels)
    classes = int(max(predicted.max(), labels.max())) + 1
    shares = np.bincount(predicted, minlength=classes) / count
    sizes = np.bincount(labels, minlength=classes)
    right = float((predicted == labels).sum())
    expected = float((sizes * shares).sum())
    spread = float((sizes * shares * (1 - shares)).sum()) ** 0.5
    kappa = (right - expected) / (count - expected) if expected < count else 0.0
    return Agreement(right / count, kappa, (right - expected) / spread if spread > 0 else 0.0)


def check_accuracy_on_source(
    model: nn.Module, samples: Samples, logits: Tensor | None = None
) -> tuple[str, ...]:
    """Compare a model's predictions on source samples with their labels; where they are poor, look for why.

    Costs nothing where the model is good. Otherwise likely causes are tried, forward only, on few samples.

    Args:
        samples: of the source, labeled; none that the model was trained on.
        logits: the model's outputs for them (n, classes), if they are known.

    Returns:
        notes on what seems to be wrong, where accuracy is poor but not at chance.

    Raises:
        DataError: accuracy is at chance, or less than half of what another preparation gives. The message
            names the causes that were tried, and the option that mends it if one does.
    """
    if len(np.unique(samples.labels)) < 2:
        return ()  # a model that always says the same would look perfect, and any other one suspicious
    predicted = _predicted(predict(model, samples) if logits is None else logits)
    found = agreement(predicted, samples.labels)
    if not found.by_chance and found.kappa >= TRUSTED_KAPPA:
        return ()
    told = f"{samples.name}: the model is right on {_percent(found)} of {len(samples)} source samples"
    best = _best_cause(model, samples)
    mapped, order = _class_order(predicted, samples)
    if mapped.kappa > max(MENDED_KAPPA, found.kappa + 0.15, best.after.kappa if best else 0):
        raise DataError(f"{told}, but tells the classes apart ({_percent(mapped)}): {order}")
    if best is not None and best.after.kappa >= MENDED_KAPPA:
        said = f"with {best.remedy} it is right on {_percent(best.after)} of {best.count}"
        if found.by_chance or best.before.accuracy < best.after.accuracy / 2:
            raise DataError(f"{told}, but {said}: give that, or whatever it was trained with")
        return (f"{told}; {said}",)
    if found.by_chance:
        hint = f" Best was {_percent(best.after)}, with {best.remedy}." if best else ""
        raise DataError(f"{told}, which is chance. {_unmended(model, samples)}{hint}")
    return ()


@dataclass(frozen=True)
class _Mended:
    """The cause that gains most: agreement without and with what mends it, on so many samples."""

    remedy: str
    before: Agreement
    after: Agreement
    count: int


def _best_cause(model: nn.Module, samples: Samples) -> _Mended | None:
    """What gains most on few samples, if it gains on more of them beyond chance."""
    chosen = np.random.default_rng(0).permutation(len(samples))
    few, more = samples.subset(chosen[:SCREENED]), samples.subset(chosen[:CONFIRMED])
    base = _accuracy(model, few)
    tried: list[tuple[float, Cause]] = []
    until = time.monotonic() + MAX_SECONDS
    for cause in causes(few):
        accuracy, best = max(tried, key=lambda t: t[0], default=(0.0, cause))
        if time.monotonic() > until or (accuracy >= base + CLEAR_GAIN and cause.kind != best.kind):
            break
        tried.append((_accuracy(model, cause.mend(few)), cause))
    if not tried:
        return None
    accuracy, best = max(tried, key=lambda t: t[0])
    if accuracy <= base:
        return None
    before, after = (_predicted(predict(model, s)) for s in (more, best.mend(more)))
    fixed = int(((after == more.labels) & (before != more.labels)).sum())
    broken = int(((before == more.labels) & (after != more.labels)).sum())
    if fixed - broken < max(MIN_GAIN * len(more), CHANCE_ERRORS * (fixed + broken) ** 0.5):
        return None
    alike = [c.remedy for a, c in tried if c is not best and c.kind == best.kind and a > accuracy - ALIKE]
    remedy = best.remedy + (f" ({best.code})" if best.code else "")
    if alike:
        remedy += f", or {' or '.join(alike[:2])}, which does about as well,"
    return _Mended(remedy, agreement(before, more.labels), agreement(after, more.labels), len(more))


def _accuracy(model: nn.Module, samples: Samples) -> float:
    """Share predicted right; 0 where the model cannot take the samples so."""
    try:
        predict(model, samples.subset(slice(0, 1)))  # before all are run in vain
        return float((_predicted(predict(model, samples)) == samples.labels).mean())
    except (RuntimeError, ValueError):
        return 0.0


def _predicted(logits: Tensor) -> Labels:
    return np.asarray(logits.detach().cpu().argmax(1).numpy(), dtype=np.int64)


def _class_order(predicted: Labels, samples: Samples) -> tuple[Agreement, str]:
    """Agreement if each output means the class that fits it best on other samples, and what to say."""
    labels, names = samples.labels, samples.class_names
    half = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    meant = np.empty_like(predicted)
    for fitted, judged in ((half, ~half), (~half, half)):
        meant[judged] = _meaning(predicted[fitted], labels[fitted], len(names))[predicted[judged]]
    meaning = _meaning(predicted, labels, len(names))
    shown = ", ".join(f"output {i} is {names[meaning[i]]!r}" for i in np.unique(predicted)[:4])
    return agreement(meant, labels), (
        f"its outputs are in another order than the classes ({shown}, ...). Name the classes in the order of "
        "the outputs, by an attribute class_names of the model or InputSpec(class_names=...)"
    )


def _meaning(predicted: Labels, labels: Labels, classes: int) -> Labels:
    """Of each output, the label that samples predicted so have most; no label but one more for none."""
    votes = np.zeros((max(int(predicted.max()) + 1, classes), classes + 1), dtype=np.int64)
    np.add.at(votes, (predicted, labels), 2)
    votes[:, -1] = 1
    return votes.argmax(axis=1)


def _unmended(model: nn.Module, samples: Samples) -> str:
    """What else it may be, where no preparation mends it."""
    norms = batch_norms(model)
    if norms and all(n.running_mean is not None and not n.running_mean.any() for n in norms):
        return "Its BatchNorm layers have seen no sample, so it is untrained: load its weights (--weights)."
    tried = "the order of the classes"
    if samples.inputs.ndim == 4:
        names = ", ".join(NORMALIZATIONS)
        more = "" if samples.as_taken else ", channel order, range, size, axes"
        tried = f"{'undoing a ' * samples.as_taken}normalization ({names}){more} and {tried}"
    return (
        f"Tried without success: {tried}. Are its weights loaded (--weights FILE), and are these samples "
        "like those that it was trained on?"
    )


def _percent(found: Agreement) -> str:
    return f"{100 * found.accuracy:.1f} %"
