"""Speed of every corruption, and whether a model sees a difference between ours and the official ones.

    TBFT_DATA=... python benchmarks/corruptions.py --json benchmarks/results/corruptions.json

Speed: pictures per second of processor time on one thread at severity 5, 32 px (2,000 CIFAR-10 pictures)
and 224 px (16 pictures, enlarged); median of interleaved repeats. And the wall time of writing all of
CIFAR-10's test set under the fifteen common corruptions with two processes.
Agreement: on each of the 57 reference sets (19 corruptions, severities 1, 3, 5, 100 pictures), the
released ResNet-26 classifies our corrupted pictures, with our own noise, and those of the official script. Of
the pictures that are classified correctly in only one version, half should be ours: the exact two-sided
    sign test
gives a p-value per set. The smallest of 57 falls below 0.05 / 57 by chance in one benchmark out of twenty.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from records import parser_of, store
from scipy.stats import binomtest
from tqdm import tqdm

from tbft.data import Samples, make_samples, read
from tbft.data.cifar10c import COMMON
from tbft.data.viewing import resize
from tbft.metering import Meter
from tbft.models import find_model, load_weights
from tbft.scenarios import apply_drift, drifts
from tbft.scenarios.writing import write_corruptions
from tbft.verification.running import predict

NAMES = sorted(drift.name for drift in drifts() if drift.level == "input")
SEVERITIES = (1, 3, 5)
REPEATS = 3


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ["TBFT_DATA"])
    cifar = read(data / "cifar10" / "test.tar")
    small = cifar.subset(slice(0, 10_000, 5))
    sets = {"32 px": small, "224 px": enlarged(small.subset(slice(0, 2000, 125)), 224)}
    record = {
        "pictures_per_cpu_second": {size: speeds(samples) for size, samples in sets.items()},
        "cifar10_c": whole_set(cifar),
        "agreement": agreements(data),
    }
    show(record)
    if arguments.json:
        store(arguments.json, **record)


def enlarged(samples: Samples, side: int) -> Samples:
    from PIL import Image

    inputs = np.stack([np.asarray(resize(Image.fromarray(x), side)) for x in samples.inputs])
    return replace(samples, inputs=inputs)


def speeds(samples: Samples) -> dict[str, dict[str, float]]:
    """Median, slowest and fastest, in pictures per processor second."""
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    warm = samples.subset(slice(0, 4))
    for name in NAMES:
        apply_drift(warm, f"{name}:5")
    for repeat in range(REPEATS):
        for name in tqdm(NAMES, f"speed, repeat {repeat + 1}", leave=False):
            start = time.process_time()
            apply_drift(samples, f"{name}:5", repeat)
            seconds[name].append(time.process_time() - start)
    rates = {name: sorted(len(samples) / s for s in times) for name, times in seconds.items()}
    return {n: {"median": median(r), "slowest": r[0], "fastest": r[-1]} for n, r in rates.items()}


def whole_set(samples: Samples) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Meter() as meter:
        write_corruptions(samples, COMMON, folder, (5,), workers=2)
    keys = ("wall_seconds", "energy_joules", "energy_kind", "energy_scope")
    measured = {key: getattr(meter.measurement, key) for key in keys}
    return {"pictures": len(samples), "corruptions": len(COMMON), "processes": 2, **measured}


def agreements(data: Path) -> dict[str, dict[str, float]]:
    """For each reference set: both accuracies, pictures correct in one version only, and the p-value."""
    preset = find_model("resnet26-cifar10")
    model = preset.build()
    load_weights(model, data / "checkpoints" / "resnet26_cifar10_released.pth")
    found = {}
    with np.load(data / "cifar10" / "corruption_reference.npz") as reference:
        for name, severity, ours, official in _pairs(reference, preset.inputs.class_names):
            right = [predict(model, s).argmax(1).numpy() == s.labels for s in (ours, official)]
            only_ours, only_official = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
            differ = only_ours + only_official
            found[f"{name}:{severity}"] = {
                "accuracy_ours": float(right[0].mean()),
                "accuracy_official": float(right[1].mean()),
                "only_ours": only_ours,
                "only_official": only_official,
                "p_value": float(binomtest(only_ours, differ).pvalue) if differ else 1.0,
            }
    return found


def _pairs(reference: Any, class_names: Any) -> Iterator[tuple[str, int, Samples, Samples]]:
    folders = [Path(str(file)).parent.name for file in reference["files"]]
    labels = [class_names.index(folder) for folder in folders]
    clean = make_samples(reference["clean"], labels, class_names)
    for name in tqdm(NAMES, "agreement", leave=False):
        for severity in SEVERITIES:
            official = replace(clean, inputs=reference[f"{name}_{severity}"])
            yield name, severity, apply_drift(clean, f"{name}:{severity}", seed=1), official


def show(record: dict[str, Any]) -> None:
    speed, agreement = record["pictures_per_cpu_second"], record["agreement"]
    print(f"{'corruption':20}{'32 px':>10}{'224 px':>10}   accuracy ours / official at 1, 3, 5 (smallest p)")
    for name in NAMES:
        cells = [agreement[f"{name}:{s}"] for s in SEVERITIES]
        shown = "  ".join(f"{c['accuracy_ours']:.2f}/{c['accuracy_official']:.2f}" for c in cells)
        rates = "".join(f"{speed[size][name]['median']:>10,.0f}" for size in speed)
        print(f"{name:20}{rates}   {shown}  ({min(c['p_value'] for c in cells):.2f})")
    p = sorted(cell["p_value"] for cell in agreement.values())
    difference = np.mean([c["accuracy_ours"] - c["accuracy_official"] for c in agreement.values()])
    print(f"smallest p of {len(p)}: {p[0]:.4f} (by chance below {0.05 / len(p):.4f} in one run of twenty)")
    print(f"mean difference of accuracy over all sets: {100 * difference:+.2f} points")
    whole = record["cifar10_c"]
    print(
        f"{whole['corruptions']} corruptions of {whole['pictures']:,} pictures: {whole['wall_seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
