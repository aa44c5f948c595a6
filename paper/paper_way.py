"""Fine-tuning in the paper's own way, for comparison: nothing here is how tbft tunes.

Huang et al. (EuroMLSys 2024), their scripts. For accuracy (``exp_cifar10c.py``) every gradient is computed
and only the optimizer is told what to tune. For time (``power.py``) gradients are switched on for the
parameters whose names contain one of some words; for block 1 the words are ``conv1`` and ``layer1``, and
``conv1`` is also in ``layer2.0.conv1``. Either way every BatchNorm tracks, pictures come through a
``DataLoader`` in the default memory layout, and all of the validation part is evaluated after every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tbft.blocks import Blocks
from tbft.blocks.state import clone_state, flags_restored, modes_restored, values_restored
from tbft.data.samples import Samples
from tbft.data.splitting import Parts
from tbft.plan import Recipe

#: The words that the timing script looks for in the names of parameters.
SUBSTRINGS = {"block1": ("conv1", "layer1"), "block2": ("layer2",), "block3": ("layer3",), "fc": ("fc",)}


def by_substring(model: nn.Module, words: Sequence[str]) -> list[nn.Parameter]:
    """Parameters whose names contain one of the words.

    >>> net = nn.Sequential()
    >>> net.conv1, net.layer2 = nn.Conv2d(1, 1, 1), nn.Sequential()
    >>> net.layer2.conv1 = nn.Conv2d(1, 1, 1)
    >>> len(by_substring(net, ["conv1"]))  # both layers, weight and bias
    4
    """
    return [p for name, p in model.named_parameters() if any(word in name for word in words)]


def paper_way(
    blocks: Blocks,
    arm: str,
    recipe: Recipe,
    parts: Parts,
    seed: int,
    gradients: Sequence[nn.Parameter] | None = None,
) -> dict[str, Tensor]:
    """Fine-tune as the paper's scripts do; gives the state of the best epoch, and the model back.

    Args:
        arm: what the optimizer is told to tune.
        gradients: the only parameters whose gradients are computed, and tuned; None: every gradient is
            computed, and the arm tuned.
    """
    model = blocks.model
    tuned = [p for module in blocks.tuned_modules(arm) for p in module.parameters()]
    tuned = tuned if gradients is None else list(gradients)
    block = blocks.block_of(arm)
    rate = recipe.optimization.rate(rear=block is not None and block.index == len(blocks) - 1)
    batch_size = min(recipe.duration.batch_size, len(parts.train))
    torch.manual_seed(seed)
    train, val = _loader(parts.train, batch_size, True), _loader(parts.val, batch_size, False)
    momentum, decay = recipe.optimization.momentum, recipe.optimization.weight_decay
    optimizer = torch.optim.SGD(tuned, rate, momentum, weight_decay=decay)
    best_loss, best, waited = float("inf"), dict[str, Tensor](), 0
    with values_restored(model), modes_restored(model), flags_restored(model):
        if gradients is not None:
            model.requires_grad_(False)
            for p in gradients:
                p.requires_grad_(True)
        for _ in range(recipe.duration.epochs):
            model.train()
            for x, y in train:
                loss = nn.functional.cross_entropy(model(x), y)
                model.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                total = sum(float(nn.functional.cross_entropy(model(x), y, reduction="sum")) for x, y in val)
            waited += 1
            if total < best_loss:
                best_loss, best, waited = total, clone_state(model), 0
            if recipe.duration.patience is not None and waited >= recipe.duration.patience:
                break
        return best


def _loader(samples: Samples, batch_size: int, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    inputs = TensorDataset(*samples.batch(slice(0, len(samples))))
    return DataLoader(inputs, batch_size=batch_size, shuffle=shuffle)
