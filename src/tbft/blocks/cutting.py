"""Cuts found automatically: the candidates are grouped into front, middle, late and rear.

The rear is the head with the normalization before it. What comes before is cut by the number of layers: a
fifth for the front, a fifth for the middle and the rest for the late block, at places that the model's author
names, between `layer1` and `layer2` rather than inside one. Measured on small networks
(``benchmarks/cuts.py``, record ``benchmarks/results/cuts.json``): where the front ends matters little; a late
block that starts late costs many points.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations, pairwise

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tbft.blocks.assembly import cut_at
from tbft.blocks.candidates import Candidate, find_candidates
from tbft.blocks.checking import check_stages
from tbft.blocks.inputs import Inputs, map_tensors
from tbft.blocks.outputs import Output, logits_of
from tbft.blocks.placement import device_of, to_device
from tbft.blocks.state import evaluating
from tbft.blocks.tracing import trace_deep
from tbft.errors import SplitError

MAX_BLOCKS = 4

#: Share of the late block's layers, as a multiple of the front's and the middle's.
LATE_WEIGHT = 3.0

#: Penalty for a cut at a submodule of a submodule, against parts of other shares, for each level.
LEVEL_PENALTY = 0.02


@dataclass(frozen=True)
class Proposal:
    """The places at which a model can be cut, and those that were chosen.

    Attributes:
        candidates: in the order in which the model runs them; the first is the input.
        cuts: the paths of those that were chosen.
        reason: why these, in a sentence.
        crossed: children of the model at which it cannot be cut, because skip connections run past them.
    """

    candidates: tuple[Candidate, ...]
    cuts: tuple[str, ...]
    reason: str
    crossed: tuple[str, ...] = ()


def propose_cuts(
    model: nn.Module,
    example: Inputs | None = None,
    output: Output = logits_of,
    max_blocks: int = MAX_BLOCKS,
    among: Collection[str] | None = None,
) -> Proposal:
    """Find the places at which a model can be cut, and choose at most `max_blocks - 1` of them.

    Args:
        example: a batch; with it the cuts are tried, and FLOPs are counted, which are only reported.
        among: the submodules that may be cuts, besides those of the rear; None: any.

    Raises:
        SplitError: the model cannot be traced.
    """
    candidates, crossed = find_candidates(model, trace_deep(model, example, output))
    if among is not None:
        others = [c.path for c in candidates[1:] if c.path not in among and not c.in_rear]
        candidates = _without(candidates, others)
    while True:
        counted = _with_flops(model, candidates, example, output)
        cuts = grouped(counted, [float(c.layer_count) for c in counted], max_blocks)
        bad = []
        if not _works(model, cuts, example, output):
            bad = [cut for cut in cuts if not _works(model, [cut], example, output)]
        if not bad:
            return Proposal(tuple(counted), cuts, _reason(counted, cuts), tuple(crossed))
        candidates = _without(candidates, bad)


def names_for(count: int) -> tuple[str, ...]:
    """Names of blocks whose cuts were found.

    >>> names_for(3)
    ('front', 'middle', 'rear')
    """
    if count <= MAX_BLOCKS:
        return ("front", *("middle", "late")[: max(0, count - 2)], "rear")[:count]
    return ("front", *(f"middle{i}" for i in range(1, count - 2)), "late", "rear")


def grouped(
    candidates: Sequence[Candidate],
    costs: Sequence[float],
    max_blocks: int,
    level_penalty: float = LEVEL_PENALTY,
    late_weight: float = LATE_WEIGHT,
) -> tuple[str, ...]:
    """The start of the rear, and those before it that make parts of given shares of the cost.

    Args:
        costs: of what lies between each candidate and the next, in any unit.
        level_penalty: penalty for a cut at a submodule of a submodule, for each level.
        late_weight: share of the part before the rear, as a multiple of each other part's.
    """
    if len(candidates) < 2 or max_blocks < 2:
        return ()
    rear = next((i for i, c in enumerate(candidates) if c.in_rear), len(candidates) - 1)
    before = list(accumulate(costs[:rear], initial=0.0))
    inner = min(max_blocks - 2, rear - 1)
    weights = [*[1.0] * inner, late_weight if inner else 1.0]
    wanted = [weight / sum(weights) for weight in weights]

    def unevenness(cuts: tuple[int, ...]) -> float:
        shares = [(before[b] - before[a]) / (before[-1] or 1) for a, b in pairwise((0, *cuts, rear))]
        levels = sum(candidates[i].path.count(".") for i in cuts)
        apart = sum((share - want) ** 2 for share, want in zip(shares, wanted, strict=True))
        return apart + level_penalty * levels

    best = min(combinations(range(1, rear), inner), key=unevenness)
    return tuple(candidates[i].path for i in (*best, rear))


def _with_flops(
    model: nn.Module, candidates: Sequence[Candidate], example: Inputs | None, output: Output
) -> list[Candidate]:
    """The candidates with what one sample costs from each to the next."""
    paths = [c.path for c in candidates[1:]]
    if example is None:
        return list(candidates)
    try:
        blocks = cut_at(model, paths, ["input", *paths], example, output)
        x = to_device(map_tensors(lambda t: t[:1], example), device_of(model))
        flops = []
        with evaluating(model):
            for block in blocks:
                with FlopCounterMode(display=False) as counter:
                    x = blocks.block(block.index)(x)
                flops.append(float(counter.get_total_flops()))
    except Exception:  # layers are counted instead, and cuts that do not work are left out after that
        return list(candidates)
    return [replace(c, forward_flops=f) for c, f in zip(candidates, flops, strict=True)]


def _works(model: nn.Module, cuts: Sequence[str], example: Inputs | None, output: Output) -> bool:
    try:
        blocks = cut_at(model, cuts, names_for(len(cuts) + 1), example, output)
        if example is not None:
            check_stages(blocks, example)
    except SplitError:
        return False
    return True


def _without(candidates: Sequence[Candidate], bad: Sequence[str]) -> list[Candidate]:
    """The candidates except for some, whose parameters and layers go to the ones before them."""
    kept: list[Candidate] = []
    for c in candidates:
        if c.path not in bad:
            kept.append(c)
            continue
        before = kept[-1]
        kept[-1] = replace(
            before,
            parameter_count=before.parameter_count + c.parameter_count,
            layer_count=before.layer_count + c.layer_count,
        )
    return kept


def _reason(candidates: Sequence[Candidate], cuts: Sequence[str]) -> str:
    if not cuts:
        return "one block: there is no place between parameters that a single tensor crosses"
    paths = [c.path for c in candidates]
    bounds = [0, *(paths.index(cut) for cut in cuts), len(paths)]
    layers = ", ".join(str(sum(c.layer_count for c in candidates[a:b])) for a, b in pairwise(bounds))
    return f"the rear is the head with what normalizes its input; the blocks have {layers} layers"
