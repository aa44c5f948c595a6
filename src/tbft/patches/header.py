"""What a patch says about itself, and how far that can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any

import torch

from tbft.data.preprocessing import Preprocessing
from tbft.errors import DataError, PatchError
from tbft.schema import Digest, Form, Name, build
from tbft.text import visible

FORMAT_VERSION = 1

Moment = Annotated[
    str, Form(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)?)?", "a time (ISO 8601)")
]


@dataclass(frozen=True)
class Header:
    """What a patch says about itself.

    Attributes:
        base_fingerprint: of the state it applies to, see :func:`tbft.fingerprint`.
        tuned_fingerprint: of the state it leads to.
        block: the block that the arm lies in; None for ``adabn`` and ``full``.
        model: preset or factory.
        created: UTC, ISO 8601.
        undoes: leads back to a base rather than away from one.
        new_classes: names of the classes whose rows the head gets, after those that it has.
        preprocessing: fields of the preprocessing of the samples it was tuned on, as far as it is known.
    """

    base_fingerprint: Digest
    tuned_fingerprint: Digest
    arm: Name
    block: str | None = None
    level: str | None = None
    model: str | None = None
    cuts: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: Moment = ""
    undoes: bool = False
    new_classes: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def parse_header(content: Mapping[str, Any], where: str) -> Header:
    """The header that a file holds.

    Raises:
        PatchError: fields that are missing or unknown, of another type, or impossible figures.
    """
    header = build(Header, dict(content), f"the header of {where}", PatchError)
    try:
        Preprocessing.from_json(header.preprocessing)
    except DataError as error:
        raise PatchError(f"the header of {where} is not usable: {error}") from error
    for key, value in header.measured.items():
        if not _possible(key, value):
            shown = visible(f"{key} {value!r}"[:80], lines=False)
            raise PatchError(f"the header of {where} is not usable: impossible measurements: {shown}")
    return header


def versions() -> dict[str, str]:
    """Versions of the software that results depend on."""
    import platform

    from tbft import __version__

    return {"tbft": __version__, "torch": torch.__version__, "python": platform.python_version()}


def now() -> str:
    """The current time as headers have it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _possible(key: str, value: Any) -> bool:
    """Whether a figure of this name could have been measured; anything but a number passes."""
    if type(value) not in (int, float):
        return True
    if key.endswith("accuracy"):
        return bool(0 <= value <= 1)
    amounts = ("_seconds", "_bytes", "_joules", "_samples", "_watts", "_error")
    return value >= 0 or not key.endswith(amounts) or key == "energy_net_joules"
