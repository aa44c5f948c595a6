"""Folders of records keep their names, and runs their ids, whatever the code calls things."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from paper.bench import Bench, arms_recipe, split_digest, with_batches_of
from paper.experiments import OURS, find_experiment
from paper.identity import hashed, recipe_identity
from paper.records import read_file, read_identity
from paper.runner import make_settings
from paper.runs import Cell, Run
from tbft.models import find_model
from tbft.plan import Recipe, find_recipe
from tbft.plan.numbers import Joint

RESULTS = Path(__file__).parents[2] / "results"
FOLDERS = pytest.mark.parametrize(
    "folder", sorted(p.parent for p in RESULTS.glob("*/records.jsonl")), ids=str
)


@FOLDERS
def test_recorded_runs_have_the_ids_that_the_code_gives_them(folder):
    identity, records = read_identity(folder), read_file(folder / "records.jsonl")
    group = folder.name.rpartition("-")[2]
    assert hashed(identity, 8) == group
    experiment = find_experiment(identity["experiment"], identity["quick"])
    preset = find_model(identity["model"])
    assert identity["recipe"] == recipe_identity(arms_recipe(experiment, preset, records[0]["recipe"]))
    fast = with_batches_of(experiment, find_recipe("fast", preset.recipes))
    first = recipe_identity(fast.replace(front=None, joint=Joint()))  # the recipe of the first records
    ours = [hashed(first, 8), hashed({**recipe_identity(fast), "version": OURS}, 8)]
    for record in records:
        cell = Cell(*(record[name] for name in ("drift", "noised", "size", "seed")))
        definitions = ours if record["method"] == "ours" else [""]
        assert record["id"] in [Run(group, cell, record["method"], one).id for one in definitions]


def leaves(value, path=()):
    """(path of names, value) of every plain field, at any depth."""
    for field in fields(value):
        inner = getattr(value, field.name)
        yield from (
            leaves(inner, (*path, field.name)) if is_dataclass(inner) else [((*path, field.name), inner)]
        )


def changed(value, path, leaf):
    name, *rest = path
    return replace(value, **{name: changed(getattr(value, name), rest, leaf) if rest else leaf})


@pytest.mark.parametrize("path", [path for path, _ in leaves(find_recipe("fast"))], ids=".".join)
def test_every_field_of_a_recipe_is_part_of_its_identity(path):
    """A new field of `Recipe` needs a key, and a default, in paper/identity.py."""
    recipe: Recipe = find_recipe("fast")
    leaf = dict(leaves(recipe))[path]
    other = not leaf if isinstance(leaf, bool) else "other" if isinstance(leaf, str) else (leaf or 1.0) / 2
    other = leaf + 1 if type(leaf) is int else other
    same = recipe_identity(changed(recipe, path, other)) == recipe_identity(recipe)
    assert same == (path[-1] in ("name", "source"))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "recipe"), [("tiny17", "paper"), ("cifar-flip", "paper"), ("living17-photos", "fast")]
)
def test_recorded_runs_are_found_with_the_real_data(name, recipe, data_dir):
    """Base model, data and split are those of the records: reading and splitting have not changed."""
    bench = Bench(make_settings(name, recipe))
    folder = RESULTS / f"{name}-{hashed(bench.identity(), 8)}"
    assert read_identity(folder) == json.loads(json.dumps(bench.identity()))
    record = read_file(folder / "records.jsonl")[0]
    cell = Cell(*(record[key] for key in ("drift", "noised", "size", "seed")))
    parts, _ = bench.drawn(cell)
    assert split_digest(parts) == record["split_digest"]
