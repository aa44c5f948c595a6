"""Fine-tuning in the paper's own way, for comparison. This is not how tbft tunes.

It follows the scripts of Huang et al. (EuroMLSys 2024). Those for accuracy (``exp_cifar10c.py``) compute
all gradients, and only the optimizer is restricted to what is tuned. The one for time (``power.py``)
enables gradients for parameters whose names contain certain words; for block 1 these are ``conv1`` and
``layer1``, and ``conv1`` also occurs in ``layer2.0.conv1``. In both, every BatchNorm tracks, pictures
come from a ``DataLoader`` in the default memory layout, and the whole validation part is evaluated after
every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tbft import Blocks, Parts, Recipe, Samples
from tbft.blocks.state import clone_state, flags_restored, modes_restored, values_restored

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
    """Fine-tune as the paper's scripts do, and restore the model.

    Args:
        arm: what the optimizer tunes.
        gradients: the only parameters whose gradients are computed, and which are tuned; None: all gradients
            are computed, and the arm is tuned.

    Returns:
        the state of the best epoch.
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
