"""Records of what selectors see and cost: evidence, gradients, options tried out, processor time."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from gradients import relative_gradients
from selector_oracle import key, options, read_records, wanted
from selector_records import Record
from shifts import Shift, model_blocks, source_parts, suite, train_of
from torch import nn
from tqdm import tqdm

from tbft.blocks import Blocks
from tbft.blocks.state import flags_restored, modes_restored, values_restored
from tbft.choosing.cost import Cost, predict_costs
from tbft.choosing.counting import stage_flops
from tbft.choosing.options import options_of
from tbft.data import Parts, Samples, split_samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.card_building import card_of_samples
from tbft.diagnosis.gathering import gather
from tbft.front_door import tune
from tbft.plan import Budget, Plan, find_recipe

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout
from paper.paper_way import paper_way

#: Draws of clean samples, each with its own seed, for false actions.
CLEAN_DRAWS = 40


def make_records(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.records
    cells = list(wanted(arguments.labeled, arguments.models))
    cells += [
        (replace(shift, seed=shift.seed), count, 1000 + draw + (500 if shift.half == "development" else 0))
        for model in arguments.models
        for shift in suite()
        if shift.model == model and shift.levels == "none"
        for count in (10, 2, 100)
        for draw in range(CLEAN_DRAWS)
    ]
    at_rest = [c for c in cells if c[0].drift == "clean" and c[2] < 2 and train_of(*c) is not None]
    timed = {(shift.model, labeled): (shift, labeled, seed) for shift, labeled, seed in at_rest}
    append(folder / "paper.jsonl", list(timed.values()), paper_cost)
    append(folder / "evidence.jsonl", cells, seen)
    if arguments.tryouts:  # expensive, so only for the half that is reported
        trials = [c for c in cells if c[1] == 10 and c[2] < 2 and c[0].half == arguments.half]
        append(folder / "tryouts.jsonl", trials, tried)


def append(
    path: Path, cells: list[tuple[Shift, int, int]], make: Callable[[Shift, int, int], Record | None]
) -> None:
    """Add missing records; each is a line of its own, so a stop loses at most one."""
    done = {key(record) for record in read_records([path] if path.exists() else [])}
    for shift, labeled, seed in tqdm([c for c in cells if (c[0].name, c[1], c[2]) not in done], path.stem):
        record = make(shift, labeled, seed)
        if record is not None:
            head = {"shift": shift.name, "labeled": labeled, "seed": seed, "half": shift.half}
            with path.open("a") as file:
                file.write(json.dumps({**head, "model": shift.model, **record}) + "\n")


CARDS: dict[str, SourceCard | None] = {}
COSTS: dict[tuple[str, int], Record] = {}


def seen(shift: Shift, labeled: int, seed: int) -> Record | None:
    """The evidence, the cost of each option, and the gradients that other selectors use."""
    train, blocks, card = train_of(shift, labeled, seed), model_blocks(shift.model), card_of(shift.model)
    if train is None:
        return None
    found: Record = {"evidence": gather(blocks, train, card).to_json()}
    if seed < 2:
        at = shift.model, labeled
        if at not in COSTS:
            COSTS[at] = {name: asdict(cost) for name, cost in costs_of(blocks, train).items()}
        found["costs"] = COSTS[at]
        found["block_flops"] = stage_flops(blocks, train.batch(slice(0, 1))[0])
        found["gradients"] = gradient_scores(
            blocks, train.subset(slice(0, 128)), clean_gradients(shift.model)
        )
    return found


def card_of(model: str) -> SourceCard | None:
    """None for Living-17, which has too few photos for a card."""
    if model not in CARDS:
        few = model == "resnet26-living17"
        CARDS[model] = None if few else card_of_samples(model_blocks(model), source_parts(model)[0])
    return CARDS[model]


def clean_gradients(model: str) -> dict[str, float]:
    """Relative gradient norms of each block on clean source samples."""
    if card_of(model) is None:
        return {}
    samples = source_parts(model)[0]
    at = np.random.default_rng(0).permutation(len(samples))[:128]
    return relative_gradients(model_blocks(model), samples.subset(at))


def costs_of(blocks: Blocks, samples: Samples) -> dict[str, Cost]:
    recipe, options = find_recipe("fast"), options_of(blocks.names, blocks.head, batch_norm=True)
    return predict_costs(blocks, {o.name: o.plan(recipe, 0, Budget()) for o in options}, samples)


def gradient_scores(
    blocks: Blocks, samples: Samples, clean: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Auto-RGN and Auto-SNR of Lee et al. (2023), section 5, for each block, and RGN over its clean value.

    RGN: norm of the gradient divided by that of the weights. SNR: squared mean divided by the variance of the
    gradient across samples, here across eight batches, averaged over a block's scalars. Importance, as in
    ElasticTrainer: gradient times update, here of one step of gradient descent, so the squared norm.
    """
    model, parts = blocks.model, np.array_split(np.arange(len(samples)), min(8, len(samples)))
    gradients: dict[str, list[torch.Tensor]] = defaultdict(list)
    with modes_restored(model), flags_restored(model):
        model.eval().requires_grad_(True)
        for at in parts:
            x, y = samples.batch(at)
            model.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), y).backward()
            for name, p in model.named_parameters():
                if p.grad is not None:
                    gradients[name].append(p.grad.detach().flatten().clone())
    weights = dict(model.named_parameters())
    scores: dict[str, dict[str, float]] = {"auto_rgn": {}, "auto_snr": {}, "clean_rgn": {}, "importance": {}}
    for block in blocks:
        own = [name for name in block.keys if name in gradients]
        stacked = torch.cat([torch.stack(gradients[name]) for name in own], dim=1)
        norm = float(torch.cat([weights[name].detach().flatten() for name in own]).norm())
        average, variance = stacked.mean(0), stacked.var(0)
        rgn = float(average.norm()) / norm
        scores["auto_rgn"][block.name] = rgn
        scores["auto_snr"][block.name] = float((average**2 / (variance + 1e-12)).mean())
        scores["clean_rgn"][block.name] = rgn / clean.get(block.name, 1.0)
        scores["importance"][block.name] = float(average.square().sum())
    return scores


def paper_cost(shift: Shift, labeled: int, seed: int) -> Record | None:
    train, blocks = train_of(shift, labeled, seed), model_blocks(shift.model)
    if train is None:
        return None
    once, few = find_recipe("paper").replace(epochs=1), train.subset(slice(0, 2))
    data = Parts(train, few, few, 0, None)
    paper_way(blocks, "full", once, replace(data, train=train.subset(slice(0, 16))), 0)  # warms up
    card = card_of(shift.model)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(
        3 if len(train) <= 200 else 1
    ):  # interleaved, so that both see the same load of the machine
        sides: dict[str, Callable[[], object]] = {
            "gather": partial(gather, blocks, train, card),
            "gradients": partial(gradient_scores, blocks, train.subset(slice(0, 128)), {}),
            "paper": partial(paper_way, blocks, "full", once, data, 0),
        }
        for name, work in sides.items():
            start = time.process_time()
            work()
            found[name].append(time.process_time() - start)
    return {
        "seconds": 10 * median(found["paper"]),
        "choosing_seconds": median(found["gather"]),
        "gradient_seconds": median(found["gradients"]),
    }


def tried(shift: Shift, labeled: int, seed: int) -> Record | None:
    """Selectors that try every option on folds of the labeled samples."""
    train, blocks = train_of(shift, labeled, seed), model_blocks(shift.model)
    if train is None:
        return None
    found = {}
    for name, select in (("halving", halving), ("cross_validation", cross_validation)):
        start = time.process_time()
        found[name] = {"option": select(blocks, train, seed), "seconds": time.process_time() - start}
    return found


def halving(blocks: Blocks, train: Samples, seed: int) -> str:
    """Every option for one epoch, the better half for two, and so on, judged on a quarter held out."""
    own = split_samples(train, 0.75, 0, 0.25, seed, "none")
    left, epochs = list(options(blocks)), 1
    while len(left) > 1:
        scores = {name: fold_accuracy(blocks, name, own.train, own.test, seed, epochs) for name in left}
        left = sorted(left, key=lambda name: -scores[name])[: -(-len(left) // 2)]
        epochs *= 2
    return left[0]


def cross_validation(blocks: Blocks, train: Samples, seed: int) -> str:
    """Every option in full on both halves, judged on the other."""
    own = split_samples(train, 0.5, 0, 0.5, seed, "none")
    folds = ((own.train, own.test), (own.test, own.train))
    scores = {n: mean(fold_accuracy(blocks, n, a, b, seed, None) for a, b in folds) for n in options(blocks)}
    return max(scores, key=lambda name: scores[name])


def fold_accuracy(
    blocks: Blocks, name: str, train: Samples, held_out: Samples, seed: int, epochs: int | None
) -> float:
    from selector_oracle import accuracy

    arm, share = options(blocks)[name]
    recipe = find_recipe("fast").given(epochs=epochs)
    tuned = tune(blocks, Plan(arm, recipe, statistics=share, seed=seed), train)
    with values_restored(blocks.model):
        blocks.model.load_state_dict({**blocks.model.state_dict(), **tuned.changed})
        return accuracy(blocks, held_out)
