"""What tuning a block costs at 64, 128 and 224 px, compared with full fine-tuning in the paper's own way.

    TBFT_DATA=... python benchmarks/larger_pictures.py --photos FOLDER --json \\
        benchmarks/results/larger_pictures.json

Processor time and the peak bytes of tensors, no accuracy: ResNet-18 and MobileNetV2 are untrained, as no
weights for them are at hand, which does not change what a step costs. The ResNet-26 has weights (Tiny-17 at
64 px, Living-17 at 128 px); its accuracy on Tiny-17 is in the record of ``tuning_cost.py``, and thirty photos
of Living-17 are too few to measure one.

Pictures are real and never enlarged: Tiny-17's at their own 64 px; the central 128 px of the 205 photos of
Living-17's classes, which are kept at 144 px; and for 224 px, as many photos from a folder of ``*.JPEG`` in
their original sizes, such as github.com/EliSchwartz/imagenet-sample-images (one photo for each class of
ImageNet): the first ones by name whose shorter side has 224 px, scaled down once to that, and the center cut
out. Their classes do not matter here; labels are the position modulo 17.

The paper's way is ``paper/paper_way.py``: ten epochs in batches of 128, without its early stop, which means
nothing for untrained weights. All epochs do the same work, so only two are timed, one at 224 px
(``epochs_timed``), and the time is scaled to ten. Ours is the recipe ``fast``, all of it. Each run is a
process of its own with one thread. The methods of a comparison follow each other, and stored runs are not
repeated. A short run comes first: in it the bytes are counted, and it serves as warm-up.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from larger_networks import MobileNetV2, ResNet18
from own_process import in_own_process
from PIL import Image
from records import missing, parser_of, store, stored_runs
from shifts import clean_pool, model_blocks
from tqdm import tqdm
from tuning_cost import cached_bytes

import tbft
from tbft.blocks import Blocks
from tbft.data import Parts, Samples, make_samples, split_samples
from tbft.front_door import tune
from tbft.metering import NO_SENSOR, Meter
from tbft.metering.tensor_bytes import TensorBytes
from tbft.plan import find_recipe, plan_level, replace_plan
from tbft.tuning.prefix_cache import CachePolicy

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout
from paper.paper_way import paper_way

CLASSES, PHOTOS = 17, 205
UNTRAINED = {"resnet18": ResNet18, "mobilenet-v2": MobileNetV2}
#: The ResNet-26, by the size of its pictures in px.
TRAINED = {64: "resnet26-tiny17", 128: "resnet26-living17"}
#: Network, side of the pictures in px, samples to tune on and to validate on (by the paper's way only).
CELLS = (
    *(("resnet18", px, 144, 31) for px in (128, 224)),
    *(("mobilenet-v2", px, 144, 31) for px in (128, 224)),
    ("resnet26", 128, 144, 31),
    *((network, 64, 144, 31) for network in ("resnet18", "mobilenet-v2", "resnet26")),
)
#: Where the drift would be -> what is tuned.
PLACES = {"front": "input", "late": "feature", "head": "output"}
PAPER_EPOCHS = 10
#: By the size of the pictures in px.
EPOCHS_TIMED = {64: 2, 128: 2, 224: 1}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photos in their original sizes, for 224 px")
    parser.add_argument("--json", type=Path, help="read finished runs from here and store new ones")
    parser.add_argument("--px", type=int, nargs="*", help="only pictures of these sizes")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_run(json.loads(arguments.one), arguments.photos)))
        return
    runs = stored_runs(arguments.json)
    asked = [cell for cell in cells() if not arguments.px or cell["px"] in arguments.px]
    if any(cell["px"] == 224 for cell in asked) and arguments.photos is None:
        parser.error("pictures of 224 px need --photos FOLDER, see --help; --px 64 128 leaves them out")
    for cell in tqdm(missing(asked, runs), "runs"):
        runs.append(in_own_process(cell))
        if arguments.json:
            store(arguments.json, ratios=compared(runs), runs=runs)
    show(compared(runs))


def cells() -> Iterator[dict[str, Any]]:
    """All runs; the methods of one comparison follow each other."""
    for network, px, train, val in CELLS:
        cell = {"network": network, "px": px, "train_samples": train, "val_samples": val}
        yield {**cell, "side": "paper", "arm": "full", "precision": "float32"}
        for arm in PLACES:
            for precision in ("bfloat16", "float32"):
                yield {**cell, "side": "ours", "arm": arm, "precision": precision}


def one_run(cell: dict[str, Any], photos: Path | None) -> dict[str, Any]:
    torch.set_num_threads(1)
    blocks, parts = blocks_of(cell["network"], cell["px"]), parts_of(cell, photos)
    work, arm, epochs = (paper_work if cell["side"] == "paper" else our_work)(cell, blocks)
    with TensorBytes() as counted:  # also the warm-up: torch builds kernels and imports modules on first use
        work(parts, short=True)
    with Meter(NO_SENSOR) as meter:
        work(parts, short=False)
    return {
        "tuned": arm,
        "epochs_timed": epochs,
        "cpu_seconds": meter.measurement.cpu_seconds,
        "wall_seconds": meter.measurement.wall_seconds,
        "peak_tensor_bytes": counted.peak + cached_bytes(blocks, arm, parts, cell["side"]),
    }


def paper_work(cell: dict[str, Any], blocks: Blocks) -> tuple[Callable[..., object], str, int]:
    """What to run on given parts, the arm, and how many epochs it takes."""
    epochs = EPOCHS_TIMED[cell["px"]]
    recipe = find_recipe("paper").replace(patience=None, epochs=epochs)

    def work(parts: Parts, short: bool) -> object:
        if short:  # one batch has the peak already
            parts = replace(parts, train=parts.train.subset(slice(0, recipe.duration.batch_size)))
        return paper_way(blocks, "full", recipe.replace(epochs=1) if short else recipe, parts, seed=0)

    return work, "full", epochs


def our_work(cell: dict[str, Any], blocks: Blocks) -> tuple[Callable[..., object], str, None]:
    recipe = find_recipe("fast").replace(precision=cell["precision"])
    plan = plan_level(PLACES[cell["arm"]], blocks.names, blocks.head, recipe)

    def work(parts: Parts, short: bool) -> object:
        shortened = replace_plan(plan, recipe=recipe.replace(length=0.05))  # two steps
        return tune(blocks, shortened if short else plan, parts.train, cache=CachePolicy())

    return work, plan.arm.name, None


def blocks_of(network: str, px: int) -> Blocks:
    if network == "resnet26":
        return model_blocks(TRAINED[px])
    torch.manual_seed(0)
    return tbft.split(UNTRAINED[network](CLASSES).eval())


def parts_of(cell: dict[str, Any], photos: Path | None) -> Parts:
    return split_samples(pictures(cell["px"], photos), cell["train_samples"], cell["val_samples"], 0)


def pictures(px: int, photos: Path | None) -> Samples:
    if px == 64:
        return clean_pool(TRAINED[64], "target", None)
    if px == 128:
        sets = [clean_pool(TRAINED[128], domain, None) for domain in ("source", "target")]
        inputs, labels = (
            np.concatenate([getattr(part, name) for part in sets]) for name in ("inputs", "labels")
        )
        return make_samples(inputs, labels, sets[0].class_names, name="photos")
    assert photos is not None
    found = [path for path in sorted(photos.glob("*.JPEG")) if min(Image.open(path).size) >= px][:PHOTOS]
    if len(found) < PHOTOS:
        raise SystemExit(f"{photos} has {len(found)} photos of {px} px or more; {PHOTOS} are needed")
    inputs = np.stack([scaled_down(path, px) for path in found])
    return make_samples(inputs, np.arange(PHOTOS) % CLASSES, name="photos")


def scaled_down(path: Path, px: int) -> Any:
    """The central square of a photo whose shorter side is scaled to `px`: (px, px, 3), 8 bits."""
    with Image.open(path) as photo:
        factor = px / min(photo.size)
        width, height = (max(px, round(side * factor)) for side in photo.size)
        small = photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - px) // 2, (height - px) // 2
    return np.asarray(small.crop((left, top, left + px, top + px)))


def compared(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours relative to the paper's full fine-tuning of the same samples, for ten epochs of it."""
    same = ("network", "px", "train_samples")
    full = {tuple(run[key] for key in same): run for run in runs if run["side"] == "paper"}
    rows = []
    for run in runs:
        paper = full.get(tuple(run[key] for key in same))
        if run["side"] == "paper" or paper is None:
            continue
        scale = PAPER_EPOCHS / paper["epochs_timed"]
        rows.append(
            {
                **{key: run[key] for key in (*same, "arm", "tuned", "precision", "cpu_seconds")},
                "cpu_seconds_paper": scale * paper["cpu_seconds"],
                "cpu_ratio": run["cpu_seconds"] / (scale * paper["cpu_seconds"]),
                "wall_ratio": run["wall_seconds"] / (scale * paper["wall_seconds"]),
                "peak_tensor_ratio": run["peak_tensor_bytes"] / paper["peak_tensor_bytes"],
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'network':14}{'px':>4}{'samples':>8} {'arm':6}{'precision':>9}{'cpu s':>8}{'full s':>8}"
        f"{'cpu %':>7}{'tensors %':>10}"
    )
    for row in rows:
        print(
            f"{row['network']:14}{row['px']:4}{row['train_samples']:8} {row['arm']:6}{row['precision']:>9}"
            f"{row['cpu_seconds']:8.1f}{row['cpu_seconds_paper']:8.1f}{100 * row['cpu_ratio']:7.1f}"
            f"{100 * row['peak_tensor_ratio']:10.1f}"
        )


if __name__ == "__main__":
    main()
