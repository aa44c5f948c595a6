"""Token ids go through the whole flow as whole numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES
from torch import nn

import tbft
from tbft.blocks.tokens import takes_token_ids
from tbft.data.forms import as_samples
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


class Masked(nn.Module):
    """As models of transformers are called: by keyword, with a mask; returns an object with logits."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask=None):
        x = self.layer(self.words(input_ids)).relu()
        weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = weight.float().unsqueeze(-1)
        return SimpleNamespace(logits=self.head((x * weight).sum(1) / weight.sum(1)))


class Apart(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(input_ids=x[:, 0], attention_mask=x[:, 1]).logits


def test_several_inputs_are_refused_with_a_way_that_works():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    ids, mask = rng.integers(3, 20, (120, 6)), np.ones((120, 6), np.int64)
    ids[:, 0], mask[:, 4:] = labels, 0
    named = {"input_ids": ids, "attention_mask": mask}
    rows = [dict(zip(named, pair, strict=True)) for pair in zip(ids, mask, strict=True)]
    items = list(zip(rows, labels, strict=True))
    mappings = [{**row, "labels": label} for row, label in items]
    loader = torch.utils.data.DataLoader(mappings, batch_size=20)
    for data in ((named, labels), items, mappings, loader, {**named, "labels": labels}):
        with pytest.raises(tbft.TbftError, match=r"numpy\.stack\(\[input_ids, attention_mask\], axis=1\)"):
            as_samples(data)
    model = Apart(Masked())
    stacked = np.stack([ids, mask], axis=1)
    tuned = tbft.tune(model, "full", (stacked, labels))
    assert "model.layer.weight" in tuned.changed
    assert tbft.evaluate(model, (stacked, labels)).accuracy is not None
