"""Classifiers that return probabilities instead of logits: cross-entropy would take a second softmax."""

from __future__ import annotations

from torch import Tensor, fx, nn

from tbft.blocks import Blocks
from tbft.blocks.tracing import trace_deep
from tbft.errors import DataError, SplitError

#: Samples on which outputs that look like probabilities are confirmed.
CONFIRMED = 64
#: How far the outputs of a sample may be from a sum of 1, by rounding in ``float32`` and in ``bfloat16``.
_ROUNDING, _COARSE_ROUNDING = 1e-4, 1e-2
_SOFTMAX, _SIGMOID = "softmax", "sigmoid"
#: Last operation of a model -> the logits from its outputs.
_LOGITS = {_SOFTMAX: "lambda p: p.clamp_min(1e-30).log()", _SIGMOID: "lambda p: p.float().logit(1e-6)"}


def are_shares(outputs: Tensor) -> bool:
    """Whether outputs (n, classes) are from 0 to 1, as after a softmax or a sigmoid.

    >>> import torch
    >>> x = torch.randn(9, 3)
    >>> [are_shares(y) for y in (x, x.softmax(1), x.log_softmax(1), x.sigmoid())]
    [False, True, False, True]
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not len(outputs) or outputs.is_meta:
        return False
    return bool(((outputs >= 0) & (outputs <= 1 + _ROUNDING)).all())


def refuse_probabilities(outputs: Tensor, name: str, model: nn.Module | Blocks, always: bool) -> None:
    """Refuse outputs from 0 to 1 that add up to 1, or that a sigmoid gives; others may be logits.

    Args:
        outputs: (n, classes), all from 0 to 1.
        name: of the samples.
        always: whether the model returns them in training mode, too.

    Raises:
        DataError: they are probabilities; the message gives the remedy.
    """
    if (outputs == outputs[0]).all():  # the same for all samples, so it may be by chance
        return
    last, path = _end(model)
    tolerance = _ROUNDING if outputs.element_size() >= 4 else _COARSE_ROUNDING
    if ((outputs.double().sum(1) - 1).abs() <= tolerance).all():
        kind, seen = _SOFTMAX, f"add up to 1 for each of {len(outputs)} samples"
    elif last == _SIGMOID:
        kind, seen = _SIGMOID, "a sigmoid gives"
    else:
        return
    place = f" (put torch.nn.Identity() in place of {path!r})" if path and last == kind else ""
    other = f", or give tbft.split(model, output={_output(model, kind)}"
    if not always:
        other = ", which it applies in evaluation mode only: return logits in both modes"
    raise DataError(
        f"{name}: the model returns probabilities, which {seen}, instead of logits; cross-entropy applies "
        f"a softmax itself, so that tuning would learn little: leave out the model's {kind}{place}{other}"
    )


def _output(model: nn.Module | Blocks, kind: str) -> str:
    """The function from what the model returns to logits, and what to do with it."""
    taken = model.traced.taken if isinstance(model, Blocks) else ""
    if taken.startswith("the first of"):
        return "lambda returned: returned[1]) as the model, if the logits are there"
    entry = taken.partition("the entry ")[2].rpartition(" of the ")[0]
    part = f"[{entry}]" if entry else ".logits" if taken else ""
    start, _, end = _LOGITS[kind].partition(": p")
    return f"{start}: p{part}{end}) as the model"


def refuse_unfit_outputs(outputs: Tensor, loss: str, name: str, model: nn.Module | Blocks) -> None:
    """Refuse outputs that another loss of torch's is for, which computes a number all the same.

    Args:
        outputs: (n, ...) for samples from all of the set.
        loss: its name, see :func:`tbft.verification.task.known_loss`.

    Raises:
        DataError: the message gives the remedy.
    """
    if loss == "nll_loss" and outputs.ndim == 2:
        total = outputs.double().logsumexp(1)
        if (total.abs() <= _ROUNDING).all():
            return
        own, fit = "logits", "torch.nn.functional.cross_entropy"
        if are_shares(outputs):
            own, fit = (
                "probabilities",
                "lambda p, y: torch.nn.functional.nll_loss(p.clamp_min(1e-30).log(), y)",
            )
        raise DataError(
            f"{name}: nll_loss takes log-probabilities, and the model returns {own}, so that the loss would "
            f"have no minimum: give loss={fit}"
        )
    shares = bool(((outputs >= 0) & (outputs <= 1)).all())
    if loss == "binary_cross_entropy_with_logits" and shares and _end(model)[0] == _SIGMOID:
        raise DataError(
            f"{name}: {loss} applies a sigmoid itself, and the model returns the outputs of one: leave out "
            "the model's own, or give loss=torch.nn.functional.binary_cross_entropy"
        )


def _end(model: nn.Module | Blocks) -> tuple[str, str]:
    """The last operation of a model, and the name of its module; empty where they are not known."""
    module, more = (model.model, (model.example, model.output)) if isinstance(model, Blocks) else (model, ())
    try:
        graph = trace_deep(module, *more).graph
    except SplitError:
        return "", ""
    (last,) = next(n for n in graph.nodes if n.op == "output").args
    if not isinstance(last, fx.Node):
        return "", ""
    if last.op == "call_module":
        path = str(last.target)
        return type(module.get_submodule(path)).__name__.lower(), path
    return last.target if isinstance(last.target, str) else getattr(last.target, "__name__", ""), ""
