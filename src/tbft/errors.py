"""The errors that tbft raises. Each message says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

#: Messages quote what files hold, which may be long.
MAX_LETTERS = 2000


class TbftError(ValueError):
    """Base of tbft's errors; the command line turns it into exit status 2."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 4]} ..."


class WriteError(TbftError, OSError):
    """A file cannot be written: no space, no permission, another process is writing it."""


class SchemaError(TbftError):
    """The content of a file is not valid for its kind."""


class TbftWarning(UserWarning):
    """Something optional failed, and the work continued; the command line prints it as one line."""


class SplitError(TbftError):
    """A model cannot be cut into blocks as asked."""

    needs_example = False  # whether a batch of its inputs may help


class NotTheModelError(SplitError):
    """A model cannot be traced, or its stages would be another model; run as a whole, it is itself."""


class DeviceError(TbftError):
    """A device is unknown, or not available."""


class CheckpointError(TbftError):
    """A checkpoint cannot be read, or does not fit the model."""


class DataError(TbftError):
    """Samples cannot be read, split or used as asked."""


class NotFiniteError(DataError):
    """A model's outputs are NaN or infinite."""


class FormError(TbftError, TypeError):
    """An argument is of a kind that is not taken; the message lists what is."""


class PlanError(TbftError):
    """An unknown level, arm or recipe, or a plan that the samples cannot carry."""


class DivergedError(PlanError):
    """The loss of a training is no longer finite."""


class BudgetError(PlanError):
    """A budget is too small for a plan, or for choosing one."""


class PatchError(TbftError):
    """A patch is damaged, of an unknown version, or made for another base."""


class KeyFileError(TbftError):
    """A key, or the list of trusted ones, cannot be read or written as asked."""


class CardError(TbftError):
    """A source card is damaged, of an unknown version, or made for another base."""


class SensorError(TbftError):
    """A sensor is unknown, cannot be read, or shows impossible values."""


class ProfileError(TbftError):
    """A board's profile is unknown, damaged, or lacks a figure that is needed."""


class MissingExtraError(TbftError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs {package}: pip install 'tbft[{extra}]'")


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Import optional dependencies inside the context.

    Raises:
        MissingExtraError: an import failed.
    """
    try:
        yield
    except ImportError:
        raise MissingExtraError(package, extra) from None


def wrong_form(what: str, value: object, taken: Iterable[str]) -> FormError:
    """The error for an argument of a kind that is not taken.

    >>> print(wrong_form("card", 3, ["a SourceCard", "a path"]))
    card: expected a SourceCard or a path, not int
    """
    forms = list(taken)
    listed = ", ".join(forms[:-1]) + (" or " if len(forms) > 1 else "") + forms[-1]
    return FormError(f"{what}: expected {listed}, not {type(value).__name__}")


def check_form(what: str, value: object, kinds: type | tuple[type, ...], taken: str) -> None:
    """Raise FormError unless an argument is None, or of one of the kinds that are taken."""
    if value is not None and not isinstance(value, kinds):
        raise wrong_form(what, value, [taken])


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not known, with the nearest ones first.

    >>> unknown("block", "layer22", ["front", "layer2", "rear"])
    "unknown block 'layer22': did you mean 'layer2'? Known: front, layer2, rear"
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = "did you mean " + " or ".join(repr(n) for n in near) + "? " if near else ""
    return f"unknown {kind} {name!r}: {hint}Known: {', '.join(names) or 'none'}"


def unknown_attribute(option: str, key: str, known: Iterable[str]) -> str:
    """Message for an attribute that samples do not have, with those that they have.

    >>> unknown_attribute("--order", "when", ["time", "subject"])
    "--order: unknown attribute 'when': Known: time, subject"
    """
    names = list(known)
    if names:
        return f"{option}: {unknown('attribute', key, names)}"
    return (
        f"{option} {key}: these samples have no attributes; a column of a table, an array beside the inputs "
        "with a value for each sample, or a level of folders (--layout) becomes one"
    )
