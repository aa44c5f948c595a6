"""Models that return probabilities instead of logits are refused, with a remedy that works."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from conftest import fitted
from torch import nn

import tbft
from tbft.errors import DataError
from tbft.verification.compatibility import check_fits

CENTERS = np.random.default_rng(0).normal(size=(4, 6)) * 1.5


def blobs(count, shift=0.0, seed=0):
    """Four clusters of vectors, and their numbers."""
    labels = np.arange(count) % 4
    x = CENTERS[labels] + np.random.default_rng(seed).normal(size=(count, 6)) + shift
    return x.astype(np.float32), labels


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    return fitted(model, *blobs(1000, seed=9))


class Both(nn.Module):
    """Returns probabilities first, and the logits after them."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        logits = self.net(x)
        return logits.softmax(1), logits


def logarithms(p):
    return p.clamp_min(1e-30).log()


def test_every_function_refuses_a_softmax_and_says_which_layer_to_leave_out(net):
    model, data = nn.Sequential(*net, nn.Softmax(1)), blobs(200)
    functions = (tbft.evaluate, tbft.personalize, tbft.diagnose, tbft.build_card, tbft.forecast)
    for function in functions:
        with pytest.raises(DataError, match=r"returns probabilities.*Identity\(\) in place of '4'.*output="):
            function(model, data)
    with pytest.raises(DataError, match="returns probabilities"):
        tbft.tune(model, "ridge", data)


@pytest.mark.parametrize("arm", [None, "ridge", "full"])
def test_with_the_remedy_the_result_is_that_of_the_logits(net, arm):
    data, test = blobs(60, 1.5, seed=3), blobs(400, 1.5, seed=4)
    probabilities = tbft.split(nn.Sequential(*net, nn.Softmax(1)), output=logarithms)
    beside = tbft.split(Both(net), output=lambda returned: returned[1])
    results = [tbft.personalize(m, data, test=test, arm=arm) for m in (net, probabilities, beside)]
    assert len({(r.status, r.plan.arm.name) for r in results}) == 1
    losses = [r.after.loss for r in results]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-3)
    assert losses[0] < results[0].before.loss


def test_where_logits_are_returned_too_the_remedy_takes_those(net):
    with pytest.raises(DataError, match=r"returned\[1\]\) as the model, if the logits are there"):
        tbft.personalize(Both(net), blobs(60))


def test_the_remedy_names_the_entry_of_the_probabilities(net):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return {"probs": self.net(x).softmax(1)}

    with pytest.raises(DataError, match=r"output=(lambda p: .*)\) as the model") as refused:
        tbft.personalize(Named(), blobs(60))
    output = re.search(r"output=(lambda p: .*)\) as the model", str(refused.value))[1]
    assert output == "lambda p: p['probs'].clamp_min(1e-30).log()"
    fixed = tbft.split(Named(), output=eval(output))
    assert tbft.personalize(fixed, blobs(60)).before.loss == pytest.approx(
        tbft.personalize(net, blobs(60)).before.loss, rel=1e-3
    )


def test_a_softmax_in_evaluation_mode_alone_has_another_remedy(net):
    class Modal(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x) if self.training else self.net(x).softmax(1)

    model, before = Modal().eval(), tbft.fingerprint(net.state_dict())
    with pytest.raises(DataError, match="in evaluation mode only: return logits in both modes") as refused:
        tbft.personalize(model, blobs(60))
    assert "output=" not in str(refused.value)
    assert not model.training and tbft.fingerprint(net.state_dict()) == before


def test_a_softmax_inside_the_model_is_not_named_for_the_one_at_its_end(net):
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.net = nn.Softmax(1), net

        def forward(self, x):
            return self.net(x * self.attention(x)).softmax(1)

    with pytest.raises(DataError, match="leave out the model's softmax, or") as refused:
        tbft.evaluate(Attends(), blobs(60))
    assert "attention" not in str(refused.value)


@pytest.mark.parametrize(
    "end",
    [
        nn.LogSoftmax(1),
        nn.Identity(),
        nn.ReLU(),
        nn.Tanh(),
    ],
    ids=lambda end: type(end).__name__,
)
def test_other_ends_are_let_through(net, end):
    assert tbft.evaluate(nn.Sequential(*net, end), blobs(200)).accuracy > 0.5


def test_one_sample_that_looks_like_probabilities_is_not_enough(net):
    class First(nn.Module):
        def forward(self, x):
            return torch.where(x[:, :1] > 9, torch.tensor([0.5, 0.25, 0.25, 0.0]), net(x))

    x, y = blobs(40)
    x[0, 0] = 10
    check_fits(First(), tbft.make_samples(x, y))


def test_constant_outputs_are_let_through():
    model = nn.Linear(6, 2)
    model.weight.data.zero_()
    model.bias.data = torch.tensor([1.0, 0.0])
    x, y = blobs(40)
    assert tbft.evaluate(model, (x, y % 2)).accuracy == 0.5


def test_a_loss_for_probabilities_is_taken_as_it_is(net):
    model = nn.Sequential(*net, nn.Softmax(1))

    def loss(p, y):
        return nn.functional.nll_loss(logarithms(p), y)

    result = tbft.personalize(model, blobs(60, 1.5), arm="full", loss=loss)
    assert result.status == "patched"


@pytest.mark.parametrize("end", [nn.Sigmoid(), None])
def test_sigmoids_are_refused_and_the_remedy_is_tried(net, end):
    class Ends(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return torch.sigmoid(self.net(x))

    model = Ends() if end is None else nn.Sequential(*net, end)
    place = r" \(put torch.nn.Identity\(\) in place of '4'\)" if end else ""
    with pytest.raises(DataError, match=f"which a sigmoid gives.*sigmoid{place}, or.*logit"):
        tbft.evaluate(model, blobs(200))
    blocks = tbft.split(model, output=lambda p: p.float().logit(1e-6))
    assert tbft.evaluate(blocks, blobs(200)).loss == pytest.approx(
        tbft.evaluate(net, blobs(200)).loss, rel=1e-4
    )


def test_small_logits_that_happen_to_be_from_0_to_1_are_let_through(net):
    class Small(nn.Module):
        def forward(self, x):
            return 0.5 + net(x).clamp(-50, 50) / 100

    assert tbft.evaluate(Small(), blobs(200)).accuracy > 0.5


def test_the_loss_of_other_outputs_is_refused_with_the_one_that_fits(net):
    functional, data = nn.functional, blobs(60, 1.5)
    for model, fit in (
        (net, "cross_entropy"),
        (nn.Sequential(*net, nn.Softmax(1)), "lambda p, y: .*nll_loss"),
    ):
        for loss in (functional.nll_loss, nn.NLLLoss()):
            with pytest.raises(DataError, match=rf"nll_loss takes log-probabilities.*give loss={fit}|{fit}"):
                tbft.personalize(model, data, arm="full", loss=loss)
    right = nn.Sequential(*net, nn.LogSoftmax(1))
    assert tbft.personalize(right, data, arm="full", loss=functional.nll_loss).status == "patched"


def test_a_second_sigmoid_is_refused(net):
    x, y = blobs(60)
    targets = np.eye(4, dtype=np.float32)[y]
    loss = nn.functional.binary_cross_entropy_with_logits
    with pytest.raises(DataError, match=r"applies a sigmoid itself.*give loss=.*binary_cross_entropy"):
        tbft.tune(nn.Sequential(*net, nn.Sigmoid()), "full", (x, targets), loss=loss)
    for model, fit in ((net, loss), (nn.Sequential(*net, nn.Sigmoid()), nn.functional.binary_cross_entropy)):
        assert tbft.tune(model, "full", (x, targets), loss=fit).changed
