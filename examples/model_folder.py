"""Publish a base model with its source card and a patch as one folder, and use it from there.

    python examples/model_folder.py

The folder has the shape that model hubs expect: weights as `model.safetensors`, and a README with front
matter. Who downloads it needs the factory of the model (here `Net`), and one line to apply or undo the
patch. The model is trained here for a moment, so that the script runs anywhere; nothing is uploaded.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tbft

README = """---
library_name: tbft
license: apache-2.0
pipeline_tag: tabular-classification
tags:
- tbft
- personalization
- fine-tuning
---

# A classifier of made-up measurements, with a patch for one sensor

| file | what |
|---|---|
| `model.safetensors` | base weights, fingerprint `{fingerprint}` |
| `card.safetensors` | source card: statistics of the training data, no samples |
| `patch.safetensors` | patch for the sensor in hall 2: {arm}, {size:,} bytes |

| | accuracy in hall 2 | samples |
|---|---|---|
| base | {before:.1%} | {count} |
| base + patch | {after:.1%} | {count} |

```python
model.load_state_dict(load_file("model.safetensors"))
undo = tbft.Patch.load("patch.safetensors").apply(model)
```
"""


class Net(nn.Module):
    """Two blocks over 12 features."""

    cuts = ("rear",)
    block_names = ("front", "rear")

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.rear = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.rear(self.front(x))


def main() -> None:
    torch.manual_seed(0)
    with TemporaryDirectory() as name:
        folder = Path(name) / "measurements-classifier"
        publish(folder)
        print(*sorted(path.name for path in folder.iterdir()))
        use(folder)


def publish(folder: Path) -> None:
    """Train a base, adapt it to hall 2, and write everything into a folder."""
    model = trained(measurements(900, seed=0))
    card = tbft.build_card(model, measurements(300, seed=1))
    result = tbft.personalize(model, hall_2(seed=2), card=card, arm="front", test=0.4)
    if result.before is None or result.after is None:
        raise SystemExit("nothing was held out to measure")
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    card.save(folder / "card.safetensors")
    result.patch.save(folder / "patch.safetensors")
    page = README.format(
        fingerprint=tbft.fingerprint(model.state_dict())[:12],
        arm=f"the block `{result.plan.arm.name}`",
        size=(folder / "patch.safetensors").stat().st_size,
        before=result.before.score,
        after=result.after.score,
        count=len(result.parts.test),
    )
    (folder / "README.md").write_text(page)


def use(folder: Path) -> None:
    """What a user does with the folder."""
    model = Net().eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    data = hall_2(seed=3)
    print(f"base:         accuracy {tbft.evaluate(model, data).score:.2f}")
    undo = tbft.Patch.load(folder / "patch.safetensors").apply(model)
    print(f"base + patch: accuracy {tbft.evaluate(model, data).score:.2f}")
    undo.apply(model)
    print(f"undone:       accuracy {tbft.evaluate(model, data).score:.2f}")


def measurements(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (count, 12) of three classes, and their class numbers."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(7).normal(0, 1.5, (3, 12))
    labels = np.arange(count) % 3
    return (centers[labels] + rng.normal(0, 1, (count, 12))).astype(np.float32), labels


def hall_2(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same as the sensor in hall 2 shows it: half the gain, and an offset."""
    x, y = measurements(300, seed)
    return 0.5 * x + 1.0, y


def trained(data: tuple[np.ndarray, np.ndarray]) -> nn.Module:
    """A moment of training, in plain PyTorch."""
    x, y = torch.from_numpy(data[0]), torch.from_numpy(data[1])
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(5):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.eval()


if __name__ == "__main__":
    main()
