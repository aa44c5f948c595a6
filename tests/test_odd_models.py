"""Models as people write them: right, or refused with a remedy; never tuned as another one."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from conftest import fitted
from torch import nn

import tbft
from tbft.errors import DataError, PlanError, SplitError, TbftError, TbftWarning

CLASSES = 4


def samples(count, seed, shape=(6,), shift=0.0):
    """Clusters, one per class, that a small network learns to separate."""
    labels = np.arange(count) % CLASSES
    centers = np.random.default_rng(7).normal(size=(CLASSES, *shape))
    noise = 0.45 * np.random.default_rng(seed).normal(size=(count, *shape))
    return (centers[labels] + noise + shift).astype(np.float32), labels


def trained(model, inputs, labels, steps=80):
    torch.manual_seed(0)
    return fitted(model, inputs, labels, steps)


@pytest.fixture(scope="module")
def mlp():
    torch.manual_seed(0)
    return trained(
        nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4)), *samples(200, 0)
    )


def test_without_batchnorm_and_card_a_plan_is_chosen_by_trials_on_the_labels(mlp, tmp_path):
    result = tbft.personalize(mlp, samples(80, 1, shift=1.0), test=samples(200, 2, shift=1.0))
    assert result.choice.diagnosis.verdict == "not diagnosed"
    assert not result.choice.diagnosis.levels
    assert result.choice.diagnosis.evidence.shift is None
    assert "was not diagnosed" in result.choice.explanation
    assert "confidence" not in result.choice.explanation.split(":")[0]
    assert any(e.tried for e in result.choice.estimates.values())
    assert result.comparison.after.accuracy > result.comparison.before.accuracy + 0.1
    assert "chosen by trials" in str(result)
    json.dumps(result.to_json())
    result.save_report(tmp_path / "report.html")
    assert "was not diagnosed" in (tmp_path / "report.html").read_text()


def test_a_diagnosis_that_has_nothing_to_compare_with_is_refused_with_both_remedies(mlp):
    with pytest.raises(DataError, match=r"build a card .*or personalize with labels"):
        tbft.diagnose(mlp, samples(80, 1))


def test_without_class_labels_there_is_nothing_to_choose_by_and_the_remedy_is_to_name_an_arm(mlp):
    inputs, _ = samples(80, 1)
    targets = np.zeros((80, 4), np.float32)
    with pytest.raises(PlanError, match="name a level"):
        tbft.personalize(mlp, (inputs, targets), loss=nn.functional.mse_loss)
    assert tbft.personalize(mlp, (inputs, targets), loss=nn.functional.mse_loss, arm="full").tuned.changed


class TwoHeads(nn.Module):
    """Returns its features before its logits."""

    def __init__(self):
        super().__init__()
        self.features, self.classifier = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x):
        features = self.features(x).relu()
        return features, self.classifier(features)


def test_logits_that_are_picked_with_output_are_those_that_every_figure_is_about():
    model = TwoHeads()
    inputs, labels = samples(200, 0)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(inputs))[1], torch.from_numpy(labels)).backward()
        optimizer.step()
    model.eval()
    test = samples(200, 2, shift=0.7)
    with torch.no_grad():
        plain = float((model(torch.from_numpy(test[0]))[1].argmax(1).numpy() == test[1]).mean())
    blocks = tbft.split(model, output=lambda returned: returned[1])
    assert tbft.evaluate(blocks, test).accuracy == pytest.approx(plain)
    result = tbft.personalize(blocks, samples(80, 1, shift=0.7), test=test)
    assert result.comparison.before.accuracy == pytest.approx(plain)
    assert result.comparison.after.accuracy > plain + 0.05
    with result.patch.applied(model), torch.no_grad():
        tuned = float((model(torch.from_numpy(test[0]))[1].argmax(1).numpy() == test[1]).mean())
    assert result.comparison.after.accuracy == pytest.approx(tuned)


def test_what_is_taken_for_the_logits_of_several_values_is_said():
    result = tbft.personalize(TwoHeads(), samples(40, 1), arm="none")
    assert any("logits are the first of 2 values" in note for note in result.notes)


class Layers(nn.Module):
    """Three layers; what happens between them is up to the classes below."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 4)


class ChecksValues(Layers):
    def forward(self, x):
        if torch.isnan(x).any():
            raise ValueError("NaN")
        return self.last(self.second(self.first(x).relu()).relu())


class AssignsItems(Layers):
    def forward(self, x):
        x = self.first(x)
        x[:, 0] = 0
        return self.last(self.second(x.relu()).relu())


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return 2 * x

    @staticmethod
    def backward(_, gradient):
        return 2 * gradient


class CallsFunction(Layers):
    def forward(self, x):
        return self.last(Doubled.apply(self.second(self.first(x).relu()).relu()))


class UsesNumPy(Layers):
    def forward(self, x):
        rows = torch.from_numpy(x.detach().numpy().mean(1, keepdims=True))
        return self.last(self.second(self.first(x - rows).relu()).relu())


class PacksSequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.last = nn.GRU(3, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        lengths = (x.abs().sum(2) > 0).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.last(self.rnn(packed)[1][-1])


@pytest.mark.parametrize("kind", [ChecksValues, AssignsItems, CallsFunction, UsesNumPy, PacksSequences])
def test_a_model_that_cannot_be_traced_is_run_as_a_whole_and_its_head_is_found(kind):
    shape = (5, 3) if kind is PacksSequences else (6,)
    torch.manual_seed(0)
    model = trained(kind(), *samples(120, 0, shape))
    base = {key: value.clone() for key, value in model.state_dict().items()}
    test = samples(120, 2, shape, shift=0.7)
    result = tbft.personalize(model, samples(60, 1, shape, shift=0.7), test=test)
    assert result.base.blocks.names == ("whole",)
    assert result.base.blocks.head == "last"
    assert any("run as a whole" in note for note in result.notes)
    assert result.comparison.after.accuracy >= result.comparison.before.accuracy
    part = tbft.personalize(model, samples(60, 1, shape, shift=0.7), arm="last", cautious=False)
    assert set(part.tuned.changed) <= {"last.weight", "last.bias"}
    with result.patch.applied(model):
        assert tbft.evaluate(model, test).accuracy == result.comparison.after.accuracy
    assert all(torch.equal(value, base[key]) for key, value in model.state_dict().items())


class MixesSamples(nn.Module):
    """An LSTM without batch_first takes the batch for time."""

    def __init__(self):
        super().__init__()
        self.rnn, self.last = nn.LSTM(3, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.rnn(x)[0][:, -1])


def test_a_model_that_mixes_the_samples_of_a_batch_is_not_tuned_and_evaluated_with_a_warning():
    with pytest.raises(SplitError, match="batch_first=True"):
        tbft.personalize(MixesSamples(), samples(60, 1, (5, 3)))
    with pytest.warns(TbftWarning, match="depends on the others in its batch"):
        tbft.evaluate(MixesSamples(), samples(60, 1, (5, 3)))


class HidesWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.last = [nn.Linear(6, 16)], nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.layers[0](x).relu())


def test_weights_that_no_patch_could_hold_are_refused():
    with pytest.raises(SplitError, match=r"not registered .* nn\.ModuleList"):
        tbft.personalize(HidesWeights(), samples(60, 1))


class OneLogit(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.last(self.first(x).relu())


def test_a_single_logit_is_refused_with_an_output_that_works():
    inputs, labels = samples(120, 0)
    model, labels = OneLogit(), labels % 2
    with pytest.raises(DataError, match=r"output=lambda z: torch\.stack"):
        tbft.evaluate(model, (inputs, labels))
    blocks = tbft.split(model, output=lambda z: torch.stack([0 * z.flatten(), z.flatten()], 1))
    result = tbft.personalize(blocks, (inputs, labels), arm="full", cautious=False)
    assert result.comparison.after.accuracy > result.comparison.before.accuracy
    with pytest.raises(TbftError, match="does not give the logits one by one"):
        tbft.personalize(blocks, (inputs, labels), arm="ridge")


class Dropped(nn.Module):
    """Stochastic depth: in training, a layer is left out at random."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x):
        return x if self.training and torch.rand(()) < 0.5 else x + self.layer(x).relu()


def test_steps_from_which_the_tuned_layer_is_dropped_are_taken_without_it():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 16), Dropped(), nn.Linear(16, 4))
    layers.cuts = ("1", "2")
    result = tbft.personalize(trained(layers, *samples(120, 0)), samples(60, 1, shift=0.7), arm="1", val=0)
    assert {"1.layer.weight", "1.layer.bias"} == set(result.tuned.changed)


class CallsTwice(nn.Module):
    """Test-time augmentation inside the model: its only part, and so the head, runs twice."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x):
        return self.net(x) + self.net(-x)


class ByKeyword(Layers):
    """The head is called by keyword, which hooks see apart from other inputs."""

    def forward(self, x):
        return self.last(input=self.second(self.first(x).relu()).relu())


@pytest.mark.parametrize("kind", [CallsTwice, ByKeyword])
def test_a_head_that_is_called_twice_or_by_keyword_is_diagnosed_and_tuned(kind):
    model = trained(kind(), *samples(120, 0))
    test = samples(120, 2, shift=0.7)
    result = tbft.personalize(model, samples(60, 1, shift=0.7), test=test)
    assert result.comparison.after.accuracy >= result.comparison.before.accuracy
    with result.patch.applied(model):
        assert tbft.evaluate(model, test).accuracy == result.comparison.after.accuracy


def test_a_model_whose_parameters_are_all_frozen_is_refused_with_the_remedy(mlp):
    mlp.requires_grad_(False)
    try:
        with pytest.raises(PlanError, match=r"requires_grad_\(True\)"):
            tbft.personalize(mlp, samples(60, 1))
    finally:
        mlp.requires_grad_(True)


def test_quantized_weights_and_complex_inputs_are_refused_with_a_way_on(mlp):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to drop this
        quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 4)), {nn.Linear})
    with pytest.raises(SplitError, match="adapt the float model"):
        tbft.split(quantized)
    inputs, labels = samples(20, 0)
    with pytest.raises(DataError, match="view_as_complex"):
        tbft.evaluate(mlp, (inputs.astype(np.complex64), labels))


@pytest.mark.parametrize("arm", ["full", "adabn", None])
def test_models_in_half_precision_and_torchscript_are_refused_with_the_remedy_by_every_arm(mlp, arm):
    plan = {} if arm is None else {"arm": arm}
    with pytest.raises(DataError, match=r"model\.float\(\)"):
        tbft.personalize(copy.deepcopy(mlp).half(), samples(60, 1), **plan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it
        scripted = torch.jit.script(mlp)
    with pytest.raises(SplitError, match="TorchScript"):
        tbft.personalize(scripted, samples(60, 1), **plan)


class Padded(nn.Module):
    """torch's encoder runs other code in evaluation mode, which does not take bfloat16 with a mask."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder, self.last = nn.TransformerEncoder(layer, 1), nn.Linear(8, 4)

    def forward(self, ids):
        return self.last(self.encoder(self.words(ids), src_key_padding_mask=ids == 0)[:, 0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_transformer_with_a_padding_mask_is_tuned_in_a_precision_that_it_takes_in_both_modes():
    labels = np.arange(60) % 4
    ids = np.random.default_rng(0).integers(5, 20, (60, 6))
    ids[:, 0], ids[:, 4:] = labels + 1, 0
    result = tbft.personalize(Padded(), (ids, labels), arm="last", val=0)
    assert set(result.tuned.changed) == {"last.weight", "last.bias"}


class Remembers(Layers):
    """Keeps a mean of what it has seen, also in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.seen = None

    def forward(self, x):
        x = self.first(x).relu()
        mean = x.mean(0).detach()
        self.seen = mean if self.seen is None else 0.9 * self.seen + 0.1 * mean
        return self.last(self.second(x - self.seen).relu())


def test_a_model_that_remembers_other_samples_is_refused():
    with pytest.raises(SplitError):
        tbft.personalize(Remembers(), samples(60, 1))


class OwnNames(Layers):
    """Attributes of a model's own that are called like those that tbft reads."""

    cuts, channels, resolution = 3, 64, (7, 7)

    def __init__(self):
        super().__init__()
        self.class_names = {3: "d", 0: "a", 1: "b", 2: "c"}

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


def test_attributes_that_mean_something_else_are_the_models_own():
    result = tbft.personalize(OwnNames(), samples(60, 1), arm="last", val=0)
    assert result.base.inputs.class_names == ("a", "b", "c", "d")
    assert result.base.inputs.channels is None and result.base.inputs.resolution is None
    assert result.base.blocks.names == ("front", "middle", "rear")


class Rescales(Layers):
    def forward(self, x):
        with torch.no_grad():
            self.second.weight.clamp_(-1, 1)
        return self.last(self.second(self.first(x).relu()).relu())


def test_a_model_that_writes_into_its_weights_is_run_as_a_whole():
    result = tbft.personalize(Rescales(), samples(60, 1), arm="last", val=0)
    assert result.base.blocks.names == ("whole",)


def test_windows_with_their_axes_swapped_are_refused_with_the_remedy():
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
    windows, labels = np.zeros((30, 20, 3), np.float32), np.arange(30) % 3
    remedy = r"it can take 3x20: swap the axes, inputs\.transpose\(0, 2, 1\)"
    with pytest.raises(DataError, match=remedy):
        tbft.personalize(model, (windows, labels))
    assert tbft.evaluate(model, (windows.transpose(0, 2, 1), labels)).sample_count == 30
    with pytest.raises(DataError, match="cannot take inputs of shape") as refused:
        tbft.evaluate(model, (windows[:, :, :2], labels))
    assert "swap" not in str(refused.value)
