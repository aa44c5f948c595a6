"""New classes: the head grows, the old rows stay, and both sides decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import fitted
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import tbft
from tbft.cli import main, parser
from tbft.cli.growing import IGNORED
from tbft.diagnosis import class_features
from tbft.tuning import new_rows


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
    fitted(model, np.asarray(samples.inputs), samples.labels, steps=150)
    return model, tbft.build_card(model, blobs("abc", 200, seed=8))


def accuracy(model, samples, names):
    with torch.no_grad():
        predicted = model(torch.from_numpy(np.asarray(samples.inputs))).argmax(1).numpy()
    return float(
        np.mean([names[p] == samples.class_names[y] for p, y in zip(predicted, samples.labels, strict=True)])
    )


def test_a_model_with_more_names_than_outputs_is_refused():
    model = nn.Sequential(nn.Linear(8, 3))
    model.class_names = ("a", "b", "c", "d")
    with pytest.raises(tbft.TbftError, match="names 4 classes, but its head has 3 outputs"):
        tbft.add_classes(model, blobs("abcde", 20))


@pytest.mark.parametrize("known", ["", "a", "abc"])
def test_new_classes_are_learned_and_old_ones_kept(base, known, tmp_path):
    model, card = base
    before = tbft.fingerprint(model.state_dict())
    result = tbft.add_classes(model, blobs(known + "de", 20), card=card)
    assert (result.status, result.classes) == ("patched", ("d", "e"))
    assert result.new_accuracy > 0.8
    assert result.old_after >= result.old_before - 0.01
    assert tbft.fingerprint(model.state_dict()) == before
    assert str(result).startswith("new classes  ") and f"{result.own_old_count} samples and 600 in" in str(
        result
    )
    assert result.own_old_count == 20 * len(known) and list(result.new_accuracies) == ["d", "e"]
    assert result.to_json()["status"] == "patched"
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
    with pytest.raises(tbft.TbftError, match="too few samples of 'd' to learn from: give 4"):
        tbft.add_classes(model, blobs("ad", 3), card=card)
    with pytest.raises(tbft.TbftError, match="no samples of 'd' held out"):
        tbft.add_classes(model, blobs("ad"), card=card, val=blobs("a", seed=3))
    with pytest.raises(tbft.TbftError, match=r"230 samples .* there are 40, and no source card"):
        tbft.add_classes(model, blobs("ad"))
    with pytest.raises(tbft.TbftError, match="in the source card 102: add samples"):
        tbft.add_classes(model, blobs("d"), card=tbft.build_card(model, blobs("abc", 34)))
    with pytest.raises(tbft.TbftError, match="with another base model"):
        tbft.add_classes(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3)), blobs("d"), card=card)
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 3, 6), nn.Flatten())
    with pytest.raises(tbft.TbftError, match=r"nn\.Linear with a bias"):
        tbft.add_classes(convolution, tbft.make_samples(np.zeros((20, 1, 8), np.float32), [0, 9] * 10))


def test_without_a_card_many_samples_of_old_classes_decide(base):
    model, _ = base
    result = tbft.add_classes(model, blobs("abcd", 100))
    assert (result.status, result.own_old_count, result.old_count) == ("patched", 300, 300)
    with_val = tbft.add_classes(model, blobs("abcd", 100), val=blobs("abd", 30, seed=4))
    assert (with_val.status, with_val.new_count, with_val.old_count) == ("patched", 30, 360)


def test_users_samples_of_old_classes_count_where_they_differ_from_the_cards(base):
    model, card = base
    both = blobs("ab", 60)
    labels = both.labels.copy()
    labels[60:] = np.arange(60) % 2  # what used to be b is, for this user, b or the new class
    result = tbft.add_classes(model, tbft.make_samples(both.inputs, labels + 1, ["a", "b", "new"]), card=card)
    assert result.status == "rejected"


@pytest.mark.parametrize("lost", [0, 1, 5, 40])
def test_the_offset_lets_as_few_samples_be_lost_as_it_says(lost):
    count = next(n for n in range(200, 6000) if new_rows.max_lost(n) == lost)
    torch.manual_seed(0)
    old = torch.nn.functional.one_hot(torch.arange(count) % 3, 3).float()
    zeros = torch.zeros(count)
    pool = new_rows.Pool(old, torch.arange(count) % 3, old, zeros, zeros.bool())
    judged = new_rows.Judged(pool, 2 * torch.rand(count, 2))
    assert judged.lowered(new_rows.find_offset(judged)).lost == lost
    own = new_rows.Judged(replace(pool, own=torch.arange(count) < 50), judged.new_logits)
    kept = own.lowered(new_rows.find_offset(own))
    assert kept.lost <= lost and kept[kept.pool.own].lost == 0


def test_a_card_keeps_features_within_a_step_of_their_range(base):
    model, card = base
    samples = blobs("abc", 200, seed=8)
    with torch.no_grad():
        features = model[:2](torch.from_numpy(np.asarray(samples.inputs)))
    kept = class_features.unpack(card.tensors, 3)
    step = features.max(0).values - features.min(0).values
    assert kept.labels.tolist() == samples.labels.tolist()
    assert ((kept.features - features).abs() <= step / 500).all()
    with pytest.raises(tbft.TbftError, match="build the card again"):
        class_features.unpack(card.tensors, 2)
    with pytest.raises(tbft.TbftError, match="build the card again"):
        class_features.unpack({**card.tensors, "classes/low": torch.zeros(3)}, 3)


class Headed(nn.Module):
    """A model whose head something follows."""

    def __init__(self, head: nn.Module, after) -> None:
        super().__init__()
        self.body, self.fc, self.scale, self.after = (
            nn.Linear(8, 16),
            head,
            nn.Parameter(torch.ones(3)),
            after,
        )

    def forward(self, x):
        return self.after(self, torch.relu(self.body(x)))


@pytest.mark.parametrize(
    ("head", "after", "message"),
    [
        (nn.Linear(16, 3), lambda m, x: m.fc(x) * m.scale, "depends on their number"),
        (nn.Linear(16, 3), lambda m, x: m.fc(x).view(-1, 3), "depends on their number"),
        (nn.Linear(16, 3), lambda m, x: m.fc(x[:, None].expand(-1, 4, -1)).mean(1), "4 vectors per sample"),
        (nn.Linear(16, 3), lambda m, x: -m.fc(x), "other classes than the layer alone"),
        (nn.Linear(16, 3, bias=False), lambda m, x: m.fc(x), "has none: give it one"),
        (weight_norm(nn.Linear(16, 3)), lambda m, x: m.fc(x), "remove_parametrizations"),
    ],
)
def test_heads_that_cannot_be_larger_are_refused_before_there_is_a_patch(head, after, message):
    model = Headed(head, after)
    model.class_names = ("a", "b", "c")
    before = tbft.fingerprint(model.state_dict())
    with pytest.raises(tbft.TbftError, match=message):
        tbft.add_classes(model, blobs("abcd", 100))
    assert tbft.fingerprint(model.state_dict()) == before


def test_a_frozen_model_with_a_softmax_gets_new_classes_too(base):
    model = nn.Sequential(base[0][0], base[0][1], base[0][2], nn.LogSoftmax(1)).requires_grad_(False)
    model.class_names = ("a", "b", "c")
    card = tbft.build_card(model, blobs("abc", 200, seed=8))
    try:
        assert tbft.add_classes(model, blobs("d", 30), card=card).status == "patched"
    finally:
        model.requires_grad_(True)


#: Options of ``personalize`` that count with new classes, too.
USED = {
    *("model", "cuts", "names", "weights", "weights_key", "card", "device", "threads", "json", "out", "seed"),
    *("level", "arm", "new_classes"),  # which argparse excludes from each other
}


def test_options_that_say_nothing_with_new_classes_are_refused_by_name(capsys):
    options = ["--report", "page.html", "--budget-seconds", "3", "--no-cautious"]
    assert main(["personalize", "m:f", "--data", "x", "--new-classes", *options]) == 2
    assert "leave out --report, --no-cautious, --budget-seconds" in capsys.readouterr().err


def test_every_option_of_personalize_is_used_or_refused_with_new_classes():
    given = vars(parser().parse_args(["personalize", "m:f", "--data", "x", "--new-classes"]))
    reading = vars(parser().parse_args(["evaluate", "m:f", "--data", "x"])).keys()
    splitting = {"train", "val", "test", "test_data", "order", "group_by"}
    unknown = given.keys() - IGNORED.keys() - USED - reading - splitting - {"run"}
    assert not unknown
    assert all(given[name] == default for name, default in IGNORED.items())
