"""What only a GPU can show: every arm is tuned there, and the patch is that of any device."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import striped

import tbft
from tbft.models.digits import DigitsNet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def base() -> DigitsNet:
    """A network that has learned the stripes, on the GPU."""
    torch.manual_seed(0)
    model, samples = DigitsNet(3), striped(600)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(40):
        x, y = samples.batch(np.arange(32 * step, 32 * step + 32) % 600)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval().cuda()


@pytest.fixture(scope="module")
def drifted() -> tbft.Samples:
    return tbft.apply_drift(striped(240, seed=3), "contrast:5")


def state_bytes(model: torch.nn.Module) -> dict[str, bytes]:
    return {k: v.cpu().numpy().tobytes() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("recipe", ["fast", "paper"])
@pytest.mark.parametrize("arm", ["adabn", "front", "rear", "full", "ridge", "prototypes"])
def test_an_arm_tuned_on_a_gpu_is_a_patch_for_any_device(base, drifted, arm, recipe, tmp_path):
    before = state_bytes(base)
    result = tbft.personalize(base, drifted, arm=arm, recipe=recipe, cautious=False, test=striped(60, seed=5))
    assert state_bytes(base) == before
    assert all(p.device.type == "cuda" for p in base.parameters())
    if result.patch is None:
        assert result.status in ("rejected", "unchanged")
        return
    result.patch.save(tmp_path / "user.safetensors")
    there, here = copy.deepcopy(base), copy.deepcopy(base).cpu()
    with tbft.Patch.load(tmp_path / "user.safetensors").applied(here), result.patch.applied(there):
        assert state_bytes(here) == state_bytes(there)
        x, _ = drifted.batch(np.arange(32))
        agree = (here(x).argmax(1) == there(x.cuda()).argmax(1).cpu()).float().mean()
        assert agree > 0.9  # arithmetic differs in the last bits
    assert state_bytes(here) == before
    assert state_bytes(there) == before


def test_the_whole_flow_with_a_card_runs_on_a_gpu(base, drifted):
    card = tbft.build_card(base, striped(300, seed=7))
    result = tbft.personalize(base, drifted, card=card)
    assert result.choice is not None
    assert result.measurement.cpu_seconds > 0
    assert result.status in ("patched", "unchanged", "rejected")


def test_same_seed_same_numbers_on_a_gpu(base, drifted):
    runs = [tbft.personalize(base, drifted, arm="rear", cautious=False, seed=1) for _ in range(2)]
    states = [run.tuned.changed for run in runs]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
