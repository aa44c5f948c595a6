"""Other tasks than classification: regression, several labels per sample, class weights, ignored labels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tbft
from tbft.errors import DataError, PlanError
from tbft.report.terminal import choice_text, diagnosis_text
from tbft.verification.scores import judge_scores, judge_totals

#: Networks as small as these learn by larger steps.
LONGER = tbft.find_recipe("fast").given(epochs=30, learning_rate=0.02)


def measurements(count=300, seed=0, shift=0.0):
    """Inputs of eight numbers, and a target that is linear in them."""
    x = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return x, (x[:, :1] * 2 - x[:, 1:2] + shift).astype(np.float32)


def regressor():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    x, y = map(torch.from_numpy, measurements(2000, seed=9))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model


def test_a_regression_is_tuned_judged_and_shown(tmp_path):
    model, data = regressor(), measurements(shift=3.0)
    before = tbft.fingerprint(model.state_dict())
    result = tbft.personalize(model, data, test=0.3, arm="full", recipe=LONGER, loss=nn.functional.mse_loss)
    assert (result.status, result.before.accuracy) == ("patched", None)
    assert result.after.loss < 0.5 < 8 < result.before.loss
    assert result.after.score == pytest.approx(-result.after.loss, rel=1e-4)
    assert (result.acceptance.unit, result.acceptance.verdict) == ("score", "helps")
    assert tbft.fingerprint(model.state_dict()) == before
    text = str(result)
    assert "score" in text
    assert not any(word in text for word in ("points", "accuracy", "label"))
    result.save_report(tmp_path / "user.html")
    page = (tmp_path / "user.html").read_text()
    assert "A score of" in page and "NaN" not in page
    with result.patch.applied(model):
        inside = tbft.evaluate(model, result.parts.test, loss=nn.functional.mse_loss)
    assert inside == result.after


def test_what_is_said_of_targets_is_not_said_of_classes(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1)).eval()
    result = tbft.personalize(model, measurements(30, shift=3.0), loss=nn.functional.mse_loss)
    values = result.to_json()
    choice = values["choice"]
    shown = f"{diagnosis_text(choice['diagnosis'])} {choice_text(choice)} {result}"
    assert "targets are not classes" in shown
    assert not any(f" {word}" in shown for word in ("accuracy", "100 %", "no labels", "is expected"))
    result.save_report(tmp_path / "user.html")
    page = (tmp_path / "user.html").read_text()
    assert "mean confidence" not in page and "No labels" not in page and "instead of classes" in page


def test_where_nothing_is_tuned_nothing_is_said_of_acceptance():
    named = tbft.personalize(regressor(), measurements(30), arm="none", loss=nn.functional.mse_loss)
    assert (named.status, named.before.sample_count) == ("unchanged", 6)
    assert named.to_json()["val_use"] == "evaluation"
    assert not any(word in str(named) for word in ("accept", "decide", "judged"))


def test_points_of_accuracy_are_not_those_of_another_score():
    data = measurements(300)[0], (measurements(300)[0][:, 0] > 0).astype(np.int64)

    def tenfold(outputs, labels):
        return 10 * (outputs.argmax(1) == labels)

    torch.manual_seed(0)
    result = tbft.personalize(nn.Linear(8, 2), data, arm="full", recipe=LONGER, score=tenfold)
    gain = result.after.accuracy - result.before.accuracy
    assert gain > 0.1
    assert f"({100 * gain:+.1f} points), score {result.before.score:.4g} -> " in str(result)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.depth, self.head = nn.Linear(8, 4), nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, image, depth):
        return self.head(torch.relu(self.image(image) + self.depth(depth)))


def test_a_regression_may_have_several_inputs():
    random = np.random.default_rng(0)
    inputs = {"image": random.random((60, 8)), "depth": random.random((60, 3))}
    data = inputs, random.random((60, 1)).astype(np.float32)
    loss = nn.functional.mse_loss
    assert tbft.personalize(TwoInputs(), data, arm="full", loss=loss).acceptance.count == 60
    assert tbft.tune(TwoInputs(), "full", data, loss=loss).changed


def test_a_custom_score_decides():
    def minus_largest_error(outputs, targets):
        return -(outputs - targets).abs().max()

    model, data = regressor(), measurements(shift=3.0)
    result = tbft.personalize(model, data, arm="full", loss=nn.functional.mse_loss, score=minus_largest_error)
    assert result.acceptance.verdict == "helps"
    assert result.after.score == pytest.approx(result.before.score + result.acceptance.gain)


def nan_for_some(outputs, targets):
    scores = -(outputs - targets).abs().flatten()
    scores[targets.flatten() > targets.mean()] = float("nan")
    return scores


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (
            nan_for_some,
            r"score= is NaN or infinite for \d+ of 64 samples \(the first is number \d+\).*division",
        ),
        (lambda o, t: torch.full((len(t),), float("inf")), "score= is NaN or infinite for 64 of 64 samples"),
        (lambda o, t: o - t, r"score= returned shape \(64, 1\) for 64 samples; it has to return one number"),
        (lambda o, t: {"score": 1}, "score= returned a dict; it has to return one number"),
        (
            lambda o, t: float("nan"),
            "score= is NaN or infinite for .* random draws|score= is nan for 20 samples",
        ),
    ],
)
@pytest.mark.parametrize("how", ["folds", "val", "evaluate"])
def test_a_score_that_is_not_a_number_is_refused_instead_of_rejecting_the_model(score, message, how):
    model, data, loss = regressor(), measurements(100, shift=1.0), nn.functional.mse_loss
    with pytest.raises(DataError, match=message if how != "evaluate" else "score="):
        if how == "evaluate":
            tbft.evaluate(model, data, loss=loss, score=score)
        else:
            val = {"folds": None, "val": measurements(20, seed=7)}[how]
            tbft.personalize(model, data, val=val, arm="full", loss=loss, score=score)


def test_one_score_for_all_may_lack_a_class_in_a_few_draws():
    def balanced(outputs, targets):
        if len(targets) > 20 and len(set(targets.tolist())) < 2:
            raise ValueError("one class")  # as some metrics do, where others return NaN
        return torch.stack([(outputs.argmax(1)[targets == c] == c).float().mean() for c in (0, 1)]).mean()

    x, _ = measurements(200)
    labels = (x[:, 0] > 1.6).astype(int)
    assert 5 < labels.sum() < 15
    torch.manual_seed(0)
    val = (x[:60], labels[:60])
    result = tbft.personalize(
        nn.Linear(8, 2), (x[60:], labels[60:]), val=val, arm="full", recipe=LONGER, score=balanced
    )
    assert np.isfinite([result.acceptance.low, result.acceptance.high]).all()
    with pytest.raises(DataError, match=r"random draws|score= is nan for 4 samples"):
        rare = [np.flatnonzero(labels)[0], *np.flatnonzero(labels == 0)[:3]]
        tbft.personalize(
            nn.Linear(8, 2), (x[60:], labels[60:]), val=(x[rare], labels[rare]), arm="full", score=balanced
        )


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda o, t: (-(o - t).square().mean()).log(),
            r"loss= is nan for 64 samples, before anything is tuned: .*log\(0\)",
        ),
        (lambda o, t: ((o - t) / 0).mean(), "loss= is -?inf for 64 samples"),
        (lambda o, t: (o - t)[t > 0].square().mean(), r"loss=, of single samples, is NaN .* give score="),
    ],
)
def test_a_loss_that_is_not_a_number_is_refused_before_anything_is_tuned(loss, message):
    x, y = measurements(100)
    with pytest.raises(DataError, match=message):
        tbft.personalize(regressor(), (x, np.where(y > 5, y, y - 2)), arm="full", loss=loss)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda o: 1.0, r"score= failed for 64 samples, .* TypeError: .*1 positional argument"),
        (lambda o, t: 1 / 0, r"score= failed for \d+ samples, with outputs of shape .*: ZeroDivisionError"),
    ],
)
def test_what_a_score_raises_is_named(score, message):
    with pytest.raises(DataError, match=message):
        tbft.personalize(regressor(), measurements(100), arm="full", loss=nn.functional.mse_loss, score=score)


@pytest.mark.parametrize("low", [-3, 0, 20])
@pytest.mark.parametrize("loss", [nn.functional.mse_loss, nn.functional.binary_cross_entropy_with_logits])
def test_whole_numbers_with_a_loss_for_targets_are_refused_with_the_remedy(low, loss):
    x, _ = measurements(100)
    for counts in (np.arange(100) % 2 + low, (np.arange(100) % 2 + low)[:, None]):
        with pytest.raises(DataError, match="numbers to predict rather than classes, give them as floats"):
            tbft.personalize(regressor(), (x, counts), arm="full", loss=loss)
        assert tbft.tune(
            regressor(), "full", (x, counts.astype(np.float32).reshape(-1, 1)), loss=loss
        ).changed


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: (o.argmax(1) == t).float().mean(),
        lambda o, t: torch.tensor(np.square(o.numpy()).mean()),
        lambda o, t: nn.functional.cross_entropy(o.detach(), t),
    ],
)
def test_a_loss_without_a_gradient_is_refused(loss):
    x, y = measurements(100)
    data = (x, (y[:, 0] > 0).astype(int))
    with pytest.raises(DataError, match=r"loss= has no gradient.*as score="):
        tbft.personalize(nn.Linear(8, 2), data, arm="full", loss=loss)
    assert tbft.evaluate(nn.Linear(8, 2), data, loss=loss).accuracy is not None


@pytest.mark.parametrize(
    ("score", "is_error"),
    [
        (lambda o, t: nn.functional.cross_entropy(o, t, reduction="none"), True),
        (lambda o, t: (o.argmax(1) != t).float(), True),
        (lambda o, t: -nn.functional.cross_entropy(o, t, reduction="none"), False),
        (lambda o, t: o.softmax(1)[torch.arange(len(t)), t], False),
        (lambda o, t: (o.argmax(1) == t) * torch.tensor([1.0, 9.0])[t], False),
        (lambda o, t: torch.ones(len(t)), False),
        (lambda o, t: o.softmax(1).max(1).values, False),
    ],
)
def test_an_error_as_a_score_is_refused(score, is_error):
    x, y = measurements(100)
    data = (x, (y[:, 0] > 1).astype(int))
    torch.manual_seed(0)
    if is_error:
        with pytest.raises(DataError, match="a higher score has to be better; return its negative"):
            tbft.personalize(nn.Linear(8, 2), data, arm="full", score=score)
    else:
        assert np.isfinite(tbft.evaluate(nn.Linear(8, 2), data, score=score).score)


def test_a_custom_cross_entropy_takes_no_probabilities_either():
    x, y = measurements(100)
    model = nn.Sequential(nn.Linear(8, 2), nn.Softmax(1))
    weighted = partial(nn.functional.cross_entropy, weight=torch.ones(2))
    given = {"loss": [weighted, nn.CrossEntropyLoss(), None, None], "score": [None, None, None, nan_for_some]}
    for loss, score in zip(*given.values(), strict=True):
        with pytest.raises(DataError, match="returns probabilities"):
            tbft.tune(model, "full", (x, (y[:, 0] > 0).astype(int)), loss=loss)
        with pytest.raises(DataError, match="returns probabilities"):
            tbft.evaluate(model, (x, (y[:, 0] > 0).astype(int)), loss=loss, score=score)


def test_what_makes_the_score_worse_is_rejected():
    good, bad = measurements(100, seed=5), measurements(100, seed=6, shift=5.0)
    result = tbft.personalize(regressor(), bad, val=good, arm="full", loss=nn.functional.mse_loss)
    assert (result.status, len(result.patch.tensors)) == ("rejected", 0)


def test_several_labels_per_sample():
    x, _ = measurements(400)
    labels = np.stack([x[:, 0] > 0, x[:, 1] > 0, x[:, 2] > 0], axis=1).astype(np.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def all_right(outputs, targets):
        return ((outputs > 0) == (targets > 0.5)).all(1).float()

    loss = nn.functional.binary_cross_entropy_with_logits
    result = tbft.personalize(
        model, (x, labels), test=100, arm="full", recipe=LONGER, loss=loss, score=all_right
    )
    assert result.after.score > result.before.score + 0.3
    assert result.parts.test.targets.shape == (100, 3)


def test_class_weights_and_ignored_labels_are_still_classification():
    x, _ = measurements(300)
    labels = (x[:, 0] > 0).astype(int)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    weighted = partial(nn.functional.cross_entropy, weight=torch.tensor([1.0, 50.0]))
    result = tbft.personalize(model, (x, labels), test=0.3, arm="full", loss=weighted)
    assert result.before.accuracy is not None
    shares = [result.after.class_accuracies[name] for name in ("0", "1")]
    assert shares[1] > shares[0]  # the class that weighs more is missed less


def test_the_drift_of_another_task_is_diagnosed_without_labels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    x, y = measurements(300)
    model.train()(torch.from_numpy(x))
    model.eval()
    result = tbft.personalize(model, (x * 4 + 3, y), loss=nn.functional.mse_loss)
    assert result.choice.diagnosis.evidence.labels is None
    assert any("are not classes" in reason for reason in result.choice.diagnosis.reasons)


@pytest.mark.parametrize(
    ("loss", "data", "message"),
    [
        (None, lambda: measurements(), "class"),
        (3, lambda: measurements(), "loss: expected a function"),
        (
            nn.functional.mse_loss,
            lambda: (measurements()[0], np.full((300, 1), np.nan)),
            "missing or not finite",
        ),
        (nn.functional.nll_loss, lambda: measurements(), "the loss cannot compare outputs"),
    ],
)
def test_what_cannot_be_a_task_is_refused(loss, data, message):
    with pytest.raises(tbft.TbftError, match=message):
        tbft.personalize(regressor(), data(), arm="full", loss=loss)


def test_the_paired_bootstrap_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        before = generator.normal(size=60)
        judged = judge_scores(before, before + generator.normal(0.3, 1.0, 60))
        inside += judged.low <= 0.3 <= judged.high
    assert 0.88 <= inside / 200 <= 0.99
    scores = generator.normal(size=(2, 50))
    whole = judge_totals(lambda at: (scores[0][at].mean(), scores[1][at].mean()), 50)
    each = judge_scores(*scores)
    assert whole.gain == pytest.approx(each.gain)
    assert whole.low == pytest.approx(each.low, abs=0.1)


def by_hand(outputs, targets):
    return ((outputs - targets) ** 2).mean()


@pytest.mark.parametrize(
    ("loss", "targets", "remedy"),
    [
        (nn.MSELoss(reduction="none"), (300, 1), r"returned shape \(2, 1\) .* reduction=.mean"),
        (nn.L1Loss(reduction="sum"), (300, 1), "adds up .* reduction=.mean"),
        (lambda outputs, targets: 1.0, (300, 1), "returned float"),
        (by_hand, (300,), r"compares each output with all targets: .* targets.reshape\(-1, 1\)"),
        (nn.functional.mse_loss, (300,), r"targets.reshape\(-1, 1\)"),
    ],
)
def test_a_loss_that_would_train_something_else_is_refused_with_the_remedy(loss, targets, remedy):
    x, y = measurements()
    with pytest.raises(tbft.TbftError, match=remedy):
        tbft.personalize(regressor(), (x, y.reshape(targets)), arm="full", loss=loss)


def test_a_loss_that_flattens_its_outputs_takes_flat_targets():
    x, y = measurements()
    result = tbft.personalize(
        regressor(), (x, y.reshape(-1) + 2), arm="rear", loss=lambda o, t: ((o.flatten() - t) ** 2).mean()
    )
    assert result.after.loss < result.before.loss


@pytest.mark.parametrize("arm", ["ridge", "prototypes"])
def test_heads_in_closed_form_are_for_class_labels(arm):
    with pytest.raises(PlanError, match=r"computes a head for class labels, .* tune the head"):
        tbft.tune(regressor(), arm, measurements(30), loss=nn.functional.mse_loss)


def test_a_caller_without_gradients_gets_the_same_tuning():
    model, data = regressor(), measurements(30)
    head = tbft.split(model).head
    usual = tbft.tune(model, head, data, loss=nn.functional.mse_loss).changed
    with torch.no_grad():
        switched_off = tbft.tune(model, head, data, loss=nn.functional.mse_loss).changed
        assert not torch.is_grad_enabled()
    assert len(usual) == 2 and set(usual) == set(switched_off)
    assert all(torch.equal(usual[key], switched_off[key]) for key in usual)
    with torch.inference_mode(), pytest.raises(PlanError, match="inference_mode"):
        tbft.tune(model, head, data, loss=nn.functional.mse_loss)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", 2**70])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(tbft.TbftError, match="the seed is a whole number of at least 0"):
        tbft.personalize(regressor(), measurements(30), arm="full", loss=nn.functional.mse_loss, seed=seed)
