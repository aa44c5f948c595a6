"""Methods by others: the contract that holds for all of them, and what each does on the real model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import striped
from torch import nn

from paper.baselines import BASELINES
from paper.baselines.augmix import OPERATIONS, augmented
from paper.baselines.auto_rgn import RECIPE, auto_rgn, scaled_tensors
from paper.baselines.memo import memo, statistics_mixed
from paper.baselines.tent import tent
from tbft import split
from tbft.blocks.state import evaluating
from tbft.blocks.tensors import fingerprint
from tbft.data import make_samples, read, split_samples
from tbft.errors import DivergedError, PlanError
from tbft.models import find_model, load_weights
from tbft.scenarios import apply_drift
from tbft.verification.evaluation import evaluate_samples

EVERY = pytest.mark.parametrize("name", BASELINES)
CLOCKS = {"cpu_seconds_a_sample"}


def parts_of(samples, seed=0):
    return split_samples(samples, train="0.4", val="0.3", test="0.3", seed=seed)


def unusual(blocks):
    """A model in a state that a careless method would not give back."""
    model = blocks.model
    model.train()
    next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    first, *_, last = model.parameters()
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    return model


def snapshot(model):
    return (
        fingerprint(model.state_dict()),
        {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()},
        [m.training for m in model.modules()],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        [len(m._forward_pre_hooks) for m in model.modules()],
        torch.get_rng_state().tolist(),
    )


@EVERY
def test_the_model_comes_back_and_the_same_seed_gives_the_same(name, digits_blocks, stripes):
    model = unusual(digits_blocks)
    before = snapshot(model)
    first = BASELINES[name](digits_blocks, parts_of(stripes), 3)
    assert snapshot(model) == before
    again = BASELINES[name](digits_blocks, parts_of(stripes), 3)

    def plain(outcome):
        kept = {k: v for k, v in outcome.details.items() if k not in CLOCKS}
        return replace(outcome, details=kept)

    assert plain(first) == plain(again)
    assert first.details["source"] and first.details["samples_evaluated"] == len(first.predicted) == 18
    assert first.tuned_parameters > 0 and 0 <= first.accuracy <= 1


@EVERY
@pytest.mark.parametrize("moment", [1, 2])
def test_the_model_comes_back_after_an_exception(name, moment, digits_blocks, stripes):
    model = unusual(digits_blocks)
    before = snapshot(model)
    calls = 0

    def fail(module, inputs):
        nonlocal calls
        calls += 1
        if calls == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        handle = list(model.children())[-1].register_forward_pre_hook(fail)
        try:
            BASELINES[name](digits_blocks, parts_of(stripes), 0)
        finally:
            handle.remove()
    assert snapshot(model) == before


@EVERY
def test_labels_of_the_test_part_only_score(name, digits_blocks, stripes):
    parts = parts_of(stripes)
    honest = BASELINES[name](digits_blocks, parts, 0)
    wrong = replace(parts.test, labels=(parts.test.labels + 1) % 3)
    blind = BASELINES[name](digits_blocks, replace(parts, test=wrong), 0)
    assert blind.predicted == honest.predicted
    assert honest.accuracy == np.mean(np.array(honest.predicted) == parts.test.labels)
    assert blind.accuracy == np.mean(np.array(honest.predicted) == wrong.labels)


@EVERY
def test_without_batch_norm(name, stripes):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)]
    blocks = split(nn.Sequential(*layers), cuts=["4"])
    if name == "tent":
        with pytest.raises(PlanError, match="TENT tunes the scales and shifts of BatchNorms"):
            tent(blocks, parts_of(stripes), 0)
    else:
        assert len(BASELINES[name](blocks, parts_of(stripes), 0).predicted) == 18


def test_auto_rgn_learns_and_chooses_by_validation_accuracy(digits_blocks):
    outcome = auto_rgn(digits_blocks, parts_of(striped(150)), 0)
    searched = outcome.details["searched"]
    assert searched.keys() == {"0.1", "0.01", "0.001", "0.0001", "1e-05"}
    chosen = searched[f"{outcome.details['learning_rate']:g}"]
    assert chosen == max(accuracy for accuracy in searched.values() if accuracy is not None)
    kept = min(outcome.history, key=lambda record: record.val_loss)
    assert (kept.epoch, kept.val_accuracy) == (outcome.details["best_epoch"], chosen)
    assert outcome.accuracy > 0.9


def test_auto_rgn_says_when_no_rate_will_do(digits_blocks, stripes):
    with pytest.raises(DivergedError, match=r"diverged at every rate: 1e\+30"):
        auto_rgn(digits_blocks, parts_of(stripes), 0, rates=[1e30])


def test_auto_rgn_leaves_the_batch_norms_parameters_alone(digits_blocks):
    norms = [m for m in digits_blocks.model.modules() if isinstance(m, nn.BatchNorm2d)]
    all_of_them = sum(1 for _ in digits_blocks.model.parameters())
    assert norms and len(scaled_tensors(digits_blocks.model)) == all_of_them - 2 * len(norms)


def test_tent_takes_one_step_a_batch_and_predicts_before_it(digits_blocks):
    parts = parts_of(striped(300))  # 90 of them for testing
    still = tent(digits_blocks, parts, 0, learning_rate=0.0, batch_size=30)
    moved = tent(digits_blocks, parts, 0, learning_rate=0.5, batch_size=30)
    first, *later = np.array_split(np.random.default_rng(0).permutation(90), 3)
    same = np.array(still.predicted) == np.array(moved.predicted)
    assert same[first].all() and not same[np.concatenate(later)].all()


def test_memo_predicts_what_one_step_by_hand_predicts(digits_blocks):
    parts = parts_of(striped())
    torch.manual_seed(1)
    outcome = memo(digits_blocks, parts, 0, max_samples=4, learning_rate=0.0)
    x, _ = parts.test.subset(np.sort(np.random.default_rng(0).permutation(18)[:4])).batch(slice(None))
    with evaluating(digits_blocks.model), statistics_mixed(digits_blocks.model, 16):
        by_hand = [int(digits_blocks.model(row[None]).argmax()) for row in x]
    assert list(outcome.predicted) == by_hand
    assert len(memo(digits_blocks, parts, 0, max_samples=4).predicted) == 4


def test_mixed_statistics():
    norm = nn.BatchNorm1d(2).eval()
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    with statistics_mixed(norm, 3):
        out = norm(x)
    mean, var = (3 * 0 + 2) / 4, (3 * 1 + 2) / 4  # source 0 and 1; batch 2 and 2
    assert out[:, 0].tolist() == pytest.approx([(v - mean) / (var + norm.eps) ** 0.5 for v in (1.0, 3.0)])
    assert torch.equal(norm(x), nn.BatchNorm1d(2).eval()(x))


def test_memo_wants_pictures():
    blocks = split(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)))
    vectors = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    samples = make_samples(vectors, np.arange(40) % 2)
    with pytest.raises(PlanError, match="augments pictures with one or three channels"):
        memo(blocks, parts_of(samples), 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_copies_differ_and_keep_their_range(channels):
    picture = np.random.default_rng(0).integers(0, 256, (16, 12, channels), dtype=np.uint8)
    copies = augmented(picture, 6, np.random.default_rng(0))
    assert copies.shape == (6, channels, 16, 12) and copies.dtype == torch.float32
    assert copies.min() >= 0 and copies.max() <= 1
    assert len({copy.numpy().tobytes() for copy in copies}) == 6
    assert torch.equal(copies, augmented(picture, 6, np.random.default_rng(0)))
    assert len(OPERATIONS) == 9


@pytest.fixture(scope="module")
def released(data_dir):
    preset = find_model("resnet26-cifar10")
    model = preset.build()
    load_weights(model, data_dir / "checkpoints" / "resnet26_cifar10_released.pth")
    return preset.split(model), read(data_dir / "cifar10" / "test.tar", preset.inputs)


@pytest.mark.data
def test_tent_and_auto_rgn_mend_noise_on_the_released_model(released):
    blocks, samples = released
    samples = apply_drift(samples.subset(slice(0, None, 10)), "gaussian_noise:5", 0)
    parts = split_samples(samples, train=300, val=100, test=400)
    before = evaluate_samples(blocks.model, parts.test).accuracy
    assert before < 0.26
    assert tent(blocks, parts, 0).accuracy > before + 0.2
    assert auto_rgn(blocks, parts, 0, rates=[1e-3], recipe=RECIPE.replace(epochs=2)).accuracy > before + 0.2


@pytest.mark.data
def test_memos_step_helps_beyond_its_statistics_on_the_released_model(released):
    blocks, samples = released
    parts = split_samples(apply_drift(samples.subset(slice(0, None, 10)), "contrast:5", 0), seed=0)
    still = memo(blocks, parts, 0, max_samples=60, learning_rate=0.0, copies=1)
    assert memo(blocks, parts, 0, max_samples=60, copies=8).accuracy > still.accuracy
