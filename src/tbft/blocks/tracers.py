"""What ``torch.fx`` does not do by itself: trace a model as it is called, and along an example."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from tbft.blocks.inputs import Inputs, call
from tbft.blocks.outputs import Output, UnknownOutputError, logits_of, taken_from

#: Whether a submodule stays one call.
IsLeaf = Callable[[nn.Module, str], bool]


@contextmanager
def functions_refused() -> Iterator[None]:
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


@contextmanager
def _lengths_traced() -> Iterator[None]:
    """``len(x)`` of a tensor is traced, as ``x.size(0)`` is; Python itself lets nothing but a number pass."""
    plain = builtins.len

    def traced(value: Any) -> Any:
        known = isinstance(value, _Known) and isinstance(value.node.meta.get("value"), Tensor)
        return value.size(0) if known else plain(value)

    builtins.len = traced
    try:
        yield
    finally:
        builtins.len = plain


def _encoder_forward(encoder: nn.TransformerEncoder, src: Any, **masks: Any) -> Any:
    """What torch's encoder runs where no mask is given; its own forward asks for values of the input."""
    if any(mask is not None and mask is not False for mask in masks.values()):
        raise TypeError("nn.TransformerEncoder is given a mask")
    for layer in encoder.layers:
        src = layer(src)
    return src if encoder.norm is None else encoder.norm(src)


class Tracer(fx.Tracer):
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
        self.taken = ""  # what is taken where the model returns more than one value

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
        if node.meta["no_grad"] and self._writes_parameter(node):
            raise TypeError(f"it writes into {node.args[0]} under torch.no_grad()")
        return node

    def _writes_parameter(self, node: fx.Node) -> bool:
        """Whether a node changes a parameter in place, for which the stages would need its no_grad()."""
        name, first = str(node.target), next(iter(node.args), None)
        if node.op != "call_method" or not name.endswith("_") or name.endswith("__"):
            return False
        if not isinstance(first, fx.Node) or first.op != "get_attr":
            return False
        # Attributes of the root are proxies while it is traced.
        return any(key == first.target for key, _ in self.root.named_parameters(remove_duplicate=False))

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
            self.taken = taken_from(returned) if self.output is logits_of else ""
            if not isinstance(result, fx.Proxy):
                raise UnknownOutputError(
                    f"the model returns a {type(result).__name__}, not a tensor computed from its inputs"
                )
            return result

        return run, [self.root]

    def placeholder(self, name: str, value: Tensor | None) -> fx.Proxy:
        """A proxy for one input."""
        return self.create_proxy("placeholder", name, (), {})


class ExampleTracer(Tracer):
    """Traces along an example: a test of a size takes the branch that the example takes.

    Attributes:
        decided: whether a size decided anything.
    """

    def __init__(self, is_leaf: IsLeaf, example: Inputs, output: Output) -> None:
        super().__init__(is_leaf, example, output)
        self.decided = False
        self._running = False

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        with _lengths_traced():
            return super().trace(root, concrete_args)

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

    tracer: ExampleTracer

    def __len__(self) -> int:
        self.tracer.decided = True
        return len(self.node.meta["value"])

    def __index__(self) -> int:
        return operator.index(self.tracer.known(self))

    def __int__(self) -> int:
        return int(self.tracer.known(self))

    def __float__(self) -> float:
        return float(self.tracer.known(self))
