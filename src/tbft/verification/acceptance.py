"""Did it help? The gain on held-out labels, with an interval that is honest for few of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbft.verification.binomial import proportion_interval

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Acceptance:
    """The base and the tuned model on the same held-out labeled samples.

    Attributes:
        count: held-out samples.
        fixed, regressed: samples that only the tuned, or only the base model gets right.
        gain: in accuracy, -1 to 1.
        low, high: 95 % interval of the gain.
        verdict: ``helps``, ``harms``, or ``cannot tell`` where the interval holds zero.
        accepted: whether the tuned model is kept; it is undone if more regressed than were fixed.
    """

    count: int
    fixed: int
    regressed: int
    gain: float
    low: float
    high: float
    verdict: str
    accepted: bool

    def __str__(self) -> str:
        said = {"helps": "it helps", "harms": "it harms", "cannot tell": "too few labels to tell"}[
            self.verdict
        ]
        return (
            f"{100 * self.gain:+.1f} points on {self.count} held-out labels "
            f"(95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f}): {said}"
        )


def compare(labels: Labels, before: Labels, after: Labels) -> Acceptance:
    """Judge a tuned model by predictions on samples that neither training nor choosing has seen.

    The interval is exact given how many outcomes changed: of these, the share that got better is a
    binomial proportion (Clopper and Pearson 1934; the test is McNemar's, 1947).

    Args:
        labels, before, after: true labels, and what base and tuned model predict, (n,).

    >>> right, wrong = np.zeros(20, np.int64), np.ones(20, np.int64)
    >>> print(compare(right, wrong, right))
    +100.0 points on 20 held-out labels (95 % interval +66.3 to +100.0): it helps
    """
    fixed = int(((after == labels) & (before != labels)).sum())
    regressed = int(((after != labels) & (before == labels)).sum())
    changed, count = fixed + regressed, len(labels)
    low, high = proportion_interval(fixed, changed) if changed else (0.5, 0.5)
    low, high = ((2 * share - 1) * changed / count for share in (low, high))
    return Acceptance(
        count=count,
        fixed=fixed,
        regressed=regressed,
        gain=(fixed - regressed) / count,
        low=low,
        high=high,
        verdict="helps" if low > 0 else "harms" if high < 0 else "cannot tell",
        accepted=fixed >= regressed,
    )
