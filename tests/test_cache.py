"""The prefix cache: same outputs, same gradients, within its budget, found again by what it depends on."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import striped
from torch import nn

from tbft.blocks import split
from tbft.blocks.state import batch_norms, evaluating, values_restored
from tbft.blocks.tensors import fingerprint
from tbft.data.spec import Preprocessing
from tbft.errors import PlanError
from tbft.front_door import tune
from tbft.metering.tensor_bytes import TensorBytes
from tbft.models.layers import Normalize
from tbft.models.resnet26 import ResNet26
from tbft.plan import Budget, Plan, find_recipe, replace_plan
from tbft.tuning.batchnorm import SHARES, choose_source_share
from tbft.tuning.checkpointing import recomputed
from tbft.tuning.loop import Run, fit
from tbft.tuning.optimizers import make_optimizer
from tbft.tuning.prefix_cache import CachePolicy, RowFile, cache_prefix
from tbft.verification.evaluation import evaluate_samples

FAST = find_recipe("fast").replace(batch_size=16, epochs=2, min_steps=0, precision="float32")


@pytest.fixture
def blocks(digits_blocks):
    return digits_blocks


def outputs(blocks, samples):
    with evaluating(blocks.model):
        return blocks.prefix("late")(samples.batch(slice(0, len(samples)))[0])


@pytest.mark.parametrize("preprocessing", [Preprocessing(), Preprocessing(mean=(0.5,), std=(0.25,))])
def test_cached_outputs_are_the_prefixs_in_memory_and_on_disk(blocks, stripes, tmp_path, preprocessing):
    stripes = replace(stripes, preprocessing=preprocessing)  # which is for the inputs, not for the outputs
    expected = outputs(blocks, stripes)
    scalars = expected.numel()
    whole, half = CachePolicy(4 * scalars), CachePolicy(2 * scalars)
    disk = CachePolicy(2 * scalars - 1, tmp_path)
    for policy, dtype, tolerance in (
        (whole, np.float32, 1e-6),
        (half, np.float16, 1e-3),
        (disk, np.float16, 1e-3),
    ):
        cached = cache_prefix(blocks.prefix("late"), stripes, policy)
        assert cached.inputs.dtype == dtype
        assert cached.labels.tolist() == stripes.labels.tolist()
        for at in (slice(0, 60), slice(7, 9), np.array([41, 3, 3]), [0]):
            x, _ = cached.batch(at)
            assert x.dtype == torch.float32
            torch.testing.assert_close(x, expected[at], atol=tolerance, rtol=tolerance)
    assert isinstance(cached.inputs, RowFile)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_is_found_again_by_weights_statistics_and_samples(blocks, stripes, tmp_path):
    policy = CachePolicy(0, tmp_path)
    prefix = blocks.prefix("late")
    first = cache_prefix(prefix, stripes, policy).inputs.path
    before = first.stat().st_mtime_ns
    assert cache_prefix(prefix, stripes, policy).inputs.path == first
    assert first.stat().st_mtime_ns == before
    others = [cache_prefix(prefix, stripes.subset(slice(1, 60)), policy).inputs.path]
    others.append(cache_prefix(prefix, striped(60, seed=9), policy).inputs.path)
    with torch.no_grad():
        next(m for m in prefix.modules() if isinstance(m, nn.BatchNorm2d)).running_mean.add_(1)
    others.append(cache_prefix(prefix, stripes, policy).inputs.path)
    assert len({first, *others}) == 4


@pytest.mark.parametrize("other", ["constants", "activation"])
def test_a_file_is_not_taken_for_that_of_another_network_with_the_same_weights(other, stripes, tmp_path):
    def prefix(mean, activation):
        torch.manual_seed(0)
        return nn.Sequential(Normalize([mean], [0.5]), nn.Flatten(), nn.Linear(64, 4), activation).eval()

    policy = CachePolicy(0, tmp_path)
    cache_prefix(prefix(0.5, nn.ReLU()), stripes, policy)
    another = prefix(0.1, nn.ReLU()) if other == "constants" else prefix(0.5, nn.Tanh())
    cached = cache_prefix(another, stripes, policy).inputs[:]
    np.testing.assert_allclose(cached, cache_prefix(another, stripes).inputs, atol=1e-2)


def test_what_does_not_fit_is_refused_with_the_remedy(blocks, stripes, tmp_path):
    with pytest.raises(PlanError, match=r"more than the 0 MiB allowed: name a folder"):
        cache_prefix(blocks.prefix("late"), stripes, CachePolicy(0))
    with pytest.raises(PlanError, match="does not exist; make it first"):
        cache_prefix(blocks.prefix("late"), stripes, CachePolicy(0, tmp_path / "nowhere"))
    with pytest.raises(PlanError, match="take a recipe without"):
        tune(blocks, Plan("late", FAST.replace(augment="crop-flip")), stripes)


def test_values_that_float16_cannot_hold_are_refused(stripes, tmp_path):
    large = nn.Conv2d(1, 1, 1)
    nn.init.constant_(large.weight, 1e6)
    scalars = 60 * 64
    assert cache_prefix(large, stripes, CachePolicy(4 * scalars)).inputs.dtype == np.float32
    for policy in (CachePolicy(2 * scalars), CachePolicy(0, tmp_path)):
        with pytest.raises(PlanError, match="too large for float16"):
            cache_prefix(large, stripes, policy)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arm", ["middle", "late", "rear", "fc"])
def test_cached_and_uncached_gradients_are_equal(arm, blocks, stripes):
    gradients = []
    for cache in (False, True):
        found = {}

        def remember(parameters, rate, found=found):
            optimizer = torch.optim.SGD(parameters, 0.0)
            step = optimizer.step

            def first_step(*arguments):
                loss = step(*arguments)
                found.setdefault("gradients", [p.grad.clone() for p in parameters])
                return loss

            optimizer.step = first_step
            return optimizer

        tune(blocks, Plan(arm, FAST.replace(cache=cache)), stripes, optimizer=remember)
        gradients.append(found["gradients"])
    for uncached, cached in zip(*gradients, strict=True):
        torch.testing.assert_close(cached, uncached, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("arm", ["front", "middle", "late", "rear", "fc", "full"])
@pytest.mark.parametrize("share", [None, 0.3, 1.0])
def test_fast_tuning_changes_its_block_and_the_statistics_that_the_plan_names(arm, share, blocks, stripes):
    before = fingerprint(blocks.model.state_dict())
    plan = Plan(arm, FAST, statistics=share, seed=2)
    tuned = tune(blocks, plan, stripes)
    assert fingerprint(tune(blocks, plan, stripes).changed) == fingerprint(tuned.changed)
    assert fingerprint(blocks.model.state_dict()) == before
    state = blocks.model.state_dict()
    own = (
        set(state)
        if arm == "full"
        else {k for k in blocks.block_of(arm).keys if arm in (blocks.block_of(arm).name, k[: len(arm)])}
    )
    norms = {id(p) for norm in batch_norms(blocks.model) for p in norm.parameters()}
    if arm == "front" and share != 1.0:  # later scales and shifts are tuned along with it
        own |= {k for k, p in blocks.model.named_parameters() if id(p) in norms}
    statistics = {k for k in tuned.changed if "running" in k or "num_batches" in k}
    assert {k for k in tuned.changed if k not in statistics} <= own
    assert any(k not in statistics for k in tuned.changed)
    assert bool(statistics) == (share != 1.0)
    assert all(record.val_loss is None for record in tuned.history)


def test_models_without_batchnorm_are_tuned_too(stripes):
    def stage(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(2, outputs), nn.ReLU())

    torch.manual_seed(0)
    model = [("a", stage(1, 4)), ("b", stage(4, 8)), ("c", nn.Sequential(nn.Flatten(), nn.Linear(512, 3)))]
    grouped = split(model)
    for arm in ("a", "b", "c", "full"):
        tuned = tune(grouped, Plan(arm, FAST.replace(epochs=4), statistics=None), stripes)
        assert tuned.history[-1].train_loss < tuned.history[0].train_loss


@pytest.mark.parametrize("count", [2, 3, 17, 60])
def test_fast_takes_any_number_of_samples(count, blocks, stripes):
    recipe = find_recipe("fast").replace(precision="float32")
    seen = []
    some = stripes.subset(range(count))
    tune(blocks, Plan("front", recipe, statistics=None), some, progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}
    assert recipe.scaling.min_steps <= len(seen) < recipe.scaling.min_steps + 4
    few, many = recipe.training(count), recipe.training(100_000)
    assert few.optimization.learning_rate < many.optimization.learning_rate == 3e-3
    assert recipe.training(count, rear=True).optimization.learning_rate == 3e-2
    assert (many.batch_size, many.epochs) == (48, 4)


def test_a_stopped_run_resumes_from_its_cache_to_the_same_bits(blocks, stripes, tmp_path):
    recipe = FAST.replace(epochs=4)
    plan, policy, resume = Plan("late", recipe), CachePolicy(0, tmp_path), tmp_path / "run.pt"
    straight = tune(blocks, plan, stripes, cache=policy)

    class StoppedError(Exception):
        pass

    def stop(done, total):
        if done == 10:
            raise StoppedError

    with pytest.raises(StoppedError):
        tune(blocks, plan, stripes, cache=policy, resume=resume, progress=stop)
    seen = []
    again = tune(
        blocks, plan, stripes, cache=policy, resume=resume, progress=lambda done, total: seen.append(done)
    )
    assert seen[0] == 9
    assert fingerprint(again.changed) == fingerprint(straight.changed)
    with pytest.raises(ValueError, match=r"belongs to another run \(plan differ"):
        tune(blocks, replace_plan(plan, seed=1), stripes, cache=policy, resume=resume)


def test_reading_rows_does_not_keep_the_file_in_memory(tmp_path):
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float16, (4000, 16 * 1024))  # 131 MB
    rows[:] = np.arange(4000, dtype=np.float16)[:, None]
    del rows
    file = RowFile(tmp_path / "rows.npy")
    before = _resident()
    for at in np.random.default_rng(0).permutation(4000).reshape(-1, 50):
        np.testing.assert_array_equal(file[at][:, 0], at.astype(np.float16))
    if before is not None:
        assert _resident() - before < 32 << 20


def test_cached_rows_are_never_read_beyond_a_batch(blocks, tmp_path, monkeypatch):
    read, plain = [], RowFile.__getitem__

    def spy(file, at):
        rows = plain(file, at)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(RowFile, "__getitem__", spy)
    tune(blocks, Plan("late", FAST.replace(epochs=1)), striped(200), cache=CachePolicy(0, tmp_path))
    assert 0 < max(read) <= FAST.duration.batch_size


def _resident() -> int | None:
    try:
        with Path("/proc/self/statm").open() as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


# --- budgets of memory -------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["front", "middle", "late", "rear", "full"])
def test_the_measured_peak_stays_within_the_budget_or_it_is_refused(arm, blocks):
    many = striped(200)
    recipe = find_recipe("fast").replace(precision="float32", epochs=1, min_steps=1, rear_min_steps=1)

    def peak(budget):
        plan = Plan(arm, recipe, statistics=None, budget=Budget(budget))
        with TensorBytes() as counted:
            tune(blocks, plan, many)
        return counted.peak

    kept = 0 if arm == "full" else 4 * len(many) * blocks.prefix(arm)(many.batch([0])[0]).numel()
    free = peak(None) + kept  # the cache is in the budget, too
    refused = 0
    for share in (1.2, 0.7, 0.4, 0.02):
        try:
            assert peak(int(share * free)) + kept / 2 <= share * free
        except PlanError as error:
            refused += 1
            least = float(re.search(r"takes at least ([\d.]+) MiB", str(error))[1])
            assert least > share * free / 2**20
            enough = int((least + 0.1) * 2**20)
            assert peak(enough) <= enough  # what it says would do does
    assert 1 <= refused < 4


def test_the_head_is_solved_for_on_a_cached_prefix_within_the_budget(blocks):
    recipe = find_recipe("fast").replace(precision="float32", epochs=1, min_steps=1, joint_min_steps=1)
    plan = Plan("late+head", recipe, statistics=None, budget=Budget(2**22))
    with TensorBytes() as counted:
        tuned = tune(blocks, plan, striped(200))
    assert counted.peak <= 2**22
    assert any(key.startswith(blocks.head_layer) for key in tuned.changed)


@pytest.mark.parametrize("arm", ["front", "late", "full"])
def test_recomputing_changes_no_gradient_and_no_statistic(arm, blocks, stripes):
    at = 0 if arm == "full" else blocks.index(arm)
    x, y = cache_prefix(blocks.prefix(at), stripes).batch(slice(0, 20))
    pieces = recomputed(blocks, at)
    assert len(pieces.pieces) > len(blocks) - at  # finer than the blocks
    with blocks.only(arm, "all") as parameters:
        found = []
        for part in (blocks.onward(at), pieces):
            with values_restored(blocks.model):
                loss = torch.nn.functional.cross_entropy(part(x), y)
                gradients = torch.autograd.grad(loss, parameters)
                state = {k: v.clone() for k, v in blocks.model.state_dict().items()}
            found.append((gradients, state))
    (plain, state), (twice, state_twice) = found
    assert all(torch.equal(a, b) for a, b in zip(plain, twice, strict=True))
    assert all(torch.equal(state[k], state_twice[k]) for k in state)
    assert all(norm.momentum == 0.1 for norm in batch_norms(blocks.model))


@pytest.mark.parametrize("layer", [nn.ReLU, nn.Hardswish, nn.Dropout])
def test_layers_that_work_in_place_are_recomputed_too(layer, stripes):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), layer(inplace=True), nn.Linear(8, 3)
    )
    x, y = stripes.batch(slice(0, 20))
    gradients = []
    for way in (model, recomputed(split(model), 0)):
        torch.manual_seed(1)
        loss = nn.functional.cross_entropy(way(x), y)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_recomputing_takes_less_memory():
    blocks = split(ResNet26())
    x, y = torch.rand(8, 3, 32, 32), torch.arange(8)
    peaks = []
    for part in (blocks.model, recomputed(blocks, 0)):
        with values_restored(part), TensorBytes() as counted:
            torch.nn.functional.cross_entropy(part(x), y).backward()
        peaks.append(counted.peak)
    assert peaks[1] < 0.4 * peaks[0]


def test_gradients_of_parts_add_up_to_those_of_the_batch(blocks, stripes):
    """In evaluation mode BatchNorm does not see which samples come together."""
    still = FAST.replace(
        track="none", refresh=False, epochs=1, schedule="constant", optimizer="sgd", learning_rate=1e-2
    ).training(len(stripes))
    found = []
    with blocks.only("front", "none") as parameters:
        blocks.model.eval()
        for training in (still, replace(still, part_size=5)):
            with values_restored(blocks.model):
                optimizer = make_optimizer(training.optimization, parameters)
                fit(blocks.model, optimizer, training, stripes, None, Run())
                found.append(torch.cat([p.detach().flatten().clone() for p in parameters]))
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-5)


def test_a_memory_budget_needs_a_recipe_without_validation(blocks, stripes):
    with pytest.raises(PlanError, match="a recipe without validation"):
        plan = Plan("front", find_recipe("paper").replace(batch_size=16), budget=Budget(1 << 30))
        tune(blocks, plan, stripes, striped(30, seed=1))
    with pytest.raises(PlanError, match="not a valid amount"):
        Budget(0)


def test_the_source_share_is_chosen_by_forward_passes(blocks, stripes):
    before = fingerprint(blocks.model.state_dict())
    share = choose_source_share(blocks.model, stripes, 20)
    assert share in SHARES
    assert fingerprint(blocks.model.state_dict()) == before
    losses = {}
    for candidate in SHARES:
        plan = Plan("adabn", FAST.replace(batch_size=20), statistics=candidate)
        with values_restored(blocks.model):
            changed = tune(blocks, plan, stripes).changed
            blocks.model.load_state_dict({**blocks.model.state_dict(), **changed})
            losses[candidate] = evaluate_samples(blocks.model, stripes).loss
    assert losses[share] == pytest.approx(min(losses.values()), rel=1e-3)
    auto = tune(blocks, Plan("adabn", FAST, statistics="auto"), stripes)
    assert auto.plan.statistics.source_share in SHARES
    with pytest.raises(PlanError, match="a fraction from 0 to 1, or auto, not often"):
        Plan("adabn", FAST, statistics="often")


@pytest.mark.parametrize("arm", ["late", "adabn"])
def test_a_budget_of_time_ends_the_prefix_too(arm, blocks):
    calls = []
    handle = blocks.model.conv1.register_forward_hook(lambda _, inputs, out: calls.append(len(out)))
    plan = Plan(arm, FAST, statistics=None, budget=Budget(cpu_seconds=1e-6))
    before = fingerprint(blocks.model.state_dict())
    tuned = tune(blocks, plan, striped(600))
    handle.remove()
    assert tuned.stopped == "budget" and not tuned.changed
    assert sum(calls) < 300  # only checks of the model ran, on a few samples
    assert fingerprint(blocks.model.state_dict()) == before
