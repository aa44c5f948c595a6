"""What a model takes in, for readers to check data and fit them to it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

from tbft.data.preprocessing import CHANNEL_ORDERS, NORMALIZATIONS, Numbers, Preprocessing, normalization
from tbft.errors import DataError, unknown

__all__ = ["CHANNEL_ORDERS", "NORMALIZATIONS", "InputSpec", "Preprocessing"]


@dataclass(frozen=True)
class InputSpec:
    """What a model takes in, and what the data are. The default takes anything as it is.

    Attributes:
        class_names: the model's outputs in order; a class folder with another name is an error.
        resolution: side of the square pictures in px; other pictures are resized and cropped
            (``--resolution 224``).
        channels: of the pictures.
        folders: the class folders to read; others are passed over. Default: all.
        mixed: without a resolution, fit pictures of mixed sizes to the smallest of them (``--mixed``).
        mean, std: the normalization that the model was trained with and does not do itself, for values in
            [0, 1]: a name of :data:`NORMALIZATIONS`, a number, or one per channel (``--mean imagenet``,
            ``--mean 0.5,0.4,0.4 --std 0.2,0.2,0.2``). A name alone stands for both.
        resize: length in px of the shorter side before the crop (``--resize 256 --resolution 224`` is
            torchvision's ``Resize(256)`` and ``CenterCrop(224)``).
        crop: ``center``, or ``none`` to scale both sides to `resolution` (``--crop none``).
        channel_order: ``BGR`` for a model whose channels are blue, green, red (``--channel-order BGR``).
        range: what the values of the data are: ``auto``, ``0-1``, ``0-255``, ``0-65535`` (or ``0-N``), or
            ``normalized``, as the model takes them (``--range normalized``).
        labels_from: the number of the first class in the data, 0 or 1 (``--labels-from 1``).
        keys: array names in an archive or keys of a dataset's items, by ``inputs`` and ``labels``
            (``--keys inputs=X,labels=y``); in a table, columns.
        skip_damaged: leave out pictures that cannot be read, and note them (``--skip-damaged``).
        normalizes: the model normalizes pictures in [0, 1] itself, as presets do; then `mean` and `std` are
            an error.
        layout: what the levels of folders mean, such as ``domain/class`` (``--layout domain/class``).
        memory_mib: what decoded pictures may take; of larger sets they are decoded on demand
            (``--data-memory 1024``).
        targets: labels that are not whole class numbers or names are targets of another task, such as floats
            or several numbers per sample.
        token_ids: the model takes whole numbers that stand for words; the data are such.
    """

    class_names: tuple[str, ...] | None = None
    resolution: int | None = None
    channels: int | None = None
    mixed: bool = False
    folders: frozenset[str] | None = None
    mean: str | float | Numbers | None = None
    std: str | float | Numbers | None = None
    resize: int | None = None
    crop: str = "center"
    channel_order: str = "RGB"
    range: str = "auto"
    labels_from: int = 0
    keys: Mapping[str, str] | None = None
    skip_damaged: bool = False
    normalizes: bool = False
    layout: str | None = None
    memory_mib: int = 1024
    targets: bool = False
    token_ids: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not go together, before anything is read."""
        _ = self.preprocessing, self.top
        if self.labels_from not in (0, 1):
            raise DataError(f"labels are numbered from 0 or from 1, not from {self.labels_from!r}")
        for key in self.keys or ():
            if key not in ("inputs", "labels"):
                raise DataError(f"keys: {unknown('key', key, ('inputs', 'labels'))}; write inputs=X,labels=y")

    @property
    def preprocessing(self) -> Preprocessing:
        """With names replaced by numbers.

        Raises:
            DataError: unknown names, numbers that are not valid, or values that do not go together.
        """
        mean, std = normalization(self.mean, self.std, self.channel_order)
        for what, numbers in (("mean", mean), ("std", std)):
            if self.channels is not None and len(numbers) not in (1, self.channels):
                raise DataError(
                    f"{what} has {len(numbers)} numbers, the model takes {self.channels} channels"
                )
        if self.normalizes and (set(mean), set(std)) != ({0.0}, {1.0}):
            raise DataError("this model normalizes its inputs itself: mean and std would be applied twice")
        return Preprocessing(mean, std, self.resolution, self.resize, self.crop, self.channel_order)

    @property
    def top(self) -> float | None:
        """The highest value that `range` names: 1, 255, 65535, ...; None if it names none."""
        if self.range in ("auto", "normalized"):
            return None
        low, _, high = str(self.range).partition("-")
        if low != "0" or not high.isdecimal() or int(high) < 1:
            raise DataError(
                f"{self.range!r} is not a valid range: use auto, 0-1, 0-255, 0-65535 or normalized"
            )
        return float(high)

    def completed_by(self, stored: Mapping[str, Any], where: str = "the source card") -> InputSpec:
        """The same, with what it leaves open as it was when `stored` was written.

        Args:
            stored: fields of a preprocessing, of a card or a patch, see :func:`tbft.data.prepared.prepared`.
            where: what holds it, for messages.

        Raises:
            DataError: what this says itself differs from it.

        >>> InputSpec(resolution=64).completed_by({"mean": [0.5], "std": [0.5], "resolution": 64}).mean
        (0.5,)
        """
        return self.completed_with(Preprocessing.from_json(stored), set(stored), where)

    def completed_with(self, other: Preprocessing, names: Set[str], where: str) -> InputSpec:
        """As :meth:`completed_by`, with the fields of `other` that have these names."""
        plain = InputSpec()
        fields = ("resolution", "resize", "crop", "channel_order")
        left_open = {name for name in fields if getattr(self, name) == getattr(plain, name)}
        if self.mean is None and self.std is None:
            left_open |= {"mean", "std"}
        known = {key: value for key, value in asdict(other).items() if key in names}
        whole = replace(self, **{name: known[name] for name in left_open & set(known)})
        if differs := whole.preprocessing.differs_from(replace(whole.preprocessing, **known)):
            raise DataError(f"the preprocessing is not that of {where}: {differs}; leave out what differs")
        return whole
