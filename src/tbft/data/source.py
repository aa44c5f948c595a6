"""A set as the user names it, and what reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tbft.data.archives import is_archive, list_members
from tbft.data.conditions import Conditions
from tbft.data.members import Listing
from tbft.data.samples import Samples
from tbft.data.spec import InputSpec


@dataclass(frozen=True)
class Source:
    """What is to be read, and how.

    Attributes:
        name: a path, or ``package.module:factory``.
        spec: what the model takes.
        conditions: on attributes of the samples.
    """

    name: str
    spec: InputSpec
    conditions: Conditions = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file or folder."""
        return Path(self.name)

    @property
    def suffix(self) -> str:
        """Of a file, in lower case with its dot; empty for a folder."""
        return self.path.suffix.lower() if self.path.is_file() else ""

    @cached_property
    def listing(self) -> Listing | None:
        """The files in a folder or an archive; None for any other file."""
        is_set = self.path.is_dir() or (self.path.is_file() and is_archive(self.path))
        return list_members(self.path) if is_set else None


@dataclass(frozen=True)
class Reader:
    """What reads one kind of set.

    Attributes:
        form: the kind, in words.
        read: the samples of a set of this kind, None for any other.
        chooses: samples that do not meet conditions on attributes that the set has are not read.
    """

    form: str
    read: Callable[[Source], Samples | None]
    chooses: bool = False
