"""The budget of an adaptation, and the clock that watches it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

from tbft.errors import PlanError, check_form
from tbft.metering.profile import Profile

#: Share of a budget of processor time or energy that tuning may spend; the rest is for the statistics
#: afterwards.
SPENT_SHARE = 0.95


@dataclass(frozen=True)
class Budget:
    """Limits for an adaptation; None: no limit.

    Attributes:
        peak_bytes: memory of tensors and prefix cache, in addition to model and samples.
        cpu_seconds: processor time of the whole adaptation.
        joules: energy of the whole adaptation.
        choosing_seconds: processor time for trying options before one is chosen; default: a third of what the
            likeliest option is predicted to cost, at least 2 s. 0: none is tried.
        worth: points of accuracy that a second of processor time is worth; default: the cheapest option
            within half a point of the best is chosen.
    """

    peak_bytes: int | None = None
    cpu_seconds: float | None = None
    joules: float | None = None
    choosing_seconds: float | None = None
    worth: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            check_form(field.name, getattr(self, field.name), Real, "a number")
        for amount, unit in ((self.peak_bytes, "bytes"), (self.cpu_seconds, "s"), (self.joules, "J")):
            if amount is not None and not 0 < amount < float("inf"):
                raise PlanError(f"a budget of {amount} {unit} is not a valid amount; give a positive number")

        for name in ("choosing_seconds", "worth"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise PlanError(f"{name} is {value}; give a number of at least 0")

    @property
    def is_timed(self) -> bool:
        """Whether it limits time or energy."""
        return self.cpu_seconds is not None or self.joules is not None

    @property
    def in_words(self) -> str:
        """Its limits of time and energy."""
        return Spending(self.cpu_seconds or 0.0, self.joules or 0.0).in_words(self)


@dataclass(frozen=True)
class Spending:
    """Processor time and energy that were spent, or would be; unknown energy counts as 0."""

    cpu_seconds: float = 0.0
    joules: float = 0.0

    def plus(self, other: Spending, times: float = 1.0) -> Spending:
        """This and `times` the other."""
        return Spending(self.cpu_seconds + times * other.cpu_seconds, self.joules + times * other.joules)

    def in_words(self, budget: Budget) -> str:
        """The amounts that a budget limits.

        >>> Spending(0.3141, 2.0).in_words(Budget(cpu_seconds=1))
        '0.31 s of processor time'
        """
        limited = [
            (self.cpu_seconds, budget.cpu_seconds, "s of processor time"),
            (self.joules, budget.joules, "J"),
        ]
        return " and ".join(f"{rounded(spent)} {unit}" for spent, limit, unit in limited if limit is not None)

    def exceeds(self, budget: Budget) -> bool:
        """Whether it is more than a budget of time or energy allows."""
        seconds, joules = budget.cpu_seconds, budget.joules
        return (seconds is not None and self.cpu_seconds > seconds) or (
            joules is not None and self.joules > joules
        )


def rounded(amount: float) -> str:
    """An amount in words.

    >>> rounded(6.04), rounded(0.0123)
    ('6.0', '0.012')
    """
    return f"{amount:.2g}" if amount < 1 else f"{amount:,.1f}"


class SpentError(Exception):
    """A budget of processor time or energy is spent; never raised to the user."""


class Allowance:
    """A budget with a running clock, shared by all steps of an adaptation.

    Args:
        budget: None: no limit.
        profile: profile of this board, to estimate energy.
    """

    def __init__(self, budget: Budget | None = None, profile: Profile | None = None) -> None:
        self.budget, self.profile = budget or Budget(), profile
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds spent so far."""
        return time.process_time() - self._cpu

    def estimated_joules(self) -> float:
        """Energy spent so far, estimated from the profile; 0 without one."""
        if self.profile is None:
            return 0.0
        return self.profile.estimate(time.perf_counter() - self._wall, self.cpu_seconds)

    @property
    def spent(self) -> Spending:
        """What was spent so far."""
        return Spending(self.cpu_seconds, self.estimated_joules())

    def left(self) -> Budget:
        """What is left of the budget; at least a tiny positive amount, so that it is a valid budget."""
        budget = self.budget
        seconds, joules = budget.cpu_seconds, budget.joules
        return replace(
            budget,
            cpu_seconds=None if seconds is None else max(seconds - self.cpu_seconds, 1e-3),
            joules=None if joules is None else max(joules - self.estimated_joules(), 1e-3),
        )

    def spent_share(self) -> float:
        """The spent share of the budget of time or of energy, whichever is larger."""
        if not self.budget.is_timed:
            return 0.0
        shares = [0.0]
        if self.budget.cpu_seconds is not None:
            shares.append(self.cpu_seconds / self.budget.cpu_seconds)
        if self.budget.joules is not None and self.profile is not None:
            shares.append(self.estimated_joules() / self.budget.joules)
        return max(shares)

    def check(self, *_: Any) -> None:
        """Raise SpentError if the budget is spent."""
        if self.spent_share() > SPENT_SHARE:
            raise SpentError

    def watching(self, on_step: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
        """A function that calls `on_step` and raises SpentError if the next step would exceed the budget."""
        start = self.spent_share()

        def watched(done: int, total: int) -> None:
            if on_step is not None:
                on_step(done, total)
            spent = self.spent_share()
            if done < total and spent + (spent - start) / done > SPENT_SHARE:
                raise SpentError

        return watched
