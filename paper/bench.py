"""A base model, its data, and the cells made from them: what the methods of a cell share.

Data, split, drift, noise and the accuracy of the base model are made once per cell. Adapted statistics and
prefix caches are not shared between methods, so that the whole cost of each comes from its own run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paper.experiments import (
    BLOCK_METHODS,
    CORRUPTIONS,
    OURS,
    PROTOCOL,
    Experiment,
    find_experiment,
)
from paper.identity import data_digest, hashed, recipe_identity
from paper.noise import add_noise
from paper.runs import Cell, Settings
from tbft import (
    Blocks,
    Evaluation,
    Parts,
    Recipe,
    Samples,
    SourceCard,
    TbftError,
    apply_drift,
    evaluate,
    find_model,
    find_recipe,
    fingerprint,
    read,
    split_samples,
)
from tbft.blocks.placement import find_device
from tbft.data.cifar10c import find_cifar10c
from tbft.diagnosis.card_building import MIN_SAMPLES
from tbft.models import Preset
from tbft.plan.numbers import Joint
from tbft.scenarios import find_class_map

#: Most samples that a source card is made from.
CARD_SAMPLES = 500


@dataclass(frozen=True, eq=False)
class CellBench:
    """One cell: the model to adapt, and the parts of the data.

    Attributes:
        before: the base model on the test part.
        recipe, paper, fast: recipe of the arms; that of the paper, which sets the length of other papers'
            methods; that of ``ours``.
        card: the one given, if any; else one is made from `card_samples`, if there are any.
    """

    cell: Cell
    level: str | None
    blocks: Blocks
    parts: Parts
    before: Evaluation
    recipe: Recipe
    paper: Recipe
    fast: Recipe
    card: SourceCard | None
    card_samples: Samples | None
    noise_std: float | None

    def arm(self, method: str) -> str:
        """The arm that a method tunes: its name, or in other models the block in that position."""
        names = self.blocks.names
        if method in ("none", "adabn", "full"):
            return method
        if len(names) != len(BLOCK_METHODS):
            raise TbftError(
                f"the paper's tables have four blocks, this model has {len(names)}: give another with --model"
            )
        if method == "rear" and self.recipe.head_alone:
            return self.blocks.head
        return names[BLOCK_METHODS.index(method)]


class Bench:
    """What all cells of one folder share; each worker process has its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.experiment: Experiment = find_experiment(settings.experiment, settings.quick)
        self.preset = find_model(settings.model)
        trained = settings.weights or self.preset.weights
        # A model from a factory comes with its weights.
        model = self.preset.load(trained) if trained else self.preset.build()
        self.device = find_device(settings.device)
        self.blocks = self.preset.split(model.to(self.device))
        self._latest: CellBench | None = None

    def recipe(self, name: str | None = None) -> Recipe:
        """The recipe of the arms; by default the one in the settings."""
        return arms_recipe(self.experiment, self.preset, name or self.settings.recipe)

    @cached_property
    def fast(self) -> Recipe:
        """The recipe of ``ours``."""
        return with_batches_of(self.experiment, find_recipe("fast", self.preset.recipes))

    @cached_property
    def samples(self) -> Samples:
        """What cells are drawn from, before any drift is put on top."""
        class_map = find_class_map(self.settings.class_map) if self.settings.class_map else None
        sets = [read(path, self.preset.inputs, self._where(path), class_map) for path in self.settings.data]
        return joined(sets)

    def _where(self, path: str) -> dict[str, str]:
        """Conditions on the samples; of the published set any corruption will do, as only labels count."""
        if not self.is_corrupted:
            return dict(self.experiment.where)
        there = [name for name in CORRUPTIONS if (Path(path) / f"{name}.npy").exists()]
        return {"corruption": there[0] if there else CORRUPTIONS[0], "severity": "5"}

    @cached_property
    def is_corrupted(self) -> bool:
        """Whether the data are a CIFAR-10-C folder, which has the drift in it."""
        return self.experiment.level == "input" and find_cifar10c(Path(self.settings.data[0]))

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the base model as it was loaded, without noise."""
        return fingerprint(self.blocks.model.state_dict())

    @cached_property
    def _data_digest(self) -> str:
        return data_digest(self.samples)

    def identity(self) -> dict[str, Any]:
        """What must not mix; the name of the folder is a hash of this."""
        e = self.experiment
        return {
            "experiment": e.name,
            "protocol": PROTOCOL,
            "quick": e.quick,
            "recipe": recipe_identity(self.recipe()),
            "model": self.preset.name,
            "base_fingerprint": self.fingerprint,
            "data": self.settings.data_name,
            "data_digest": self._data_digest,
            # PROTOCOL covers this for whole experiments; quick versions change now and then.
            **({"test_digest": data_digest(self._test_set)} if self.settings.test_data_given else {}),
            **({"parts": [sorted(e.sizes.items()), e.val, e.test, e.spare]} if e.quick else {}),
        }

    def definitions(self) -> dict[str, str]:
        """What methods depend on beside the folder's recipe; for ``ours``, a card other than the preset's."""
        given = self.settings.card if self.settings.card != str(self.preset.card) else None
        card = {} if given is None else {"card": hashlib.sha256(Path(given).read_bytes()).hexdigest()}
        version = {} if OURS == 1 else {"version": OURS}
        return {"ours": hashed({**recipe_identity(self.fast), **card, **version}, 8)}

    def cell(self, cell: Cell) -> CellBench:
        """A cell, ready for its methods; the latest one is kept."""
        if self._latest is None or self._latest.cell != cell:
            self._latest = None  # frees its memory first
            self._latest = self._made(cell)
        return self._latest

    def _made(self, cell: Cell) -> CellBench:
        parts, rest = self.drawn(cell)
        blocks, std = self.blocks, None
        if cell.noised is not None:
            blocks, std = self._noised(cell, rest)
        drifted = replace(
            parts,
            train=self._drifted(parts.train, cell.drift),
            val=self._drifted(parts.val, cell.drift),
            test=self._drifted(parts.test, cell.drift),
        )
        before = evaluate(blocks.model, drifted.test)
        return CellBench(
            cell=cell,
            level=self.experiment.level,
            blocks=blocks,
            parts=drifted,
            before=before,
            recipe=self.recipe(),
            paper=self.recipe("paper"),
            fast=self.fast,
            card=None if cell.noised is not None else self._card,
            card_samples=None if cell.noised is not None else self._card_samples(rest, cell.seed),
            noise_std=std,
        )

    def drawn(self, cell: Cell) -> tuple[Parts, Samples]:
        """Train, val and test before the drift, and the samples that are in none of them."""
        e = self.experiment
        parts = split_samples(self.samples, e.sizes[cell.size], e.val, e.spare or e.test, cell.seed)
        if self.settings.test_data is not None:
            spare = parts.test
            return replace(parts, test=self._test_set), spare
        used = np.concatenate([parts.train.ids, parts.val.ids, parts.test.ids])
        return parts, self.samples.subset(np.flatnonzero(~np.isin(self.samples.ids, used)))

    @cached_property
    def _test_set(self) -> Samples:
        assert self.settings.test_data is not None
        samples = read(self.settings.test_data, self.preset.inputs)
        return split_samples(samples, 0, 0, 0.1, 0).test if self.experiment.quick else samples

    def _drifted(self, samples: Samples, drift: str | None) -> Samples:
        """The samples with the drift on top; from a CIFAR-10-C folder, the same pictures corrupted.

        The seed of the drift is the same in all cells: the published set is one fixed set, too.
        """
        if drift is None or not len(samples):
            return samples
        if self.is_corrupted:
            name, _, severity = drift.partition(":")
            conditions = {"corruption": name, "severity": severity}
            whole = read(self.settings.data[0], self.preset.inputs, conditions)
            return whole.subset(np.flatnonzero(np.isin(self.samples.ids, samples.ids)))
        return apply_drift(samples, drift)

    @cached_property
    def _card(self) -> SourceCard | None:
        if self.settings.card is None:
            return None
        card = SourceCard.load(self.settings.card)
        card.check(self.blocks.model)
        return card

    def _card_samples(self, rest: Samples, seed: int) -> Samples | None:
        """What to make the source card for ``ours`` from, if none was given; None: there is no card.

        If the drift is ours, these are clean pictures that are in no part of the cell.
        """
        if self.settings.card is not None:
            return None
        drift_is_ours = self.experiment.drifts[0] is not None and not self.is_corrupted
        if not drift_is_ours or len(rest) < MIN_SAMPLES:
            return None
        return split_samples(rest, min(CARD_SAMPLES, len(rest)), 0, 0, seed, "none").train

    def _noised(self, cell: Cell, calibration: Samples) -> tuple[Blocks, float]:
        """A copy of the base with noise on every parameter of one block, and the standard deviation."""
        model = self.preset.build().to(self.device)
        model.load_state_dict(self.blocks.model.state_dict())
        blocks = self.preset.split(model)
        assert cell.noised is not None
        block = blocks.head if cell.noised == "rear" else blocks.names[BLOCK_METHODS.index(cell.noised)]
        std = add_noise(blocks, block, self.experiment.noised_accuracy, calibration, cell.seed)
        return blocks, std


def arms_recipe(experiment: Experiment, preset: Preset, name: str) -> Recipe:
    """A recipe as the arms follow it; channels-last memory changes the time, not the arithmetic.

    The records were made when the front and arms that have the head were trained like the others, and stay
    comparable that way.
    """
    recipe = find_recipe(name, preset.recipes).replace(front=None, joint=Joint())
    if recipe.name.startswith("paper") and experiment.changes:
        recipe = recipe.replace(**experiment.changes)
    return with_batches_of(experiment, recipe).replace(channels_last=True)


def with_batches_of(experiment: Experiment, recipe: Recipe) -> Recipe:
    """The recipe with the experiment's batch size, if it has one and the recipe does not adapt its own."""
    size = experiment.batch_size
    return recipe if size is None or recipe.scaling.min_steps else recipe.replace(batch_size=size)


def joined(sets: list[Samples]) -> Samples:
    """Several sets as one, with new ids and the attributes that all of them have."""
    if len(sets) == 1:
        return sets[0]
    attributes: Mapping[str, Any] = {
        key: np.concatenate([np.asarray(s.attributes[key]) for s in sets])
        for key in sets[0].attributes
        if all(key in s.attributes for s in sets)
    }
    labels = np.concatenate([s.labels for s in sets])
    return Samples(
        inputs=np.concatenate([s.inputs for s in sets]),
        labels=labels,
        class_names=sets[0].class_names,
        ids=np.arange(len(labels)),
        attributes=attributes,
        name=" and ".join(s.name for s in sets),
    )


def split_digest(parts: Parts) -> str:
    """A hash of which samples lie in which part."""
    found = hashlib.sha256()
    for part in (parts.train, parts.val, parts.test):
        found.update(part.ids.astype(np.int64).tobytes() + b"|")
    return found.hexdigest()[:16]
