"""What is done to pictures, or windows, before a model sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tbft.errors import DataError, unknown

Numbers = tuple[float, ...]

#: Mean and standard deviation of each channel, in RGB order and for values in [0, 1].
NORMALIZATIONS: Mapping[str, tuple[Numbers, Numbers]] = {
    "none": ((0.0,), (1.0,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5,), (0.5,)),
    "0-255": ((0.0,), (1 / 255,)),  # a model that takes pixels as they are
}
CHANNEL_ORDERS = ("RGB", "BGR")
#: Maximum side of a picture in px, which is the largest that Pillow writes.
MAX_SIDE = 65_500
CROPS = ("center", "none")


@dataclass(frozen=True)
class Preprocessing:
    """What is done to pictures, or windows, before the model sees them; the default does nothing.

    Sizes are fitted where pictures are read, and stay ``uint8``; the rest is done in ``Samples.batch``.

    Attributes:
        mean, std: of each channel as the model takes them, for values in [0, 1]; one number is for all
            channels. ``(value - mean) / std`` is what the model sees.
        resolution: side of the square pictures in px; None: as they are.
        resize: length in px to which the shorter side is scaled before the crop; None: `resolution`.
        crop: ``center`` cuts the square from the middle; ``none`` scales both sides to `resolution`.
        channel_order: ``RGB`` or ``BGR``.
    """

    mean: Numbers = (0.0,)
    std: Numbers = (1.0,)
    resolution: int | None = None
    resize: int | None = None
    crop: str = "center"
    channel_order: str = "RGB"

    def __post_init__(self) -> None:
        """Refuse what is not valid or does not go together."""
        _check_sizes(self.resolution, self.resize, self.crop)
        if self.channel_order not in CHANNEL_ORDERS:
            raise DataError(unknown("channel order", str(self.channel_order), CHANNEL_ORDERS))
        if min(self.std) <= 0:
            raise DataError(f"std has to be positive, not {_shown(self.std)}")

    @property
    def changes_values(self) -> bool:
        """False if values in [0, 1] reach the model as they are."""
        return (set(self.mean), set(self.std), self.channel_order) != ({0.0}, {1.0}, "RGB")

    @property
    def settled(self) -> frozenset[str]:
        """The fields that say something: how values are changed, and a size that is wanted."""
        values = {"mean", "std", "channel_order"} if self.changes_values else set()
        sizes = {"resolution", "resize", "crop"} if self.resolution is not None else set()
        return frozenset(values | sizes)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_json`; unknown keys are an error, missing ones get the default.

        Raises:
            DataError: a key or a value that is not valid.
        """
        known = {"mean", "std", "resolution", "resize", "crop", "channel_order"}
        for key in values:
            if key not in known:
                raise DataError(f"preprocessing: {unknown('key', str(key), sorted(known))}")
        given = dict(values)
        for key in {"mean", "std"} & set(given):
            given[key] = _numbers(given[key], key)
        return cls(**given)

    def differs_from(self, other: Preprocessing) -> str:
        """A sentence that names what differs; empty if nothing does.

        >>> Preprocessing(resolution=64).differs_from(Preprocessing(resolution=32))
        'resolution is 64 here and 32 there'
        """
        mine, theirs = self._canonical(), other._canonical()
        found = [
            f"{name} is {_shown(mine[name])} here and {_shown(theirs[name])} there"
            for name in mine
            if mine[name] != theirs[name]
        ]
        return ", ".join(found)

    def _canonical(self) -> dict[str, Any]:
        """Fields such that equal preprocessing compares equal however it was written."""
        values = asdict(self)
        for name in ("mean", "std"):
            numbers = tuple(round(v, 6) for v in values[name])
            values[name] = numbers[:1] if len(set(numbers)) == 1 else numbers
        if self.resize == self.resolution:
            values["resize"] = None
        return values

    def __str__(self) -> str:
        parts = []
        if self.resolution is not None:
            scaled = f"shorter side {self.resize} px, " if self.resize and self.crop == "center" else ""
            how = "center crop" if self.crop == "center" else "both sides scaled"
            parts.append(f"{scaled}{how}, {self.resolution} px")
        if self.channel_order != "RGB":
            parts.append(self.channel_order)
        if set(self.mean) != {0.0} or set(self.std) != {1.0}:
            parts.append(f"mean {_shown(self.mean)}, std {_shown(self.std)}")
        return "; ".join(parts) or "none"


def normalization(
    mean: str | float | Numbers | None, std: str | float | Numbers | None, channel_order: str = "RGB"
) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation as numbers, one or one per channel; a name alone stands for both.

    Args:
        channel_order: named ones are turned for ``BGR``; numbers are in the order that the model takes.

    Raises:
        DataError: an unknown name, no numbers, or one without the other.
    """
    mean = std if mean is None and isinstance(std, str) else mean
    std = mean if std is None and isinstance(mean, str) else std
    if (mean is None) != (std is None):
        raise DataError("mean and std go together: give both, or one name for both, such as imagenet")
    if mean is None or std is None:
        return (0.0,), (1.0,)
    both = []
    for which, value in enumerate((mean, std)):
        if isinstance(value, str) and value in NORMALIZATIONS:
            numbers = NORMALIZATIONS[value][which]
            both.append(numbers[::-1] if channel_order == "BGR" else numbers)
        else:
            both.append(_numbers(value, ("mean", "std")[which]))
    return both[0], both[1]


def _numbers(value: Any, what: str) -> Numbers:
    try:
        parts = value.split(",") if isinstance(value, str) else value
        numbers = tuple(float(v) for v in (parts if isinstance(parts, (list, tuple)) else [parts]))
    except (TypeError, ValueError):
        known = unknown("normalization", str(value), NORMALIZATIONS)
        raise DataError(f"{known}; or numbers, one per channel: 0.5,0.4,0.4") from None
    if not numbers or not all(abs(v) < float("inf") for v in numbers):
        raise DataError(f"{what} has to be finite numbers, not {value!r}")
    return numbers


def _check_sizes(resolution: int | None, resize: int | None, crop: str) -> None:
    for name, value in (("resolution", resolution), ("resize", resize)):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIDE
        ):
            raise DataError(f"{name} has to be a whole number of px from 1 to {MAX_SIDE:,}, not {value!r}")
    if crop not in CROPS:
        raise DataError(unknown("crop", str(crop), CROPS))
    if resize is None:
        return
    if resolution is None:
        raise DataError("resize needs a resolution to crop to: for example resize 256, resolution 224")
    if crop == "none" or resize < resolution:
        why = (
            "crop none scales both sides to the resolution"
            if crop == "none"
            else f"it is less than {resolution}"
        )
        raise DataError(f"resize {resize} and resolution {resolution} do not go together: {why}")


def _shown(value: Any) -> str:
    return ", ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value)
