# %% [markdown]
# # Motion of one person
#
# A network recognizes exercises. It was trained on many people and now meets a new one. This tutorial goes
# from a file of sensor windows to a patch for that person, and looks at what changed. It is a script in
# percent format: run it as it is (`python examples/tutorial_motion.py`), or cell by cell in VS Code, Spyder
# or Jupyter (with jupytext).
#
# If `TBFT_DATA` is set, the windows come from `har/watch_windows.npz`: ten people, seven exercises, recorded
# by a wrist watch (from the package seglearn). Otherwise the script makes up its own windows, so that it
# runs anywhere. It is easier to adapt to made-up people than to real ones.

# %%
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tbft

torch.manual_seed(0)
torch.set_num_threads(1)  # sums depend on the number of threads: same seed, same threads, same numbers
PERSON = 7
recorded = Path(os.environ.get("TBFT_DATA", "")) / "har" / "watch_windows.npz"


def made_up(path: Path) -> Path:
    """Windows X (n, steps, channels), exercises y, and the person of each window."""
    rng = np.random.default_rng(0)
    time = np.arange(100) / 50  # seconds, at 50 Hz
    speeds, shapes = rng.uniform(0.5, 3, 7), rng.normal(0, 1, (7, 6))
    windows = []
    for person in range(10):
        turned = np.linalg.qr(np.eye(6) + 0.25 * (1 + 2 * (person == PERSON)) * rng.normal(0, 1, (6, 6)))[0]
        for exercise in range(7):
            phases = rng.uniform(0, 2 * np.pi, (40, 1))
            signal = np.sin(2 * np.pi * rng.uniform(0.85, 1.15) * speeds[exercise] * time + phases)
            moved = signal[:, :, None] * (shapes[exercise] @ turned)
            windows.append(moved + rng.normal(0, 0.4, (40, 100, 6)))
    labels = np.tile(np.repeat(np.arange(7), 40), 10)
    subjects = np.repeat(np.arange(10), 280)
    np.savez(path, X=np.concatenate(windows).astype(np.float32), y=labels, subject=subjects)
    return path


path = recorded if recorded.is_file() else made_up(Path("windows.npz"))
others = tbft.read(path, where=[f"subject!={PERSON}"])
person = tbft.read(path, where={"subject": str(PERSON)})
print(f"{len(others)} windows of other people, {len(person)} of person {PERSON}")

# %% [markdown]
# ## A base model, trained on everybody else
#
# Any PyTorch module will do. This one declares where it can be cut; otherwise `tbft` finds the cuts.


# %%
class ChannelsFirst(nn.Module):
    """(n, steps, channels) -> (n, channels, steps)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


class Net(nn.Module):
    """Three blocks over windows (n, steps, channels)."""

    cuts = ("middle", "rear")
    block_names = ("front", "middle", "rear")

    def __init__(self, classes: int) -> None:
        super().__init__()
        conv = nn.Conv1d(6, 16, 7, padding=3)
        self.front = nn.Sequential(ChannelsFirst(), conv, nn.BatchNorm1d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv1d(16, 24, 5, padding=2, stride=2), nn.BatchNorm1d(24), nn.ReLU())
        self.rear = nn.Sequential(nn.AdaptiveMaxPool1d(4), nn.Flatten(), nn.Linear(96, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rear(self.middle(self.front(x)))


known = tbft.split_samples(others, train=0.8, val=0, test="rest")
model = Net(len(others.class_names))
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
for _ in range(12):
    for rows in torch.randperm(len(known.train)).split(64):
        x, y = known.train.batch(rows.numpy())
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
model.eval()
at_home, here = tbft.evaluate(model, known.test), tbft.evaluate(model, person)
print(f"accuracy on people it has not seen: {at_home.score:.2f}, on person {PERSON}: {here.score:.2f}")

# %% [markdown]
# ## What is different about this person?
#
# The *source card* holds small statistics of the people that the model knows, taken from windows that it was
# not trained on. It travels with the model, so a device needs no data of other people.

# %%
card = tbft.build_card(model, known.test)
diagnosis = tbft.diagnose(model, person, card=card)
print(diagnosis.name, *diagnosis.reasons, sep="\n- ")

# %% [markdown]
# ## Adapt as a device would
#
# Neighboring windows overlap, so a random split would be too optimistic. Here the first fifth of each
# exercise is labeled, the next few windows decide whether the result is kept, and the rest is the test.

# %%
parts = tbft.split_samples(person, train="first:20%", val="4/class", test="rest", group_by="none")
result = tbft.personalize(model, parts, card=card, arm="head")
print(result)

# %% [markdown]
# ## Look at it
#
# Which exercises gained? A bar to the left of zero is an exercise that lost. If the base was kept, all bars
# are zero: with real people, a few held-out windows often cannot prove a gain of a few points.

# %%
from matplotlib.figure import Figure  # noqa: E402

assert result.before is not None and result.after is not None
before, after = result.before.class_accuracies, result.after.class_accuracies
names = list(after)
gain = [(after[name] or 0) - (before[name] or 0) for name in names]  # None: no windows of it
figure = Figure(figsize=(6, 3), layout="constrained")
axes = figure.subplots()
axes.barh(names, gain, color=["#0072b2" if g >= 0 else "#d55e00" for g in gain])
axes.axvline(0, color="black", linewidth=0.8)
axes.set_xlabel("change of accuracy, by exercise")
figure.savefig("motion.png", dpi=100)

# %% [markdown]
# ## The patch, and its undo

# %%
base = tbft.fingerprint(model.state_dict())
if result.status == "patched":
    result.patch.save("person.safetensors")
    with tbft.Patch.load("person.safetensors").applied(model):
        print(f"accuracy on all windows of the person, tuned: {tbft.evaluate(model, person).score:.2f}")
assert tbft.fingerprint(model.state_dict()) == base
print(f"outside, it is the base again: {tbft.evaluate(model, person).score:.2f}")

# %% [markdown]
# ## What next
#
# - Leave out `arm="head"` and let `tbft` choose.
# - Ask `tbft.forecast` what more labels would be worth.
# - Do the same on the command line: `tbft personalize my.models:net --data windows.npz --where subject=7`.
