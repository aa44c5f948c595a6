"""Costs before the run: the job that is written down is the job that is done, and budgets hold."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter

import pytest
import torch
from conftest import striped
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tbft.blocks import check_gradients_reach, check_stages, split, stages_for
from tbft.blocks.precision import Computing
from tbft.blocks.tensors import tensor_bytes
from tbft.choosing.choice import beyond
from tbft.choosing.cost import Cost, Prediction, plans_of, predict_costs
from tbft.choosing.counting import count_blocks, count_step
from tbft.choosing.operations import Operation
from tbft.choosing.planning import Setting, choose_plan
from tbft.choosing.shortening import FILLED, MIN_LENGTH, fitting_length
from tbft.choosing.timing import calibrate
from tbft.choosing.workload import workload_of
from tbft.cli import main
from tbft.cli.model_options import thread_count
from tbft.data.splitting import Parts
from tbft.errors import PlanError
from tbft.front_door import tune
from tbft.metering import Meter, Profile
from tbft.models.digits import DigitsNet
from tbft.models.resnet26 import ResNet26
from tbft.patches import make_patch
from tbft.pipeline import personalize
from tbft.plan import Allowance, Budget, Plan, find_recipe, resolve
from tbft.tuning.execution import tune_samples

FAST = find_recipe("fast")
SHORT = FAST.given(epochs=2)
ARMS = ("adabn", "front", "middle", "late", "rear", "front+rear", "full")
BOARD = Profile("bench", "none", "2026", "made up", 2.0, 3.0, None, 0.1, "board", "test")


def plans(recipe=FAST, arms=ARMS, **more):
    return {arm: Plan(arm, recipe, statistics=None, **more) for arm in arms}


@pytest.mark.parametrize(
    "recipe", [SHORT, find_recipe("paper").replace(epochs=2, batch_size=20, patience=None)]
)
@pytest.mark.parametrize("arm", ARMS)
def test_operations_are_those_of_the_run(digits_blocks, recipe, arm):
    train, val = striped(60), striped(30, seed=1)
    plan = Plan(arm, recipe, statistics=0.0)
    held_out = len(val) if recipe.duration.validate else 0
    cost = predict_costs(digits_blocks, {arm: plan}, train, Prediction(val_count=held_out, counted=True))[arm]
    few = train.batch(slice(0, 4))[0]  # what is checked once for a model is not counted
    check_stages(digits_blocks, few)
    check_gradients_reach(digits_blocks, arm, few)
    with FlopCounterMode(display=False) as counter:
        tune(digits_blocks, plan, train, val)
    steps = 2 * recipe.training(60).steps_per_epoch(60)
    optimizer = cost.step.optimizer_flops * steps if cost.step else 0
    assert cost.flops - optimizer == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("arm", ARMS)
def test_patch_and_cache_are_as_large_as_predicted(digits_blocks, arm):
    train = striped(60)
    cost = predict_costs(digits_blocks, plans(SHORT), train)[arm]
    base = {k: v.clone() for k, v in digits_blocks.model.state_dict().items()}
    tuned = tune(digits_blocks, Plan(arm, SHORT, statistics=None), train)
    size = len(make_patch(base, tuned.changed, arm=arm, recipe=SHORT.to_json()).to_bytes())
    assert cost.patch_bytes == pytest.approx(size, rel=0.15, abs=1000)
    crossing = {"middle": 32 * 8 * 8, "late": 64 * 4 * 4, "rear": 64 * 2 * 2}
    assert cost.cache_bytes == 4 * 60 * crossing.get(arm, 0)


def test_calibrating_changes_nothing(digits_blocks):
    model, samples = digits_blocks.model, striped(40)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    costs = predict_costs(digits_blocks, plans(), samples)
    assert all(tensor_bytes(v) == tensor_bytes(before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(0 < cost.cpu_seconds < 60 for cost in costs.values())


def test_costs_grow_with_samples_and_fall_with_depth(digits_blocks):
    cost = predict_costs(digits_blocks, plans(), striped(60), Prediction(count=2000, counted=True))
    few = predict_costs(digits_blocks, plans(), striped(60), Prediction(counted=True))
    assert few["front"].flops < cost["front"].flops / 4
    assert cost["adabn"].flops < cost["front"].flops < cost["full"].flops
    assert cost["rear"].flops <= cost["late"].flops <= cost["middle"].flops
    assert cost["rear"].step.saved_bytes < cost["late"].step.saved_bytes < cost["full"].step.saved_bytes
    assert cost["rear"].patch_bytes < cost["full"].patch_bytes
    assert predict_costs(digits_blocks, {"none": Plan("none", FAST)}, striped(9)) == {
        "none": Cost(0.0, 0.0, 0)
    }


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(20, 3000),
    arm=st.sampled_from(ARMS[1:]),
    recipe=st.sampled_from(["fast", "paper"]),
)
def test_a_job_trains_every_sample_in_every_epoch(count, arm, recipe):
    blocks = split(DigitsNet(3))
    plan = Plan(arm, find_recipe(recipe), statistics=None if recipe == "fast" else 0.0)
    resolved = resolve(plan, blocks, count, 30)
    job = workload_of(resolved, stages_for(blocks, [arm]))
    kinds = Counter(operation.kind for operation in job.training)
    assert kinds["forward"] == len(blocks) - job.start
    assert kinds["inputs"] + kinds["weights"] + kinds["both"] == kinds["forward"]
    assert {job.training[p] for p in job.training if p.kind in ("forward", "load")} == {job.samples}
    share = job.steps / resolved.training.steps_per_epoch(count)
    assert job.samples == round(share * count)
    assert job.training[Operation("loop")] == job.steps


def test_an_arm_inside_a_block_starts_its_own_stage():
    blocks = split(ResNet26(3, 32, depth=1))
    stages = stages_for(blocks, ["fc", "front", "full"])
    assert stages.cuts == (*blocks.cuts, "fc")
    job = workload_of(resolve(Plan("fc", FAST, statistics=1.0), blocks, 50), stages)
    assert job.start == len(stages) - 1
    assert not [operation for operation in job.passes if operation.kind == "adapt"]


def test_operations_without_anything_to_compute_take_no_time():
    blocks = split(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), ["1"])
    operations = {
        Operation("weights", 0),
        Operation("forward", 0),
        Operation("weights", 1),
        Operation("forward", 1),
    }
    pace = calibrate(blocks, operations, striped(20), FAST, 10)
    assert pace.seconds[Operation("weights", 0)] == 0.0
    assert pace.seconds[Operation("weights", 1)] > 0.0
    assert pace.of({Operation("weights", 1): 2}) == 2 * pace.seconds[Operation("weights", 1)]
    assert pace.scalars == (64, 64)


def test_blocks_add_up_to_the_real_step(digits_blocks):
    samples = striped(20)
    blocks = count_blocks(digits_blocks, samples)
    step = count_step(resolve(Plan("full", FAST), digits_blocks, 20), Computing(), samples, 8)
    assert sum(b.forward_flops for b in blocks) == step.forward_flops
    assert sum(b.input_flops + b.weight_flops for b in blocks) == pytest.approx(step.backward_flops)
    front = count_step(resolve(Plan("front", FAST), digits_blocks, 20), Computing(), samples, 8)
    frozen = sum(b.input_flops for b in blocks[1:])
    assert front.backward_flops == pytest.approx(frozen + blocks[0].weight_flops)
    double = count_step(resolve(Plan("full", FAST), digits_blocks, 20), Computing(), samples, 16)
    assert 1.5 < double.saved_bytes / step.saved_bytes <= 2


def test_energy_is_estimated_by_a_profile_or_not_at_all(digits_blocks):
    samples = striped(60)
    unknown = predict_costs(digits_blocks, plans(), samples)["front"]
    known = predict_costs(digits_blocks, plans(), samples, Prediction(profile=BOARD))["front"]
    assert unknown.energy_joules is None
    assert known.energy_joules == pytest.approx(2 * known.wall_seconds + 3 * known.cpu_seconds)

    net = Profile("net", "none", "2026", "made up", None, 3.0, None, 0.1, "board", "test")
    assert net.estimate(5.0, 4.0) == 12.0


def test_a_budget_of_joules_leaves_out_what_exceeds_it_and_stops_what_would():
    blocks, many = split(DigitsNet(3)), striped(3000)
    plan = Plan("front", FAST, statistics=None, budget=Budget(joules=0.2))
    parts = Parts(many, striped(30, seed=2), striped(30, seed=3), 0, None)
    with pytest.raises(PlanError, match="needs an energy estimate"):
        personalize(blocks, parts, plan=plan)
    with pytest.raises(PlanError, match=r"is predicted to take .* J, more than 0\.\d+ J left"):
        personalize(blocks, parts, plan=plan, meter=Meter(profile=BOARD))
    # Asked for all the same, it stops.
    stopped = tune_samples(blocks, plan, many, allowance=Allowance(plan.budget, BOARD))
    assert stopped.stopped == "budget"


def test_a_budget_of_time_shortens_the_schedule_instead_of_cutting_it_off(monkeypatch):
    torch.manual_seed(0)
    parts = Parts(striped(60), striped(30, seed=2), striped(30, seed=3), 0, None)
    plan = Plan("front", SHORT, budget=Budget(cpu_seconds=600))
    cost = Cost(None, 1000.0, 0, training_cpu_seconds=900.0)
    monkeypatch.setattr("tbft.choosing.planning.predict_costs", lambda *_: {"": cost})
    result = personalize(split(DigitsNet(3)), parts, plan=plan)
    length = result.plan.recipe.duration.length
    assert length == pytest.approx((FILLED * 600 - 100) / 900, abs=0.01)
    assert result.stopped is None
    assert [note for note in result.notes if f"{100 * length:.0f} % of the usual steps" in note]


@given(st.floats(0.1, 20), st.floats(0, 1), st.floats(0.1, 30))
def test_a_shortened_plan_fits_its_budget(seconds, share, allowed):
    cost = Cost(None, seconds, 0, energy_joules=2 * seconds, training_cpu_seconds=share * seconds)
    for budget in (Budget(cpu_seconds=allowed), Budget(joules=2 * allowed)):
        length = fitting_length(Plan("front"), cost, budget)
        if length < 1:
            assert length >= MIN_LENGTH
            assert beyond(cost.shortened(length), budget) is None
            assert beyond(cost, budget) is not None
        elif beyond(cost, budget):
            shortest = cost.shortened(MIN_LENGTH)
            assert shortest.cpu_seconds > 0.999 * FILLED * allowed


def test_a_choice_within_joules_is_kept_to():
    torch.manual_seed(0)
    blocks, samples = split(DigitsNet(3)), striped(300)
    budget = Budget(joules=40.0)
    choice = choose_plan(blocks, samples, Setting(FAST), Allowance(budget, BOARD))
    assert beyond(choice.costs[choice.option], budget) is None
    assert choice.plan.budget == budget
    parts = Parts(samples, striped(30, seed=2), striped(30, seed=3), 0, None)
    result = personalize(blocks, parts, recipe=FAST, budget=budget, meter=Meter(profile=BOARD))
    spent = BOARD.joules(result.measurement.wall_seconds, result.measurement.cpu_seconds)
    assert spent <= 40.0 or result.stopped


def test_the_command_prints_costs_and_needs_no_data(capsys):
    assert main(["cost", "digits", "--samples", "50", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["arms"]) == {"adabn", *split(DigitsNet(3)).names, "full"}
    assert shown["energy_kind"] == "unavailable"
    assert shown["arms"]["front"]["energy_joules"] is None
    assert main(["cost", "digits", "--samples", "50"]) == 0
    assert "unavailable" in capsys.readouterr().out


def test_a_command_uses_as_many_threads_as_it_is_told(capsys):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert main(["cost", "digits", "--samples", "50", "--threads", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["threads"] == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    for wrong in ("0", "-1", "two", str((os.cpu_count() or 1) + 1), "9" * 30):
        with pytest.raises(argparse.ArgumentTypeError, match="the cores here"):
            thread_count(wrong)


def test_the_command_says_what_it_cannot_do(capsys):
    assert main(["cost", "resnet26-cifar10", "--resolution", "64"]) == 2
    assert "cannot take inputs" in capsys.readouterr().err
    assert main(["cost", "digits", "--samples", "1"]) == 2
    assert "has to be 2 or more" in capsys.readouterr().err


def test_plans_for_a_table_hold_every_arm():
    assert list(plans_of(split(ResNet26(3, 32, depth=1)), FAST)) == [
        "adabn", "front", "layer2", "layer3", "rear", "fc", "full"
    ]  # fmt: skip
