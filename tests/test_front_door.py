"""The library as a user meets it: everything through ``import tbft``, in every form that people have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from conftest import striped
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import tbft

CLASSES = 3
SHORT = tbft.find_recipe("fast").given(epochs=2)


def pictures(count=90, seed=0):
    """Noisy 8x8 pictures whose bright row tells the class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    made = generator.integers(0, 120, (count, 8, 8, 1), dtype=np.uint8)
    made[np.arange(count), 2 * labels] += 120
    return made, labels


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            flat=nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU()),
            fc=nn.Linear(16, CLASSES),
        )
    )


class Items(Dataset):
    """Map-style, with float pictures."""

    def __init__(self, count=90, seed=0):
        self.inputs, self.labels = pictures(count, seed)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return torch.from_numpy(self.inputs[i]).permute(2, 0, 1).float() / 255, int(self.labels[i])


class Stream(IterableDataset):
    def __iter__(self):
        items = Items()
        return (items[i] for i in range(len(items)))


def saved(tmp_path):
    inputs, labels = pictures()
    np.savez(tmp_path / "set.npz", images=inputs, labels=labels)
    return tmp_path / "set.npz"


def tensors():
    inputs, labels = pictures()
    return torch.from_numpy(inputs).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels)


DATA = {
    "Samples": lambda tmp_path: tbft.make_samples(*pictures()),
    "arrays": lambda tmp_path: pictures(),
    "tensors": lambda tmp_path: tensors(),
    "uint8 tensors": lambda tmp_path: tuple(map(torch.from_numpy, pictures())),
    "Dataset": lambda tmp_path: Items(),
    "TensorDataset": lambda tmp_path: TensorDataset(*tensors()),
    "IterableDataset": lambda tmp_path: Stream(),
    "DataLoader": lambda tmp_path: DataLoader(Items(), batch_size=32, shuffle=True),
    "path": saved,
    "text": lambda tmp_path: str(saved(tmp_path)),
}

MODELS = {
    "module": lambda: network(),
    "list": lambda: list(network().named_children()),
    "Blocks": lambda: tbft.split(network(), cuts=["flat", "fc"]),
    "Base": lambda: tbft.Base(tbft.split(network())),
}


def test_head_is_the_last_layer_whatever_its_name():
    result = tbft.personalize(network(), pictures(), arm="head", recipe=SHORT)
    head = tbft.split(network()).head
    assert result.plan.arm.name == head and "fc.weight" in result.patch.tensors
    plan = tbft.Plan("conv+head", SHORT)
    joined = tbft.personalize(network(), pictures(), plan=plan)
    assert joined.plan.arm.name == f"conv+{head}"
    assert str(tbft.resolve(plan, tbft.split(network()), 60).plan.arm) == f"conv+{head}"
    named = OrderedDict(body=nn.Flatten(), head=nn.Linear(64, 8), last=nn.Linear(8, CLASSES))
    assert str(tbft.split(nn.Sequential(named)).named("head")) == "head"  # a layer of that name wins


@pytest.mark.parametrize("form", DATA)
def test_data_in_every_form_is_adapted_to(form, tmp_path):
    model = network()
    result = tbft.personalize(model, DATA[form](tmp_path), arm="fc", recipe=SHORT)
    assert result.status in ("patched", "rejected")
    assert (len(result.parts.train), len(result.parts.val), len(result.parts.test)) == (90, 0, 0)
    assert result.comparison.part == "folds"
    assert tbft.evaluate(model, DATA[form](tmp_path)).sample_count == 90


@pytest.mark.parametrize("form", MODELS)
def test_a_model_in_every_form_is_adapted(form):
    result = tbft.personalize(MODELS[form](), pictures(), val=0, arm="fc", recipe=SHORT, statistics="keep")
    assert set(result.patch.tensors) == {"fc.weight", "fc.bias"}


def test_a_model_may_be_named():
    with pytest.raises(tbft.TbftError, match="without trained weights"):
        tbft.personalize("digits", pictures())
    with pytest.raises(tbft.TbftError, match="did you mean 'digits'"):
        tbft.evaluate("digit", pictures())


def test_a_shipped_base_brings_its_weights_and_card():
    base = tbft.load_base("resnet26-cifar10-jpeg")
    assert base.card is not None and base.weights is not None
    assert base.inputs.resolution == 32
    base.card.check(base.model)


@pytest.mark.parametrize(
    ("val", "test", "sizes"),
    [
        (None, None, (90, 0, 0)),  # too few to hold some out: judged fold by fold
        (0, None, (90, 0, 0)),
        (0.5, None, (45, 45, 0)),
        (30, 0.2, (42, 30, 18)),
        ("10/class", None, (60, 30, 0)),
        (0, 0, (90, 0, 0)),
    ],
)
def test_what_is_held_out_is_what_was_asked_for_and_the_rest_is_tuned_on(val, test, sizes):
    result = tbft.personalize(network(), pictures(), val=val, test=test, arm="fc", recipe=SHORT)
    assert tuple(map(len, (result.parts.train, result.parts.val, result.parts.test))) == sizes
    assert (result.comparison is None) == (val == 0 and not test)
    assert any("held out" in note for note in result.notes)


def test_parts_of_their_own_may_come_in_another_form():
    val, test = DataLoader(Items(30, seed=1), batch_size=7), pictures(45, seed=2)
    inputs, labels = pictures()
    floats = (inputs.transpose(0, 3, 1, 2) / np.float32(255), labels)
    others = (test[0].transpose(0, 3, 1, 2) / np.float32(255), test[1])
    result = tbft.personalize(network(), floats, val=val, test=others, arm="fc", recipe=SHORT)
    assert tuple(map(len, (result.parts.train, result.parts.val, result.parts.test))) == (90, 30, 45)
    assert result.comparison.part == "test"


@pytest.mark.parametrize(
    ("call", "taken"),
    [
        (lambda: tbft.personalize(3, pictures()), "model: expected a torch.nn.Module"),
        (lambda: tbft.personalize(network(), 3), "expected tbft.Samples"),
        (lambda: tbft.personalize(network(), pictures()[0]), "without labels"),
        (lambda: tbft.personalize(network(), pictures(), card=3), "card: expected a SourceCard"),
        (lambda: tbft.personalize(network(), pictures(), recipe=3), "recipe: expected a Recipe"),
        (lambda: tbft.personalize(network(), pictures(), plan="front"), "plan: expected a Plan"),
        (lambda: tbft.personalize(network(), pictures(), cache=3), "cache: expected a CachePolicy"),
        (lambda: tbft.tune(network(), 3, pictures()), "plan: expected a Plan or the name of an arm"),
    ],
)
def test_a_wrong_kind_is_a_type_error_that_lists_what_is_taken(call, taken):
    with pytest.raises(TypeError, match=taken) as caught:
        call()
    assert isinstance(caught.value, tbft.TbftError)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arm": "fc", "level": "output"}, "give one of the two"),
        ({"plan": tbft.Plan("fc"), "seed": 3}, "leave out seed"),
        ({"plan": tbft.Plan("fc"), "budget": tbft.Budget(cpu_seconds=5)}, "leave out budget"),
        ({"plan": tbft.Plan("fc"), "arm": "conv"}, "leave out arm"),
        ({"statistics": 0.5}, "auto chooses its own"),
        ({"recipe": "paper"}, "name a level"),
        ({"arm": "frnt"}, "did you mean 'front'"),
        ({"level": "imput"}, "did you mean 'input'"),
        ({"recipe": "fats"}, "did you mean 'fast'"),
        ({"loss": nn.functional.mse_loss}, "the loss cannot compare outputs"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(tbft.TbftError, match=message):
        tbft.personalize(network(), pictures(), **given)


def test_a_result_prints_saves_and_undoes(tmp_path):
    model = network()
    before = tbft.fingerprint(model.state_dict())
    result = tbft.personalize(model, pictures(300), test=60, arm="full")
    assert result.status == "patched"
    assert tbft.fingerprint(model.state_dict()) == before
    text = str(result)
    for word in ("accuracy", "60 test samples", "held-out labels", "energy", "patch", "held out"):
        assert word in text
    assert json.dumps(result.to_json())
    with result.patch.applied(model):
        inside = tbft.evaluate(model, result.parts.test)
    assert inside == result.after
    assert tbft.fingerprint(model.state_dict()) == before
    result.patch.save(tmp_path / "user.safetensors")
    undo = tbft.Patch.load(tmp_path / "user.safetensors").apply(model)
    assert tbft.fingerprint(model.state_dict()) == result.patch.header.tuned_fingerprint
    undo.apply(model)
    assert tbft.fingerprint(model.state_dict()) == before
    result.save_report(tmp_path / "user.html")
    assert "<html" in (tmp_path / "user.html").read_text()


def test_what_does_not_help_is_rejected_and_nothing_to_do_is_unchanged():
    inputs, labels = pictures(300)
    other = tbft.make_samples(*pictures(60, seed=1))
    nothing = tbft.personalize(network(), (inputs, labels), arm="none")
    assert (nothing.status, nothing.stopped, len(nothing.patch.tensors)) == ("unchanged", None, 0)
    model = network()
    tbft.personalize(model, (inputs, labels), arm="full").patch.apply(model)
    worse = tbft.personalize(model, (inputs, (labels + 1) % CLASSES), val=other, arm="fc")
    assert (worse.status, len(worse.patch.tensors)) == ("rejected", 0)
    assert worse.before == worse.after


def test_a_spent_budget_is_not_an_interrupt():
    def interrupt(done, total):
        if done == total // 2:
            raise KeyboardInterrupt

    stopped = tbft.tune(network(), tbft.Plan("full", "fast"), pictures(), progress=interrupt)
    assert stopped.stopped == "interrupt"
    many = pictures(3000)
    spent = tbft.tune(network(), tbft.Plan("full", budget=tbft.Budget(cpu_seconds=1e-3)), many)
    assert (spent.stopped, dict(spent.changed)) == ("budget", {})


def test_card_and_diagnosis_by_path(tmp_path):
    model = network()
    tbft.personalize(model, pictures(300), arm="full").patch.apply(model)
    tbft.build_card(model, pictures(300, seed=1)).save(tmp_path / "base.card.safetensors")
    diagnosis = tbft.diagnose(model, pictures(120, seed=2), card=tmp_path / "base.card.safetensors")
    assert diagnosis.name == "none"
    result = tbft.personalize(model, pictures(120, seed=2), card=str(tmp_path / "base.card.safetensors"))
    assert (result.status, result.choice.diagnosis.name) == ("unchanged", "none")


def test_no_module_has_the_name_of_a_function():
    code = (
        "import tbft, types; "
        "print([n for n in tbft.__all__ if isinstance(getattr(tbft, n), types.ModuleType)], end=' '); "
        "import tbft.pipeline, tbft.front_door; "
        "print(callable(tbft.personalize), callable(tbft.split))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True True"


def test_a_model_that_wraps_its_logits_is_adapted():
    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU())
            self.fc = torch.nn.Linear(16, 3)

        def forward(self, pixels, labels=None):
            return {"loss": labels, "logits": self.fc(self.body(pixels))}

    model, samples = Wrapped(), striped(120)
    result = tbft.personalize(model, samples, val=30, test=30, arm="full")
    assert result.status == "patched"
    with result.patch.applied(model):
        assert tbft.evaluate(model, samples).accuracy > 0.8


@pytest.mark.parametrize("key", ["weight", "running_var"])
def test_a_base_that_is_not_finite_is_refused_by_name_and_masks_may_be(key):
    model = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(4), fc=nn.Linear(4, 2)))
    model.register_buffer("mask", torch.tensor([float("-inf")]))
    x, y = torch.rand(8, 4), torch.arange(8) % 2
    tbft.evaluate(model, (x, y))
    model.norm.state_dict()[key][1] = float("inf")
    with pytest.raises(tbft.TbftError, match=rf"NaN or infinity in norm\.{key}"):
        tbft.evaluate(model, (x, y))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"budget": 5}, "budget: expected a Budget, not int"),
        ({"meter": "rapl"}, "meter: expected a Meter, not str"),
        ({"resume": 3}, "resume: expected the path of a file, not int"),
        ({"progress": 3}, "progress: expected a function, not int"),
        ({"arm": 3}, "arm: expected the name of an arm or an Arm, not int"),
        ({"cuts": "0"}, "cuts: expected a list of names, not str"),
        ({"cautious": "no"}, "cautious: expected True or False, not str"),
    ],
)
def test_an_argument_of_another_kind_is_refused_with_what_is_taken(given, taken):
    data = (torch.eye(3).repeat(20, 1), torch.arange(60) % 3)
    with pytest.raises(tbft.TbftError, match=taken):
        tbft.personalize(torch.nn.Linear(3, 3), data, **{"arm": "ridge", **given})


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"epochs": -1}, "epochs is -1; give a whole number of at least 1"),
        ({"epochs": 2.5}, "epochs is 2.5; give a whole number"),
        ({"batch_size": 0}, "batch_size is 0; give a whole number"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; give a positive number"),
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3'; give a positive number"),
        ({"rear_learning_rate": float("nan")}, "rear_learning_rate is nan; give a positive number"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; give a number from 0$"),
        ({"momentum": 2.0}, "momentum is 2.0; give a number from 0, below 1"),
    ],
)
def test_a_recipe_with_impossible_numbers_is_refused(numbers, message):
    with pytest.raises(tbft.TbftError, match=message):
        tbft.find_recipe("fast").replace(**numbers)


def test_a_budget_in_words_is_refused():
    with pytest.raises(tbft.TbftError, match="peak_bytes: expected a number, not str"):
        tbft.Budget(peak_bytes="1GB")
