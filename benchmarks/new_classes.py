"""Teach the shipped CIFAR-10 base classes of photos that it does not know, and measure both sides.

    python benchmarks/new_classes.py --data DIR --out benchmarks/results/new_classes.json

The card is built on the first 2,000 pictures of CIFAR-10's test set; old classes are measured on the other
8,000. New classes are photos of Tiny ImageNet, scaled to 32 pixels: learned from pictures and measured on
those that were not learned from. Nothing was fitted on either.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import tbft
from tbft.files import atomic_path
from tbft.models import find_model

#: Butterfly and banana, basketball and scorpion, pizza and seashore.
CHOICES = (("n02279972", "n07753592"), ("n02802426", "n01770393"), ("n07873807", "n09428293"))
COUNTS, SEEDS = (10, 50), 3


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10 and tiny17")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    inputs = find_model("resnet26-cifar10-jpeg").inputs
    old = tbft.read(arguments.data / "cifar10" / "test.tar", inputs)
    base = tbft.load_base("resnet26-cifar10-jpeg")
    base = replace(base, card=tbft.build_card(base, old.subset(np.arange(2000))))
    kept = old.subset(np.arange(2000, len(old)))
    photos = tbft.read(arguments.data / "tiny17" / "source.tar", replace(inputs, class_names=None))
    rows = []
    for names in CHOICES:
        for count in COUNTS:
            for seed in range(SEEDS):
                rows.append(measured(base, kept, photos, names, count, seed))
                print(rows[-1])
    found = {"torch": torch.__version__, "threads": torch.get_num_threads(), "runs": rows}
    for count in COUNTS:
        own = [row for row in rows if row["samples_per_class"] == count]
        found[f"medians of {count} a class"] = {key: median(row[key] for row in own) for key in MEASURED}
    with atomic_path(arguments.out) as path:
        path.write_text(json.dumps(found, indent=1) + "\n")


MEASURED = ("old_before", "old_after", "new", "cpu_seconds", "patch_bytes")


def measured(
    base: Any, kept: tbft.Samples, photos: tbft.Samples, names: tuple[str, ...], count: int, seed: int
) -> dict[str, Any]:
    """One run: `count` pictures of each of the new classes, a fifth of them held out by tbft."""
    generator = np.random.default_rng(seed)
    label = {name: photos.class_names.index(name) for name in names}
    pools = {n: generator.permutation(np.flatnonzero(photos.labels == k)) for n, k in label.items()}
    train = photos.subset(np.concatenate([pool[:count] for pool in pools.values()]))
    result = tbft.add_classes(base, train, seed=seed)
    rest = np.concatenate([pool[count:] for pool in pools.values()])
    row = {"classes": names, "samples_per_class": count, "seed": seed, "status": result.status}
    before = tbft.evaluate(base, kept).accuracy
    position = {label[name]: 10 + result.classes.index(name) for name in names}
    wanted = np.array([position[k] for k in photos.labels[rest]])
    with result.patch.applied(base.model):
        after = float((_predicted(base.model, kept) == kept.labels).mean())
        new = float((_predicted(base.model, photos.subset(rest)) == wanted).mean())
    return {
        **row,
        "old_before": before,
        "old_after": after,
        "old_count": len(kept),
        "new": new,
        "new_count": len(rest),
        "held_out_new": result.new_accuracy,
        "cpu_seconds": result.measurement.cpu_seconds,
        "patch_bytes": len(result.patch.to_bytes()),
    }


@torch.no_grad()
def _predicted(model: torch.nn.Module, samples: tbft.Samples) -> Any:
    starts = range(0, len(samples), 256)
    logits = [model(samples.batch(slice(at, at + 256))[0]) for at in starts]
    return torch.cat(logits).argmax(1).numpy()


if __name__ == "__main__":
    main()
