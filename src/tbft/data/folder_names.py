"""What folders are named after: parts, recordings, domains."""

from __future__ import annotations

import re
from collections.abc import Collection

_PART = re.compile(
    r"(?:.*[ _-])?(train|training|val|valid|validation|dev|test|testing)"
    r"(?:[ _-]?(?:set|data|images|imgs|split|\d{4}))?",
    re.IGNORECASE,
)
_PARTS = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
#: Folders of this kind hold what was recorded together.
_RECORDED = re.compile(
    "(batch|burst|cam|camera|clip|date|day|device|fold|loc|location|month|night|participant|patient|person|"
    "place|rec|recording|round|run|scene|seq|sequence|session|shot|site|subject|take|trial|user|vid|video|"
    r"visit|week)(?:[ _-]?\d+|[ _-][a-z])",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d\d[-_.]?[01]\d(?:[-_.]?[0-3]\d)?(?:[ T_-]?\d\d[-_.:]?\d\d(?:[-_.:]?\d\d)?)?")
#: Domains of the sets that are published for domain shift, in lower case without spaces and the like.
_DOMAINS = {
    "photo", "photos", "sketch", "sketches", "art", "artpainting", "painting", "cartoon", "clipart",
    "infograph", "quickdraw", "real", "realworld", "product", "synthetic", "amazon", "webcam", "dslr",
    "caltech", "caltech101", "caltech10", "labelme", "sun", "sun09", "voc", "voc2007", "mnist", "mnistm",
    "svhn", "usps", "syn", "synthdigits", "source", "target",
}  # fmt: skip


def recorded(names: Collection[str]) -> str:
    """What folders that hold recordings have in common: ``day`` for day1 and day2; empty if they do not."""
    if all(_DATE.fullmatch(n) for n in names):
        return "date"
    matches = [_RECORDED.fullmatch(n) for n in names]
    words = {m[1].lower() for m in matches if m}
    return words.pop() if None not in matches and len(words) == 1 else ""


def domain_of(names: Collection[str]) -> str:
    return "domain" if {re.sub(r"[ _-]", "", n.lower()) for n in names} <= _DOMAINS else ""


def part_of(folder: str) -> str | None:
    """``train``, ``val`` or ``test`` if a folder is named after a part, else None."""
    match = _PART.fullmatch(folder)
    return None if match is None else _PARTS.get(match[1].lower(), match[1].lower())
