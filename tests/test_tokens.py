"""Token ids go through the whole flow as whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES
from torch import nn

import tbft
from tbft.blocks.tokens import takes_token_ids
from tbft.errors import DataError


def words(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts of twelve words in which one half of the words stands for class 0."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return random.integers(1, 20, (count, 12)) + 20 * (
        random.random((count, 12)) < 0.2 + 0.6 * labels[:, None]
    ), labels


def test_a_model_of_token_ids_is_adapted_with_a_card():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(40, 8), nn.Flatten(), nn.Linear(96, 16), nn.ReLU(), nn.Linear(16, 2)
    ).eval()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, y = (torch.from_numpy(a) for a in words(200, 0))
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    card = tbft.build_card(model, words(200, 1))
    ids, labels = words(120, 2)
    assert tbft.evaluate(model, (ids, labels)).accuracy > 0.9
    assert "output" in tbft.diagnose(model, (ids, 1 - labels), card=card).levels
    result = tbft.personalize(model, (ids, 1 - labels), val=40, test=40, card=card)
    assert result.choice is not None
    result = tbft.personalize(model, (ids, 1 - labels), val=40, test=40, level="output")
    assert result.after.accuracy > result.before.accuracy + 0.5


def test_models_of_token_ids_are_known_by_their_first_layer():
    assert takes_token_ids(ARCHITECTURES["bert"].build())
    assert not takes_token_ids(ARCHITECTURES["vit"].build())
    positions = nn.Sequential(nn.Linear(3, 4), nn.Embedding(3, 4))
    assert not takes_token_ids(positions)


@pytest.mark.parametrize("bad", [np.array([[0.5, 1.0]]), np.array([[-1, 2]])])
def test_what_cannot_be_token_ids_is_refused(bad):
    with pytest.raises(DataError, match="token id"):
        tbft.make_samples(bad, [0], spec=tbft.InputSpec(token_ids=True))
