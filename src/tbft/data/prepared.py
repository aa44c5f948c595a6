"""How samples were prepared for a model: written with what was made of them, and compared with it later."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tbft.data.input_notes import input_notes
from tbft.data.input_statistics import InputStatistics, implausible_shift, input_statistics
from tbft.data.preprocessing import Preprocessing
from tbft.data.samples import Samples
from tbft.errors import DataError

#: With fewer values of a channel, its spread is too uncertain to note another unit.
_MIN_VALUES = 16
_SIZES, _VALUES = ("resolution", "resize", "crop"), ("mean", "std", "channel_order")


def prepared(samples: Samples) -> dict[str, Any]:
    """The preprocessing of samples as plain values, for a card or a patch.

    What is not known is left out: the normalization of inputs that came normalized, and sizes of anything
    but square pictures.
    """
    if samples.token_ids:
        return {}
    values = samples.preprocessing.to_json()
    if samples.are_pictures and samples.inputs.shape[1] == samples.inputs.shape[2]:
        values["resolution"] = int(samples.inputs.shape[1])
    are_values_known = not samples.as_taken or samples.preprocessing.changes_values
    known = _VALUES * are_values_known + _SIZES * (values["resolution"] is not None)
    return {key: values[key] for key in known}


def check_prepared(samples: Samples, stored: Mapping[str, Any], where: str = "the source card") -> None:
    """Raise DataError if samples were prepared differently from what `stored` says, as far as both are known.

    Args:
        stored: fields of a preprocessing, as :func:`prepared` gives them.
        where: what holds it, for messages.
    """
    own = prepared(samples)
    mine, theirs = (
        Preprocessing.from_json({k: v for k, v in values.items() if k in own and k in stored})
        for values in (own, stored)
    )
    if differs := mine.differs_from(theirs):
        raise DataError(
            f"{samples.name}: the preprocessing is not that of {where}: {differs}; leave out what differs "
            "(options, or fields of InputSpec), so that it is taken from there"
        )


def check_statistics(samples: Samples, source: InputStatistics, where: str = "the source") -> tuple[str, ...]:
    """Raise DataError if inputs have another size, range, normalization or unit than those of the source.

    Args:
        source: statistics of the inputs that the model works on.
        where: whose they are, for messages.

    Returns:
        notes where they may be in another unit, which may be drift as well, or channels do not vary; none for
        pictures.
    """
    if samples.token_ids:
        return ()
    target = input_statistics(samples)
    if source.shape and target.shape != source.shape:
        shown = ["x".join(map(str, s)) for s in (target.shape, source.shape)]
        raise DataError(
            f"{samples.name}: inputs have the shape {shown[0]}, those of {where} {shown[1]}: the model's "
            "figures would not be comparable; resize or cut them alike"
        )
    if why := implausible_shift(source, target, where):
        raise DataError(
            f"{samples.name}: {why}. Convert them, or name what they are: --range, "
            "--mean and --std, or InputSpec in Python"
        )
    if len(samples) * prod(target.shape[1:]) < _MIN_VALUES:
        return ()
    return input_notes(source, target, where)
