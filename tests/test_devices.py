"""Everything follows the model's device: on one that holds no values, no tensor of the CPU mixes in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import striped
from torch import nn

import tbft
from tbft.blocks.placement import device_of, find_device
from tbft.blocks.precision import Computing
from tbft.cli import main
from tbft.errors import DeviceError
from tbft.models.digits import DigitsNet
from tbft.tuning.loop import loss_of
from tbft.tuning.optimizers import make_optimizer
from tbft.verification.compatibility import check_fits

FAST = tbft.find_recipe("fast").replace(precision="float32")


@pytest.fixture
def elsewhere():
    """A model on torch's device without values: shapes and devices are kept, and mixing devices fails."""
    return DigitsNet(3).to("meta")


def test_a_training_step_stays_on_the_device(elsewhere):
    samples, training = striped(20), FAST.training(20)
    computing = Computing("float32", True, device_of(elsewhere))
    optimizer = make_optimizer(replace(training.optimization, optimizer="sgd"), list(elsewhere.parameters()))
    x, y = samples.batch(np.arange(8))
    assert x.device.type == "cpu"
    loss = loss_of(elsewhere.train(), computing, x, y)
    loss.backward()
    optimizer.step()
    assert loss.device.type == "meta"
    assert {p.grad.device.type for p in elsewhere.parameters()} == {"meta"}


def test_samples_are_brought_to_the_device(elsewhere):
    check_fits(elsewhere, striped(20))
    with pytest.raises(tbft.TbftError, match="cannot take inputs of shape"):
        check_fits(elsewhere, tbft.make_samples(np.zeros((4, 3), np.float32), [0, 1, 0, 1]))
    assert {b.device.type for b in elsewhere.buffers()} == {"meta"}


def test_devices_are_found_by_name():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(DeviceError, match="did you mean 'cuda'"):
        find_device("cudda")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="there is no device 'cuda' here; there is cpu"):
            find_device("cuda")


def test_a_device_that_is_not_there_is_refused_at_the_command_line(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert main("evaluate resnet26-cifar10-jpeg --data nowhere --device cuda".split()) == 2
    assert "there is no device 'cuda' here" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_is_adapted_there():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
    ).cuda()
    result = tbft.personalize(model, striped(300), arm="full")
    assert device_of(model).type == "cuda"
    assert {t.device.type for t in result.patch.tensors.values()} == {"cuda"}
    with result.patch.applied(model):
        assert tbft.evaluate(model, striped(60, seed=1)).accuracy > 0.5
