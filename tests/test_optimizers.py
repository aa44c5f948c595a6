"""Our optimizers take the steps of torch's, and a small adaptation starts nothing large."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch import nn

from tbft.choosing.planning import Setting, choose_plan
from tbft.errors import PlanError
from tbft.plan import find_recipe
from tbft.plan.numbers import Optimization
from tbft.tuning.optimizers import make_optimizer

KINDS = {
    "sgd": (Optimization("sgd", 0.1), torch.optim.SGD, {"lr": 0.1}),
    "momentum": (
        Optimization("sgd", 0.1, momentum=0.9, weight_decay=0.01),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    ),
    "nesterov": (
        Optimization("sgd", 0.1, momentum=0.9, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    "adam": (
        Optimization("adam", 0.01, weight_decay=0.1),
        torch.optim.Adam,
        {"lr": 0.01, "weight_decay": 0.1},
    ),
    "adamw": (
        Optimization("adamw", 0.01, weight_decay=0.1),
        torch.optim.AdamW,
        {"lr": 0.01, "weight_decay": 0.1},
    ),
}


def tensors(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4, 2, 2), (5,), (), (0, 2)]
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def give_gradients(parameters, step):
    generator = torch.Generator().manual_seed(100 + step)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_torch(kind, dtype):
    optimization, torchs, settings = KINDS[kind]
    ours, theirs = tensors(dtype=dtype), tensors(dtype=dtype)
    mine, other = make_optimizer(optimization, ours), torchs(theirs, **settings)
    for step in range(5):
        for parameters, optimizer in ((ours, mine), (theirs, other)):
            give_gradients(parameters, step)
            parameters[step % 2].grad = None  # not reached by this batch
            optimizer.param_groups[0]["lr"] = 0.05 / (1 + step)
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_optimizer_continues_bit_for_bit(kind):
    straight, resumed = tensors(), tensors()
    optimizer = make_optimizer(KINDS[kind][0], straight)
    before = make_optimizer(KINDS[kind][0], resumed)
    for step in range(2):
        give_gradients(straight, step), optimizer.step()
        give_gradients(resumed, step), before.step()
    after = make_optimizer(KINDS[kind][0], resumed)
    after.load_state_dict(before.state_dict())
    for step in range(2, 4):
        give_gradients(straight, step), optimizer.step()
        give_gradients(resumed, step), after.step()
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))
    assert repr(after) == repr(optimizer)


def test_states_are_laid_out_as_torchs():
    ours, theirs = tensors(), tensors()
    mine, other = make_optimizer(KINDS["adamw"][0], ours), torch.optim.AdamW(theirs, 0.01, weight_decay=0.1)
    for parameters, optimizer in ((ours, mine), (theirs, other)):
        give_gradients(parameters, 0)
        optimizer.step()
    mine.load_state_dict(copy.deepcopy(other.state_dict()))
    state = mine.state_dict()
    assert state["param_groups"][0]["params"] == other.state_dict()["param_groups"][0]["params"]
    assert state["state"].keys() == other.state_dict()["state"].keys()
    with pytest.raises(ValueError, match="other groups"):
        make_optimizer(KINDS["adamw"][0], ours[:2]).load_state_dict(state)


def test_groups_have_their_own_settings_and_gradients_can_be_zeroed():
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = make_optimizer(
        KINDS["sgd"][0], [{"params": [first]}, {"params": [second], "lr": 1.0, "rate_factor": 10.0}]
    )
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1.0]
    first.grad = second.grad = torch.ones(2)
    optimizer.step()
    assert first.tolist() == pytest.approx([0.9, 0.9]) and second.tolist() == [0.0, 0.0]
    optimizer.zero_grad(set_to_none=False)
    assert first.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert first.grad is None


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(PlanError, match="adamw"):
        make_optimizer(Optimization("adamv", 0.1), tensors())


def test_a_small_adaptation_imports_neither_a_compiler_nor_a_computer_algebra_system():
    code = """
import sys
from dataclasses import replace
import tbft
from tbft.data.placeholder import random_pictures
from tbft.models.digits import DigitsNet
from tbft.verification.running import predict
model, samples = DigitsNet(3), random_pictures(100, 8, 1, 3)
said = replace(samples, labels=predict(model, samples).argmax(1).numpy())
card = tbft.build_card(model, said)  # a model is right on what it says itself
assert tbft.diagnose(model, samples, card=card)
assert tbft.personalize(model, samples, card=card, level="input", val=0).tuned.history
print(sorted({"torch._dynamo", "torch._inductor", "sympy", "pandas", "matplotlib"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_choosing_for_a_small_job_runs_the_front_a_few_dozen_times(digits_blocks, stripes):
    calls = Counter()
    handles = [
        digits_blocks.block(k).register_forward_hook(lambda *_, k=k: calls.update([k]))
        for k in range(len(digits_blocks))
    ]
    with torch.random.fork_rng():
        choose_plan(digits_blocks, stripes, Setting(find_recipe("fast")))
    for handle in handles:
        handle.remove()
    assert 0 < calls[0] < 200, calls  # later blocks are also run by trials, on cached outputs
