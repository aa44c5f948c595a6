"""A model's graph, traced with ``torch.fx`` as the model is called.

So with its hooks, with the ``forward`` that an instance was given, and with optional arguments at their
defaults. Where a size decides what is run, it is traced along an example.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from tbft.blocks.inputs import Inputs, map_tensors, tensors_of
from tbft.blocks.outputs import Output, UnknownOutputError, logits_of
from tbft.blocks.state import attributes_restored, modes_restored, values_restored
from tbft.blocks.tracers import ExampleTracer, IsLeaf, Tracer, functions_refused
from tbft.errors import NotTheModelError


@dataclass(frozen=True, eq=False)
class Traced:
    """A model as a graph.

    Attributes:
        graph: in evaluation mode.
        tensors: the tensors of the model that the graph uses by themselves, and those that it makes.
        training: the same with the model itself in training mode; None: nothing else is run then.
        sizes: of the inputs without the batch, if any of them decided what is run; else None.
        adapted: whether the model is to be given its inputs in another way than ``model(x)``, or returns
            something else than a tensor.
        opaque: why the model cannot be traced and is one block that is run as a whole; empty: it was traced.
        head: the last layer of an opaque model; empty where there is none.
        taken: what is taken for the logits where it returns more than one value; empty: the only one.
    """

    graph: fx.Graph
    tensors: Mapping[str, Any]
    training: Traced | None = None
    sizes: tuple[tuple[int, ...], ...] | None = None
    adapted: bool = False
    taken: str = ""
    opaque: str = ""
    head: str = ""


def trace(
    model: nn.Module, parents: Collection[str], example: Inputs | None = None, output: Output = logits_of
) -> Traced:
    """Trace a model through itself and some of its submodules; every other one stays one call.

    Raises:
        SplitError: it cannot be traced, or training mode runs other code in one of the submodules.
    """

    def is_leaf(_: nn.Module, path: str) -> bool:
        return path not in parents

    inner = [model.get_submodule(name) for name in sorted(parents) if name]
    found = []
    for own, theirs in ((False, False), (True, True), (True, False)):
        with modes_restored(model):
            model.eval()
            model.training = own
            for module in inner:
                module.training = theirs
            found.append(trace_once(model, is_leaf, example, output))
        if len(found) == 2 and str(found[0].graph) == str(found[1].graph):
            return replace(found[0], adapted=found[0].adapted or found[1].adapted)
    evaluation, training, mixed = found
    if str(training.graph) != str(mixed.graph):
        raise NotTheModelError(
            f"a part of {type(model).__name__} runs other code in training than in evaluation mode; "
            "move that into a submodule (nn.Dropout, say), or give a list of (name, module)"
        )
    return replace(evaluation, training=mixed, adapted=evaluation.adapted or mixed.adapted)


def trace_once(
    model: nn.Module, is_leaf: IsLeaf, example: Inputs | None = None, output: Output = logits_of
) -> Traced:
    """Trace a model in the modes that it is in; along the example where it cannot be traced without."""
    try:
        return _traced(Tracer(is_leaf, example, output), model)
    except UntraceableError:
        if example is None:
            raise
    return _traced_along(model, is_leaf, example, output)


def trace_deep(model: nn.Module, example: Inputs | None = None, output: Output = logits_of) -> Traced:
    """Trace a model in evaluation mode down to single layers, to see what it is made of.

    Modules of a class that cannot be traced stay one call.
    """
    opaque: set[type[nn.Module]] = set()

    def is_leaf(module: nn.Module, _: str) -> bool:
        return is_layer(module) or type(module) in opaque

    along = False
    with modes_restored(model):
        model.eval()
        while True:
            try:
                if along and example is not None:
                    return _traced_along(model, is_leaf, example, output)
                return _traced(Tracer(is_leaf, example, output), model)
            except UntraceableError as error:
                if error.path:
                    opaque.add(type(model.get_submodule(error.path)))
                elif along or example is None:
                    raise
                along = along or not error.path


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch's own and not a container, or has weights computed by others."""
    container = isinstance(module, (nn.Sequential, nn.TransformerEncoder))
    return (type(module).__module__.startswith("torch.nn.") and not container) or is_parametrized(module)


class UntraceableError(NotTheModelError):
    """A model that cannot be traced; `path` is the innermost submodule that was being traced then."""

    def __init__(self, model: nn.Module, path: str, error: Exception, has_example: bool) -> None:
        self.path, self.needs_example = path, not has_example
        what = type(model.get_submodule(path)).__name__
        remedy = (
            "leave out cuts to run it as one block, or "
            if has_example
            else "give an example (a batch, or tbft blocks --input) to trace it along, or "
        )
        super().__init__(
            f"{what}.forward cannot be traced ({type(error).__name__}: {error}); "
            f"{remedy}give the model as nn.Sequential or as a list of (name, module)"
        )


def _traced_along(model: nn.Module, is_leaf: IsLeaf, example: Inputs, output: Output) -> Traced:
    """Traced along an example, in batches of several sizes, which have to give the same graph."""
    found = []
    for size in (1, 2, 3):
        some = map_tensors(partial(_first, size), example)
        tracer = ExampleTracer(is_leaf, some, output)
        with values_restored(model):
            found.append(_traced(tracer, model))
    if len({str(traced.graph) for traced in found}) > 1:
        raise NotTheModelError(
            f"what {type(model).__name__} runs depends on how many samples are in a batch; give it as "
            "nn.Sequential or a list of (name, module)"
        )
    sizes = tuple(tuple(t.shape[1:]) for t in tensors_of(example)) if tracer.decided else None
    return replace(found[0], sizes=sizes)


def _first(count: int, tensor: Tensor) -> Tensor:
    return tensor[torch.arange(count, device=tensor.device) % len(tensor)]


def module_paths(node: fx.Node) -> list[str]:
    """Names of the submodules that a node runs in, outermost first; a called submodule counts as one."""
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]


def _traced(tracer: Tracer, model: nn.Module) -> Traced:
    try:
        with torch.enable_grad(), attributes_restored(model), functions_refused():
            if getattr(model, "_compiled_call_impl", None) is not None:
                model._compiled_call_impl = None  # a call would run what was compiled
            graph = tracer.trace(model)
            names = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
            tensors = {name: operator.attrgetter(name)(model) for name in names}
    except UnknownOutputError:
        raise
    except Exception as error:  # whatever the user's forward raises on a symbolic input
        path = tracer.entered[-1] if tracer.entered else ""
        raise UntraceableError(model, path, error, tracer.example is not None) from error
    return Traced(graph, tensors, adapted=tracer.adapted, taken=tracer.taken)
