"""SGD, Adam and AdamW, with the numbers of ``torch.optim`` and without its start-up.

The first optimizer of ``torch.optim`` in a process imports ``torch._dynamo``, which takes a second of
processor time, more than the whole adaptation of a small network. State dicts have the same layout there.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tbft.errors import PlanError, unknown
from tbft.plan.numbers import Optimization

Parameters = Sequence[nn.Parameter] | Sequence[dict[str, Any]]


class Optimizer:
    """What the training loop needs from an optimizer.

    Attributes:
        param_groups: settings for groups of parameters; the learning rate is ``lr``.
        state: parameter -> what is kept from earlier steps.
    """

    def __init__(self, parameters: Parameters, **settings: Any) -> None:
        groups = [p for p in parameters if isinstance(p, dict)] or [{"params": list(parameters)}]
        self.param_groups: list[dict[str, Any]] = [settings | group for group in groups]
        self.state: defaultdict[nn.Parameter, dict[str, Any]] = defaultdict(dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, or set them to zero."""
        for p in self._parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad = torch.zeros_like(p.grad)

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient."""
        for group in self.param_groups:
            if moved := [p for p in group["params"] if p.grad is not None]:
                self._update(moved, group)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, with parameters numbered in order; refers to the state's tensors."""
        number = {p: k for k, p in enumerate(self._parameters())}
        groups = [g | {"params": [number[p] for p in g["params"]]} for g in self.param_groups]
        return {"state": {number[p]: state for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """Restore a state dict.

        Raises:
            ValueError: it belongs to other groups of parameters.
        """
        groups = stored["param_groups"]
        if [len(g["params"]) for g in groups] != [len(g["params"]) for g in self.param_groups]:
            raise ValueError("the optimizer's state belongs to other groups of parameters")
        parameters = self._parameters()
        state = {parameters[k]: copy.deepcopy(values) for k, values in stored["state"].items()}
        self.state = defaultdict(dict, state)
        self.param_groups = [
            copy.deepcopy(new) | {"params": own["params"]}
            for new, own in zip(groups, self.param_groups, strict=True)
        ]

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        return f"{type(self).__name__}({groups})"


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and L2 regularization."""

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in parameters:
            assert p.grad is not None
            gradient = p.grad
            if group["weight_decay"]:
                gradient = gradient.add(p, alpha=group["weight_decay"])
            if group["momentum"]:
                state = self.state[p]
                if "momentum_buffer" in state:
                    state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
                else:
                    state["momentum_buffer"] = gradient.detach().clone()
                momentum = state["momentum_buffer"]
                nesterov = group["nesterov"]
                gradient = gradient.add(momentum, alpha=group["momentum"]) if nesterov else momentum
            p.add_(gradient, alpha=-group["lr"])


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015); ``decoupled`` weight decay makes it AdamW (Loshchilov & Hutter 2019)."""

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in parameters:
            if p not in self.state:
                zeros = [torch.zeros_like(p, memory_format=torch.preserve_format) for _ in range(2)]
                self.state[p] = {"step": torch.tensor(0.0), "exp_avg": zeros[0], "exp_avg_sq": zeros[1]}
            self.state[p]["step"] += 1
        fused, rest = _by_kind(parameters) if group["decoupled"] else ([], parameters)
        for alike in fused:
            self._update_fused(alike, group)
        for p in rest:
            self._update_one(p, group)

    def _update_fused(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """One kernel for all tensors, which reads each of them once."""
        states = [self.state[p] for p in parameters]
        torch._fused_adamw_(
            list(parameters),
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"].to(parameters[0].device) for state in states],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def _update_one(self, p: nn.Parameter, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state, (beta1, beta2), rate = self.state[p], group["betas"], group["lr"]
        gradient = p.grad
        if group["decoupled"]:
            p.mul_(1 - rate * group["weight_decay"])
        elif group["weight_decay"]:
            gradient = gradient.add(p, alpha=group["weight_decay"])
        mean, square, gradient, value = map(
            _as_real, (state["exp_avg"], state["exp_avg_sq"], gradient, p.detach())
        )
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        step = state["step"].item()
        deviation = (square.sqrt() / (1 - beta2**step) ** 0.5).add_(group["eps"])
        value.addcdiv_(mean, deviation, value=-rate / (1 - beta1**step))


def _by_kind(parameters: list[nn.Parameter]) -> tuple[list[list[nn.Parameter]], list[nn.Parameter]]:
    """Parameters that the fused kernel takes, by device and type, and the others."""
    alike: dict[object, list[nn.Parameter]] = {}
    rest = []
    for p in parameters:
        if p.is_floating_point() and p.device.type in ("cpu", "cuda") and hasattr(torch, "_fused_adamw_"):
            alike.setdefault((p.device, p.dtype), []).append(p)
        else:
            rest.append(p)
    return list(alike.values()), rest


def _as_real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


def make_optimizer(optimization: Optimization, parameters: Parameters) -> Optimizer:
    """The recipe's optimizer for parameters or parameter groups."""
    o = optimization
    common = {"lr": o.learning_rate, "weight_decay": o.weight_decay}
    if o.optimizer == "sgd":
        return SGD(parameters, **common, momentum=o.momentum, nesterov=o.nesterov)
    if o.optimizer in ("adam", "adamw"):
        return Adam(parameters, **common, betas=(0.9, 0.999), eps=1e-8, decoupled=o.optimizer == "adamw")
    raise PlanError(unknown("optimizer", o.optimizer, ["sgd", "adam", "adamw"]))
