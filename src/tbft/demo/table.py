"""Every arm on every kind of drift, and what tbft does when it is left to choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median

from tbft.blocks import Blocks
from tbft.data.splitting import Parts, split_samples
from tbft.demo.digits import Scenario, scenarios
from tbft.personalization import Personalization
from tbft.pipeline import personalize
from tbft.plan import Plan, find_recipe, plan_level

#: The paper's recipe with batch size and learning rate for 100 samples. All arms train equally long, so that
#: their costs can be compared.
TUNE = find_recipe("paper").replace(
    name="demo", batch_size=16, epochs=20, patience=None, learning_rate=1e-2, rear_learning_rate=None
)

#: The row of the choice that tbft makes itself.
OURS = "tbft"


@dataclass(frozen=True)
class Row:
    """One arm on one scenario, summarized over the repeats.

    Attributes:
        accuracy: mean accuracy, 0 to 1.
        cpu_seconds: median processor time: of tuning with its validation, for `tbft` with its choosing too.
        note: what was chosen, for `tbft`.
    """

    arm: str
    accuracy: float
    cpu_seconds: float
    patch_bytes: int
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """All arms on one scenario."""

    level: str
    story: str
    matching: str  # the arm that the level names
    train_samples: int
    test_samples: int
    rows: tuple[Row, ...]

    def row(self, arm: str) -> Row:
        """The row of an arm."""
        return next(r for r in self.rows if r.arm == arm)


def run(seed: int = 0, repeats: int = 1, on_arm: Callable[[str, str], None] | None = None) -> list[Outcome]:
    """Adapt every scenario with every arm, each on `repeats` random splits.

    Args:
        on_arm: called with level and arm before each adaptation.
    """
    return [_outcome(scenario, seed, repeats, on_arm) for scenario in scenarios(seed)]


def arms(blocks: Blocks) -> list[str]:
    """The rows of the table: the arms, and the choice of tbft."""
    return ["none", "adabn", *blocks.names, "full", OURS]


def conclusion(outcome: Outcome) -> str:
    """The conclusion from one scenario's figures, in words.

    >>> rows = [Row("none", 0.1, 0, 0), Row("front", 0.9, 1, 10), Row("rear", 0.6, 1, 5)]
    >>> rows += [Row("full", 0.8, 2, 40), Row("tbft", 0.85, 0.5, 5)]
    >>> print(conclusion(Outcome("input", "", "front", 100, 400, tuple(rows))))
    The matching block, front, gains 80.0 points: 30.0 more than the best other block, 10.0 more than full.
    It takes 50 % of the processor time of full and 25 % of its patch size.
    Left to choose, tbft gains 75.0 points in 25 % of the processor time of full.
    """
    matching, full, none = outcome.row(outcome.matching), outcome.row("full"), outcome.row("none")
    ours = outcome.row(OURS)
    others = [r for r in outcome.rows if r.arm not in ("none", "adabn", "full", OURS, matching.arm)]
    over_blocks = 100 * (matching.accuracy - max(r.accuracy for r in others))
    over_full = 100 * (matching.accuracy - full.accuracy)
    return (
        f"The matching block, {matching.arm}, gains {100 * (matching.accuracy - none.accuracy):.1f} points: "
        f"{_more(over_blocks)} than the best other block, {_more(over_full)} than full.\n"
        f"It takes {100 * matching.cpu_seconds / full.cpu_seconds:.0f} % of the processor time of full and "
        f"{100 * matching.patch_bytes / full.patch_bytes:.0f} % of its patch size.\n"
        f"Left to choose, tbft gains {100 * (ours.accuracy - none.accuracy):.1f} points in "
        f"{100 * ours.cpu_seconds / full.cpu_seconds:.0f} % of the processor time of full."
    )


def _outcome(
    scenario: Scenario, seed: int, repeats: int, on_arm: Callable[[str, str], None] | None
) -> Outcome:
    blocks = scenario.blocks
    splits = [split_samples(scenario.target, "10/class", 0.15, 0.5, seed + i) for i in range(repeats)]
    rows = []
    for arm in arms(blocks):
        results = []
        for i, parts in enumerate(splits):
            if on_arm is not None:
                on_arm(scenario.level, arm)
            results.append(_adapted(blocks, parts, arm, seed + i))
        rows.append(_row(arm, results))
    matching = plan_level(scenario.level, blocks.names, blocks.head, TUNE.replace(head_alone=False)).arm.name
    sizes = len(splits[0].train), len(splits[0].test)
    return Outcome(scenario.level, scenario.story, matching, *sizes, tuple(rows))


def _adapted(blocks: Blocks, parts: Parts, arm: str, seed: int) -> Personalization:
    if arm == OURS:
        return personalize(blocks, parts, seed=seed)
    return personalize(blocks, parts, plan=Plan(arm, TUNE, seed=seed))


def _row(arm: str, results: list[Personalization]) -> Row:
    chosen = dict.fromkeys(str(r.plan.arm) for r in results)
    return Row(
        arm,
        fmean(r.after.score for r in results if r.after is not None),
        median(r.measurement.cpu_seconds for r in results),
        len(results[0].patch.to_bytes()) if results[0].patch.tensors else 0,
        f"chose {', '.join(chosen)}" if arm == OURS else "",
    )


def _more(points: float) -> str:
    return f"{points:.1f} more" if points >= 0 else f"{-points:.1f} less"
