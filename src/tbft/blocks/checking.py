"""Never another model: the stages are compared with the model they were made from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tbft.blocks.blocks import Blocks
from tbft.blocks.independence import refuse_dependent
from tbft.blocks.inputs import Inputs, map_tensors, tensors_of
from tbft.blocks.norms import refuse_batch_dependent
from tbft.blocks.partition import parents_of
from tbft.blocks.placement import device_of, random_restored, to_device
from tbft.blocks.state import evaluating, flags_restored, modes_restored, values_restored
from tbft.errors import NotTheModelError, SplitError

#: Samples whose gradients are compared; BatchNorm in training mode needs more than one.
COMPARED = 2

#: How far logits may differ, relative to the largest, where the model does not repeat itself bit for bit.
TOLERANCE = 1e-4


def check_stages(blocks: Blocks, x: Inputs, with_gradients: bool = True) -> None:
    """Compare the stages in a row with the model on a batch, in evaluation mode: logits and gradients.

    It costs two forward passes of the batch, and a backward pass of two samples; once for blocks that
    stay as they are. Logits have to be equal bit for bit; where the model itself differs from call to
    call, or on another device than a CPU, within :data:`TOLERANCE`.

    Args:
        x: a batch as the model takes it, on any device.
        with_gradients: compare gradients, too; they take the memory of a backward pass of two samples.

    Raises:
        SplitError: the blocks would be another model, or the model's outputs depend on the batch.
    """
    refuse_batch_dependent(blocks.model)
    key = signature(blocks, x)
    if blocks.checked == key:
        return
    model = blocks.model
    x = to_device(x, device_of(model))
    with values_restored(model), evaluating(model):
        try:
            expected = _seeded(blocks.whole, x)
        except Exception as error:
            sizes = ", ".join(str(tuple(t.shape)) for t in tensors_of(x))
            raise SplitError(
                f"{type(model).__name__} cannot take a batch of {sizes}: {type(error).__name__}: {error}"
            ) from error
        got = _through(blocks, x)
        strict = device_of(model).type == "cpu"
        strict = strict and (_same(got, expected) or _same(_seeded(blocks.whole, x), expected))
        refuse_dependent(model, blocks.whole, x)
    if not _same(got, expected, 0.0 if strict else TOLERANCE):
        raise NotTheModelError(_difference(blocks, got, expected))
    if with_gradients:
        _check_gradients(blocks, map_tensors(lambda t: t[:COMPARED], x))
    blocks.checked = key


def squares(logits: Tensor) -> Tensor:
    """A loss that depends on every logit."""
    return logits.float().square().sum()


def _through(blocks: Blocks, x: Inputs) -> Tensor:
    """The logits of the stages in a row."""

    def run(x: Any) -> Any:
        for block in blocks:
            x = blocks.block(block.index)(x)
        return x

    try:
        return _seeded(run, x)
    except Exception as error:  # an index out of range, another device: whatever a wrong stage runs into
        if isinstance(error, SplitError):
            raise
        raise NotTheModelError(
            f"the blocks cannot run as {type(blocks.model).__name__} does ({type(error).__name__}: {error}): "
            "split the model again if it was changed or moved since, or give a list of (name, module)"
        ) from error


def _seeded(run: Callable[[Any], Any], x: Inputs) -> Any:
    """Run on a copy of a batch, with the same random numbers every time."""
    with random_restored(next((t.device for t in tensors_of(x)), torch.device("cpu"))):
        torch.manual_seed(0)
        return run(map_tensors(Tensor.clone, x))


def _same(a: Tensor, b: Tensor, tolerance: float = 0.0) -> bool:
    if not isinstance(a, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    if tolerance == 0.0 or not a.numel():
        return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
    scale = b.abs().nan_to_num(0.0, 0.0, 0.0).max().item()
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def _difference(blocks: Blocks, got: Tensor, expected: Tensor) -> str:
    name = type(blocks.model).__name__
    how = ""
    if isinstance(got, Tensor) and got.shape == expected.shape:
        how = f": their logits differ by up to {(got - expected).abs().max().item():.3g}"
    return (
        f"the blocks in a row are not {name}{how}; its forward decides by the values of a tensor, by a flag "
        "that was switched since it was split, or by what cannot be traced: split it again, put that code "
        "into a submodule inside one block, or split it with an example and without cuts, tbft.split(model, "
        "example=batch), so that it is run as a whole"
    )


def _check_gradients(blocks: Blocks, x: Inputs) -> None:
    """Compare the gradients of the smallest parameter that each block trains: no larger ones are computed."""
    model = blocks.model
    named = dict(model.named_parameters(remove_duplicate=False))
    trainable = [[named[key] for key in b.keys if key in named and named[key].requires_grad] for b in blocks]
    parameters = [min(found, key=Tensor.numel) for found in trainable if found]
    with values_restored(model), modes_restored(model), flags_restored(model):
        model.requires_grad_(False)
        model.eval()
        for p in parameters:
            p.requires_grad_(True)
        expected = _gradients(blocks.whole, x, parameters)
        if expected is None:  # it has no backward pass in evaluation mode
            return
        got = _gradients(lambda x: _through(blocks, x), x, parameters)
    for p, a, b in zip(parameters, expected, got or [None] * len(parameters), strict=True):
        if (a is None) != (b is None) or (a is not None and b is not None and not _same(b, a, TOLERANCE)):
            name = next(name for name, q in named.items() if q is p)
            raise NotTheModelError(
                f"the blocks compute another gradient of {name!r} than {type(model).__name__} does: its "
                "forward has a backward pass of its own; put that into a submodule inside one block"
            )


def _gradients(
    run: Callable[[Any], Any], x: Inputs, parameters: Sequence[nn.Parameter]
) -> list[Tensor | None] | None:
    """The gradients of the parameters; None where the model raises in its backward pass."""
    with torch.enable_grad():
        logits = _seeded(run, x)
        if not logits.requires_grad:
            return [None] * len(parameters)
        try:
            return list(torch.autograd.grad(squares(logits), parameters, allow_unused=True))
        except RuntimeError:
            return None


def signature(blocks: Blocks, x: Inputs) -> tuple[object, ...]:
    """What the comparison is valid for: sizes and types of the inputs, and what the traced modules run."""
    inputs = tuple((t.shape[1:], t.dtype) for t in tensors_of(x))
    traced = [blocks.model, *(blocks.model.get_submodule(name) for name in parents_of(blocks.cuts))]
    flags = tuple(
        (name, value)
        for module in traced
        for name, value in sorted(vars(module).items())
        if name != "training" and isinstance(value, (bool, int, float, str, type(None)))
    )
    hooks = tuple(
        id(hook)
        for module in traced
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    )
    forwards = tuple(id(vars(module).get("forward")) for module in traced)
    own = [name for name in blocks.traced.tensors if not name.startswith("_tensor_constant")]
    tensors = tuple(id(operator.attrgetter(name)(blocks.model)) for name in own)
    return (inputs, device_of(blocks.model), flags, hooks, forwards, tensors)
