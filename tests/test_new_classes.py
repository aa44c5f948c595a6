"""New classes: the head grows, the old rows stay, and both sides decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tbft


def blobs(classes, count=40, seed=0):
    """Points around one corner a class, named by letters."""
    generator = np.random.default_rng(seed)
    corners = 4 * np.eye(6, 8, dtype=np.float32)
    labels = np.repeat(np.arange(len(classes)), count)
    which = np.array(["abcdef".index(c) for c in classes])
    x = corners[which[labels]] + generator.normal(0, 0.7, (len(labels), 8)).astype(np.float32)
    return tbft.make_samples(x, labels, list(classes), name="blobs")


@pytest.fixture(scope="module")
def base():
    """A classifier of a, b and c, with its card."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model.class_names = ("a", "b", "c")
    samples = blobs("abc", 200, seed=9)
    x, y = torch.from_numpy(np.asarray(samples.inputs)), torch.from_numpy(samples.labels)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, tbft.build_card(model, blobs("abc", 60, seed=8))


def accuracy(model, samples, names):
    with torch.no_grad():
        predicted = model(torch.from_numpy(np.asarray(samples.inputs))).argmax(1).numpy()
    return float(
        np.mean([names[p] == samples.class_names[y] for p, y in zip(predicted, samples.labels, strict=True)])
    )


@pytest.mark.parametrize("known", ["a", "abc"])
def test_new_classes_are_learned_and_old_ones_kept(base, known, tmp_path):
    model, card = base
    before = tbft.fingerprint(model.state_dict())
    result = tbft.add_classes(model, blobs(known + "de", 20), card=card)
    assert (result.status, result.classes) == ("patched", ("d", "e"))
    assert result.new_accuracy > 0.8
    assert result.old_after >= result.old_before - 0.01
    assert tbft.fingerprint(model.state_dict()) == before
    assert "new classes  d, e" in str(result) and result.to_json()["status"] == "patched"
    result.patch.save(tmp_path / "more.safetensors")
    names, old = "abcde", accuracy(model, blobs("abc", seed=5), "abc")
    with tbft.Patch.load(tmp_path / "more.safetensors").applied(model):
        assert model[2].out_features == 5
        assert accuracy(model, blobs("de", seed=6), names) > 0.8
        assert accuracy(model, blobs("abc", seed=5), names) >= old - 0.02
    assert (tbft.fingerprint(model.state_dict()), model[2].out_features) == (before, 3)
    undo = result.patch.apply(model)
    assert model[2].weight.shape == (5, 16)
    undo.apply(model)
    assert (tbft.fingerprint(model.state_dict()), model[2].out_features) == (before, 3)


def test_the_old_rows_stay(base):
    model, card = base
    x = torch.from_numpy(np.asarray(blobs("abcde").inputs))
    rows = model[2].weight.detach().clone(), model[2].bias.detach().clone()
    with torch.no_grad():
        old = model(x)
        with tbft.add_classes(model, blobs("abcd", 20), card=card).patch.applied(model):
            assert torch.equal(model[2].weight[:3], rows[0]) and torch.equal(model[2].bias[:3], rows[1])
            assert torch.allclose(model(x)[:, :3], old, atol=1e-5)


def test_a_new_class_that_looks_like_an_old_one_is_rejected(base):
    model, card = base
    both = blobs("aa", 40)
    twin = tbft.make_samples(both.inputs, np.repeat([0, 1], 40), ["a", "twin"])
    result = tbft.add_classes(model, twin, card=card)
    assert (result.status, len(result.patch.tensors)) == ("rejected", 0)


def test_what_cannot_be_added_is_refused(base):
    model, card = base
    with pytest.raises(tbft.TbftError, match="the model knows all of its classes"):
        tbft.add_classes(model, blobs("ab"), card=card)
    with pytest.raises(tbft.TbftError, match="held out, which decide"):
        tbft.add_classes(model, blobs("ad"), card=card, val=0)
    with pytest.raises(tbft.TbftError, match="add samples of known classes"):
        tbft.add_classes(model, blobs("d"), card=card)
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 3, 6), nn.Flatten())
    with pytest.raises(tbft.TbftError, match=r"nn\.Linear with a bias"):
        tbft.add_classes(convolution, tbft.make_samples(np.zeros((20, 1, 8), np.float32), [0, 9] * 10))
