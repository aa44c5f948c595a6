"""The functions at the root; each converts its arguments into samples and blocks, and calls one function.

:func:`tbft.personalize` is in ``pipeline.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tbft import blocks as _blocks
from tbft.base import Base
from tbft.blocks import Blocks
from tbft.blocks.inputs import Inputs
from tbft.blocks.outputs import Output, logits_of
from tbft.data.forms import as_samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.card_building import card_of_samples
from tbft.diagnosis.gathering import gather
from tbft.diagnosis.levels import NOT_DIAGNOSED, Diagnosis, diagnose_evidence
from tbft.errors import DataError, TbftWarning, check_form, wrong_form
from tbft.loading import as_base, inputs_for, reader_of, runnable_and_inputs
from tbft.models import find_model
from tbft.plan import Plan
from tbft.tuning.execution import Tuned, tune_samples
from tbft.tuning.loop import OnStep
from tbft.tuning.options import MakeOptimizer, Tuning
from tbft.tuning.prefix_cache import CachePolicy, as_cache
from tbft.verification.evaluation import Evaluation, evaluate_samples, warn_if_dependent
from tbft.verification.task import Loss, Score, as_task


def split(
    model: Any,
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    example: Inputs | None = None,
    output: Output = logits_of,
) -> Blocks:
    """Split a model into blocks.

    Args:
        model: a module, a list of ``(name, module)``, the name of a preset, or ``"package.module:factory"``;
            named models are built without loading a checkpoint.
        cuts: submodules at which the second and later blocks start, in the order in which the model runs
            them. Default: the cuts that the model declares, else cuts found automatically, see
            ``docs/blocks.md``.
        names: names of the blocks, one more than cuts. Default: the names that the model declares, else
            ``front`` and the names of the cuts; for cuts found automatically, ``front`` to ``rear``.
        example: an input batch of the model: a tensor, or several by name or position. If given, the blocks
            are run on it and compared with the model. Needed where the model takes several tensors, where a
            size decides what it runs, and for lazy layers.
        output: function from what the model returns to its logits. Default: the tensor itself, ``.logits``,
            the key ``logits``, or the first of several.

    Raises:
        SplitError: an unknown cut, a tensor that skips across a cut, a parameter used in two blocks, or a
            model that cannot be traced.
    """
    if isinstance(model, (Base, Blocks)):
        model = model.model
    if isinstance(model, str):
        preset = find_model(model, cuts, names)
        model, cuts, names = preset.build(), preset.cuts, preset.block_names
    return _blocks.split(model, cuts, names, example, output)


def evaluate(model: Any, data: Any, *, loss: Loss | None = None, score: Score | None = None) -> Evaluation:
    """Accuracy and loss of a model on labeled samples; the model is not changed.

    Args:
        model, data: in any form that :func:`tbft.personalize` takes; a module need not be split into blocks.
        loss, score: for tasks other than classification, see :func:`tbft.personalize`.
    """
    runnable, inputs = runnable_and_inputs(model)
    samples = as_samples(data, inputs_for(inputs, loss))
    task = as_task(loss, score, samples.targets is not None)
    result = evaluate_samples(runnable, samples, task=task)
    warn_if_dependent(runnable, samples)
    return result


def diagnose(
    model: Any, data: Any, *, card: SourceCard | str | Path | None = None, labeled: bool = True
) -> Diagnosis:
    """Diagnose the level of drift from samples; the model is not changed.

    Args:
        model, data: in any form that :func:`tbft.personalize` takes; at most 256 samples are used.
        card: source card of the base model, or its file; without one the diagnosis is weaker.
        labeled: whether to use the labels; without them, drift at the output level cannot be detected.

    Raises:
        CardError, DataError: the card belongs to another model, there are no samples, or neither a card nor
            BatchNorm says anything of the source.
    """
    check_form("labeled", labeled, (bool, int), "True or False")
    base = as_base(model, card, read=reader_of(data))
    samples = as_samples(data, base.inputs)
    diagnosis = diagnose_evidence(gather(base.blocks, samples, base.card, labeled))
    if diagnosis.verdict == NOT_DIAGNOSED:
        raise DataError(
            "a model without BatchNorm keeps no statistics of its source: build a card (tbft card build), or "
            "personalize with labels, which needs no diagnosis"
        )
    for note in base.checked(samples).notes[len(samples.notes) :]:
        warnings.warn(note, TbftWarning, stacklevel=2)
    return diagnosis


def build_card(model: Any, data: Any, *, seed: int = 0) -> SourceCard:
    """Build a source card from labeled source samples that the base was not trained on.

    Args:
        model, data: in any form that :func:`tbft.personalize` takes; a few hundred samples are enough.

    Raises:
        DataError: too few samples, or samples that the model cannot take.
    """
    base = as_base(model, read=reader_of(data))
    return card_of_samples(base.blocks, as_samples(data, base.inputs), seed)


def tune(
    model: Any,
    plan: Plan | str,
    train: Any,
    val: Any = None,
    *,
    cache: CachePolicy | str | Path | None = None,
    optimizer: MakeOptimizer | None = None,
    loss: Loss | None = None,
    resume: str | Path | None = None,
    progress: OnStep | None = None,
) -> Tuned:
    """Tune one arm of a model and return what changed; the model itself is restored.

    Args:
        model, train, val: in any form that :func:`tbft.personalize` takes; `val` chooses the epoch to keep,
            for recipes that validate.
        plan: what to do; the name of an arm is short for ``Plan(arm)``.
        cache: where to keep outputs of the frozen prefix that do not fit into memory: a policy or a folder.
        optimizer: (parameters, learning rate) -> optimizer, instead of the recipe's.
        loss: for tasks other than classification, see :func:`tbft.personalize`.
        resume: file for the state of an unfinished run, which is resumed if the file exists.
        progress: called with (steps done, steps in total).

    Raises:
        PlanError, DataError: the plan does not fit the model or the samples.
    """
    if not isinstance(plan, (Plan, str)):
        raise wrong_form("plan", plan, ["a Plan", "the name of an arm"])
    check_form("resume", resume, (str, Path), "the path of a file")
    base = as_base(model, read=reader_of(train, loss))
    plan = Plan(plan, base.recipe("fast")) if isinstance(plan, str) else plan
    spec = inputs_for(base.inputs, loss)
    samples, held_out = as_samples(train, spec), None if val is None else as_samples(val, spec)
    path = None if resume is None else Path(resume)
    task = as_task(loss, None, samples.targets is not None)
    how = Tuning(as_cache(cache), optimizer, path, progress, task=task)
    return tune_samples(base.blocks, plan, samples, held_out, how)


__all__ = ["build_card", "diagnose", "evaluate", "split", "tune"]
