"""What a model returns: its logits, however it wraps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from tbft.blocks.inputs import Inputs, call
from tbft.errors import SplitError
from tbft.packing import Packing

#: From what a model returns to its logits.
Output = Callable[[Any], Any]


class UnknownOutputError(SplitError):
    """A model does not return its logits in a known way."""


def taken_from(returned: Any) -> str:
    """What :func:`logits_of` takes, where the model returns more than a tensor; else empty.

    >>> taken_from(("features", "logits"))
    'the first of 2 values'
    """
    if isinstance(returned, (Tensor, fx.Proxy)):
        return ""
    if isinstance(returned, Mapping):
        key = "logits" if "logits" in returned else next(iter(returned), "")
        return f"the entry {key!r} of the {type(returned).__name__}"
    if hasattr(returned, "logits"):
        return f"the attribute 'logits' of the {type(returned).__name__}"
    return f"the first of {len(returned)} values" if isinstance(returned, (tuple, list)) else ""


def logits_of(returned: Any) -> Any:
    """The logits in what a model returned: the tensor, `.logits`, the key ``logits``, or the first of all.

    Raises:
        UnknownOutputError: none of these.
    """
    if isinstance(returned, (Tensor, fx.Proxy)):
        return returned
    if isinstance(returned, Mapping) and ("logits" in returned or len(returned) == 1):
        return logits_of(returned["logits"] if "logits" in returned else next(iter(returned.values())))
    if hasattr(returned, "logits"):
        return logits_of(returned.logits)
    if isinstance(returned, (tuple, list)) and returned:
        return logits_of(returned[0])
    keys = f" with the keys {', '.join(map(str, returned))}" if isinstance(returned, Mapping) else ""
    raise UnknownOutputError(
        f"the model returns a {type(returned).__name__}{keys}, in which the logits cannot be found: "
        "say which part they are with output=, as in output=lambda returned: returned['scores']"
    )


class Whole(nn.Module):
    """A model that takes several tensors, or wraps its logits, as a module from a batch to logits."""

    def __init__(self, model: nn.Module, output: Output, packing: Packing | None = None) -> None:
        super().__init__()
        self.model, self._output, self._packing = model, output, packing

    def forward(self, x: Inputs) -> Tensor:
        if self._packing is not None and isinstance(x, Tensor):
            x = self._packing.unpack(x)
        logits: Tensor = self._output(call(self.model, x))
        return logits
