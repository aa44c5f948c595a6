"""Tuning: true freezing gives what the paper's way gives, repeatably, and leaves the model alone."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from conftest import striped
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tbft.blocks import split
from tbft.blocks.state import batch_norms, clone_state
from tbft.blocks.tensors import fingerprint
from tbft.errors import CheckpointError, DataError, PlanError, SplitError
from tbft.front_door import tune
from tbft.models.digits import DigitsNet
from tbft.plan import (
    FOLLOW,
    KEEP,
    LEVELS,
    RECIPES,
    Plan,
    Recipe,
    arm_for_level,
    find_recipe,
    replace_plan,
    resolve,
)
from tbft.tuning.augment import crop_flip
from tbft.tuning.base_training import train_base
from tbft.tuning.batchnorm import adapt_statistics
from tbft.tuning.execution import tune_samples
from tbft.tuning.loop import Run
from tbft.tuning.options import Tuning
from tbft.tuning.prefix_cache import CachePolicy
from tbft.tuning.rates import rate_factor, set_rate

SMALL = find_recipe("paper").replace(batch_size=16, epochs=3)


def paper_way(model: nn.Module, parameters, recipe: Recipe, rate: float, train, val, seed: int):
    """As the paper's scripts do it: every gradient computed, only the optimizer chosen."""
    model.train().requires_grad_(True)
    optimizer = torch.optim.SGD(
        parameters, rate, recipe.optimization.momentum, weight_decay=recipe.optimization.weight_decay
    )
    generator = torch.Generator().manual_seed(seed)
    best_loss, best = float("inf"), {}
    for _ in range(recipe.duration.epochs):
        model.train()
        for at in torch.randperm(len(train), generator=generator).split(recipe.duration.batch_size):
            x, y = train.batch(at.numpy())
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            x, y = val.batch(slice(0, len(val)))
            loss = nn.functional.cross_entropy(model(x), y).item()
        if loss < best_loss:
            best_loss, best = loss, clone_state(model)
    return best


@pytest.mark.parametrize("arm", ["front", "middle", "late", "rear", "full"])
def test_true_freezing_equals_the_papers_way_bit_for_bit(arm, stripes):
    torch.manual_seed(0)
    model, twin = DigitsNet(3), DigitsNet(3)
    twin.load_state_dict(model.state_dict())
    blocks, val = split(model), striped(30, seed=1)
    before = clone_state(model)
    tuned = tune(blocks, Plan(arm, SMALL, seed=5), stripes, val)
    parameters = [p for m in split(twin).tuned_modules(arm) for p in m.parameters()]
    rate = 1e-2 if arm == "rear" else 1e-3
    expected = paper_way(twin, parameters, SMALL, rate, stripes, val, 5)
    assert fingerprint({**before, **tuned.changed}) == fingerprint(expected)


def test_tuning_changes_only_the_arm_and_the_statistics_that_track(digits_blocks, stripes):
    val = striped(30, seed=1)
    tuned = tune(digits_blocks, Plan("middle", SMALL.replace(track="tuned")), stripes, val)
    assert tuned.changed
    assert all(key.startswith("conv2.") for key in tuned.changed)
    tuned = tune(digits_blocks, Plan("middle", SMALL), stripes, val)
    outside = {k for k in tuned.changed if not k.startswith("conv2.")}
    assert outside
    assert all("running" in k or "num_batches" in k for k in outside)


def test_joined_arms_are_tuned_together_the_rear_at_its_own_rate(digits_blocks, stripes):
    fast = find_recipe("fast").replace(precision="float32", epochs=1, min_steps=1, rear_min_steps=1)
    made = []

    def spy(parameters, rate):
        return made.append((len(parameters), rate)) or torch.optim.SGD(parameters, rate)

    frozen = fast.replace(track="none", refresh=False, solves_head=False)
    tuned = tune(digits_blocks, Plan("front+rear", frozen, statistics=1.0), stripes)
    assert {key.split(".")[0] for key in tuned.changed} == {"conv1", "fc"}
    tuned = tune(digits_blocks, Plan("late+rear", frozen, statistics=1.0), stripes)
    assert not any(key.startswith(("conv1", "conv2")) for key in tuned.changed)
    tune(digits_blocks, Plan("late+rear", fast), stripes, optimizer=spy)
    assert made == [(5, fast.training(len(stripes), joint=True).optimization.learning_rate)]
    with pytest.raises(SplitError, match="joins an arm that tunes no block"):
        tune(digits_blocks, Plan("front+full", fast), stripes)


def test_a_groups_rate_is_in_proportion():
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(
        [{"params": [layer.weight]}, {"params": [layer.bias], "rate_factor": 10.0}], 1.0
    )
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 5.0]


@pytest.mark.parametrize("arm", ["none", "adabn", "front", "full"])
def test_the_model_comes_back_as_it_was(arm, digits_blocks, stripes):
    model = digits_blocks.model
    before, modes = clone_state(model), [m.training for m in model.modules()]
    rng = torch.get_rng_state()
    tune(digits_blocks, Plan(arm, SMALL), stripes, striped(30, seed=1))
    assert fingerprint(before) == fingerprint(model.state_dict())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)


def test_the_model_comes_back_after_an_interrupt(digits_blocks, stripes):
    def stop_at(step: int):
        def on_step(done: int, total: int) -> None:
            if done == step:
                raise KeyboardInterrupt

        return on_step

    before = fingerprint(digits_blocks.model.state_dict())
    val = striped(30, seed=1)
    with pytest.raises(KeyboardInterrupt):  # nothing learned yet
        tune(digits_blocks, Plan("front", SMALL), stripes, val, progress=stop_at(2))
    first = tune(digits_blocks, Plan("front", SMALL), stripes, val, progress=stop_at(5))
    assert first.stopped == "interrupt"
    assert len(first.history) == 1
    once = tune(digits_blocks, Plan("front", SMALL.replace(epochs=1)), stripes, val)
    assert once.stopped is None
    assert fingerprint(first.changed) == fingerprint(once.changed)
    assert fingerprint(digits_blocks.model.state_dict()) == before
    assert all(p.requires_grad and p.grad is None for p in digits_blocks.model.parameters())


def test_same_seed_same_bits_and_another_seed_others(digits_blocks, stripes):
    val = striped(30, seed=1)
    first, again, other = (
        fingerprint(tune(digits_blocks, Plan("late", SMALL, seed=s), stripes, val).changed) for s in (3, 3, 4)
    )
    assert first == again != other


def test_the_epoch_with_the_lowest_validation_loss_is_kept_and_patience_stops(digits_blocks, stripes):
    wild = SMALL.replace(epochs=12, patience=2, learning_rate=0.5)
    tuned = tune(digits_blocks, Plan("late", wild), stripes, striped(30, seed=1))
    losses = [r.val_loss for r in tuned.history]
    assert tuned.best_epoch == losses.index(min(losses)) + 1
    assert len(losses) <= min(12, tuned.best_epoch + 2)


def test_adabn_gives_the_statistics_of_the_samples(stripes):
    torch.manual_seed(0)
    model = DigitsNet(3)
    first = batch_norms(model)[0]
    source = first.running_mean.clone()
    x, _ = stripes.batch(slice(0, len(stripes)))
    with torch.no_grad():
        expected = model.conv1[0][0](x).mean(dim=(0, 2, 3))
    counters = [int(n.num_batches_tracked) for n in batch_norms(model)]
    adapt_statistics(model, stripes, batch_size=20)
    torch.testing.assert_close(first.running_mean, expected)
    assert [int(n.num_batches_tracked) for n in batch_norms(model)] == counters
    assert all(n.momentum == 0.1 for n in batch_norms(model))
    first.running_mean.copy_(source)
    adapt_statistics(model, stripes, batch_size=20, source_share=0.25)
    torch.testing.assert_close(first.running_mean, 0.25 * source + 0.75 * expected)


def test_adabn_needs_batchnorm(stripes):
    with pytest.raises(PlanError, match="no BatchNorm"):
        adapt_statistics(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), stripes, 8)


def test_samples_that_cannot_be_trained_on_are_refused(digits_blocks, stripes):
    val, plan = striped(30, seed=1), Plan("front", SMALL)
    with pytest.raises(DataError, match=r"fewer than a batch of 16; .*--batch-size"):
        tune(digits_blocks, plan, stripes.subset(range(10)), val)
    with pytest.raises(DataError, match="of the class 'row0'"):
        tune(digits_blocks, plan, stripes.subset(np.arange(0, 60, 3)), val)
    with pytest.raises(DataError, match="give --val"):
        tune(digits_blocks, plan, stripes, None)
    with pytest.raises(DataError, match=r"label 3 is out of range: the model has 3 outputs"):
        tune(digits_blocks, plan, striped(64, classes=4), val)


def test_diverging_training_is_reported(digits_blocks, stripes):
    plan = Plan("full", SMALL.replace(learning_rate=1e30))
    with pytest.raises(PlanError, match="diverged"):
        tune(digits_blocks, plan, stripes, striped(30, seed=1))


def test_levels_name_the_blocks_of_the_paper():
    names = ("front", "layer2", "layer3", "rear")
    assert [arm_for_level(level, names) for level in LEVELS] == ["none", "front", "layer3", "rear"]
    assert arm_for_level("output", names, head="fc") == "fc"
    with pytest.raises(PlanError, match="did you mean 'input'"):
        arm_for_level("imput", names)


def test_the_paper_recipe_is_the_papers():
    paper = find_recipe("paper")
    steps, length = paper.optimization, paper.duration
    assert (steps.optimizer, steps.rate(rear=False), steps.rate(rear=True)) == ("sgd", 1e-3, 1e-2)
    assert (steps.momentum, steps.weight_decay, length.batch_size) == (0.9, 5e-4, 128)
    assert (length.epochs, length.patience, paper.tracking.track) == (10, 5, "all")
    living = find_recipe("paper", {"paper": "paper-living17"})
    length = living.duration
    assert (living.optimization.optimizer, length.epochs, length.batch_size) == ("adam", 10, 128)


def test_a_recipes_numbers_are_replaced_by_name_wherever_they_lie():
    fast = find_recipe("fast").replace(epochs=2, precision="float32", name="mine")
    assert (fast.name, fast.duration.epochs, fast.computation.precision) == ("mine", 2, "float32")
    assert fast.to_json()["epochs"] == 2
    with pytest.raises(PlanError, match="did you mean 'epochs'"):
        fast.replace(epoch=3)


def test_schedules():
    step = RECIPES["base-paper"].training(1000)
    assert [rate_factor(step, s, 10, 1500) for s in (0, 499, 500, 1000)] == [1, 1, 0.5, 0.25]
    cycle = RECIPES["base-short"].training(1000)
    factors = [rate_factor(cycle, s, 10, cycle.epochs * 10) for s in range(cycle.epochs * 10)]
    assert max(factors) == 1
    assert factors[0] < 0.1
    assert factors[-1] < 0.01


@given(st.floats(0.01, 1.0), st.integers(10, 2000))
def test_a_shorter_schedule_is_a_whole_one_of_fewer_steps(length, count):
    fast = find_recipe("fast")
    whole, short = fast.training(count), fast.replace(length=length).training(count)
    steps = short.steps(count)
    assert abs(steps - length * whole.steps(count)) <= 1
    assert 0 <= short.epochs * short.steps_per_epoch(count) - steps < short.steps_per_epoch(count)
    rates = [rate_factor(short, k, short.steps_per_epoch(count), steps) for k in range(steps)]
    assert max(rates) <= 1
    assert steps < 8 or rates[-1] < 0.2


def test_a_shorter_schedule_ends_within_an_epoch(digits_blocks, stripes):
    seen: list[int] = []
    plan = Plan("front", SMALL.replace(validate=False, length=0.35))
    tuned = tune(digits_blocks, plan, stripes, progress=lambda done, total: seen.append(total))
    whole = SMALL.training(len(stripes)).steps(len(stripes))
    assert len(seen) == seen[-1] == round(0.35 * whole)
    assert tuned.stopped is None
    with pytest.raises(PlanError, match="length"):
        SMALL.replace(length=0.0)


def test_a_resumed_run_completes_the_schedule_that_was_begun(digits_blocks, stripes, tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    recipe, path = SMALL.replace(validate=False), tmp_path / "run.pt"
    plan = Plan("front", recipe.replace(length=0.8))
    straight = tune(digits_blocks, plan, stripes)
    tune_samples(digits_blocks, plan, stripes, None, Tuning(resume_path=path, on_epoch=stop))
    # The budget of the second call may seem to allow another length.
    shorter = replace_plan(plan, recipe=recipe.replace(length=0.5))
    again = tune(digits_blocks, shorter, stripes, resume=path)
    assert again.history == straight.history
    assert all(torch.equal(again.changed[key], value) for key, value in straight.changed.items())


class StoppedError(Exception):
    pass


def test_training_resumes_to_the_same_bits(tmp_path, stripes):
    recipe = find_recipe("base-short").replace(epochs=4, batch_size=16)
    val, resume = striped(30, seed=1), tmp_path / "run.pt"

    def fresh() -> DigitsNet:
        torch.manual_seed(0)
        return DigitsNet(3)

    straight = fresh()
    state = train_base(straight, recipe, stripes, val)

    def stop(done: int, total: int) -> None:
        if done == 10:  # in the third of four epochs
            raise StoppedError

    with pytest.raises(StoppedError):
        train_base(fresh(), recipe, stripes, val, Run(on_step=stop), resume)
    seen: list[int] = []
    resumed = fresh()
    watching = Run(on_step=lambda done, total: seen.append(done))
    again = train_base(resumed, recipe, stripes, val, watching, resume)
    assert seen[0] == 9
    assert again.history == state.history
    assert fingerprint(resumed.state_dict()) == fingerprint(straight.state_dict())
    with pytest.raises(ValueError, match=r"belongs to another run \(seed differ"):
        train_base(fresh(), recipe, stripes, val, Run(seed=1), resume)


def test_crop_flip_moves_pictures_and_repeats_by_seed():
    x = torch.rand(8, 3, 16, 16)
    first, again = (crop_flip(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == x.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, x)
    padded = torch.nn.functional.pad(x[0], (2, 2, 2, 2))
    crops = [padded[:, t : t + 16, s : s + 16] for t in range(5) for s in range(5)]
    assert any(torch.equal(first[0], c) or torch.equal(first[0], c.flip(2)) for c in crops)


def test_a_last_batch_of_one_is_reported(digits_blocks):
    flat = split(
        [("a", nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8))), ("b", nn.Linear(8, 3))]
    )
    with pytest.raises(PlanError, match=r"last batch of one.*--batch-size"):
        tune(flat, Plan("a", SMALL), striped(33), striped(30, seed=1))
    with pytest.raises(PlanError, match="last batch of one"):
        tune(flat, Plan("adabn", SMALL), striped(33).subset([0]), None)


def test_few_samples_of_other_kinds_keep_the_sources_statistics():
    blocks, plan = split(DigitsNet(3)), Plan("late", "fast", level="feature")
    few, many = resolve(plan, blocks, 170), resolve(plan, blocks, 850)
    assert (few.statistics, many.statistics) == (KEEP, FOLLOW)
    assert few.training.optimization.learning_rate == pytest.approx(3e-3 * 0.17)
    assert resolve(replace_plan(plan, statistics=0.5), blocks, 170).statistics.source_share == 0.5
    assert resolve(replace_plan(plan, level="input"), blocks, 170).statistics == FOLLOW


@pytest.mark.parametrize("count", [7, 60, 1000])
@pytest.mark.parametrize("arm", ["adabn", "front", "late", "fc", "front+rear", "full"])
def test_a_resolved_plan_lists_the_passes_that_are_run(arm, count):
    blocks = split(DigitsNet(3))
    resolved = resolve(Plan(arm, "fast", statistics="auto"), blocks, count)
    kinds = [type(one).__name__ for one in resolved.passes]
    trains = ["Train", "AdaptStatistics"]
    prefix = ["AdaptStatistics", "CachePrefix"] if resolved.start else []
    if arm in ("front+rear", "full"):  # the head is solved for first
        prefix += ["AdaptStatistics", "SolveHead"]
    # The head has no BatchNorm of its own to refresh.
    end = trains if arm != "fc" and arm != "rear" else trains[:1]
    expected = ["AdaptStatistics"] if arm == "adabn" else [*prefix, *end]
    assert kinds == ["ChooseShare", *expected]
    training = resolved.training
    assert resolved.steps == (0 if arm == "adabn" else training.steps(count))


@pytest.mark.parametrize("arm", ["first+last", "last+first"])
def test_joined_parts_of_one_block_may_come_in_any_order(arm, stripes):
    torch.manual_seed(0)
    layers = [
        ("start", nn.ReLU()),
        ("flat", nn.Flatten()),
        ("first", nn.Linear(64, 8)),
        ("last", nn.Linear(8, 3)),
    ]
    blocks = split(nn.Sequential(OrderedDict(layers)), cuts=["flat"])
    tuned = tune(blocks, Plan(arm, find_recipe("fast")), stripes)
    assert {key.split(".")[0] for key in tuned.changed} == {"first", "last"}


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Rprop", "NAdam", "LBFGS"])
def test_every_optimizer_given_as_a_factory_learns(name, digits_blocks):
    plan = Plan("rear", find_recipe("fast"))
    tuned = tune(digits_blocks, plan, striped(90), optimizer=getattr(torch.optim, name))
    assert {"fc.weight", "fc.bias"} <= tuned.changed.keys()
    assert tuned.history[-1].train_loss < tuned.history[0].train_loss


def test_a_factorys_own_rates_stay_in_proportion(digits_blocks, stripes):
    plan = Plan("rear", find_recipe("fast"))

    def factory(parameters, rate):
        weight, bias = parameters
        return torch.optim.SGD([{"params": [weight]}, {"params": [bias], "lr": 0.0}], rate)

    tuned = tune(digits_blocks, plan, stripes, optimizer=factory)
    assert "fc.weight" in tuned.changed and "fc.bias" not in tuned.changed


@pytest.mark.parametrize("differ", ["optimizer", "cache", "cuts"])
def test_a_run_with_another_optimizer_cache_or_split_is_not_resumed(differ, digits_blocks, stripes, tmp_path):
    class StoppedError(Exception):
        pass

    def stop(state):
        raise StoppedError

    plan, resume = Plan("late", find_recipe("fast")), tmp_path / "run.pt"
    with pytest.raises(StoppedError):
        tune_samples(digits_blocks, plan, stripes, None, Tuning(resume_path=resume, on_epoch=stop))
    other = {
        "optimizer": {"optimizer": lambda parameters, rate: torch.optim.SGD(parameters, rate)},
        "cache": {"cache": CachePolicy(memory_bytes=200_000)},  # enough for float16 only
        "cuts": {},
    }
    blocks = digits_blocks
    if differ == "cuts":
        blocks = split(blocks.model, cuts=["conv3", "fc"], names=["front", "late", "rear"])
    with pytest.raises(CheckpointError, match=rf"belongs to another run \({differ} differ"):
        tune(blocks, plan, stripes, resume=resume, **other[differ])
