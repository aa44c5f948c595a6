"""How many threads: all of them only where a trial shows that they pay, and the reason is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import striped
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tbft.blocks import split
from tbft.choosing import threads
from tbft.choosing.threads import MAX_COST, MIN_SPEEDUP, Spent, choose_threads, decide
from tbft.cli import main
from tbft.data import make_samples
from tbft.models import save_weights
from tbft.models.digits import DigitsNet

FASTER, SLOWER, BUSY = Spent(0.006, 0.011), Spent(0.009, 0.018), Spent(9.0, 9.0)
SECONDS = st.floats(1e-6, 100)


@pytest.fixture
def timings(monkeypatch):
    """Work takes 10 ms on one thread, and what the returned dictionary says on two; calls are noted.

    torch only seems to use two: on a busy machine, it would take minutes.
    """
    now = {"threads": 2}
    monkeypatch.setattr(torch, "get_num_threads", lambda: now["threads"])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: now.update(threads=count))
    spent, calls = {1: Spent(0.010, 0.010), 2: FASTER}, []

    def timed(work, count):
        torch.set_num_threads(count)
        work()
        calls.append(count)
        return spent[count]

    monkeypatch.setattr(threads, "timed", timed)
    spent["calls"] = calls
    return spent


@given(one=st.builds(Spent, SECONDS, SECONDS), many=st.builds(Spent, SECONDS, SECONDS))
def test_more_threads_have_to_be_clearly_faster_and_cost_little_more(one, many):
    chosen = decide(one, many, 4)
    if chosen.count == 4:
        assert many.wall_seconds <= one.wall_seconds / MIN_SPEEDUP * 1.0001
        assert many.cpu_seconds <= one.cpu_seconds * MAX_COST
    else:
        assert chosen.count == 1
    assert chosen.note.startswith("4 threads:" if chosen.count == 4 else "one thread:")


@pytest.mark.parametrize(("two", "count"), [(FASTER, 2), (SLOWER, 1), (Spent(0.006, 0.02), 1), (BUSY, 1)])
def test_the_trial_follows_what_it_measures_and_leaves_no_trace(digits_blocks, timings, two, count):
    timings[2] = two
    model = digits_blocks.model.train()
    model.requires_grad_(False).fc.requires_grad_(True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    assert choose_threads(digits_blocks, striped(20)).count == count
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    assert all(p.grad is None for p in model.parameters())


def test_a_busy_machine_is_noticed_in_one_forward_pass(digits_blocks, timings):
    timings[2] = BUSY
    choose_threads(digits_blocks, striped(20))
    assert timings["calls"].count(2) == 1


def test_a_large_network_is_tried_on_single_forward_passes(digits_blocks, timings):
    timings[1], timings[2] = Spent(1.0, 1.0), Spent(0.6, 1.1)
    shapes = []
    digits_blocks.model.register_forward_hook(lambda module, inputs, out: shapes.append(len(inputs[0])))
    assert choose_threads(digits_blocks, striped(20)).count == 2
    assert set(shapes[-4:]) == {1}


def test_where_torch_has_one_thread_nothing_is_tried(digits_blocks, monkeypatch):
    monkeypatch.setattr(threads, "timed", None)
    torch.set_num_threads(1)
    assert choose_threads(digits_blocks, striped(20)).count == 1


@pytest.mark.parametrize(("two", "count"), [(FASTER, 2), (SLOWER, 1)])
def test_commands_choose_their_threads_and_say_why(tmp_path, monkeypatch, capsys, timings, two, count):
    timings[2] = two
    monkeypatch.chdir(tmp_path)
    save_weights(DigitsNet(10).state_dict(), "base.safetensors")
    samples = striped(60)
    np.savez("set.npz", images=samples.inputs, labels=samples.labels)
    why = "one thread: in a trial" if count == 1 else "2 threads: in a trial"
    adapt = "personalize digits --weights base.safetensors --data set.npz --arm rear --epochs 1".split()
    assert main([*adapt, "--threads", "auto", "--json"]) in (0, 3, 4)
    out, err = capsys.readouterr()
    assert json.loads(out)["threads"] == torch.get_num_threads() == count
    assert any(note.startswith(why) for note in json.loads(out)["notes"])
    assert why in err
    torch.set_num_threads(2)
    assert main(["cost", "digits", "--samples", "50", "--threads", "auto", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["threads"] == count


def test_a_model_that_cannot_take_the_samples_is_reported_as_without_a_trial(
    tmp_path, monkeypatch, capsys, timings
):
    monkeypatch.chdir(tmp_path)
    save_weights(DigitsNet(10).state_dict(), "base.safetensors")
    np.savez("set.npz", inputs=np.zeros((6, 4), np.float32), labels=np.arange(6) % 3)
    evaluate = "evaluate digits --weights base.safetensors --data set.npz".split()
    messages = []
    for option in ([], ["--threads", "auto"]):
        assert main([*evaluate, *option]) == 2
        messages.append(capsys.readouterr().err.splitlines()[-1])
    assert messages[0] == messages[1]
    assert "shape" in messages[0]


def test_a_command_without_samples_does_not_offer_a_trial(capsys):
    with pytest.raises(SystemExit):
        main(["blocks", "digits", "--threads", "auto"])
    assert "'auto' is not a number of threads" in capsys.readouterr().err


class Stubborn(nn.Module):
    """Cannot be run backward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x).detach()


def test_a_model_without_gradients_is_tried_forward(timings):
    blocks = split(nn.Sequential(Stubborn(), nn.Linear(3, 3).requires_grad_(False)))
    samples = make_samples(np.zeros((4, 4), np.float32), np.arange(4) % 3)
    assert choose_threads(blocks, samples).count == 2
