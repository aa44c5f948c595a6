"""Run all steps on twenty kinds of networks, written as their authors write them: one command, one table.

The networks are those of `tests/architectures.py`: small, without cuts, names or anything else for tbft.
Each is trained on toy data of five classes (patterns in noise; for tokens, words that a class prefers), and
then gets drift at the input level (weaker, brighter and noisier; for tokens, a third of the words replaced)
and reversed labels.

    python benchmarks/architectures.py [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import store
from torch import nn

import tbft
from tbft.base import Base
from tbft.blocks import check_stages, split
from tbft.blocks.state import batch_norms, clone_state
from tbft.blocks.tensors import fingerprint
from tbft.data import Samples
from tbft.errors import TbftError
from tbft.loading import as_base
from tbft.patches import make_patch
from tbft.verification.evaluation import evaluate_samples

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.architectures import ARCHITECTURES, CLASSES, WORDS, Architecture  # noqa: E402

RECORD = ROOT / "benchmarks" / "results" / "architectures.json"
EPOCHS, TRAINED, TUNED, TESTED = 12, 600, 100, 300


@dataclass(frozen=True)
class Toy:
    """Toy data of one kind of inputs."""

    architecture: Architecture

    def source(self, count: int, seed: int) -> Samples:
        """Data without drift."""
        x, y = self._made(count, seed)
        return self._samples(x, y)

    def drifted(self, count: int, seed: int) -> Samples:
        """Data with drift at the input level."""
        x, y = self._made(count, seed)
        noise = np.random.default_rng(seed + 1)
        if self.architecture.kind == "tokens":
            other = np.arange(WORDS)
            other[1:14] = np.roll(other[1:14], 5)
            return self._samples(other[x], y)
        return self._samples((0.4 * x + 0.5 + 0.25 * noise.normal(size=x.shape)).astype(np.float32), y)

    def relabeled(self, count: int, seed: int) -> Samples:
        """Data with reversed labels."""
        x, y = self._made(count, seed)
        return self._samples(x, CLASSES - 1 - y)

    def _samples(self, x: Any, y: Any) -> Samples:
        return tbft.make_samples(x, y, spec=tbft.InputSpec(token_ids=self.architecture.kind == "tokens"))

    def _made(self, count: int, seed: int) -> tuple[Any, Any]:
        fixed, random = np.random.default_rng(0), np.random.default_rng(seed)
        y = np.arange(count) % CLASSES
        shape = self.architecture.shape
        if self.architecture.kind == "tokens":
            likely = fixed.dirichlet(np.full(WORDS - 1, 0.3), CLASSES)
            return np.stack([1 + random.choice(WORDS - 1, shape, p=likely[label]) for label in y]), y
        coarse = tuple(max(1, size // 4) for size in shape[1:])
        patterns = fixed.normal(size=(CLASSES, shape[0], *coarse))
        for axis in range(2, patterns.ndim):
            patterns = patterns.repeat(4, axis=axis)
        return (patterns[y] + 1.5 * random.normal(size=(count, *shape))).astype(np.float32), y


def trained(architecture: Architecture, source: Samples) -> nn.Module:
    """The network after a short training."""
    model = architecture.build().train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    torch.manual_seed(0)
    for _ in range(EPOCHS):
        for at in torch.randperm(len(source)).split(50):
            x, y = source.batch(at.numpy())
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, samples: Samples) -> float:
    """Accuracy in percent."""
    return round(100 * (evaluate_samples(model, samples).accuracy or 0.0), 1)


def row_of(name: str) -> dict[str, Any]:
    """All results for one network; an exception is recorded in place of its result."""
    architecture = ARCHITECTURES[name]
    toy = Toy(architecture)
    model = trained(architecture, toy.source(TRAINED, 1))
    x = toy.source(8, 9).batch(slice(0, 8))[0]
    row: dict[str, Any] = {"network": name, "source_accuracy": accuracy(model, toy.source(TESTED, 2))}
    try:
        blocks = split(model, example=x)
        check_stages(blocks, x)
        row |= {"cuts": list(blocks.cuts), "stages_equal": True, "head": blocks.head}
    except TbftError as error:
        return row | {"cuts": str(error)}
    base = as_base(blocks)
    arms = {"front": "front", "late": blocks.names[-2], "head": blocks.head}
    for column, arm in arms.items():
        data = toy.relabeled if column == "head" else toy.drifted
        row[column] = _tuned(base, arm, data(TUNED, 3), data(TESTED, 4))
    row["adabn"] = "no BatchNorm"
    if batch_norms(model):
        row["adabn"] = _tuned(base, "adabn", toy.drifted(TUNED, 3), toy.drifted(TESTED, 4))
    row["patch"] = all(isinstance(row[arm], dict) and row[arm]["patch_exact"] for arm in arms)
    row |= _diagnosed(base, toy)
    print(name, json.dumps(row), flush=True)
    return row


def _tuned(base: Base, arm: str, train: Samples, test: Samples) -> dict[str, Any] | str:
    """Accuracy before and after tuning an arm, and whether its patch is exact, bit for bit, both ways."""
    model = base.model
    before, start, state = accuracy(model, test), time.process_time(), clone_state(model)
    try:
        tuned = tbft.tune(base, arm, train)
    except TbftError as error:
        return str(error)
    seconds = time.process_time() - start
    unchanged = fingerprint(model.state_dict()) == fingerprint(state)
    patch = make_patch(state, tuned.changed, arm=arm, recipe={})
    patch.apply(model)
    expected = {**state, **tuned.changed}
    exact = fingerprint(model.state_dict()) == fingerprint(expected)
    after = accuracy(model, test)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            tensor.copy_(state[key])
    return {
        "arm": arm,
        "before": before,
        "after": after,
        "patch_exact": exact and unchanged,
        "cpu_seconds": round(seconds, 2),
    }


def _diagnosed(base: Base, toy: Toy) -> dict[str, Any]:
    """The levels diagnosed with a card."""
    try:
        card = tbft.build_card(base, toy.source(TESTED, 5))
        drifts = {"none": toy.source, "input": toy.drifted, "output": toy.relabeled}
        found = {what: tbft.diagnose(base, make(TUNED, 6), card=card).name for what, make in drifts.items()}
    except TbftError as error:
        return {"card": str(error)}
    return {"card_layers": len(card.layers), "card_bytes": len(card.to_bytes()), "diagnosed": found}


def table(rows: list[dict[str, Any]]) -> str:
    """A summary of the record as a Markdown table."""
    columns = ["network", "cuts found", "equal", "front", "late", "head", "patch", "AdaBN", "card: layers"]
    lines = [f"| {' | '.join(columns)} | diagnosed of none, input, output |", "|" + "---|" * 10]
    for row in rows:
        if not isinstance(row["cuts"], list):
            lines.append(f"| {row['network']} | {row['cuts']} |" + " |" * 8)
            continue
        arms = [_arrow(row[arm]) for arm in ("front", "late", "head")]
        end = ["exact" if row["patch"] else "NOT EXACT", _arrow(row["adabn"])]
        end += [
            str(row.get("card_layers", row.get("card"))),
            ", ".join(row.get("diagnosed", {}).values()),
        ]
        cells = [row["network"], " ".join(row["cuts"]), "yes", *arms, *end]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _arrow(cell: Any) -> str:
    return f"{cell['before']:.0f} → {cell['after']:.0f}" if isinstance(cell, dict) else str(cell)


def main() -> None:
    """Make the record and print the table."""
    parser = argparse.ArgumentParser(description="Twenty kinds of networks through everything.")
    parser.add_argument("names", nargs="*", help="networks (default all, which are also written down)")
    names = parser.parse_args().names
    torch.set_num_threads(1)
    start = time.process_time()
    rows = [row_of(name) for name in names or ARCHITECTURES]
    print("\n" + table(rows))
    if not names:
        sizes = {"trained": TRAINED, "tuned": TUNED, "tested": TESTED, "seeds": 1}
        store(RECORD, **sizes, cpu_seconds=round(time.process_time() - start), rows=rows)


if __name__ == "__main__":
    main()
