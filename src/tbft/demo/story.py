"""The demo as a story: base, drift, diagnosis, choice, patch, undo; and a device without drift.

Everything is written to a folder, so that the commands that the demo names at its end can be tried on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
from safetensors.torch import save_file

from tbft.base import Base
from tbft.blocks.tensors import fingerprint
from tbft.data import Samples, read, split_samples
from tbft.demo.digits import NEW_SENSOR, load_digits, new_sensor, trained
from tbft.diagnosis.card_building import card_of_samples
from tbft.errors import MissingExtraError, WriteError
from tbft.files import WEIGHTS, atomic_path
from tbft.loading import load_base
from tbft.models import read_state
from tbft.patches.installed import put_on, take_off
from tbft.personalization import Personalization
from tbft.pipeline import personalize
from tbft.report.terminal import choice_text, diagnosis_text, summary
from tbft.verification.evaluation import evaluate_samples

#: The name of the network on the command line.
NETWORK = "digits"


@dataclass(frozen=True)
class Files:
    """What the demo writes into its folder."""

    folder: Path

    @property
    def base(self) -> Path:
        """The weights of the base network."""
        return self.folder / "base.safetensors"

    @property
    def card(self) -> Path:
        """Its source card."""
        return self.folder / "base.card.safetensors"

    @property
    def drifted(self) -> Path:
        """Samples of the device with the new sensor."""
        return self.folder / "new_sensor.npz"

    @property
    def same(self) -> Path:
        """The same samples as the old sensor shows them."""
        return self.folder / "same_sensor.npz"

    @property
    def patch(self) -> Path:
        """The patch for the new sensor."""
        return self.folder / "user.safetensors"

    @property
    def tuned(self) -> Path:
        """Base and patch."""
        return self.folder / "tuned.safetensors"

    @property
    def page(self) -> Path:
        """The page about the adaptation."""
        return self.folder / "user.html"


@dataclass(frozen=True, eq=False)
class Story:
    """What happened.

    Attributes:
        source_accuracy: of the base on held-out samples of its source, 0 to 1.
        drifted: the device with the new sensor.
        same: the device with the old sensor.
        patched_accuracy: of base and patch, read from their files, on the test samples; None without a patch.
        is_undone: whether base + patch - patch was the base, bit for bit; None without a patch.
        page: the page about the adaptation; None if what draws it is not installed.
    """

    files: Files
    source_accuracy: float
    drifted: Personalization
    same: Personalization
    patched_accuracy: float | None
    is_undone: bool | None
    page: Path | None


def tell(folder: Path, seed: int = 0) -> Story:
    """Train a base, meet a drift, adapt, apply the patch and undo it; and the same without drift."""
    files = Files(folder)
    source_accuracy = _prepare(files, seed)
    base = load_base(NETWORK, weights=files.base, card=files.card)
    drifted, same = (_adapted(base, path, seed) for path in (files.drifted, files.same))
    patched = undone = None
    if drifted.status == "patched":
        patched, undone = _applied_and_undone(files, drifted)
    return Story(files, source_accuracy, drifted, same, patched, undone, _page(files, drifted))


def text(story: Story) -> Iterator[str]:
    """The story, in paragraphs."""
    files, drifted, same = story.files, story.drifted, story.same
    result = drifted.to_json()
    yield _chapter(
        "A base model",
        "A small network has learned handwritten digits: "
        f"{_percent(story.source_accuracy)} correct on digits it has not seen.\n"
        f"Its source card ({files.card.stat().st_size / 1000:.0f} kB of statistics) travels with it, "
        "so that a device needs no source data.",
    )
    yield _chapter(
        "A drift",
        f"One device has {NEW_SENSOR}. Its accuracy: {_percent(_score(drifted.before))}.\n"
        f"{len(drifted.parts.train)} labeled samples are there to adapt with, and "
        f"{len(drifted.parts.val)} to decide whether that helped; the other "
        f"{len(drifted.parts.test)} only measure.",
    )
    yield _chapter("The diagnosis", diagnosis_text(result["choice"]["diagnosis"]))
    yield _chapter("The choice", choice_text(result["choice"]))
    yield _chapter("The result", summary(result, str(files.patch), _name(story.page)))
    if story.is_undone is not None:
        yield _chapter(
            "The patch, and its undo",
            f"base + patch:          {_percent(story.patched_accuracy)}\n"
            f"base + patch - patch:  {'the base again, bit for bit' if story.is_undone else 'NOT the base'}",
        )
    yield _chapter(
        "When it does not pay",
        f"Another device has the old sensor; its accuracy is {_percent(_score(same.before))}. "
        f"Outcome: {same.status}.\n{diagnosis_text(same.to_json()['choice']['diagnosis'])}",
    )


def commands(files: Files) -> list[str]:
    """Commands for the files of the demo, after ``tbft``."""
    base = f"{NETWORK} --weights {files.base}"
    return [
        f"patch show {files.patch}",
        f"diagnose {base} --card {files.card} --data {files.drifted} --explain",
        f"cost {NETWORK} --samples 100",
        f"personalize {base} --card {files.card} --data {files.drifted} --test 200 --out {files.patch}",
        "personalize --help",
    ]


def to_json(story: Story) -> dict[str, Any]:
    """The story as plain values."""
    return {
        "source_accuracy": story.source_accuracy,
        "drifted": story.drifted.to_json(),
        "same": story.same.to_json(),
        "patched_accuracy": story.patched_accuracy,
        "is_undone": story.is_undone,
        "page": _name(story.page),
    }


def _prepare(files: Files, seed: int) -> float:
    """Write base, card and samples; returns the accuracy on the source."""
    if files.base.exists() and not (files.drifted.exists() and files.same.exists()):
        raise WriteError(f"{files.base} is not the demo's, which would replace it: give another --out")
    halves = split_samples(load_digits(), "rest", 0, 0.5, seed)
    unseen = split_samples(halves.test, "rest", 0, 0.75, seed)
    blocks = trained(halves.train, seed)
    files.folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(files.base, kind=WEIGHTS) as part:
        save_file(blocks.model.state_dict(), part)
    card_of_samples(blocks, unseen.train, seed).save(files.card)
    _write(files.same, unseen.test)
    _write(files.drifted, replace(unseen.test, inputs=new_sensor(unseen.test.inputs, seed)))
    return evaluate_samples(blocks.model, unseen.train).score


def _write(path: Path, samples: Samples) -> None:
    with atomic_path(path) as part, part.open("wb") as file:
        np.savez(file, images=samples.inputs, labels=samples.labels)


def _adapted(base: Base, data: Path, seed: int) -> Personalization:
    parts = split_samples(read(data), "10/class", "10/class", "rest", seed)
    return personalize(base, parts, seed=seed)


def _applied_and_undone(files: Files, result: Personalization) -> tuple[float, bool]:
    """What a device does with the patch, on files; the accuracy with it, and whether the undo was exact."""
    result.patch.save(files.patch)
    put_on(result.patch, files.base, files.tuned)
    tuned = load_base(NETWORK, weights=files.tuned)
    accuracy = evaluate_samples(tuned.model, result.parts.test).score
    again = files.folder / "base-again.safetensors"
    take_off(files.tuned, again)
    return accuracy, fingerprint(read_state(again)) == fingerprint(read_state(files.base))


def _page(files: Files, result: Personalization) -> Path | None:
    try:
        result.save_report(files.page, files.patch, read(files.same))
    except MissingExtraError:
        return None
    return files.page


def _chapter(title: str, body: str) -> str:
    return f"{title}\n{indent(body, '  ')}\n"


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _score(evaluation: Any) -> float | None:
    return None if evaluation is None else evaluation.score


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"
