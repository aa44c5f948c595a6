"""The methods that `people.py` compares: each adapts a base to one person and predicts the test part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from families import Person
from torch import Tensor, nn

import tbft
from paper.baselines import BASELINES
from paper.paper_way import paper_way
from tbft.blocks.state import batch_norms, clone_state, modes_restored, values_restored
from tbft.diagnosis.observation import observe
from tbft.plan import FOLLOW, KEEP
from tbft.verification.comparison import changed_to
from tbft.verification.running import predict

Ints = npt.NDArray[np.int64]
#: Methods that use no label.
UNLABELED = ("adabn",)


@dataclass(frozen=True)
class Outcome:
    """What a method predicts for the test part, and what it cost without these predictions."""

    predicted: Ints
    cpu_seconds: float
    patch_bytes: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


def methods_for(blocks: tbft.Blocks) -> list[str]:
    """The methods that learn from labels, and ``adabn``, for a model."""
    norms = ["adabn"] if batch_norms(blocks.model) else []
    arms = [f"block {name}" for name in blocks.names[:-1]]
    return [*norms, "new head", "ridge head", "prototypes", "cosine prototypes", *arms,
            "full", "full as a user", "full as in the paper", "ours"]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cell:
    """What one person gives in one mode of calibration.

    Attributes:
        mode: ``none``, ``unlabeled 20 %``, ``labeled 20 %`` or ``5 a class``.
        train: None in the mode ``none``.
    """

    person: Person
    mode: str
    train: tbft.Samples | None
    test: tbft.Samples


def execute(method: str, cell: Cell, seed: int) -> Outcome:
    """Adapt the person's base by a method and predict the test part; the base is restored."""
    person, train, test = cell.person, cell.train, cell.test
    model = person.base.model
    if method == "none":
        return Outcome(predict(model, test).argmax(1).numpy(), 0.0)
    if method == "tent":
        return _tent(person, test, seed)
    assert train is not None
    if method == "ours":
        return _ours(person, train, test, seed)
    start = time.process_time()
    changed = _changed(method, person, train, seed)
    seconds = time.process_time() - start
    with changed_to(model, changed):
        predicted = predict(model, test).argmax(1).numpy()
    patch = tbft.make_patch(model.state_dict(), changed, "full")
    return Outcome(predicted, seconds, len(patch.to_bytes()))


def _changed(method: str, person: Person, train: tbft.Samples, seed: int) -> Mapping[str, Tensor]:
    """The entries of the state dict that a method changes."""
    if method in HEADS:
        return HEADS[method](person, train)
    if method == "full as a user":
        return as_a_user(person.base.model, train, seed)
    if method == "full as in the paper":
        return as_in_the_paper(person.base.blocks, train, seed)
    arm = {"adabn": "adabn", "full": "full", "new head": person.base.blocks.head}.get(method)
    arm = arm or method.removeprefix("block ")
    follows = batch_norms(person.base.model) and method != "new head"
    plan = tbft.Plan(arm, "fast", statistics=FOLLOW if follows else KEEP, seed=seed)
    return tbft.tune(person.base, plan, train).changed


def _tent(person: Person, test: tbft.Samples, seed: int) -> Outcome:
    """TENT streams the test part through the model and learns from its inputs; it leaves no patch."""
    start = time.process_time()
    parts = tbft.Parts(test.subset(slice(0)), test.subset(slice(0)), test, 0, None)
    outcome = BASELINES["tent"](person.base.blocks, parts, seed)
    return Outcome(np.array(outcome.predicted), time.process_time() - start)


def _ours(person: Person, train: tbft.Samples, test: tbft.Samples, seed: int) -> Outcome:
    """What :func:`tbft.personalize` does by default; where it refuses, the base is kept."""
    model = person.base.model
    start = time.process_time()
    try:
        result = tbft.personalize(person.base, train, card=person.card, seed=seed)
    except tbft.TbftError as error:
        seconds = time.process_time() - start
        return Outcome(predict(model, test).argmax(1).numpy(), seconds, 0, {"refused": str(error)})
    seconds = time.process_time() - start
    with result.patch.applied(model):
        predicted = predict(model, test).argmax(1).numpy()
    size = len(result.patch.to_bytes()) if result.patch.tensors else 0
    option = None if result.choice is None else result.choice.option
    judged = result.acceptance
    details: dict[str, Any] = {"status": result.status, "option": option}
    if judged is not None:
        details |= {"judged": judged.count, "fixed": judged.fixed, "regressed": judged.regressed}
    return Outcome(predicted, seconds, size, details)


def as_a_user(
    model: nn.Module, train: tbft.Samples, seed: int, rate: float = 1e-3, epochs: int = 10
) -> dict[str, Tensor]:
    """Ten lines of plain fine-tuning: everything, Adam, BatchNorms in training mode."""
    x, y = train.batch(slice(0, len(train)))
    generator = torch.Generator().manual_seed(seed)
    with values_restored(model), modes_restored(model):
        before = clone_state(model)
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), rate)
        for _ in range(epochs):
            for at in torch.randperm(len(x), generator=generator).split(32):
                if len(at) > 1:
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x[at]), y[at]).backward()
                    optimizer.step()
        after = clone_state(model)
    return {key: value for key, value in after.items() if not torch.equal(value, before[key])}


def as_in_the_paper(blocks: tbft.Blocks, train: tbft.Samples, seed: int) -> dict[str, Tensor]:
    """SGD at the paper's rates; the last fifth of each class chooses the epoch, or its only label."""
    late = np.zeros(len(train), bool)
    for label in np.unique(train.labels):
        own = np.flatnonzero(train.labels == label)
        late[own[len(own) - len(own) // 5 - (1 < len(own) < 5) :]] = len(own) > 1
    val = train.subset(np.flatnonzero(late)) if late.any() else train
    parts = tbft.Parts(train.subset(np.flatnonzero(~late)), val, train, 0, None)
    best = paper_way(blocks, "full", tbft.find_recipe("paper"), parts, seed)
    before = blocks.model.state_dict()
    return {key: value for key, value in best.items() if not torch.equal(value, before[key])}


def ridge_head(person: Person, train: tbft.Samples, strength: float = 30.0) -> dict[str, Tensor]:
    """Ridge regression from standardized features to one-hot labels, in closed form."""
    features = observe(person.base.blocks, train, "float32").features.astype(np.float64)
    mean, spread = features.mean(0), features.std(0) + 1e-3
    x = np.concatenate([(features - mean) / spread, np.ones((len(features), 1))], axis=1)
    targets = np.eye(len(train.class_names))[train.labels]
    solution = x.T @ np.linalg.solve(x @ x.T + strength * np.eye(len(x)), targets)
    weight = solution[:-1].T / spread
    return _as_head(person, weight, solution[-1] - weight @ mean)


def prototypes(person: Person, train: tbft.Samples) -> dict[str, Tensor]:
    """The nearest mean of a class; classes without a label keep the card's mean."""
    means = _class_means(person, train, unit_length=False)
    return _as_head(person, 2 * means, -(means**2).sum(1))


def cosine_prototypes(person: Person, train: tbft.Samples) -> dict[str, Tensor]:
    """The class with the most similar mean direction."""
    means = _class_means(person, train, unit_length=True)
    means /= np.linalg.norm(means, axis=1, keepdims=True) + 1e-9
    return _as_head(person, means, np.zeros(len(means)))


def _class_means(person: Person, train: tbft.Samples, unit_length: bool) -> npt.NDArray[np.float64]:
    features = observe(person.base.blocks, train, "float32").features.astype(np.float64)
    means = person.card.array("classes/mean").astype(np.float64)
    if unit_length:
        features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-9
    for label in np.unique(train.labels):
        means[label] = features[train.labels == label].mean(0)
    return means


def _as_head(person: Person, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> dict[str, Tensor]:
    layer = person.base.blocks.head_layer
    values = {"weight": weight, "bias": bias}
    return {f"{layer}.{key}": torch.from_numpy(value.astype(np.float32)) for key, value in values.items()}


HEADS: dict[str, Callable[[Person, tbft.Samples], dict[str, Tensor]]] = {
    "ridge head": ridge_head,
    "prototypes": prototypes,
    "cosine prototypes": cosine_prototypes,
}
