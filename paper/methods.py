"""What a run does: one method in one cell, metered, and its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from paper.baselines import BASELINES
from paper.baselines.auto_rgn import as_long_as
from paper.bench import Bench, CellBench, split_digest
from paper.provenance import machine, now
from paper.runs import Run
from tbft import Meter, Plan, Samples, build_card, evaluate, personalize, split_samples, tune
from tbft.blocks.state import values_restored
from tbft.metering import Measurement
from tbft.patches import versions

#: Samples of the validation part on which `ours` is accepted, at most: as :func:`tbft.personalize` has it.
ACCEPTANCE_SAMPLES = 500


@dataclass(frozen=True)
class Done:
    """What a method achieved on the test part, and what it cost."""

    arm: str
    accuracy: float
    measurement: Measurement
    history: tuple[Mapping[str, Any], ...] = ()
    best_epoch: int | None = None
    tuned_parameters: int = 0
    choosing_cpu_seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)


def record_of(bench: Bench, run: Run, engine: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Execute a run and describe it; `origin` has the commit."""
    cell = bench.cell(run.cell)
    done = do(cell, run.method)
    measurement = asdict(done.measurement)
    parts = cell.parts
    return {
        "id": run.id,
        "experiment": bench.experiment.name,
        "quick": bench.experiment.quick,
        "recipe": bench.settings.recipe,
        "model": bench.preset.name,
        "base_fingerprint": bench.fingerprint,
        "data": bench.settings.data_name,
        **asdict(run.cell),
        "method": run.method,
        "arm": done.arm,
        "train_samples": len(parts.train),
        "val_samples": len(parts.val),
        "test_samples": len(parts.test),
        "split_digest": split_digest(parts),
        "accuracy_before": cell.before.accuracy,
        "accuracy": done.accuracy,
        "best_epoch": done.best_epoch,
        "history": list(done.history),
        "tuned_parameters": done.tuned_parameters,
        "choosing_cpu_seconds": done.choosing_cpu_seconds,
        "noise_std": cell.noise_std,
        "details": dict(done.details),
        "measurement": measurement if engine == "serial" else without_energy(measurement),
        "engine": engine,
        "device": bench.device.type,
        "versions": versions(),
        "machine": {**machine(bench.device), "threads": torch.get_num_threads()},
        **origin,
        "finished": now(),
    }


def do(cell: CellBench, method: str) -> Done:
    """Execute a method; the model of the cell is restored afterward."""
    if method == "ours":
        return _ours(cell)
    if method in BASELINES:
        return _baseline(cell, method)
    return _arm(cell, method)


def _arm(cell: CellBench, method: str) -> Done:
    """One arm with the folder's recipe, metered without the evaluation on the test part."""
    recipe = cell.recipe
    # AdaBN that kept the source's statistics would do nothing.
    statistics = recipe.default_statistics(None if method == "adabn" else cell.level)
    plan = Plan(cell.arm(method), recipe, cell.level, statistics, seed=cell.cell.seed)
    val = cell.parts.val if recipe.duration.validate else None
    with Meter() as meter:
        tuned = tune(cell.blocks, plan, cell.parts.train, val)
    if tuned.stopped == "interrupt":
        raise KeyboardInterrupt
    accuracy = cell.before.score
    if tuned.changed:
        with values_restored(cell.blocks.model):
            cell.blocks.model.load_state_dict({**cell.blocks.model.state_dict(), **tuned.changed})
            accuracy = evaluate(cell.blocks.model, cell.parts.test).score
    return Done(
        arm=plan.arm.name,
        accuracy=accuracy,
        measurement=meter.measurement,
        history=tuple(asdict(epoch) for epoch in tuned.history),
        best_epoch=tuned.best_epoch,
        tuned_parameters=tuned.parameter_count,
    )


def _ours(cell: CellBench) -> Done:
    """What :func:`tbft.personalize` does by default; the card is not part of the cost."""
    card, seed, card_seconds = cell.card, cell.cell.seed, 0.0
    if card is None and cell.card_samples is not None:
        with Meter() as meter:
            card = build_card(cell.blocks, cell.card_samples, seed=seed)
        card_seconds = meter.measurement.cpu_seconds
    parts = replace(cell.parts, val=some(cell.parts.val, ACCEPTANCE_SAMPLES, seed))
    result = personalize(cell.blocks, parts, recipe=cell.fast, card=card, seed=seed)
    if result.stopped == "interrupt":
        raise KeyboardInterrupt
    assert result.choice is not None
    assert result.after is not None
    return Done(
        arm=result.plan.arm.name,
        accuracy=result.after.score,
        measurement=result.measurement,
        history=tuple(asdict(epoch) for epoch in result.tuned.history),
        best_epoch=result.tuned.best_epoch,
        tuned_parameters=result.tuned.parameter_count,
        choosing_cpu_seconds=result.choosing_cpu_seconds,
        details={
            "option": result.choice.option,
            "verdict": result.choice.diagnosis.verdict,
            "levels": list(result.choice.diagnosis.levels),
            "accepted": None if result.acceptance is None else result.acceptance.accepted,
            "acceptance_samples": len(parts.val),
            "card": card is not None,
            "card_cpu_seconds": card_seconds,
        },
    )


def _baseline(cell: CellBench, method: str) -> Done:
    options = {"recipe": as_long_as(cell.paper)} if method == "auto-rgn" else {}
    with Meter() as meter:
        outcome = BASELINES[method](cell.blocks, cell.parts, cell.cell.seed, **options)
    return Done(
        arm=method,
        accuracy=outcome.accuracy,
        measurement=meter.measurement,
        history=tuple(asdict(epoch) for epoch in outcome.history),
        best_epoch=outcome.details.get("best_epoch"),
        tuned_parameters=outcome.tuned_parameters,
        details=outcome.details,
    )


def some(samples: Samples, count: int, seed: int) -> Samples:
    """At most `count` of the samples, of all classes: sets are often sorted by class."""
    if len(samples) <= count:
        return samples
    return split_samples(samples, count, 0, 0, seed, "none").train


def without_energy(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """The measurement of a run beside others: what a sensor shows then is not the energy of that run."""
    kept = {k: None if "energy" in k or "watts" in k else v for k, v in measurement.items()}
    return {**kept, "energy_kind": "unavailable", **({"power_samples": 0} if "power_samples" in kept else {})}
