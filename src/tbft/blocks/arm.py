"""Arms: what one can do with a model, parsed once."""

from __future__ import annotations

from dataclasses import dataclass

from tbft.errors import SplitError, wrong_form


@dataclass(frozen=True)
class Arm:
    """Something one can do: nothing, adapt statistics alone, tune some parts of the model, or all of it.

    Attributes:
        name: ``none``, ``adabn``, ``full``, ``ridge``, ``prototypes``, or the names of the parts joined by
            ``+``.
        parts: blocks, or submodules inside one, in the order named; empty for the others.

    >>> Arm.of("front+fc").parts, Arm.of("adabn").trains, str(Arm.of("full"))
    (('front', 'fc'), False, 'full')
    """

    name: str
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, arm: Arm | str) -> Arm:
        """Parse the name of an arm; an :class:`Arm` is returned as it is."""
        if isinstance(arm, Arm):
            return arm
        if not isinstance(arm, str):
            raise wrong_form("arm", arm, ["the name of an arm", "an Arm"])
        if arm in RESERVED:
            return cls(arm)
        parts = tuple(arm.split("+"))
        if reserved := RESERVED & set(parts):
            raise SplitError(
                f"{arm!r} joins an arm that tunes no block ({', '.join(sorted(reserved))}); "
                "join blocks or submodules inside them"
            )
        return cls(arm, parts)

    def __str__(self) -> str:
        return self.name

    @property
    def trains(self) -> bool:
        """Whether any parameter is trained."""
        return self.name not in ("none", "adabn") and not self.solves

    @property
    def solves(self) -> bool:
        """Whether the head is computed in closed form, without gradients."""
        return self.name in SOLVED

    @property
    def is_full(self) -> bool:
        """Whether everything is trained."""
        return self.name == "full"

    @property
    def is_joined(self) -> bool:
        """Whether several parts are trained together."""
        return len(self.parts) > 1


#: Arms that are not parts of a model; no block can have one of these names.
RESERVED = frozenset({"none", "adabn", "full", "ridge", "prototypes"})
#: Arms that compute the head in closed form, see ``tuning/closed_form.py``.
SOLVED = frozenset({"ridge", "prototypes"})
