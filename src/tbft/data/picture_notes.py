"""What was done to pictures that a user should know about, counted."""

from __future__ import annotations

from collections import Counter

from tbft.errors import DataError

#: What can have been done to a picture, each the end of a sentence that begins "12 pictures ".
TURNED = "were turned upright, as their EXIF orientation says"
TRANSPARENT = "have transparency, which was composed on white"
FIRST_FRAME = "have several frames, of which the first was taken"
CMYK = "were converted from CMYK to RGB"
SIXTEEN_BITS = "have 16 bits per channel, scaled from 0..65535 to 0..255"
ALL_BLACK = "have 16 bits per channel and no value above 255: all but black; of 8 bits, multiply them by 257"
TWELVE_BITS = "have 16 bits per channel and no value above 4,095; for a 12-bit sensor, multiply them by 16"
BYTES_AS_INTEGERS = "hold 32-bit integers, taken as 0..255"
BYTES_AS_FLOATS = "hold floats, taken as 0..255"
GRAY_TO_COLOR = "were gray, and got three equal channels"
COLOR_TO_GRAY = "were converted from color to gray"
SHARES = "hold floats in 0..1, scaled to 0..255"
#: With two of these in one set, the meaning of the values is ambiguous.
_RANGES = (SIXTEEN_BITS, BYTES_AS_INTEGERS, BYTES_AS_FLOATS, SHARES)
_SINGULAR = {"were": "was", "have": "has", "hold": "holds"}


class Tally:
    """Counts what was done to the pictures of a set."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, notes: tuple[str, ...], name: str) -> None:
        """Count the notes of one picture, which is called `name`."""
        for note in notes:
            self._counts[note] += 1
            self._first.setdefault(note, name)

    def sentences(self, where: str) -> tuple[str, ...]:
        """What was done, one sentence per kind, with a count and the first picture.

        Raises:
            DataError: pictures whose values mean different things lie in one set.
        """
        ranges = [note for note in _RANGES if note in self._counts]
        if len(ranges) > 1:
            shown = "; ".join(self._sentence(note) for note in ranges)
            raise DataError(f"{where}: values of unknown range: {shown}; save them all with 8 or 16 bits")
        return tuple(self._sentence(note) for note in self._counts if note not in self._of_few())

    def _of_few(self) -> set[str]:
        """Notes on low values that say nothing, as other pictures of the set have higher ones."""
        black, low, count = (self._counts[note] for note in (ALL_BLACK, TWELVE_BITS, SIXTEEN_BITS))
        if black == count:
            return set()
        return {ALL_BLACK} if black + low == count and low else {ALL_BLACK, TWELVE_BITS}

    def _sentence(self, note: str) -> str:
        count, first = self._counts[note], self._first[note]
        if count == 1:
            return f"1 picture ({first}) {_singular(note)}"
        return f"{count:,} pictures {note} (the first: {first})"


def _singular(note: str) -> str:
    verb, _, rest = note.partition(" ")
    return f"{_SINGULAR[verb]} {rest}".replace("their", "its").replace("them", "it")
