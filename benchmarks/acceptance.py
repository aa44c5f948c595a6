"""Does acceptance keep its promises? Coverage of intervals, and adaptations in which nothing can be gained.

    python benchmarks/acceptance.py --json benchmarks/results/acceptance.json

A sample is fixed, regresses or stays as it is with fixed probabilities, so the numbers of fixed and
regressed samples are multinomial. Up to 500 samples, everything about them is enumerated and not
simulated. *Coverage* is the probability that the interval contains the true gain, over rates of change from
0 to 1 and all ratios of fixed to regressed. *Harm* is the probability that an adaptation which loses more
than a point is kept, for the worst rates and over 5,000 random adaptations in which nothing can be gained;
*power* is the probability that a gain is kept. Rules: the cautious one, the one that is not (more fixed than
regressed), and that of version 0.1 (no more regressed than fixed).

Scores other than accuracy, grouped samples and cross-fitting are simulated: of the latter, two things that
a multinomial does not have, models that differ from fold to fold, and a final model that differs from those.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lgamma
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from records import parser_of, store

from tbft.verification.acceptance import MARGIN, MAX_LOSS_CHANCE
from tbft.verification.binomial import binomial_cdf
from tbft.verification.decision import judge_pairs
from tbft.verification.pairs import loss_chance, paired_interval
from tbft.verification.scores import judge_scores

Array = npt.NDArray[np.float64]

SIZES = (3, 5, 10, 20, 50, 100, 200, 500)
CHANGES = (0, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8,
           0.9, 0.95, 0.99, 1)  # fmt: skip
#: Share of the changed samples that are fixed; more than half mirrors less.
FIXED = (0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5)
JUDGED = (10, 20, 50, 100, 200)
LOSSES = (0.0101, 0.015, 0.02, 0.03, 0.05)
#: Rates of fixed and regressed samples with which power is shown.
GAINS = ((0.05, 0.0), (0.08, 0.03), (0.15, 0.05), (0.3, 0.1))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args()
    record = {name: [shown(name, row) for row in part()] for name, part in PARTS.items()}
    if arguments.json:
        store(arguments.json, **record)


def shown(name: str, row: dict[str, Any]) -> dict[str, Any]:
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    print(name, *(f"{key} {value}" for key, value in rounded.items()), flush=True)
    return rounded


class Outcomes:
    """All numbers of fixed and regressed among so many samples, and their probabilities."""

    def __init__(self, count: int) -> None:
        fixed, regressed = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
        possible = fixed + regressed <= count
        self.count, self.fixed, self.regressed = count, fixed[possible], regressed[possible]
        logs = np.array([lgamma(k + 1) for k in range(count + 1)])
        self.rest = count - self.fixed - self.regressed
        self.choose = logs[count] - logs[self.fixed] - logs[self.regressed] - logs[self.rest]

    def probabilities(self, gains: float, losses: float) -> Array:
        total = self.choose.copy()
        pairs = ((self.fixed, gains), (self.regressed, losses), (self.rest, 1 - gains - losses))
        for number, rate in pairs:
            total += np.where(number > 0, number * np.log(max(rate, 1e-300)), 0)
        return np.exp(total)

    def each(self, function: Callable[[int, int, int], Any]) -> Array:
        """The function of (fixed, regressed, count) for all outcomes."""
        pairs = zip(self.fixed.tolist(), self.regressed.tolist(), strict=True)
        return np.array([function(f, r, self.count) for f, r in pairs], dtype=np.float64)


def coverage() -> Any:
    for count in SIZES:
        outcomes = Outcomes(count)
        for name, interval in (("tbft", paired_interval), ("0.1", conditional)):
            if name == "0.1" and count not in (5, 20, 50):
                continue
            low, high = outcomes.each(interval).T
            found = []
            for change in CHANGES:
                for share in FIXED:
                    gain = change * (2 * share - 1)
                    inside = (low <= gain + 1e-9) & (high >= gain - 1e-9)
                    found.append(outcomes.probabilities(change * share, change * (1 - share)) @ inside)
            yield {
                "interval": name,
                "samples": count,
                "min": float(min(found)),
                "mean": float(np.mean(found)),
                "min_few_changes": float(min(found[len(FIXED) : 7 * len(FIXED)])),  # 0.25 to 5 %
            }


def conditional(fixed: int, regressed: int, count: int) -> tuple[float, float]:
    """The interval of version 0.1: Clopper and Pearson's, given the number of changed samples."""
    changed = fixed + regressed
    if not changed:
        return 0.0, 0.0
    low = _bisected(lambda rate: binomial_cdf(changed - fixed, changed, 1 - rate) > 0.025) if fixed else 0.0
    high = 1.0
    if fixed < changed:
        high = _bisected(lambda rate: binomial_cdf(fixed, changed, rate) < 0.025)
    return (2 * low - 1) * changed / count, (2 * high - 1) * changed / count


def _bisected(beyond: Callable[[float], bool]) -> float:
    """The rate at which a monotone condition starts to hold."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high


def rules(outcomes: Outcomes) -> dict[str, Array]:
    """For each rule, whether it keeps an outcome."""
    chances = outcomes.each(lambda f, r, n: loss_chance(f, r, n, MARGIN) if f > r else 1.0)
    more, same = outcomes.fixed > outcomes.regressed, outcomes.fixed >= outcomes.regressed
    return {
        "cautious": (more & (chances <= MAX_LOSS_CHANCE)).astype(np.float64),
        "not cautious": more.astype(np.float64),
        "0.1": same.astype(np.float64),
    }


def promise() -> Any:
    """Harm where nothing can be gained, and power."""
    generator = np.random.default_rng(0)
    # Rates of change up to 40 %, of which at most half are fixed.
    change, share = generator.uniform(0, 0.4, 5000), generator.uniform(0, 0.5, 5000)
    for count in JUDGED:
        outcomes = Outcomes(count)
        drawn = generator.multinomial(count, np.stack([change * share, change * (1 - share), 1 - change], 1))
        loses = change * (1 - 2 * share) > MARGIN
        for name, kept in rules(outcomes).items():
            table = np.zeros((count + 1, count + 1))
            table[outcomes.fixed, outcomes.regressed] = kept
            harm = [
                float(outcomes.probabilities((c - loss) / 2, (c + loss) / 2) @ kept)
                for c in CHANGES
                for loss in LOSSES
                if loss <= c
            ]
            yield {
                "rule": name,
                "samples": count,
                "worst_harm": max(harm),
                "harm_of_5000": float((table[drawn[:, 0], drawn[:, 1]] * loses).mean()),
                "power": [round(float(outcomes.probabilities(*rates) @ kept), 3) for rates in GAINS],
            }


def scores() -> Any:
    """Coverage of the bootstrap's interval for scores, and how often a mean change of zero is kept."""
    generator = np.random.default_rng(1)
    drawn: dict[str, Callable[[int], Array]] = {
        "normal": lambda n: generator.normal(size=n),
        "skewed": lambda n: generator.exponential(size=n) - 1,
        "heavy tails": lambda n: generator.standard_t(3, size=n),
        "four in five unchanged": lambda n: (generator.random(n) < 0.2) * generator.normal(size=n),
    }
    for count in (3, 5, 10, 20, 50, 100):
        for name, draw in drawn.items():
            judged = []
            for _ in range(400):
                before = generator.normal(size=count)
                judged.append(judge_scores(before, before + draw(count)))
            yield {
                "changes": name,
                "samples": count,
                "coverage": float(np.mean([j.low <= 0 <= j.high for j in judged])),
                "kept": float(np.mean([j.accepted for j in judged])),
            }


def grouped() -> Any:
    """Samples of a group are fixed or regress together: coverage with and without the groups."""
    generator = np.random.default_rng(2)
    for groups, size in ((5, 10), (10, 10), (20, 5)):
        inside = {"with groups": 0, "without": 0}
        runs = 1000
        for _ in range(runs):
            state = np.repeat(generator.choice(3, groups, p=[0.1, 0.1, 0.8]), size)
            number = np.repeat(np.arange(groups), size)
            for name, given in (("with groups", number), ("without", None)):
                judged = judge_pairs(state != 0, state != 1, groups=given)
                inside[name] += judged.low <= 0 <= judged.high
        yield {"groups": groups, "size": size, **{k: v / runs for k, v in inside.items()}}


def cross_fitted() -> Any:
    """Adaptations whose models differ from fold to fold: harm and coverage of the final model's gain.

    The gain of each model, final or of a fold, is the procedure's plus noise of one or three points.
    """
    generator = np.random.default_rng(3)
    runs, folds = 4000, 4
    for count in (20, 50, 100):
        for spread in (0.0, 0.01, 0.03):
            change = generator.uniform(0.02, 0.3, runs)
            loss = generator.uniform(0, 0.05, runs).clip(max=change)
            noise = generator.normal(0, spread, (folds + 1, runs))
            gains = np.clip(-loss + noise, -change, change)
            fixed, regressed = np.zeros(runs, int), np.zeros(runs, int)
            for k in range(folds):
                size = count // folds + (k < count % folds)
                up, down = (change + gains[k]) / 2, (change - gains[k]) / 2
                drawn = generator.multinomial(size, np.stack([up, down, 1 - change], 1))
                fixed, regressed = fixed + drawn[:, 0], regressed + drawn[:, 1]
            limits = np.array([paired_interval(f, r, count) for f, r in zip(fixed, regressed, strict=True)])
            chances = [loss_chance(f, r, count, MARGIN) for f, r in zip(fixed, regressed, strict=True)]
            kept = (fixed > regressed) & (np.array(chances) <= MAX_LOSS_CHANCE)
            inside = (limits[:, 0] <= gains[-1]) & (limits[:, 1] >= gains[-1])
            yield {
                "samples": count,
                "spread_of_models": spread,
                "harm": float((kept & (gains[-1] < -MARGIN)).mean()),
                "harm_not_cautious": float(((fixed > regressed) & (gains[-1] < -MARGIN)).mean()),
                "coverage": float(inside.mean()),
            }


PARTS = {
    "coverage": coverage,
    "promise": promise,
    "scores": scores,
    "grouped": grouped,
    "cross_fitted": cross_fitted,
}


if __name__ == "__main__":
    main()
