"""Methods by others to compare with, re-derived from their papers; one file and one line here each.

    outcome = BASELINES["tent"](blocks, parts, seed)

Each gives the model back untouched, and uses the labels of `parts.test` for the accuracy alone. What it
costs is what its call takes, any search included.
"""

from __future__ import annotations

from collections.abc import Callable

from paper.baselines.auto_rgn import auto_rgn
from paper.baselines.memo import memo
from paper.baselines.outcome import Outcome
from paper.baselines.tent import tent

#: (blocks, parts, seed, and options of its own) -> outcome; raises PlanError where the method is not for
#: such a model or samples.
Baseline = Callable[..., Outcome]

BASELINES: dict[str, Baseline] = {
    "auto-rgn": auto_rgn,
    "tent": tent,
    "memo": memo,
}

__all__ = ["BASELINES", "Baseline", "Outcome"]
