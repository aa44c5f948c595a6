"""Blocks partition the state dict, the stages give the model's output, and `only` gives all back."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tbft.blocks import split
from tbft.blocks.state import clone_state
from tbft.errors import SplitError
from tbft.models import presets
from tbft.models.resnet26 import ResNet26


class Skip(nn.Module):
    """A skip connection from `a` over `b1` and `b2` to the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b1, self.b2, self.c = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        return self.c(self.b2(self.b1(a)) + a)


@pytest.mark.parametrize("preset", presets(), ids=lambda p: p.name)
def test_preset_partitions_its_state_and_runs_bit_for_bit(preset):
    torch.manual_seed(0)
    model = preset.build().eval()
    blocks = preset.split(model)
    keys = [key for block in blocks for key in block.keys]
    assert sorted(keys) == sorted(model.state_dict())
    assert sum(b.parameter_count for b in blocks) == sum(p.numel() for p in model.parameters())
    side, channels = preset.inputs.resolution, preset.inputs.channels
    x = torch.rand(2, channels, side, side)
    with torch.no_grad():
        for k in range(len(blocks)):
            out = blocks.suffix(k)(blocks.block(k)(blocks.prefix(k)(x)))
            assert torch.equal(out, model(x))
        assert model(x).shape == (2, len(preset.inputs.class_names))


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(["layer1", "layer2", "layer2.1", "layer3", "layer3.2", "bn", "fc"])))
def test_any_clean_cuts_of_resnet26_partition_it(cuts):
    order = ["layer1", "layer2", "layer2.1", "layer3", "layer3.2", "bn", "fc"]
    model = ResNet26(depth=3).eval()
    blocks = split(model, sorted(cuts, key=order.index))
    keys = [key for block in blocks for key in block.keys]
    assert len(keys) == len(set(keys)) == len(model.state_dict())
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        out = x
        for k in range(len(blocks)):
            out = blocks.block(k)(out)
        assert torch.equal(out, model(x))


def test_the_last_batchnorm_belongs_to_the_rear_and_sizes_are_the_papers():
    blocks = split(ResNet26())
    assert {"bn.weight", "bn.running_mean", "fc.weight"} <= set(blocks.infos[-1].keys)
    assert [b.parameter_count for b in blocks] == [19_120, 69_600, 277_440, 778]
    assert blocks.head == "fc"


def test_stages_share_the_models_parameters():
    model = ResNet26(depth=1)
    own = {id(p) for p in model.parameters()}
    assert {id(p) for p in split(model).block("layer2").parameters()} <= own


def test_a_skip_across_a_cut_is_refused_naming_both_ends():
    with pytest.raises(SplitError, match=r"skip connection runs from 'a' to 'add'"):
        split(Skip(), ["b2"])
    assert split(Skip(), ["b1", "c"]).names == ("front", "b1", "c")


def test_unknown_cut_suggests_the_nearest():
    with pytest.raises(SplitError, match="did you mean 'layer3'"):
        split(ResNet26(depth=1), ["layer33"])


@pytest.mark.parametrize(
    ("cuts", "names", "message"),
    [
        (["layer3", "layer2"], None, "not in the order"),
        (["layer2", "layer2"], None, "named twice"),
        (["normalize"], None, "would be empty"),
        (["layer2"], ["a"], "2 blocks, but 1 names"),
        (["layer2"], ["a", "a"], "used twice"),
        (["layer2"], ["a", "full"], "arm of its own"),
    ],
)
def test_bad_cuts_are_refused(cuts, names, message):
    with pytest.raises(SplitError, match=message):
        split(ResNet26(depth=1), cuts, names)


def test_a_parameter_in_two_blocks_is_refused():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(OrderedDict(a=nn.Sequential(shared), b=nn.Sequential(nn.ReLU(), shared)))
    with pytest.raises(SplitError, match="is used in the blocks"):
        split(model, ["b"])
    assert split(model).cuts == ()  # no cut is found there


class Dynamic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if x.sum() > 0:
            x = -x
        return self.b(x)


def test_untraceable_models_are_told_what_to_do_and_may_come_as_a_list():
    with pytest.raises(SplitError, match=r"cannot be traced .* list of \(name, module\)"):
        split(Dynamic(), ["b"])
    # Below the cuts, a module may be as dynamic as it likes.
    blocks = split([("first", Dynamic()), ("second", nn.Linear(2, 2))])
    assert blocks.names == ("first", "second")
    assert blocks.block(0)(torch.ones(1, 4)).shape == (1, 2)


@pytest.mark.parametrize("arm", ["front", "layer2", "rear", "fc", "full", "adabn"])
@pytest.mark.parametrize("fail", [False, True])
def test_only_freezes_the_rest_and_gives_everything_back(arm, fail):
    model = ResNet26(depth=1)
    model.layer2.eval()
    model.conv1.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(10)
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    blocks = split(model)
    try:
        with blocks.only(arm) as parameters:
            trainable = {name for name, p in model.named_parameters() if p.requires_grad}
            assert {id(p) for p in parameters} == {
                id(p) for n, p in model.named_parameters() if n in trainable
            }
            if arm == "fc":
                assert trainable == {"fc.weight", "fc.bias"}
                assert not model.bn.training
            if arm == "layer2":
                assert all(name.startswith("layer2.") for name in trainable)
                assert model.layer2[0].bn1.training
                assert not model.layer1[0].bn1.training
            if fail:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == flags
    assert [m.training for m in model.modules()] == modes


def test_tracking_all_puts_every_batchnorm_in_training_mode():
    blocks = split(ResNet26(depth=1))
    with blocks.only("layer2", track="all"):
        norms = [m for m in blocks.model.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(n.training for n in norms)
        assert not blocks.model.training
    with blocks.only("layer2", track="none"):
        assert not any(n.training for n in norms)


def test_frozen_blocks_get_no_gradient_and_move_no_statistics():
    blocks = split(ResNet26(depth=1))
    before = clone_state(blocks.model)
    with blocks.only("layer2"):
        blocks.model(torch.rand(4, 3, 32, 32)).sum().backward()
        graded = {n for n, p in blocks.model.named_parameters() if p.grad is not None}
    assert graded == {n for n, _ in blocks.model.named_parameters() if n.startswith("layer2.")}
    moved = {k for k, v in blocks.model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(k.startswith("layer2.") for k in moved)


def test_unknown_arm_is_refused():
    blocks = split(ResNet26(depth=1))
    with pytest.raises(SplitError, match="unknown arm 'reer': did you mean 'rear'"), blocks.only("reer"):
        pass
    with pytest.raises(SplitError, match="unknown block"):
        blocks.block("tail")
    with pytest.raises(SplitError, match="4 blocks"):
        blocks.block(4)


def test_the_head_is_the_last_layer_that_runs():
    class Registered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc, self.norm = nn.Linear(4, 4), nn.Linear(4, 2), nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(self.body(x)))

    assert split(Registered(), ["norm"]).head == "fc"
    assert split(Registered(), ["fc"]).head == "fc"


def test_integer_parameters_are_not_trained():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].table = nn.Parameter(torch.tensor([1, 2]), requires_grad=False)
    with split(model).only("full") as parameters:
        assert [p.shape for p in parameters] == [p.shape for p in model.parameters() if p.is_floating_point()]


def test_a_state_that_is_not_a_tensor_is_refused():
    class Counted(nn.Linear):
        def get_extra_state(self):
            return {"calls": 1}

        def set_extra_state(self, state):
            pass

    with pytest.raises(SplitError, match=r"'1._extra_state' in the model's state is not a tensor"):
        split(nn.Sequential(nn.Linear(4, 4), Counted(4, 2)))
