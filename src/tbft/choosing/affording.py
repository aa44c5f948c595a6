"""Whether a budget lasts until a plan is chosen, and for any plan, found out before much of it is spent."""

from __future__ import annotations

from collections.abc import Mapping

from tbft.blocks import Blocks
from tbft.choosing.cost import Cost
from tbft.data.samples import Samples
from tbft.diagnosis.gathering import passed_count
from tbft.errors import BudgetError
from tbft.plan import Allowance
from tbft.plan.budget import rounded
from tbft.verification.compatibility import check_fits
from tbft.verification.running import predict

#: Batch size of the first forward pass that is timed; that of the next one is as in the diagnosis.
FIRST_BATCH = 8


def check_affords_diagnosis(blocks: Blocks, samples: Samples, batch_size: int, allowance: Allowance) -> None:
    """Refuse a budget that diagnosing would exceed, by the time of one or two forward passes.

    Raises:
        BudgetError: it is too small; the message says how much forward passes alone would take.
    """
    budget = allowance.budget
    if not budget.is_timed or not len(samples):
        return
    if samples.targets is None:
        check_fits(blocks, samples)  # also warms up
    batch_count = -(-passed_count(blocks, len(samples)) // batch_size)
    for size in (min(FIRST_BATCH, batch_size), batch_size):
        before = allowance.spent
        predict(blocks, samples.subset(slice(0, size)))
        after = allowance.spent
        # A larger batch takes no less time than a smaller one, so this is not too much.
        needed = after.plus(after.plus(before, -1), batch_count - 1)
        if needed.exceeds(budget):
            raise _too_small(
                allowance,
                f"running the model over the samples takes at least {needed.in_words(budget)}, and choosing "
                "several times that: allow for it",
            )


def check_not_spent(allowance: Allowance, what: str) -> None:
    """Refuse a budget that was exceeded before anything could be chosen.

    Args:
        what: what was done so far.

    Raises:
        BudgetError: it was exceeded; the message says by how much.
    """
    if allowance.spent.exceeds(allowance.budget):
        spent = allowance.spent.in_words(allowance.budget)
        raise _too_small(allowance, f"{what} took {spent}: allow more than that")


def check_affords_memory(
    expected: Mapping[str, float], costs: Mapping[str, Cost], allowance: Allowance, worse: float
) -> None:
    """Refuse a budget of memory in which nothing could be tuned, where tuning is expected to help.

    Args:
        expected: option -> expected accuracy.
        worse: how much lower the expected accuracy of ``none`` has to be.

    Raises:
        BudgetError: it is too small; the message says how much the option that needs least would take.
    """
    allowed = allowance.budget.peak_bytes
    needed = {name: cost.min_bytes for name, cost in costs.items() if cost.min_bytes}
    if allowed is None or not needed or min(needed.values()) <= allowed:
        return
    if max(expected.values()) <= expected.get("none", 0.0) + worse:
        return
    least = min(needed, key=lambda name: needed[name])
    raise BudgetError(
        f"the budget of {_bytes(allowed)} of memory is too small to tune anything: {least!r}, which needs "
        f"least, takes at least {_bytes(needed[least])}: allow that much"
    )


def _bytes(count: int) -> str:
    return f"{count:,} bytes ({rounded(count / 2**20)} MiB)"


def _too_small(allowance: Allowance, why: str) -> BudgetError:
    return BudgetError(
        f"the budget of {allowance.budget.in_words} is too small to choose what to tune: {why}, or name an "
        "arm (arm=, --arm)"
    )
