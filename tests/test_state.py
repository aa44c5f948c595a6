"""Whatever a change did to a model, everything comes back, also what no state dict shows."""

from __future__ import annotations

import copy
import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tbft.blocks import split
from tbft.blocks.state import (
    evaluating,
    evaluating_alone,
    modes_restored,
    uninterrupted,
    values_restored,
    write_state,
)
from tbft.errors import SplitError


class Restless(nn.Module):
    """Moves in training whatever a module can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("replaced", torch.zeros(3), persistent=False)
        self.register_buffer("written", torch.zeros(3), persistent=False)
        self.register_buffer("expanded", torch.ones(1).expand(3))
        self.register_buffer("sparse", torch.eye(3).to_sparse(), persistent=False)
        self.phase = nn.Parameter(torch.ones(3, dtype=torch.cfloat))
        self.plain, self.steps, self.history = torch.zeros(3), 0, [torch.zeros(1)]
        self.cache: dict[str, Any] = {"seen": {1}, "pair": (torch.zeros(2),)}
        self.generator = torch.Generator().manual_seed(0)
        self.extra = {"calls": torch.zeros(1)}

    def get_extra_state(self) -> dict[str, Tensor]:
        return self.extra

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self.extra = state

    def forward(self, x: Tensor) -> Tensor:
        self.replaced = self.replaced + 1
        self.written += 1
        self.plain.add_(1)
        self.steps += 1
        self.history.append(torch.ones(1))
        self.history[0] += 1
        self.cache["new"] = 1
        self.cache["seen"].add(2)
        self.cache["pair"][0].fill_(5)
        self.another = x
        self.extra["calls"] += 1
        noise = torch.rand(3, generator=self.generator)
        return (self.linear(x) + noise) * self.phase.real


def everything(model: nn.Module) -> dict[str, Any]:
    """The attributes of every module, in copies."""
    known = set(vars(nn.Module()))
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        for key, value in [
            *((k, v) for k, v in vars(module).items() if k not in known),
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ]:
            value = value.get_state() if isinstance(value, torch.Generator) else value
            found[f"{name}.{key}"] = copy.deepcopy(value) if not isinstance(value, Tensor) else value.clone()
    return found


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a.to_dense(), b.to_dense())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_every_value_comes_back(error):
    model = Restless()
    before, objects = everything(model), dict(model.named_buffers())

    def train() -> None:
        with values_restored(model):
            model(torch.rand(2, 3)).sum().backward()
            with torch.no_grad():
                for p in model.parameters():
                    p += 1
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(error):
            train()
    assert same(everything(model), before)
    assert all(objects[key] is value for key, value in model.named_buffers())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's, of the old way to norm weights
@pytest.mark.parametrize(
    "norm",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
)
def test_normed_weights_come_back(norm):
    model = nn.Sequential(nn.Linear(4, 4), norm(nn.Linear(4, 2)))
    model(torch.ones(1, 4))
    expected = model.eval()(torch.ones(1, 4))
    before = everything(model)
    with values_restored(model), modes_restored(model):
        model.train()
        model(torch.rand(3, 4)).sum().backward()
        with torch.no_grad():
            for p in model.parameters():
                p += 1
    assert same(everything(model), before)
    assert torch.equal(model(torch.ones(1, 4)), expected)


def test_what_is_saved_is_the_state_dict_and_tied_tensors_come_back_tied():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    expected = model[0].weight.clone()
    with values_restored(model) as saved:
        assert list(saved) == list(model.state_dict())
        with torch.no_grad():
            model[0].weight += 1
        assert torch.equal(saved["1.weight"], expected)
    assert model[1].weight is model[0].weight
    assert torch.equal(model[0].weight, expected)


def test_state_is_written_through_expanded_tensors():
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.ones(1, 1).expand(2, 2))
    write_state(model, {"mask": torch.full((2, 2), 3.0)})
    assert torch.equal(model.mask, torch.full((2, 2), 3.0))
    assert model.mask.stride() == (0, 0)


def test_a_second_interrupt_waits_until_all_is_given_back():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the background of a shell ignores it
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("given back")
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_mode_comes_back_by_the_modules_own_way_to_switch_it():
    class Merging(nn.Linear):
        """Adds what was learned beside the weight to it in evaluation, as low-rank adapters do."""

        merged = False

        def train(self, mode: bool = True) -> Merging:
            if self.merged == mode:
                with torch.no_grad():
                    self.weight += -1 if mode else 1
                self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Merging(2, 2))
    nn.init.zeros_(model[0].weight)
    with evaluating(model):
        assert model[0].weight.sum() == 4
    assert model[0].training
    assert model[0].weight.sum() == 0


def test_what_a_model_moves_in_evaluation_comes_back_after_a_pass():
    model = nn.Sequential(Restless()).eval()
    before = everything(model)
    with evaluating_alone(model):
        model(torch.rand(2, 3))
    assert same(everything(model), before)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_child_comes_back_and_a_compiled_model_is_refused():
    child = torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    model = nn.Sequential(child, nn.Linear(3, 2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with values_restored(model):
        model(torch.rand(4, 3)).sum().backward()
        with torch.no_grad():
            for p in model.parameters():
                p += 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(SplitError, match="TorchScript"):
        split(child)


def test_what_the_user_froze_is_in_no_arm():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    model[1].requires_grad_(False)
    blocks = split(model, ["2"], ["front", "rear"])
    assert (blocks.infos[0].parameter_count, blocks.infos[0].frozen_count) == (16, 12)
    with blocks.only("full") as parameters:
        assert [p.shape for p in parameters] == [(4, 4), (2, 4), (2,)]
        assert not model[0].bias.requires_grad
        assert model[0].training
        assert not model[1].training  # its statistics are frozen with it
    assert model[1].training
    with blocks.only("full", track="all"):
        assert model[1].training  # unless the plan says that all statistics follow
    with split(model.requires_grad_(False), ["2"]).only("full") as parameters:
        assert parameters == []


def test_an_expanded_parameter_is_refused_before_anything_is_touched():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].scale = nn.Parameter(torch.ones(1).expand(2))
    with pytest.raises(SplitError, match=r"made by expand\(\)"), split(model).only("full"):
        pass
    with split(model).only("1") as parameters:
        assert len(parameters) == 2
