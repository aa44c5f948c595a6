"""Check that a model gets inputs like those it was trained on: size, normalization, channel and class order.

A network whose inputs are prepared differently than in training still runs, but every figure about it is
wrong. On source data this can be detected: accuracy is at chance, or far below that with another
preparation.
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
from tbft.verification.running import Runnable, module_of, predict

#: Number of samples on which each cause is tried, and on which the best one is confirmed.
SCREENED, CONFIRMED = 64, 400
#: Time after which no further cause is tried.
MAX_SECONDS = 60.0
#: Agreement beyond chance, in standard errors, below which it may be chance.
CHANCE_ERRORS = 3.0
#: Agreement from which a model is trusted without further checks.
TRUSTED_KAPPA = 0.8
#: Minimum agreement for another preparation to count as the fix; less may be luck.
FIXED_KAPPA = 0.5
#: Minimum gain for a preparation to be believed, gain from which no other kinds of cause are tried, and
#: maximum difference between preparations that do equally well; all as shares of the samples.
MIN_GAIN, CLEAR_GAIN, ALIKE = 0.05, 0.25, 0.05

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """How well predictions agree with labels beyond chance.

    Attributes:
        accuracy: share of correct predictions.
        kappa: Cohen's kappa (1960): 0 for predictions that do not depend on the sample, 1 for perfect ones.
        errors: agreement beyond chance in standard errors.
    """

    accuracy: float
    kappa: float
    errors: float

    @property
    def by_chance(self) -> bool:
        return self.errors < CHANCE_ERRORS


def agreement(predicted: Labels, labels: Labels) -> Agreement:
    """Agreement of predictions (n,) with labels (n,).

    >>> agreement(np.array([0, 1, 0, 1]), np.array([0, 1, 0, 1])).kappa
    1.0
    >>> agreement(np.zeros(4, np.int64), np.array([0, 1, 0, 1])).errors  # always the same
    0.0
    """
    count = len(labels)
    classes = int(max(predicted.max(), labels.max())) + 1
    shares = np.bincount(predicted, minlength=classes) / count
    sizes = np.bincount(labels, minlength=classes)
    correct = float((predicted == labels).sum())
    expected = float((sizes * shares).sum())
    spread = float((sizes * shares * (1 - shares)).sum()) ** 0.5
    kappa = (correct - expected) / (count - expected) if expected < count else 0.0
    return Agreement(correct / count, kappa, (correct - expected) / spread if spread > 0 else 0.0)


def check_accuracy_on_source(
    model: Runnable, samples: Samples, logits: Tensor | None = None
) -> tuple[str, ...]:
    """Compare predictions on source samples with their labels; if they agree poorly, look for the cause.

    This costs nothing if the model is good. Otherwise likely causes are tried on a few samples, by forward
    passes only.

    Args:
        samples: labeled source samples that the model was not trained on.
        logits: the model's outputs for them (n, classes), if known.

    Returns:
        notes on the probable cause, if accuracy is poor but not at chance, or the model is untrained.

    Raises:
        DataError: accuracy is at chance, or less than half of that with another preparation. The message
            names the causes that were tried, and the option that fixes it if one does.
    """
    if len(np.unique(samples.labels)) < 2:
        return ()  # a constant prediction would look perfect, and any other one suspicious
    predicted = _predicted(predict(model, samples) if logits is None else logits)
    agrees = agreement(predicted, samples.labels)
    if agrees.kappa >= TRUSTED_KAPPA:
        return ()  # also where so few samples are of another class that it might be chance
    problem = f"{samples.name}: the model is correct on {_percent(agrees)} of {len(samples)} source samples"
    if agrees.by_chance and _is_untrained(
        module_of(model)
    ):  # its factory made it so: no preparation would fix it
        return (
            f"{problem}, which is chance: its BatchNorm layers have not seen any samples, so it is "
            "untrained; unless that is meant, load its weights (--weights)",
        )
    best = _best_cause(model, samples)
    mapped, order = _class_order(predicted, samples)
    if mapped.kappa > max(FIXED_KAPPA, agrees.kappa + 0.15, best.after.kappa if best else 0):
        raise DataError(f"{problem}, but it separates the classes ({_percent(mapped)}): {order}")
    if best is not None and best.after.kappa >= FIXED_KAPPA:
        fix = f"with {best.remedy} it is correct on {_percent(best.after)} of {best.count}"
        if agrees.by_chance or best.before.accuracy < best.after.accuracy / 2:
            raise DataError(f"{problem}, but {fix}: give that, or what the model was trained with")
        return (f"{problem}; {fix}",)
    if agrees.by_chance:
        hint = f" Best was {_percent(best.after)}, with {best.remedy}." if best else ""
        raise DataError(f"{problem}, which is chance. {_other_causes(samples)}{hint}")
    return ()


@dataclass(frozen=True)
class _BestCause:
    """The cause whose remedy gains most: agreement without and with the remedy on `count` samples."""

    remedy: str
    before: Agreement
    after: Agreement
    count: int


def _best_cause(model: Runnable, samples: Samples) -> _BestCause | None:
    """The cause whose remedy gains most on a few samples, if that is confirmed on more samples."""
    chosen = np.random.default_rng(0).permutation(len(samples))
    few, more = samples.subset(chosen[:SCREENED]), samples.subset(chosen[:CONFIRMED])
    base = _accuracy(model, few)
    tried: list[tuple[float, Cause]] = []
    until = time.monotonic() + MAX_SECONDS
    for cause in causes(few):
        accuracy, best = max(tried, key=lambda t: t[0], default=(0.0, cause))
        if time.monotonic() > until or (accuracy >= base + CLEAR_GAIN and cause.kind != best.kind):
            break
        tried.append((_accuracy(model, cause.fix(few)), cause))
    if not tried:
        return None
    accuracy, best = max(tried, key=lambda t: t[0])
    if accuracy <= base:
        return None
    before, after = (_predicted(predict(model, s)) for s in (more, best.fix(more)))
    fixed = int(((after == more.labels) & (before != more.labels)).sum())
    regressed = int(((before == more.labels) & (after != more.labels)).sum())
    if fixed - regressed < max(MIN_GAIN * len(more), CHANCE_ERRORS * (fixed + regressed) ** 0.5):
        return None
    alike = [c.remedy for a, c in tried if c is not best and c.kind == best.kind and a > accuracy - ALIKE]
    remedy = best.remedy + (f" ({best.code})" if best.code else "")
    if alike:
        remedy += f", or {' or '.join(alike[:2])}, which does about as well,"
    return _BestCause(remedy, agreement(before, more.labels), agreement(after, more.labels), len(more))


def _accuracy(model: Runnable, samples: Samples) -> float:
    """Share of correct predictions; 0 if the model cannot take the samples in this form."""
    try:
        predict(model, samples.subset(slice(0, 1)))  # fails early
        return float((_predicted(predict(model, samples)) == samples.labels).mean())
    except (RuntimeError, ValueError):
        return 0.0


def _predicted(logits: Tensor) -> Labels:
    return np.asarray(logits.detach().cpu().argmax(1).numpy(), dtype=np.int64)


def _class_order(predicted: Labels, samples: Samples) -> tuple[Agreement, str]:
    """Agreement if each output meant the class that fits it best on other samples, and a message."""
    labels, names = samples.labels, samples.class_names
    half = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    meant = np.empty_like(predicted)
    for fitted, judged in ((half, ~half), (~half, half)):
        meant[judged] = _meaning(predicted[fitted], labels[fitted], len(names))[predicted[judged]]
    meaning = _meaning(predicted, labels, len(names))
    shown = ", ".join(f"output {i} is {names[meaning[i]]!r}" for i in np.unique(predicted)[:4])
    return agreement(meant, labels), (
        f"its outputs are in another order than the classes ({shown}, ...). Name the classes in the order of "
        "the outputs, with an attribute class_names of the model or InputSpec(class_names=...)"
    )


def _meaning(predicted: Labels, labels: Labels, classes: int) -> Labels:
    """For each output, the most frequent label among samples predicted as it; an extra label if none are."""
    votes = np.zeros((max(int(predicted.max()) + 1, classes), classes + 1), dtype=np.int64)
    np.add.at(votes, (predicted, labels), 2)
    votes[:, -1] = 1
    return votes.argmax(axis=1)


def _is_untrained(model: nn.Module) -> bool:
    """Whether the model has BatchNorms, and none of them has seen a sample."""
    norms = batch_norms(model)
    return bool(norms) and all(n.running_mean is not None and not n.running_mean.any() for n in norms)


def _other_causes(samples: Samples) -> str:
    """What else may be wrong if no preparation fixes it."""
    tried = "the order of the classes"
    if samples.inputs.ndim == 4:
        names = ", ".join(NORMALIZATIONS)
        more = "" if samples.as_taken else ", channel order, range, size, axes"
        tried = f"{'undoing a ' * samples.as_taken}normalization ({names}){more} and {tried}"
    return (
        f"Tried without success: {tried}. Are its weights loaded (--weights FILE), and are these samples "
        "like those it was trained on?"
    )


def _percent(agrees: Agreement) -> str:
    return f"{100 * agrees.accuracy:.1f} %"
