"""The log of the patches that were put on a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from tbft.patches.header import Moment
from tbft.schema import Count, Digest, Name


@dataclass(frozen=True)
class Entry:
    """A patch that was put on.

    Attributes:
        base, tuned: fingerprints of the states before and after.
        created, applied: when it was made, and when put on; UTC, ISO 8601.
        signer, serial: the name of the trusted key that signed it, and the number; empty and 0 if none did.
    """

    base: Digest
    tuned: Digest
    arm: Name
    created: Moment = ""
    applied: Moment = ""
    signer: str = ""
    serial: Count = 0


@dataclass(frozen=True)
class Log:
    """The patches on a file, the last one on top.

    Attributes:
        newest: the highest serial of a signed patch that was ever put on here, taken off since or not.
    """

    entries: tuple[Entry, ...] = ()
    newest: Count = 0
