"""The front of a network for pictures: fewer passes, and the scales of later BatchNorms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tbft.blocks import split
from tbft.blocks.state import batch_norms
from tbft.front_door import tune
from tbft.plan import Plan, find_recipe, resolve

FAST = find_recipe("fast")


@pytest.fixture
def blocks(digits_blocks):
    return digits_blocks


def later_scales(blocks):
    front = set(blocks.infos[0].keys)
    norms = {id(p) for norm in batch_norms(blocks.model) for p in norm.parameters()}
    return {name for name, p in blocks.model.named_parameters() if id(p) in norms and name not in front}


@pytest.mark.parametrize(("count", "share"), [(20, 1.0), (100, 0.7), (1000, 0.7), (5000, 0.7)])
def test_the_front_takes_fewer_epochs_than_others(count, share):
    front, whole = FAST.training(count, front=True), FAST.training(count)
    assert front.steps(count) == round(share * whole.steps(count))
    assert front.batch_size == whole.batch_size
    assert front.later_norms
    assert not whole.later_norms


@pytest.mark.parametrize("given", [{"epochs": 3}, {"batch_size": 40}, {"learning_rate": 0.01}])
def test_numbers_that_a_user_gives_hold_for_the_front_too(given):
    own = FAST.replace(front_batch_size=32, front_learning_rate=1e-3)
    assert own.training(1000, front=True).batch_size == 32
    for recipe in (own.replace(**given), own.given(**given)):
        front, whole = recipe.training(1000, front=True), recipe.training(1000)
        if "epochs" in given:
            assert front.steps(1000) == 3 * front.steps_per_epoch(1000)
        if "batch_size" in given:
            assert front.batch_size == whole.batch_size == 40
        if "learning_rate" in given:
            assert front.optimization.learning_rate == whole.optimization.learning_rate == 0.01


def test_only_the_first_of_several_blocks_of_a_network_for_pictures_is_a_front(blocks):
    assert resolve(Plan("front"), blocks, 1000).training.later_norms
    for arm in ("late", "full", "front+fc", "conv1"):
        assert not resolve(Plan(arm), blocks, 1000).training.later_norms
    flat = split(
        [("a", nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8))), ("b", nn.Linear(8, 3))]
    )
    assert not resolve(Plan("a"), flat, 1000).training.later_norms


def test_scales_of_later_batchnorms_are_tuned_along_with_the_front_and_nothing_else(blocks, stripes):
    front, scales = set(blocks.infos[0].keys), later_scales(blocks)
    weights = {name for name, _ in blocks.model.named_parameters()}
    tuned = tune(blocks, Plan("front"), stripes)
    assert scales <= tuned.changed.keys()
    assert tuned.changed.keys() & weights <= front | scales
    assert tuned.parameter_count == sum(
        blocks.model.get_parameter(k).numel() for k in weights & (front | scales)
    )


def test_scales_stay_where_statistics_are_kept_or_the_user_froze_them(blocks, stripes):
    assert not later_scales(blocks) & tune(blocks, Plan("front", statistics=1.0), stripes).changed.keys()
    without = Plan("front", FAST.replace(later_norms=False))
    assert not later_scales(blocks) & tune(blocks, without, stripes).changed.keys()
    kept = blocks.model.get_parameter(min(later_scales(blocks))).requires_grad_(False)
    before = kept.clone()
    changed = tune(blocks, Plan("front"), stripes).changed
    assert len(later_scales(blocks) & changed.keys()) == len(later_scales(blocks)) - 1
    assert torch.equal(kept, before)
    assert not kept.requires_grad
