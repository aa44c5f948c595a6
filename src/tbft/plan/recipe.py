"""Recipes: how to train, independent of the arm and the number of samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any

from tbft.errors import PlanError, unknown
from tbft.plan.numbers import (
    Computation,
    Duration,
    Front,
    Joint,
    Optimization,
    Scaling,
    Tracking,
    Training,
)
from tbft.plan.statistics import FOLLOW, KEEP, Statistics


@dataclass(frozen=True)
class Recipe:
    """How to train, independent of the arm.

    Attributes:
        front: how the first block is trained; None: like the others.
        head_alone: the arm for the output level is the head (the last layer) instead of the rear block.
        strength: how far to go from the base's weights (0) to the tuned ones (1). Weights in between are
            often more robust if labels are few (Wortsman et al. 2022, WiSE-FT).
        source: where the recipe comes from.
    """

    name: str
    optimization: Optimization
    duration: Duration
    scaling: Scaling = field(default_factory=Scaling)
    joint: Joint = field(default_factory=Joint)
    tracking: Tracking = field(default_factory=Tracking)
    computation: Computation = field(default_factory=Computation)
    front: Front | None = None
    head_alone: bool = False
    strength: float = 1.0
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise PlanError(f"the strength is a number above 0 and at most 1, not {self.strength}")
        o, d = self.optimization, self.duration
        for name, rate in (("learning_rate", o.learning_rate), ("rear_learning_rate", o.rear_learning_rate)):
            if rate is not None and not (_is_number(rate) and rate > 0):
                raise PlanError(f"{name} is {rate!r}; give a positive number")
        for name, value, limit in (("momentum", o.momentum, 1.0), ("weight_decay", o.weight_decay, inf)):
            if not (_is_number(value) and 0 <= value < limit):
                raise PlanError(f"{name} is {value!r}; give a number from 0" + (", below 1" * (limit == 1)))
        for name, count in (("epochs", d.epochs), ("batch_size", d.batch_size)):
            if not _is_count(count):
                raise PlanError(f"{name} is {count!r}; give a whole number of at least 1")

    def training(
        self,
        count: int,
        middle: bool = False,
        rear: bool = False,
        joint: bool = False,
        front: bool = False,
    ) -> Training:
        """The settled numbers for `count` samples.

        Args:
            middle: whether the arm is a block between the first and the last.
            rear: whether the arm is inside the last block.
            joint: whether it is the head and other layers.
            front: whether it is inside the first block of a network for pictures.
        """
        if front and self.front is not None:
            return self._front_training(count, self.front)
        if joint and self.joint.joint_learning_rate is not None:
            return self._joint_training(count)
        s, d, o = self.scaling, self.duration, self.optimization
        batch_size, epochs, factor = d.batch_size, d.epochs, 1.0
        scaled = bool(s.min_steps and count)
        if scaled:
            batch_size = min(count, max(s.min_batch, min(batch_size, count // 8)))
            steps = s.rear_min_steps or s.min_steps if rear else s.min_steps
            epochs = max(
                s.middle_epochs or epochs if middle else epochs, -(-steps // -(-count // batch_size))
            )
            if s.full_rate_from:
                factor = min(1.0, (count / s.full_rate_from) ** s.rate_power)
        max_steps = 0
        if d.length < 1 and count:
            per_epoch = -(-count // batch_size)
            max_steps = max(1, round(d.length * epochs * per_epoch))
            epochs = -(-max_steps // per_epoch)
        front_rate = o.learning_rate * factor
        rear_rate = front_rate if o.rear_learning_rate is None else o.rear_learning_rate
        return Training(
            replace(o, learning_rate=rear_rate if rear else front_rate, rear_learning_rate=None),
            self.computation,
            batch_size,
            epochs,
            d.patience,
            d.validate,
            even_batches=scaled,
            rear_rate_factor=1.0 if rear or not front_rate else rear_rate / front_rate,
            max_steps=max_steps,
        )

    def _front_training(self, count: int, front: Front) -> Training:
        share = front.front_length if count >= front.front_from else 1.0
        alike = self.replace(
            front=None,
            length=share * self.duration.length,
            batch_size=front.front_batch_size or self.duration.batch_size,
            learning_rate=front.front_learning_rate or self.optimization.learning_rate,
        )
        return replace(alike.training(count), later_norms=front.later_norms)

    def _joint_training(self, count: int) -> Training:
        steps = self.joint.joint_min_steps or self.scaling.min_steps
        alike = self.replace(
            learning_rate=self.joint.joint_learning_rate, rear_learning_rate=None, min_steps=steps
        )
        return replace(alike.training(count), front_rate_factor=self.joint.front_rate_factor)

    def replace(self, **numbers: Any) -> Recipe:
        """The recipe with some numbers replaced, named as the fields of the recipe or of its parts.

        A learning rate, and a number of epochs or of samples in a batch, also hold for the front.

        >>> recipe = Recipe("mine", Optimization("sgd", 0.1), Duration(batch_size=32, epochs=10))
        >>> recipe.replace(epochs=3, optimizer="adam").duration.epochs
        3
        """
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.front is not None:
            given = {of: value for name, (of, value) in _OF_THE_FRONT.items() if name in numbers}
            parts["front"] = replace(self.front, **given)
        for name, value in numbers.items():
            if name not in parts:
                owner = _OWNERS.get(name)
                if owner is None:
                    raise PlanError(unknown("field of a recipe", name, _OWNERS))
                name, value = owner, replace(parts[owner] or Front(), **{name: value})
            parts[name] = value
        return Recipe(**parts)

    def given(
        self, epochs: int | None = None, batch_size: int | None = None, learning_rate: float | None = None
    ) -> Recipe:
        """The recipe with these numbers for any arm and number of samples; None: unchanged."""
        changes: dict[str, Any] = {}
        if epochs is not None:
            min_steps = min(self.scaling.min_steps, 1)
            changes |= {"epochs": epochs, "middle_epochs": 0, "min_steps": min_steps, "rear_min_steps": 0}
            changes |= {"joint_min_steps": 0}
        if batch_size is not None:
            changes |= {"batch_size": batch_size, "min_batch": batch_size}
        if learning_rate is not None:
            changes |= {"learning_rate": learning_rate, "rear_learning_rate": None, "full_rate_from": 0}
            changes |= {"joint_learning_rate": learning_rate}
        return self.replace(**changes)

    def default_statistics(self, level: str | None = None) -> Statistics:
        """The policy for statistics if none is given.

        Recipes that refresh let statistics follow the target, depending on the number of samples. At the
        output level the inputs are unchanged, so the statistics are kept.
        """
        if not self.tracking.refresh:
            return Statistics.of(0.0)
        return KEEP if level == "output" else FOLLOW

    def to_json(self) -> dict[str, Any]:
        """All numbers by name, without nesting."""
        flat: dict[str, Any] = {}
        for key, value in asdict(self).items():
            flat |= value if isinstance(value, dict) else {key: value}
        return flat


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and isfinite(value)


_PARTS = {"optimization": Optimization, "duration": Duration, "scaling": Scaling, "joint": Joint,
          "tracking": Tracking, "computation": Computation, "front": Front}  # fmt: skip
_OWNERS = {field.name: part for part, kind in _PARTS.items() for field in fields(kind)}
#: What is named for all arms replaces these numbers of the front.
_OF_THE_FRONT: dict[str, tuple[str, Any]] = {
    "epochs": ("front_length", 1.0),
    "batch_size": ("front_batch_size", None),
    "learning_rate": ("front_learning_rate", None),
}
