"""The last sections of the page of an adaptation: how to apply and undo the patch, and the record."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

from tbft.report.details import Values, changed, versions_words
from tbft.report.inputs import Adaptation
from tbft.report.words import count


def commands(adaptation: Adaptation) -> Iterator[tuple[str, str]]:
    """What each command does, and the command; none without a patch."""
    r = adaptation.result
    if not changed(r) or adaptation.patch_path is None:
        return
    path = portable(adaptation.patch_path)
    patch = shlex.quote(path)
    if adaptation.weights is None:
        yield (
            "In Python, on your model",
            (
                "import tbft\n\n"
                f"undo = tbft.Patch.load({path!r}).apply(model)  # the tuned model\n"
                "undo.apply(model)  # the base again, bit for bit"
            ),
        )
        return
    weights = shlex.quote(portable(adaptation.weights))
    yield "Check that it is intact and fits", f"tbft patch verify {patch} --weights {weights}"
    yield "Apply it", f"tbft patch apply {patch} --weights {weights} --out tuned.safetensors"
    yield "Undo it", f"tbft patch revert {patch} --weights tuned.safetensors --out base-again.safetensors"


def no_commands(r: Values) -> str:
    """Why there are no commands."""
    if changed(r):
        return "The patch was not saved; --out FILE saves it."
    return "There is nothing to apply or undo: the model is unchanged."


def portable(path: str) -> str:
    """A path as it may be passed on: an absolute one without the folders of this machine.

    >>> portable("/home/me/base.pt"), portable("data/a.tar + fog:1"), portable("/data/a.tar + fog:1")
    ('base.pt', 'data/a.tar + fog:1', 'a.tar + fog:1')
    """
    place, plus, drift = path.partition(" + ")
    is_absolute = PurePosixPath(place).is_absolute() or PureWindowsPath(place).is_absolute()
    return f"{PureWindowsPath(place).name if is_absolute else place}{plus}{drift}"


def record(r: Values) -> list[tuple[str, str]]:
    """What is needed to repeat the adaptation."""
    return [
        ("data", portable(r["data"])),
        (
            "samples",
            f"{r['train_samples']:,} train, {r['val_samples']:,} held out, {r['test_samples']:,} test",
        ),
        ("split", f"by {r['group_by']}" if r["group_by"] else "at random, stratified"),
        ("seed", str(r["seed"])),
        ("loss", _loss(r)),
        ("tensors changed", count(r["tensors_changed"])),
        ("made with", versions_words(r)),
    ]


def _loss(r: Values) -> str:
    if r["measured_on"] is None:
        return "not measured"
    part = {"test": "test", "val": "held-out", "folds": "cross-fitted"}[r["measured_on"]]
    return f"{r['loss_before']:.3f} → {r['loss_after']:.3f} nats on the {part} samples"
