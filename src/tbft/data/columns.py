"""Attributes that are groups, found by their names in any spelling; group ids as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tbft.data.samples import Samples
from tbft.errors import DataError, unknown_attribute

Array = npt.NDArray[Any]

#: Words for what a sample belongs to, the widest first: samples of one of them resemble each other too much.
GROUP_WORDS = (
    "group", "subject", "subj", "sub", "person", "people", "user", "uid", "pid", "sid", "patient",
    "participant", "wearer", "volunteer", "proband", "individual", "speaker", "singer", "writer", "author",
    "signer", "owner", "client", "customer", "member", "donor", "worker", "driver", "rider", "athlete",
    "player", "animal", "child", "household", "home", "house", "hospital", "clinic", "farm", "plot",
    "site", "place", "location", "camera", "cam", "station", "visit", "trip", "flight",
    "session", "sess", "recording", "record", "rec", "video", "clip", "series", "sequence", "seq", "track",
    "run", "trial", "episode", "execution", "burst", "scene", "slide", "scan", "specimen", "picture",
    "photo", "image", "img",
)  # fmt: skip
#: Words for when a sample was taken.
TIME_WORDS = (
    "time", "timestamp", "datetime", "date", "start", "begin", "onset", "tick", "ts", "taken",
)  # fmt: skip
#: Further words for the order of samples, used only where the user asks for an order.
ORDER_WORDS = (*TIME_WORDS, "execution", "order", "index", "idx", "step", "frame", "number", "nr")
#: Words that may stand beside them.
_FILLERS = {
    "id", "ids", "no", "nr", "num", "number", "name", "key", "code", "index", "idx", "label", "the", "of",
    "uuid", "identifier", "ident", "original", "ms", "s", "sec", "seconds", "utc", "unix", "at", "stamp",
    "created", "recorded", "captured", "window", "sample", "recording",
}  # fmt: skip
#: Texts that stand for an unknown id.
UNKNOWN = {"", "nan", "none", "null", "na", "n/a", "nat", "<na>", "?", "unknown", "-"}
#: Attributes with few values that are not groups.
_NO_GROUPS = {
    "part", "split", "domain", "leaf", "severity", "corruption", "sex", "gender", "age", "side", "fold",
    "orientation", "label", "class", "file",
}  # fmt: skip


def _words(key: str) -> list[str]:
    """The words of a name, lower case: ``patientId``, ``Patient ID`` and ``patient_id`` have the same."""
    key = re.sub(r"(?<![A-Z])I[Dd]s?(?![a-z])", " id ", key)
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", key)
    return [w for w in re.split(r"[^a-z]+", parted.casefold()) if w]


def _singular(word: str, known: Iterable[str]) -> str:
    """The known word that this is, its plural or joined with ``id``; the word itself if none matches."""
    for form in (word, word.removesuffix("s"), word.removesuffix("es"), *_joined(word)):
        if form in known:
            return form
    return word


def _joined(word: str) -> list[str]:
    return [
        word.removesuffix(end)
        for end in ("ids", "id", "nr", "no", "num", "number", "name")
        if word.endswith(end)
    ]


def rank(key: str, known: tuple[str, ...]) -> int | None:
    """Position of the word that a name consists of; None if it says something else.

    >>> [rank(key, GROUP_WORDS) for key in ("group", "Subject_IDs", "subject_age")]
    [0, 1, None]
    """
    words = [_singular(w, known) for w in _words(key)]
    hits = [known.index(w) for w in words if w in known]
    if not hits or any(w not in known and w not in _FILLERS for w in words):
        return None
    return min(hits)


@dataclass(frozen=True, eq=False)
class Groups:
    """Which group each sample belongs to.

    Attributes:
        codes: ``int64`` (n,), the position of its group in `names`; of an unknown one ``len(names)``.
        names: the known groups, sorted.
    """

    codes: npt.NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def unknown_count(self) -> int:
        """Samples whose group is not known; they count as one group, with the code ``len(names)``."""
        return int((self.codes == len(self.names)).sum())

    def subset(self, indices: npt.NDArray[np.int64]) -> Groups:
        """The groups of some of the samples; names that no longer occur are dropped."""
        codes = self.codes[indices]
        present = np.unique(codes[codes < len(self.names)])
        position = np.full(len(self.names) + 1, len(present), dtype=np.int64)
        position[present] = np.arange(len(present))
        return Groups(position[codes], tuple(self.names[i] for i in present))


def groups_of(values: Array) -> Groups:
    """Groups by an attribute; NaN, None, empty text and the like stand for one unknown group.

    >>> groups_of(np.array([2.0, np.nan, 1.0, 2.0])).codes
    array([1, 2, 0, 1])
    """
    flat = np.asarray(values).reshape(len(values), -1)[:, 0] if len(values) else np.zeros(0)
    if flat.dtype.kind in "iub":
        missing = np.zeros(len(flat), dtype=bool)
    elif flat.dtype.kind == "f":
        missing = np.isnan(flat)
    else:
        texts = [text_of(v) for v in flat.tolist()]
        flat = np.array(texts)
        missing = np.array([text.strip().casefold() in UNKNOWN for text in texts], dtype=bool)
    names, codes = np.unique(flat[~missing], return_inverse=True)
    full = np.full(len(flat), len(names), dtype=np.int64)
    full[~missing] = codes
    return Groups(full, tuple(str(n) for n in names))


def text_of(value: Any) -> str:
    """A value as text, bytes decoded."""
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)


def named_groups(samples: Samples) -> dict[str, Groups]:
    """Attributes with the names of groups, the widest first; not those of one group, or of one per sample."""
    found = sorted(ranked(samples, GROUP_WORDS), key=lambda one: one[0])
    return {key: groups for _, key, groups in found if len(groups.names) < len(samples)}


def ranked(samples: Samples, known: tuple[str, ...]) -> list[tuple[int, str, Groups]]:
    """Attributes of more than one value that are named by such words: position of the word, key, groups."""
    found = [(rank(key, known), key, groups_of(values)) for key, values in samples.attributes.items()]
    return [(place, key, g) for place, key, g in found if place is not None and len(g.names) > 1]


def find_groups(samples: Samples, group_by: str | None) -> tuple[dict[str, Groups], tuple[str, ...]]:
    """Attributes that are groups, the widest first, and a note on others that may be.

    Args:
        group_by: the only one that counts; ``"none"``; None: those with the names of groups.

    Raises:
        DataError: no such attribute.
    """
    if group_by == "none":
        return {}, ()
    if group_by is None:
        found = named_groups(samples)
        return found, () if found else _lookalikes(samples)
    if group_by not in samples.attributes:
        raise DataError(f"{samples.name}: {unknown_attribute('--group-by', group_by, samples.attributes)}")
    return {group_by: groups_of(samples.attributes[group_by])}, ()


def _lookalikes(samples: Samples) -> tuple[str, ...]:
    found = [f"{key} ({count} values)" for key, count in group_lookalikes(samples).items()]
    if not found:
        return ()
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return (
        f"attributes that may be groups and were not used as such: {', '.join(found[:3])}{more}; "
        "--group-by KEY keeps the samples of a group in one part",
    )


def group_lookalikes(samples: Samples) -> dict[str, int]:
    """Other attributes with few distinct values, as groups have them: name -> how many."""
    found = {}
    for key, values in samples.attributes.items():
        named = rank(key, GROUP_WORDS) is not None or rank(key, ORDER_WORDS) is not None
        if named or set(_words(key)) & _NO_GROUPS:
            continue
        groups = groups_of(values)
        if 1 < len(groups.names) <= len(samples) // 2 and not _is_class(groups, samples):
            found[key] = len(groups.names)
    return found


def _is_class(groups: Groups, samples: Samples) -> bool:
    """Whether each class has one value of its own; then it is another name of the class."""
    pairs = {(g, y) for g, y in zip(groups.codes.tolist(), samples.labels.tolist(), strict=True)}
    return len(pairs) == len(set(samples.labels.tolist()))
