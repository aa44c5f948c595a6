"""Split a model: trace it, find or take its cuts, and give every key of its state to one block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tbft.blocks.assembly import cut_at
from tbft.blocks.blocks import Blocks
from tbft.blocks.checking import check_stages
from tbft.blocks.cutting import MAX_BLOCKS, names_for, propose_cuts
from tbft.blocks.inputs import Inputs, call
from tbft.blocks.observing import observed
from tbft.blocks.outputs import Output, logits_of
from tbft.blocks.state import evaluating
from tbft.blocks.unwrap import plain
from tbft.errors import NotTheModelError, SplitError, check_form


def split(
    model: nn.Module | Sequence[tuple[str, nn.Module]],
    cuts: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    example: Inputs | None = None,
    output: Output = logits_of,
) -> Blocks:
    """Cut a model into blocks, see :func:`tbft.split`.

    A module is traced with ``torch.fx``, but only through the parents of the cuts, so deeper modules may be
    dynamic. Wrappers such as ``DataParallel`` are taken off.

    >>> model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 4, 3), flat=nn.Flatten(), fc=nn.Linear(4, 2)))
    >>> split(model, cuts=["flat"]).names
    ('front', 'flat')
    >>> split(model).names
    ('front', 'rear')
    """
    for what, given in (("cuts", cuts), ("names", names)):
        check_form(what, given, (list, tuple), "a list of names")
    model = plain(model) if isinstance(model, nn.Module) else sequential(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise SplitError("the model is TorchScript, which cannot be traced: give the module it was made of")
    _initialize(model, example)
    declared = getattr(model, "cuts", None)
    # Anything else of that name is the model's own business.
    is_sequence = isinstance(declared, (list, tuple))
    if cuts is None and is_sequence and all(isinstance(cut, str) for cut in declared or ()):
        cuts = tuple(declared or ())
        names = names or getattr(model, "block_names", None)
    if cuts is None:
        return _split_automatically(model, names, example, output)
    names = [str(name) for name in names or ["front", *cuts]]
    blocks = cut_at(model, cuts, names, example, output)
    if example is not None:
        check_stages(blocks, example)
    return blocks


def _split_automatically(
    model: nn.Module, names: Sequence[str] | None, example: Inputs | None, output: Output
) -> Blocks:
    """Cut a model where that is possible; what cannot be traced is one block, which is run as a whole."""
    try:
        cuts = propose_cuts(model, example, output, len(names) if names else MAX_BLOCKS).cuts
        blocks = cut_at(model, cuts, names or names_for(len(cuts) + 1), example, output)
        if example is not None:
            check_stages(blocks, example)
    except NotTheModelError as error:
        if example is None or names is not None:
            raise
        blocks = observed(model, example, output, str(error).partition(";")[0])
        check_stages(blocks, example)
    return blocks


def sequential(parts: Sequence[tuple[str, nn.Module]]) -> nn.Sequential:
    """A list of ``(name, module)`` as one model that declares each of them that has parameters as a block."""
    try:
        names = [str(name) for name, _ in parts]
        model = nn.Sequential(OrderedDict(parts))
        starts, block_names = _grouped(parts)
    except (TypeError, ValueError, KeyError) as error:
        message = f"give a module or a list of (name, module) pairs, names without dots: {error}"
        raise SplitError(message) from error
    if len(model) != len(names):
        raise SplitError(f"two blocks in the list have the same name: {', '.join(names)}")
    model.cuts, model.block_names = starts[1:], block_names  # type: ignore[assignment]
    return model


def _grouped(parts: Sequence[tuple[str, nn.Module]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where blocks start, and their names: what has no parameters belongs with what follows it.

    >>> _grouped([("a", nn.Linear(2, 2)), ("flat", nn.Flatten()), ("b", nn.Linear(2, 2)), ("end", nn.ReLU())])
    (('a', 'flat'), ('a', 'b'))
    """
    starts, names, first = [], [], None
    for name, module in parts:
        first = name if first is None else first
        if any(True for _ in module.parameters()):
            starts.append(first)
            names.append(name)
            first = None
    return (tuple(starts), tuple(names)) if names else ((parts[0][0],), (parts[0][0],))


def _initialize(model: nn.Module, example: Inputs | None) -> None:
    """Lazy layers get their shapes from an example."""
    lazy = [name for name, p in (*model.named_parameters(), *model.named_buffers()) if is_lazy(p)]
    if lazy and example is None:
        error = SplitError(
            f"{type(model).__name__} has lazy layers without shapes yet ({lazy[0]}): load weights, "
            "run the model on a batch once, model(x), or give an example"
        )
        error.needs_example = True
        raise error
    if lazy and example is not None:
        with evaluating(model):
            call(model, example)
