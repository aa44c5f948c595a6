"""A model's graph, traced with ``torch.fx`` as the model is called.

So with its hooks, with the ``forward`` that an instance was given, and with optional arguments at their
defaults. Where a size decides what is run, it is traced along an example.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from tbft.blocks.inputs import Inputs, call, map_tensors, tensors_of
from tbft.blocks.outputs import Output, UnknownOutputError, logits_of
from tbft.blocks.state import attributes_restored, modes_restored, values_restored
from tbft.errors import SplitError

#: Whether a submodule stays one call.
IsLeaf = Callable[[nn.Module, str], bool]


@dataclass(frozen=True, eq=False)
class Traced:
    """A model as a graph.

    Attributes:
        graph: in evaluation mode.
        tensors: the tensors of the model that the graph uses by themselves, and those that it makes.
        training: the same with the model itself in training mode; None: nothing else is run then.
        sizes: of the inputs but for the batch, if any of them decided what is run; else None.
        adapted: whether the model is to be given its inputs in another way than ``model(x)``, or returns
            something else than a tensor.
    """

    graph: fx.Graph
    tensors: Mapping[str, Any]
    training: Traced | None = None
    sizes: tuple[tuple[int, ...], ...] | None = None
    adapted: bool = False


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
        raise SplitError(
            f"a part of {type(model).__name__} runs other code in training than in evaluation mode; "
            "move that into a submodule (nn.Dropout, say), or give a list of (name, module)"
        )
    return replace(evaluation, training=mixed, adapted=evaluation.adapted or mixed.adapted)


def trace_once(
    model: nn.Module, is_leaf: IsLeaf, example: Inputs | None = None, output: Output = logits_of
) -> Traced:
    """Trace a model in the modes that it is in; along the example where it cannot be traced without."""
    try:
        return _traced(_Tracer(is_leaf, example, output), model)
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
                return _traced(_Tracer(is_leaf, example, output), model)
            except UntraceableError as error:
                if error.path:
                    opaque.add(type(model.get_submodule(error.path)))
                elif along or example is None:
                    raise
                along = along or not error.path


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch's own, and no container, or has weights that others compute."""
    container = isinstance(module, (nn.Sequential, nn.TransformerEncoder))
    return (type(module).__module__.startswith("torch.nn.") and not container) or is_parametrized(module)


class UntraceableError(SplitError):
    """A model that cannot be traced; `path` is the innermost submodule that was being traced then."""

    def __init__(self, model: nn.Module, path: str, error: Exception, has_example: bool) -> None:
        self.path, self.needs_example = path, not has_example
        what = type(model.get_submodule(path)).__name__
        remedy = (
            "" if has_example else "give an example (a batch, or tbft blocks --input) to trace it along, or "
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
        tracer = _ExampleTracer(is_leaf, some, output)
        with values_restored(model):
            found.append(_traced(tracer, model))
    if len({str(traced.graph) for traced in found}) > 1:
        raise SplitError(
            f"what {type(model).__name__} runs depends on how many samples are in a batch (where that is "
            "only counted, x.size(0) can be traced, and len(x) cannot); give it as nn.Sequential or a list "
            "of (name, module)"
        )
    sizes = tuple(tuple(t.shape[1:]) for t in tensors_of(example)) if tracer.decided else None
    return replace(found[0], sizes=sizes)


def _first(count: int, tensor: Tensor) -> Tensor:
    return tensor[torch.arange(count, device=tensor.device) % len(tensor)]


def module_paths(node: fx.Node) -> list[str]:
    """Names of the submodules that a node runs in, outermost first; a called submodule counts as one."""
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]


def _traced(tracer: _Tracer, model: nn.Module) -> Traced:
    try:
        with torch.enable_grad(), attributes_restored(model), _functions_refused():
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
    return Traced(graph, tensors, adapted=tracer.adapted)


@contextmanager
def _functions_refused() -> Iterator[None]:
    """Tracing would look into an ``autograd.Function`` and lose the backward pass that it defines."""
    apply = torch.autograd.Function.__dict__["apply"]

    def checked(cls: type, *arguments: Any, **keywords: Any) -> Any:
        if any(isinstance(a, fx.Proxy) for a in (*arguments, *keywords.values())):
            raise TypeError(f"{cls.__name__} is a torch.autograd.Function outside of a submodule")
        return apply.__get__(None, cls)(*arguments, **keywords)

    torch.autograd.Function.apply = classmethod(checked)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.autograd.Function.apply = apply  # type: ignore[method-assign]


def _encoder_forward(encoder: nn.TransformerEncoder, src: Any, **masks: Any) -> Any:
    """What torch's encoder runs where no mask is given; its own forward asks for values of the input."""
    if any(mask is not None and mask is not False for mask in masks.values()):
        raise TypeError("nn.TransformerEncoder is given a mask")
    for layer in encoder.layers:
        src = layer(src)
    return src if encoder.norm is None else encoder.norm(src)


class _Tracer(fx.Tracer):
    """Traces what ``model(x)`` runs, and notes for each node whether gradients were off.

    Attributes:
        example: what the placeholders stand for: one tensor, or several by name or position.
        entered: the submodules that are being traced through, outermost first; where it fails, they stay.
    """

    proxy_buffer_attributes = True

    def __init__(self, is_leaf: IsLeaf, example: Inputs | None, output: Output) -> None:
        super().__init__()
        self.is_leaf, self.example, self.output = is_leaf, example, output
        self.entered: list[str] = []
        self.adapted = not (example is None or isinstance(example, Tensor))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return bool(module_qualified_name) and self.is_leaf(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if type(m) is nn.TransformerEncoder:
            forward = partial(_encoder_forward, m)
        self.entered.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.entered.pop()
        return result

    def create_node(self, *arguments: Any, **keywords: Any) -> fx.Node:
        node = super().create_node(*arguments, **keywords)
        node.meta["no_grad"] = not torch.is_grad_enabled()
        return node

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        placeholders: Any
        if self.example is None or isinstance(self.example, Tensor):
            placeholders = self.placeholder("x", self.example)
        elif isinstance(self.example, Mapping):
            placeholders = {name: self.placeholder(name, value) for name, value in self.example.items()}
        else:
            placeholders = tuple(self.placeholder(f"x{i}", value) for i, value in enumerate(self.example))

        def run(model: nn.Module) -> Any:
            returned = call(model, placeholders)
            result = self.output(returned)
            self.adapted |= result is not returned
            if not isinstance(result, fx.Proxy):
                raise UnknownOutputError(
                    f"the model returns a {type(result).__name__}, no tensor of its inputs"
                )
            return result

        return run, [self.root]

    def placeholder(self, name: str, value: Tensor | None) -> fx.Proxy:
        """A proxy for one input."""
        return self.create_proxy("placeholder", name, (), {})


class _ExampleTracer(_Tracer):
    """Traces along an example: a test of a size takes the branch that the example takes.

    Attributes:
        decided: whether a size decided anything.
    """

    def __init__(self, is_leaf: IsLeaf, example: Inputs, output: Output) -> None:
        super().__init__(is_leaf, example, output)
        self.decided = False
        self._running = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Known(node, self)

    def placeholder(self, name: str, value: Tensor | None) -> fx.Proxy:
        proxy = super().placeholder(name, value)
        proxy.node.meta["value"] = value
        return proxy

    def create_proxy(self, kind: str, target: Any, *arguments: Any, **keywords: Any) -> Any:
        proxy = super().create_proxy(kind, target, *arguments, **keywords)
        if kind != "placeholder":
            self._running = True
            try:
                with torch.no_grad():
                    proxy.node.meta["value"] = self._value(proxy.node)
            finally:
                self._running = False
        return proxy

    def _value(self, node: fx.Node) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._of)
        if callable(node.target):
            return node.target(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        found = operator.attrgetter(node.target)(self.root)
        return found if node.op == "get_attr" else found(*args, **kwargs)

    def _of(self, node: fx.Node) -> Any:
        if "value" not in node.meta:  # a tensor of the model, used as it is
            node.meta["value"] = self._value(node)
        return node.meta["value"]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return forward(*args, **kwargs) if self._running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def known(self, proxy: fx.Proxy) -> Any:
        """The value of a size, on which it depends from here on what is run."""
        value = proxy.node.meta["value"]
        if isinstance(value, Tensor):
            raise TypeError("what it runs depends on the values of a tensor")
        self.decided = True
        return value

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.known(obj))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = obj.node.meta["value"]
        self.decided |= isinstance(value, Tensor)
        parts: Any = obj
        return iter([parts[i] for i in range(len(value))])

    def keys(self, obj: fx.Proxy) -> Any:
        return obj.node.meta["value"].keys()


class _Known(fx.Proxy):
    """A proxy whose value is known, where it is asked for as a number."""

    tracer: _ExampleTracer

    def __len__(self) -> int:
        self.tracer.decided = True
        return len(self.node.meta["value"])

    def __index__(self) -> int:
        return operator.index(self.tracer.known(self))

    def __int__(self) -> int:
        return int(self.tracer.known(self))

    def __float__(self) -> float:
        return float(self.tracer.known(self))
