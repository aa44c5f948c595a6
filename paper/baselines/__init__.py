"""Methods from other papers, re-derived for comparison; each has a file, and a line here.

    outcome = BASELINES["tent"](blocks, parts, seed)

Each restores the model, and uses the labels of `parts.test` only for the accuracy. Its cost is that of the
call, including any search.
"""

from __future__ import annotations

from collections.abc import Callable

from paper.baselines.auto_rgn import auto_rgn
from paper.baselines.memo import memo
from paper.baselines.outcome import Outcome
from paper.baselines.tent import tent

#: (blocks, parts, seed, own options) -> outcome; raises PlanError if the method does not fit the model or the
#: samples.
Baseline = Callable[..., Outcome]

BASELINES: dict[str, Baseline] = {
    "auto-rgn": auto_rgn,
    "tent": tent,
    "memo": memo,
}

__all__ = ["BASELINES", "Baseline", "Outcome"]
