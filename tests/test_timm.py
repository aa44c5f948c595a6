"""Models of timm by name; a small module stands in for timm where that cannot be imported."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tbft
from tbft.errors import CheckpointError, MissingExtraError, TbftError
from tbft.models import find_model
from tbft.models.timm_models import stage_starts

CONFIG: dict[str, Any] = {
    "input_size": (3, 16, 16),
    "mean": (0.4, 0.5, 0.6),
    "std": (0.2, 0.2, 0.2),
    "crop_pct": 0.8,
    "num_classes": 1000,
}


class Small(nn.Module):
    """Four stages that `feature_info` names, as timm's models have them."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.stages = nn.Sequential(*(self._stage() for _ in range(4)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
        self.feature_info = [{"module": "stem"}, *({"module": f"stages.{i}"} for i in range(4))]
        self.pretrained_cfg = CONFIG

    def _stage(self) -> nn.Sequential:
        conv = nn.Conv2d(8, 8, 3, padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.pool(self.stem(x))))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A module timm of two models; returns what create_model was called with."""
    calls: list[dict[str, Any]] = []

    def create_model(name: str, pretrained: bool, **options: Any) -> nn.Module:
        calls.append({"name": name, "pretrained": pretrained, **options})
        if "img_size" in options:
            raise TypeError("unexpected keyword argument 'img_size'")
        torch.manual_seed(0)
        return Small(**options)

    names = ["small_net", "small_net_2"]
    module = SimpleNamespace(
        __version__="1.0", create_model=create_model, list_models=lambda: names, is_model=names.__contains__
    )
    monkeypatch.setitem(sys.modules, "timm", module)
    return calls


def test_input_and_normalization_come_from_the_configuration(fake):
    preset = find_model("timm:small_net?classes=3")
    assert fake == [{"name": "small_net", "pretrained": False, "num_classes": 3}]
    inputs = preset.inputs
    assert (inputs.resolution, inputs.resize, inputs.channels) == (16, 20, 3)
    assert (inputs.mean, inputs.std) == (CONFIG["mean"], CONFIG["std"])
    assert preset.build()(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    gray = find_model("timm:small_net,channels=1,resolution=32").inputs
    assert (gray.channels, gray.resolution, gray.resize, gray.mean) == (1, 32, 40, None)


def test_cuts_lie_where_stages_end(fake):
    preset = find_model("timm:small_net?classes=3")
    starts = ("stages", "stages.1", "stages.2", "stages.3", "head")
    assert stage_starts(preset.build()) == starts
    blocks = preset.split(preset.build())
    assert blocks.names == ("front", "middle", "late", "rear")
    assert blocks.cuts[-1] == "head" and set(blocks.cuts) <= set(starts)
    assert find_model("timm:small_net", ["stages.2"]).cuts == ("stages.2",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:small_nett", "timm 1.0 has no model 'small_nett': did you mean 'small_net'"),
        ("timm:small_net?klasses=3", "unknown option 'klasses': did you mean 'classes'"),
        ("timm:small_net?classes=0", "classes has to be a whole number from 1, not '0'"),
    ],
)
def test_a_name_or_option_that_is_unknown_says_so(fake, name, message):
    with pytest.raises(TbftError, match=message):
        find_model(name)


def test_an_untrained_model_is_refused_and_a_trained_one_personalized(fake, tmp_path):
    with pytest.raises(CheckpointError, match="without trained weights"):
        tbft.load_base("timm:small_net?classes=3")
    torch.manual_seed(1)
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in Small(3).state_dict().items()}}, tmp_path / "w.pt"
    )
    base = tbft.load_base("timm:small_net?classes=3", tmp_path / "w.pt")
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 255, (24, 20, 24, 3), dtype=np.uint8)
    labels = np.arange(24) % 3
    result = tbft.personalize(base, (pictures, labels), val=0.5, arm="rear")
    assert result.status in ("patched", "rejected")
    assert any("'state_dict.module'" in note for note in result.notes)


def test_a_timm_that_is_missing_or_broken_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tbft\[timm\]'"):
        find_model("timm:resnet18")
    monkeypatch.delitem(sys.modules, "timm")
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TbftError, match=r"cannot be imported: operator torchvision::nms .* from one index"):
        find_model("timm:resnet18")


def real_timm() -> ModuleType:
    try:
        import timm
    except Exception as error:
        pytest.skip(f"timm cannot be imported here: {error}")
    return timm


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224"])
def test_models_of_the_real_timm_are_split_at_their_stages(name):
    real_timm()
    preset = find_model(f"timm:{name}?classes=3&resolution=64")
    model = preset.build().eval()
    blocks = preset.split(model)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        stages = x
        for block in blocks:
            stages = blocks.block(block.index)(stages)
        assert torch.equal(stages, model(x))
    assert set(blocks.cuts[:-1]) <= set(stage_starts(model))
    assert Path("weights") not in Path().iterdir()
