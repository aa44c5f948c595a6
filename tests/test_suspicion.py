"""Inputs that a model was not trained on are noticed, and what fixes it is named."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tbft
from tbft.data.input_notes import dead_channels, input_notes, possible_unit, standardized_alone
from tbft.data.input_statistics import InputStatistics, implausible_shift, input_statistics
from tbft.data.spec import InputSpec, Preprocessing
from tbft.errors import DataError
from tbft.schema import build
from tbft.verification.suspicion import agreement, check_accuracy_on_source

IMAGENET = InputSpec(mean="imagenet").preprocessing
COLORS = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.8, 0.3], [0.2, 0.3, 0.9], [0.8, 0.7, 0.2], [0.5, 0.5, 0.5]])


class NearestColor(nn.Module):
    """Calls a picture by the color that its mean is nearest to, in the units that it was trained in."""

    def __init__(self, wanted: Preprocessing, side: int = 0) -> None:
        super().__init__()
        self.side = side
        centers = (COLORS - torch.tensor(wanted.mean)) / torch.tensor(wanted.std)
        self.register_buffer("centers", centers.flip(1) if wanted.channel_order == "BGR" else centers)

    def forward(self, x):
        if self.side and x.shape[-1] != self.side:
            x = x[..., :1, :1] * 0  # made for one size alone
        return -torch.cdist(x.mean((2, 3)), self.centers)


@pytest.fixture(autouse=True)
def few_sides(monkeypatch):
    monkeypatch.setattr("tbft.verification.causes.SIDES", (16, 32))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 5
    noisy = COLORS.numpy()[labels][:, None, None] + rng.normal(0, 0.1, (200, 16, 16, 3))
    return tbft.make_samples((noisy.clip(0, 1) * 255).astype(np.uint8), labels, name="colors")


def told(model, samples):
    """What is said of a model on samples, as an error or as notes."""
    try:
        return " ".join(check_accuracy_on_source(model, samples))
    except DataError as error:
        return str(error)


def test_a_good_model_is_not_suspected(pictures, monkeypatch):
    monkeypatch.setattr("tbft.verification.suspicion.causes", None)  # nothing is tried
    assert check_accuracy_on_source(NearestColor(Preprocessing()), pictures) == ()


def test_a_model_that_is_always_right_is_not_suspected_for_lack_of_other_classes():
    x = np.zeros((120, 4, 4, 3), np.uint8) + np.array([200, 20, 20], np.uint8)
    x[:2] = [20, 180, 80]
    samples = tbft.make_samples(x, np.arange(120) < 2, ["no", "yes"])
    assert check_accuracy_on_source(NearestColor(Preprocessing()), samples) == ()


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        (IMAGENET, "--mean imagenet"),
        (InputSpec(mean="half").preprocessing, "--mean "),
        (InputSpec(mean="0-255").preprocessing, "--mean 0-255"),
        (Preprocessing(channel_order="BGR"), "--channel-order BGR"),
        (InputSpec(mean="imagenet", channel_order="BGR").preprocessing, "--mean imagenet"),
    ],
)
def test_the_preparation_that_mends_it_is_named(pictures, wanted, remedy):
    model = NearestColor(wanted)
    assert remedy in told(model, pictures)
    assert check_accuracy_on_source(model, replace(pictures, preprocessing=wanted)) == ()


def test_the_size_that_mends_it_is_named(pictures):
    with pytest.raises(DataError, match=r"correct on 20\.0 % of 200.*--resolution 32"):
        check_accuracy_on_source(NearestColor(Preprocessing(), side=32), pictures)


def test_another_order_of_the_classes_is_named(pictures):
    shifted = replace(pictures, labels=(pictures.labels + 2) % 5, class_names=("a", "b", "c", "d", "e"))
    with pytest.raises(DataError, match=r"output 0 is 'c', output 1 is 'd'.*class_names"):
        check_accuracy_on_source(NearestColor(Preprocessing()), shifted)


def test_inputs_normalized_for_a_model_that_normalizes_itself(pictures):
    x = pictures.batch(slice(0, 200))[0]
    samples = tbft.make_samples((x - 0.5) / 0.5, pictures.labels)
    assert "with inputs that are not normalized by half" in told(NearestColor(Preprocessing()), samples)


def test_chance_without_a_remedy_is_an_error_with_what_was_tried(pictures):
    torch.manual_seed(0)
    untrained = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
    (note,) = check_accuracy_on_source(untrained, pictures)  # somebody's factory made it so
    assert re.search(r"which is chance: its BatchNorm layers have not seen any samples.*--weights", note)
    constant = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
    said = told(constant, replace(pictures, labels=np.random.default_rng(1).integers(0, 5, 200)))
    assert re.search(r"is chance\. Tried without success: normalization.*order.*Are its weights loaded", said)


def test_windows_at_chance_are_an_error_too():
    windows = tbft.make_samples(np.random.default_rng(0).normal(size=(120, 3, 20)), np.arange(120) % 3)
    with pytest.raises(DataError, match="which is chance"):
        check_accuracy_on_source(nn.Sequential(nn.Flatten(), nn.Linear(60, 3)), windows)


@pytest.mark.data
def test_a_published_network_fed_without_its_normalization_is_noticed(data_dir):
    preset = tbft.find_model("resnet26-cifar10-jpeg")
    samples = tbft.read(data_dir / "cifar10/test.tar", preset.inputs)
    samples = samples.subset(np.random.default_rng(0).permutation(len(samples))[:100])
    model = nn.Sequential(Denormalized("0-255"), preset.load())
    assert re.search(
        r"correct on 9\.0 % of 100 .* with --mean 0-255 .* correct on \d\d", told(model, samples)
    )


class Denormalized(nn.Module):
    """What stands before a network that normalizes inside makes it one that does not."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.wanted = InputSpec(mean=name).preprocessing

    def forward(self, x):
        return x * torch.tensor(self.wanted.std) + torch.tensor(self.wanted.mean)


def test_agreement_is_beyond_chance_also_where_classes_are_uneven():
    labels = (np.arange(1000) % 20 == 0).astype(np.int64)
    assert agreement(np.zeros(1000, np.int64), labels).by_chance  # right on 95 %
    assert not agreement(np.where(np.arange(1000) % 10 == 0, 1, 0), labels).by_chance  # right on 95 % as well
    rng = np.random.default_rng(0)
    by_chance = [agreement(rng.integers(0, 10, 300), rng.integers(0, 10, 300)).by_chance for _ in range(100)]
    assert sum(by_chance) >= 98


def statistics(x, **spec):
    labels = np.zeros(len(x), int)
    return input_statistics(tbft.make_samples(x, labels, spec=InputSpec(**spec)))


def test_other_ranges_and_normalizations_of_pictures_are_distinguished_from_drift(pictures):
    x = pictures.batch(slice(0, 200))[0]
    plain = input_statistics(pictures)
    assert build(InputStatistics, plain.to_json(), "it") == plain
    normalized = input_statistics(replace(pictures, preprocessing=IMAGENET))
    raw = statistics(x * 255, range="normalized")
    dark = statistics(x / 255)
    assert "0-255 instead of 0-1" in implausible_shift(plain, raw)
    assert "0-1 instead of 0-255" in implausible_shift(raw, plain)
    assert "divided by 255 twice" in implausible_shift(plain, dark)
    assert "are not normalized" in implausible_shift(normalized, plain)
    assert "are normalized" in implausible_shift(plain, normalized)
    for drifted in (x * 0.2, x * 0.1 + 0.4, (x + 0.6).clamp(0, 1), 1 - x, torch.zeros_like(x), x):
        assert implausible_shift(plain, statistics(drifted)) is None


@pytest.mark.parametrize(
    ("factor", "unit"),
    [
        (9.80665, "m/s²"),
        (1 / 9.80665, "g instead"),
        (1000, "thousandths"),
        (57.3, "degrees"),
        (3e6, "3,000,000 times"),
    ],
)
def test_other_units_of_windows_are_distinguished_from_drift(factor, unit):
    windows = np.random.default_rng(0).normal([[0.1], [0.2], [1.0]], [[0.3], [0.5], [1.0]], (50, 3, 40))
    assert unit in implausible_shift(statistics(windows), statistics(windows * factor))
    for drifted in (windows * 3, windows[:, ::-1] + 2, windows * np.array([[9.8], [1], [1]]), windows * 0):
        assert implausible_shift(statistics(windows), statistics(drifted)) is None
    assert "standard deviations away" in implausible_shift(statistics(windows), statistics(windows + 1e6))


def moving(seed=0, factor=1.0, quiet=1.0):
    """Windows of an accelerometer, of which one axis carries gravity, of a person of their own."""
    rng = np.random.default_rng(seed)
    spread = np.array([[0.3], [0.5], [0.4]]) * rng.uniform(0.7, 1.4, (3, 1)) * quiet
    return factor * rng.normal([[0.1], [0.0], [1.0]], spread, (50, 3, 40))


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (9.80665, r"times as much as those of the source \(.* instead of .*, median of 3 channels\).*m/s² "),
        (1 / 9.80665, r"times less than .*g instead of m/s²\?"),
        (15, "times as much"),
        (np.pi / 180, r"radians instead of degrees\?"),
        (1e-3, "a unit a thousand times"),
    ],
)
def test_another_unit_is_noted_where_people_differ_too(factor, said):
    source, target = statistics(moving()), statistics(moving(1, factor))
    assert implausible_shift(source, target) is None
    assert re.search(said, possible_unit(source, target))


def test_real_drift_is_not_noted_as_another_unit(pictures):
    source = statistics(moving())
    for drifted in (moving(2), moving(3, 2.5), moving(4, quiet=0.05), moving(5) + 3, moving(6)[:, ::-1]):
        assert possible_unit(source, statistics(drifted.copy())) is None
    x = pictures.batch(slice(0, 200))[0]
    for severity in range(1, 6):
        faded = tbft.apply_drift(pictures, f"contrast:{severity}")
        assert input_notes(input_statistics(pictures), input_statistics(faded)) == ()
    assert input_notes(statistics(x), statistics(x * 0.05 + 0.4)) == ()


def test_inputs_that_were_standardized_on_one_side_are_noted():
    raw, own = moving(), moving(1)
    mean, spread = own.mean((0, 2), keepdims=True), own.std((0, 2), keepdims=True)
    alone = (own - mean) / spread
    assert "the inputs seem to be standardized" in standardized_alone(statistics(raw), statistics(alone))
    by_source = (raw - raw.mean((0, 2), keepdims=True)) / raw.std((0, 2), keepdims=True)
    said = standardized_alone(statistics(by_source), statistics(9.8 * own))
    assert "those of the source seem to be standardized" in said
    for other in (own, 3 * own, own + 2):
        assert standardized_alone(statistics(raw), statistics(other)) is None
    for drifted in (by_source * 1.8, by_source + 0.8, by_source[:, ::-1].copy()):
        assert standardized_alone(statistics(by_source), statistics(drifted)) is None


def test_channels_that_died_are_noted_in_windows():
    source, target = statistics(moving()), moving(1)
    assert dead_channels(source, statistics(target)) is None
    target[:, 1:] = 0.1
    assert "channels 1, 2 are constant (0.1, 0.1), but not in" in dead_channels(source, statistics(target))
    assert dead_channels(statistics(target), statistics(target)) is None
    table = moving()[:, :, 0]
    assert dead_channels(statistics(table), statistics(np.ones_like(table))) is None


def test_a_single_column_in_another_unit_is_noted():
    table = np.random.default_rng(0).normal([1.7, 70, 30, 0], [0.1, 9, 8, 1], (60, 4))
    in_cm = table * [100, 1, 1, 1]
    assert re.search(r"100 times.*channel 0\)", possible_unit(statistics(table), statistics(in_cm)))
    assert possible_unit(statistics(table), statistics(table * [8, 1, 1, 1])) is None


@pytest.mark.data
def test_people_are_not_noted_as_another_unit(data_dir):
    for name in ("watch_windows", "uci_har_subset", "phone_and_watch"):
        with np.load(data_dir / f"har/{name}.npz") as arrays:
            x, who = arrays["X"].transpose(0, 2, 1), arrays["subject"]
        for person in np.unique(who)[:6]:
            source, own = statistics(x[who != person]), x[who == person]
            assert input_notes(source, statistics(own)) == ()
            assert possible_unit(source, statistics(own / 9.80665)) is not None
