"""What a user would otherwise run, for ``tuning_cost.py``: no tbft in it, apart from reading the samples.

Each takes the training part only, no validation part, ten epochs, AdamW at its default rate of 1e-3, batches
of 32, ``float32``: what tutorials do. TENT has the hyperparameters of its authors, see ``paper/baselines``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tbft.blocks.state import flags_restored, modes_restored, values_restored
from tbft.data import Samples

EPOCHS, BATCH, RATE = 10, 32, 1e-3
State = dict[str, Tensor]


def plain_full(model: nn.Module, train: Samples, head: str, seed: int, epochs: int) -> State:
    """Everything is trained, BatchNorms in training mode."""
    with values_restored(model), flags_restored(model), modes_restored(model):
        model.requires_grad_(True)
        _fit(model.train(), model.parameters(), train, seed, epochs)
        return _copied(model)


def new_head(model: nn.Module, train: Samples, head: str, seed: int, epochs: int) -> State:
    """A fresh last layer is trained; the rest is frozen, in evaluation mode."""
    with values_restored(model), flags_restored(model), modes_restored(model):
        model.requires_grad_(False).eval()
        layer = model.get_submodule(head)
        assert isinstance(layer, nn.Linear)
        torch.manual_seed(seed)
        layer.reset_parameters()
        layer.requires_grad_(True)
        _fit(model, layer.parameters(), train, seed, epochs)
        return _copied(model)


def lora(model: nn.Module, train: Samples, head: str, seed: int, epochs: int) -> State:
    """LoRA of rank 8 on every convolution and a trained head, through `peft`; BatchNorms in training mode."""
    peft: Any = import_module("peft")
    torch.manual_seed(seed)
    copy = deepcopy(model)  # peft replaces modules, which restoring values would not undo
    convolutions = [name for name, module in copy.named_modules() if isinstance(module, nn.Conv2d)]
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=convolutions, modules_to_save=[head])
    adapted = peft.get_peft_model(copy, config)
    _fit(adapted.train(), (p for p in adapted.parameters() if p.requires_grad), train, seed, epochs)
    return _copied(adapted.merge_and_unload())


RIVALS: dict[str, Callable[[nn.Module, Samples, str, int, int], State]] = {
    "plain full": plain_full,
    "new head": new_head,
    **({"lora": lora} if find_spec("peft") else {}),
}


def _fit(
    model: nn.Module, parameters: Iterable[nn.Parameter], train: Samples, seed: int, epochs: int
) -> None:
    optimizer = torch.optim.AdamW(parameters, RATE)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(train), generator=generator).split(BATCH):
            if len(rows) > 1:
                x, y = train.batch(rows.numpy())
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()


def _copied(model: nn.Module) -> State:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}
