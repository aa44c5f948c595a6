"""Precision, memory layout and device are found from the model; wrappers are taken off."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tbft.blocks.inputs import call
from tbft.blocks.norms import batch_dependent
from tbft.blocks.placement import device_of, to_device
from tbft.blocks.precision import Computing, computing_for
from tbft.blocks.unwrap import plain
from tbft.errors import PlanError, SplitError


class Viewing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc(x.view(x.size(0), -1))


class RunningMean(nn.Module):
    """Keeps a mean in float32, by an operation that takes no other type beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("mean", torch.zeros(1, 4, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.training:
            self.mean.lerp_(x.detach().mean((0, 2, 3), keepdim=True), 0.1)
        return (x - self.mean).flatten(1)


PICTURES = torch.rand(5, 3, 8, 8)


def test_view_on_activations_falls_back_to_contiguous_memory():
    assert computing_for(nn.Conv2d(3, 4, 3), PICTURES, "float32").channels_last
    assert not computing_for(Viewing(), PICTURES, "float32").channels_last


def test_a_layer_that_does_not_take_bfloat16_falls_back_to_float32(monkeypatch):
    monkeypatch.setattr("tbft.blocks.precision.gains_from_bfloat16", lambda device: True)
    assert computing_for(Viewing(), PICTURES).precision == "bfloat16"
    model = RunningMean()
    assert computing_for(model, PICTURES) == Computing("float32", channels_last=True)
    assert not model.mean.any()  # tried, and given back
    with pytest.raises(PlanError, match="does not compute in bfloat16"):
        computing_for(model, PICTURES, "bfloat16")


@pytest.mark.parametrize(
    ("layer", "precision"), [(nn.GRU, "float32"), (nn.RNN, "float32"), (nn.LSTM, "bfloat16")]
)
def test_recurrent_layers_without_a_kernel_of_their_own_stay_in_float32(layer, precision, monkeypatch):
    monkeypatch.setattr("tbft.blocks.precision.gains_from_bfloat16", lambda device: True)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = layer(4, 8, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.recurrent(x)[0][:, -1]

    windows = torch.rand(3, 6, 4)
    assert computing_for(Recurrent(), windows).precision == precision
    assert computing_for(Recurrent(), windows, "bfloat16").precision == "bfloat16"


def test_one_sample_and_frozen_parameters_and_token_ids_can_be_tried():
    norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 2)).requires_grad_(False)
    assert computing_for(norm, PICTURES[:1], "bfloat16").precision == "bfloat16"
    assert not any(p.requires_grad for p in norm.parameters())
    words = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
    assert computing_for(words, torch.ones(3, 5, dtype=torch.long), "bfloat16").precision == "bfloat16"


def test_a_model_is_tried_once():
    calls = []
    model = Viewing()
    model.register_forward_hook(lambda *_: calls.append(1))
    computing_for(model, PICTURES)
    before = len(calls)
    computing_for(model, PICTURES)
    assert before == len(calls) > 0


def test_inputs_follow_the_model_to_its_device():
    model = nn.Linear(2, 2).to("meta")
    assert device_of(model) == torch.device("meta")
    moved = to_device({"ids": torch.ones(2), "pair": (torch.ones(1), torch.ones(1))}, device_of(model))
    assert moved["ids"].device == moved["pair"][1].device == torch.device("meta")
    assert device_of(nn.ReLU()) == torch.device("cpu")
    with pytest.raises(SplitError, match="several devices"):
        device_of(nn.Sequential(model, nn.Linear(2, 2)))


def test_inputs_go_by_keyword_where_forward_has_such_parameters():
    class Named(nn.Module):
        def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
            return ids if mask is None else ids * mask

    class Whole(nn.Module):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return batch["ids"] * batch["mask"]

    x = {"ids": torch.tensor([2.0]), "mask": torch.tensor([3.0])}
    assert call(Named(), x) == call(Whole(), x) == call(Named(), tuple(x.values())) == 6


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # what compiling imports
def test_wrappers_are_taken_off_by_their_class():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    model = Named()
    assert plain(model) is model
    assert plain(nn.DataParallel(torch.compile(model))) is model
    assert plain(torch.compile(nn.DataParallel(model))) is model
    averaged = torch.optim.swa_utils.AveragedModel(model)
    assert plain(averaged) is averaged.module


def test_batch_norm_without_statistics_is_found():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))
    assert batch_dependent(model) == ["1.0"]
    assert batch_dependent(nn.InstanceNorm2d(3)) == []


@pytest.mark.parametrize(
    ("side", "tiles", "groups", "precision"),
    [
        (64, False, 8, "float32"),
        (224, False, 8, "bfloat16"),
        (64, True, 8, "bfloat16"),
        (64, False, 1, "bfloat16"),
    ],
)
def test_small_pictures_through_depthwise_convolutions_need_tiles_for_bfloat16(
    side, tiles, groups, precision, monkeypatch
):
    monkeypatch.setattr("tbft.blocks.precision._has", lambda feature: tiles or feature == "avx512_bf16")
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.Conv2d(8, 8, 3, 4, groups=groups), nn.Flatten())
    assert computing_for(model, torch.rand(2, 3, side, side)).precision == precision
