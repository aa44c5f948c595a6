"""Token ids go through the whole flow as whole numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES
from conftest import fitted
from torch import nn

import tbft
from tbft.blocks.tokens import takes_token_ids
from tbft.data.forms import as_samples
from tbft.data.spec import InputSpec
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
    model = nn.Sequential(nn.Embedding(40, 8), nn.Flatten(), nn.Linear(96, 16), nn.ReLU(), nn.Linear(16, 2))
    fitted(model, *words(200, 0), steps=12)
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


def test_several_inputs_are_tuned_on_in_every_form_of_data(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    ids, mask = rng.integers(3, 20, (120, 6)), np.ones((120, 6), np.int64)
    ids[:, 0], mask[:, 4:] = labels, 0
    named = {"input_ids": ids, "attention_mask": mask}
    rows = [dict(zip(named, pair, strict=True)) for pair in zip(ids, mask, strict=True)]
    items = list(zip(rows, labels, strict=True))
    mappings = [{**row, "labels": label} for row, label in items]
    loader = torch.utils.data.DataLoader(mappings, batch_size=20)
    np.savez(tmp_path / "tokens.npz", **named, labels=labels)
    others = {"ids": ids, "mask": mask, "y": labels}
    spec = InputSpec(keys={"inputs": "ids+mask", "labels": "y"})
    assert set(as_samples(others, spec).packing.names) == {"ids", "mask"}
    model = Masked().eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(ids), torch.from_numpy(mask)).logits
    want = float((logits.argmax(1).numpy() == labels).mean())
    for data in (
        (named, labels),
        items,
        mappings,
        loader,
        {**named, "labels": labels},
        tmp_path / "tokens.npz",
    ):
        x, _ = as_samples(data).batch(slice(0, 120))
        assert torch.equal(as_samples(data).packing.unpack(x)["attention_mask"], torch.from_numpy(mask))
        assert tbft.evaluate(model, data).accuracy == pytest.approx(want)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    result = tbft.personalize(model, (named, labels), arm="full", val=0)
    assert "layer.weight" in result.tuned.changed
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert any("'logits'" in note for note in result.notes)


def test_inputs_by_position_go_in_their_order():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.last = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)

        def forward(self, left, right):
            return self.last((self.left(left) + self.right(right)).relu())

    left, right = np.random.default_rng(0).normal(size=(40, 3)), np.ones((40, 2))
    labels = (left[:, 0] > 0).astype(int)
    result = tbft.personalize(Both(), ((left, right), labels), arm="full", val=0)
    assert {"left.weight", "right.weight"} <= set(result.tuned.changed)
    with pytest.raises(tbft.TbftError, match="the model cannot take the inputs"):
        tbft.evaluate(Both(), ({"left": left, "depth": right}, labels))
    with pytest.raises(tbft.TbftError, match="different numbers of samples"):
        tbft.evaluate(Both(), ({"left": left, "right": right[:3]}, labels))


def test_token_sequences_of_several_lengths_are_refused_with_the_remedy():
    items = [({"input_ids": np.arange(n), "attention_mask": np.ones(n, int)}, 0) for n in (4, 5)]
    with pytest.raises(tbft.TbftError, match="padding='max_length'"):
        as_samples(items)
