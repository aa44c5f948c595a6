"""New classes on real pictures: what is learned of them, and what the old classes lose.

The shipped ResNet-26 for CIFAR-10 gets one or three classes of Tiny-ImageNet, resized to 32 px, that are
foreign to CIFAR-10 (no dogs, cats, birds, hoofed animals, cars, trucks). Old classes are protected by the
features that the shipped card keeps, and in some runs also by ten pictures of each old class. Everything is
tested on pictures of old and new classes that took no part. The patch changes the head alone, so features
are computed once; the first patch is also run through the whole model.

    TBFT_DATA=/folder python benchmarks/new_classes.py [--features FILE]
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from records import parser_of, store
from torch import Tensor, nn

import tbft
from tbft.base import Base
from tbft.data import Samples, read
from tbft.verification.running import predict

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "new_classes.json"
BASE = "resnet26-cifar10-jpeg"
#: Superclasses of Tiny-17 that CIFAR-10 has, too.
KNOWN = {"dog", "cat", "bird", "ungulate", "car", "large vehicle"}
#: Number of new classes, pictures of each, and pictures of each old class.
SETTINGS = ((1, 10, 0), (1, 50, 0), (3, 50, 0), (3, 50, 10))
SEEDS = 5
#: Number of pictures of old classes, and of each new one, that are used at most.
OLD, NEW = 6000, 200


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of old and new classes with the features that the base computes, computed once."""

    samples: Samples
    features: Tensor

    def __getitem__(self, at: Any) -> Pictures:
        return Pictures(self.samples.subset(at), self.features[at])


def features_of(base: Base, samples: Samples) -> Tensor:
    """Inputs of the head (n, d)."""
    features: list[Tensor] = []
    head = base.model.get_submodule(base.blocks.head_layer)
    handle = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    predict(base.model, samples)
    handle.remove()
    return torch.cat(features)


def with_features(base: Base, sets: Sequence[Samples], cache: Path | None) -> list[Pictures]:
    """Sets with their features, which are kept in a file, if one is given."""
    if cache is not None and cache.exists():
        features = [torch.from_numpy(f) for f in np.load(cache).values()]
    else:
        features = [features_of(base, samples) for samples in sets]
        if cache is not None:
            np.savez(cache, *[f.numpy() for f in features])
    return [Pictures(s, f) for s, f in zip(sets, features, strict=True)]


def joined(parts: Sequence[Samples]) -> Samples:
    """Samples of several sets, labeled by the names of their classes."""
    names = list(dict.fromkeys(name for part in parts for name in part.class_names))
    labels = [[names.index(part.class_names[label]) for label in part.labels] for part in parts]
    inputs = [np.stack([np.asarray(part.inputs[i]) for i in range(len(part))]) for part in parts]
    return tbft.make_samples(np.concatenate(inputs), np.concatenate(labels), names, name="old and new")


def run(base: Base, old: Pictures, new: Pictures, setting: tuple[int, int, int], seed: int) -> dict[str, Any]:
    """Learn new classes once, and test on all pictures that took no part."""
    count, pictures, of_old = setting
    rng = np.random.default_rng(seed)
    classes = rng.choice(len(new.samples.class_names), count, replace=False)
    pools = [rng.permutation(np.flatnonzero(new.samples.labels == c)) for c in classes]
    learned = [new.samples.subset(np.concatenate([pool[:pictures] for pool in pools]))]
    order = rng.permutation(len(old.samples))
    own = np.concatenate([order[old.samples.labels[order] == c][:of_old] for c in range(10)])
    if of_old:
        learned.append(old.samples.subset(own))
    result = tbft.add_classes(base, joined(learned), seed=seed)
    row: dict[str, Any] = {"new_classes": count, "pictures": pictures, "old_pictures": of_old, "seed": seed}
    row |= {"status": result.status, "names": list(result.classes)}
    row |= {"judged": {"new": result.new_accuracy, "old": [result.old_before, result.old_after]}}
    row |= {"cpu_seconds": round(result.measurement.cpu_seconds, 2)}
    if result.status == "patched":
        kept_old = old[np.setdiff1d(np.arange(len(old.samples)), own)]
        kept_new = new[np.concatenate([pool[pictures:] for pool in pools])]
        row |= {"tested": tested(base, result, kept_old, kept_new)}
    return row


def tested(base: Base, result: tbft.NewClasses, old: Pictures, new: Pictures) -> dict[str, Any]:
    """Accuracy on pictures that took no part: of old classes before and after, and of new ones."""
    weight, bias = (result.patch.tensors[f"{base.blocks.head_layer}.{key}"] for key in ("weight", "bias"))
    names = (*old.samples.class_names, *result.classes)

    def correct(pictures: Pictures, rows: int) -> float:
        logits = nn.functional.linear(pictures.features, weight[:rows], bias[:rows])
        labels = [names.index(pictures.samples.class_names[label]) for label in pictures.samples.labels]
        return float((logits.argmax(1) == torch.tensor(labels)).float().mean())

    before = correct(old, len(old.samples.class_names))
    return {"old": [before, correct(old, len(names))], "new": correct(new, len(names))}


def check_whole_model(base: Base, old: Pictures, new: Pictures) -> None:
    """Raise AssertionError unless the patched model computes what its head computes from the features."""
    few = joined([new[np.flatnonzero(new.samples.labels == 0)[:50]].samples])
    result = tbft.add_classes(base, few)
    rows = [result.patch.tensors[f"{base.blocks.head_layer}.{key}"] for key in ("weight", "bias")]
    with result.patch.applied(base.model):
        outputs = predict(base.model, old.samples.subset(np.arange(100)))
    assert torch.allclose(outputs, nn.functional.linear(old.features[:100], *rows), atol=1e-3)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each setting: what is learned and lost in the mean, and at worst."""
    lines = []
    for setting in SETTINGS:
        found = [r for r in rows if (r["new_classes"], r["pictures"], r["old_pictures"]) == setting]
        patched = [r["tested"] for r in found if "tested" in r]
        lost = [100 * (t["old"][0] - t["old"][1]) for t in patched]
        learned = [100 * t["new"] for t in patched]
        line: dict[str, Any] = dict(zip(("new_classes", "pictures", "old_pictures"), setting, strict=True))
        line |= {"patched": len(patched), "of": len(found)}
        if patched:
            line |= {
                "old_before": round(mean(100 * t["old"][0] for t in patched), 1),
                "old_lost_mean": round(mean(lost), 2),
                "old_lost_max": round(max(lost), 2),
                "new_mean": round(mean(learned), 1),
                "new_min": round(min(learned), 1),
                "new_max": round(max(learned), 1),
            }
        lines.append(line)
    return lines


def sets_of(base: Base, folder: Path) -> tuple[Samples, Samples]:
    """Pictures of old classes, and of new ones."""
    test = read(folder / "cifar10" / "test.tar", base.inputs)
    old = test.subset(np.random.default_rng(0).permutation(len(test))[:OLD])
    splits = json.loads((folder / "tiny17" / "splits.json").read_text())
    foreign = [leaf["wnid"] for c in splits["superclasses"] if c["name"] not in KNOWN for leaf in c["source"]]
    photos = read(folder / "tiny17" / "source.tar", replace(base.inputs, class_names=None))
    kinds = np.array([photos.class_names[label] for label in photos.labels])
    at = np.concatenate([np.flatnonzero(kinds == name)[:NEW] for name in foreign])
    labels = [foreign.index(kind) for kind in kinds[at]]
    return old, tbft.make_samples(photos.subset(at).inputs, labels, foreign, name="new")


def main() -> None:
    """Make the record and print a summary."""
    parser = parser_of(__doc__)
    parser.add_argument("--features", type=Path, metavar="FILE", help=".npz to keep features in")
    cache = parser.parse_args().features
    torch.set_num_threads(1)
    start = time.process_time()
    base = tbft.load_base(BASE)
    old, new = with_features(base, sets_of(base, Path(os.environ["TBFT_DATA"])), cache)
    check_whole_model(base, old, new)
    rows = []
    for setting in SETTINGS:
        for seed in range(SEEDS):
            rows.append(run(base, old, new, setting, seed))
            print(json.dumps(rows[-1]), flush=True)
    for line in summary(rows):
        print(line)
    content = {
        "base": BASE,
        "pictures": {"old": len(old.samples), "of each new class": NEW},
        "cpu_seconds": round(time.process_time() - start),
        "summary": summary(rows),
        "rows": rows,
    }
    store(RECORD, **content)


if __name__ == "__main__":
    main()
