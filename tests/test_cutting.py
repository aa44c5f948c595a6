"""Cuts are found on the networks that people have; the head is the layer that gives the logits."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from architectures import ARCHITECTURES, conv_bn
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tbft.blocks import split
from tbft.blocks.cutting import names_for, propose_cuts
from tbft.errors import SplitError

#: Where the rear starts.
REARS = {
    "resnet": "fc",
    "mobilenet-v2": "classifier",
    "mobilenet-v3": "classifier.3",
    "convnext": "norm",
    "densenet": "features.norm5",
    "squeezenet": "5",
    "unet": "out",
    "tutorial": "fc2",
    "vit": "norm",
    "bert": "classifier",
    "gru": "fc",
    "gru-cell": "fc",
    "mlp": "7",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_cuts_are_found_and_the_blocks_are_the_model(name):
    architecture = ARCHITECTURES[name]
    model, x = architecture.build(), architecture.batch()
    blocks = split(model, example=x)  # which compares logits and gradients
    recurrent = name in ("gru", "lstm", "gru-cell")
    assert blocks.names == (("front", "rear") if recurrent else ("front", "middle", "late", "rear"))
    assert all(block.parameter_count > 0 for block in blocks)
    assert sorted(key for block in blocks for key in block.keys) == sorted(model.state_dict())
    assert blocks.infos[-1].cut == REARS.get(name, blocks.infos[-1].cut)
    assert sum(b.parameter_count for b in blocks) == sum(p.numel() for p in model.parameters())


def test_cuts_lie_between_stages_rather_than_inside_and_never_between_a_layer_and_its_norm():
    model = nn.Sequential(
        OrderedDict(
            stem=conv_bn(3, 8),
            stage1=nn.Sequential(*(conv_bn(8, 8) for _ in range(2))),
            stage2=nn.Sequential(*(conv_bn(8, 8) for _ in range(3))),
            stage3=nn.Sequential(*(conv_bn(8, 8) for _ in range(8))),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(8, 3),
        )
    )
    assert split(model).cuts == ("stage2", "stage3", "fc")
    assert not any(c.path.endswith((".1", ".2")) and ".0." in c.path for c in propose_cuts(model).candidates)


def test_a_block_without_parameters_is_merged():
    parts = [("norm", nn.Identity()), ("a", nn.Linear(4, 4)), ("act", nn.ReLU()), ("b", nn.Linear(4, 2))]
    blocks = split([*parts, ("end", nn.Softmax(1))])
    assert blocks.names == ("a", "b")
    assert blocks.cuts == ("act",)
    assert split(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU())).names == ("front",)


def test_skips_leave_few_places_and_that_is_said():
    proposal = propose_cuts(ARCHITECTURES["unet"].build())
    assert proposal.crossed == ("down2", "bottom", "up2", "dec2", "up1")


def test_as_many_blocks_as_names_are_made():
    model = ARCHITECTURES["resnet"].build()
    assert split(model, names=["start", "end"]).cuts == ("fc",)
    assert len(split(model, names=["a", "b", "c", "d", "e"])) == 5
    with pytest.raises(SplitError, match="1 cuts make 2 blocks, but 3 names"):
        split(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), names=["a", "b", "c"])
    assert [len(set(names_for(n))) for n in range(1, 8)] == [1, 2, 3, 4, 5, 6, 7]


def test_cuts_are_found_inside_torchs_own_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(4, 8), nn.TransformerEncoder(layer, 4), nn.Flatten(), nn.Linear(24, 2))
    blocks = split(model, example=torch.rand(2, 3, 4))
    assert any(cut.startswith("1.layers.") for cut in blocks.cuts)


def test_tied_weights_are_not_cut_apart():
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    model = nn.Sequential(nn.Linear(4, 4), a, nn.Linear(4, 4), b, nn.Linear(4, 2))
    assert split(model).cuts == ("1", "4")


def test_cuts_do_not_depend_on_an_example_being_there():
    for name in ("resnet", "densenet", "vgg", "bert"):
        architecture = ARCHITECTURES[name]
        with_example = split(architecture.build(), example=architecture.batch())
        assert split(architecture.build()).cuts == with_example.cuts


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(1, 3)), nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Cosine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(nn.functional.normalize(x), nn.functional.normalize(self.weight))


class Opaque(nn.Module):
    """Its forward cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(x) if x.sum() > 0 else x)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's, of the old way to norm weights
@pytest.mark.parametrize(
    ("end", "head"),
    [
        (lambda: [nn.Linear(4, 3)], "fc.0"),
        (lambda: [nn.Linear(4, 1)], "fc.0"),
        (lambda: [nn.Linear(4, 3), Scale()], "fc.0"),
        (lambda: [nn.Linear(4, 3), nn.Softmax(1)], "fc.0"),
        (lambda: [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)], "fc.2"),
        (lambda: [parametrizations.weight_norm(nn.Linear(4, 3))], "fc.0"),
        (lambda: [parametrizations.spectral_norm(nn.Linear(4, 3)), nn.Softmax(1)], "fc.0"),
        (lambda: [nn.utils.weight_norm(nn.Linear(4, 3))], "fc.0"),
        (lambda: [Cosine(), Scale()], "fc.0"),
        (lambda: [nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 3, 1), nn.Flatten()], "fc.1"),
        (lambda: [Opaque()], "fc.0.out"),
    ],
)
def test_the_head_is_the_layer_whose_output_is_the_logits(end, head):
    model = nn.Sequential(OrderedDict(body=nn.Linear(4, 4), bn=nn.BatchNorm1d(4), fc=nn.Sequential(*end())))
    assert split(model, ["bn"]).head == head
