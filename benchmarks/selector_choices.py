"""Selectors: from the records of a cell to the option that each would have chosen."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

from selector_records import Record, cost_of, evidence_of

from tbft.choosing.choice import choose
from tbft.choosing.estimates import estimate
from tbft.choosing.options import options_of
from tbft.diagnosis.levels import Diagnosis, diagnose_evidence
from tbft.plan import Budget, find_recipe


def ours(seen: Record) -> tuple[str, Diagnosis]:
    diagnosis = diagnose_evidence(evidence_of(seen["evidence"]))
    names = model_blocks_names(seen["model"])
    costs = {name: cost_of(cost) for name, cost in seen["costs"].items()}
    options = options_of(*names, batch_norm=True)
    plans = {o.name: o.plan(find_recipe("fast"), 0, Budget()) for o in options}
    choice = choose(diagnosis, estimate(diagnosis, options), plans, costs)
    return choice.option, diagnosis


def model_blocks_names(model: str) -> tuple[tuple[str, ...], str]:
    return ("front", "layer2", "layer3", "rear"), "linear" if "resnet20" in model else "fc"


def by_gradient(score: str) -> Callable[[Record], str]:
    def select(seen: Record) -> str:
        scores = seen["gradients"][score]
        best = max(scores, key=lambda name: scores[name])
        return "head" if best == "rear" else str(best)

    return select


#: Time of ElasticTrainer's training step relative to a full one, as in its authors' example.
ELASTIC_SHARE = 0.5


def elastic(seen: Record) -> str:
    """ElasticTrainer (Huang et al., MobiSys 2023): the most important parts whose training fits the time.

    Importance is gradient times update; time consists of the forward pass, error gradients down to the
    first chosen part, and weight gradients of the chosen parts. The original chooses tensors by dynamic
    programming; with four blocks all sets are compared. The set is represented by its most important part,
    as the options allow.
    """
    importance, flops = seen["gradients"]["importance"], seen["block_flops"]
    names = list(importance)
    fitting = [()] + [
        chosen
        for k in range(1, len(names) + 1)
        for chosen in combinations(range(len(names)), k)
        if sum(flops) + sum(flops[chosen[0] + 1 :]) + sum(flops[i] for i in chosen)
        <= ELASTIC_SHARE * 3 * sum(flops)
    ]
    best = max(fitting, key=lambda chosen: sum(importance[names[i]] for i in chosen))
    if not best:
        return "none"
    name = max((names[i] for i in best), key=lambda name: importance[name])
    return "full" if len(best) == len(names) else "head" if name == "rear" else name


FIXED = {"always front": "front", "always full": "full", "AdaBN only": "adabn", "do nothing": "none"}
GRADIENT = {"Auto-RGN": "auto_rgn", "Auto-SNR": "auto_snr", "RGN over clean": "clean_rgn"}
TRYOUTS = {"successive halving": "halving", "cross-validation": "cross_validation"}


def taken(selector: str, cell: Record) -> tuple[str, float] | None:
    """The option, and the cost of choosing relative to the paper's full fine-tuning; None if not recorded."""
    seen, cost = cell["evidence"], cell["paper"]
    paper = cost["seconds"]
    if selector == "tbft":
        return ours(seen)[0], cost["choosing_seconds"] / paper
    if selector in FIXED:
        return FIXED[selector], 0.0
    if selector == "ElasticTrainer":
        return elastic(seen), cost["gradient_seconds"] / paper
    if selector in GRADIENT:
        return by_gradient(GRADIENT[selector])(seen), cost["gradient_seconds"] / paper
    tryout = cell["tryouts"]
    if tryout is None:
        return None
    found = tryout[TRYOUTS[selector]]
    return found["option"], found["seconds"] / paper
