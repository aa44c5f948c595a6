"""``tbft personalize --new-classes``."""

from __future__ import annotations

import argparse
from dataclasses import replace

from tbft.cli.common import not_shown, print_json, save_patch
from tbft.cli.data_options import load_samples, show_data
from tbft.cli.model_options import load_base, settle_threads
from tbft.cli.parts_options import load_parts
from tbft.errors import PlanError

#: Options of ``personalize`` that have no effect here, and their defaults.
IGNORED = {
    "report": None,
    "explain": False,
    "cautious": True,
    "restart": False,
    "budget_seconds": None,
    "budget_memory": None,
    "budget_joules": None,
    "choose_seconds": None,
    "worth": None,
    "recipe": "fast",
    "epochs": None,
    "batch_size": None,
    "learning_rate": None,
    "precision": None,
    "source_share": None,
    "cache_memory": None,
    "cache_folder": None,
    "sensor": None,
    "profile": None,
}


def _refuse_ignored(arguments: argparse.Namespace) -> None:
    given = [name for name, default in IGNORED.items() if getattr(arguments, name, default) != default]
    if given:
        options = ["no-cautious" if name == "cautious" else name.replace("_", "-") for name in given]
        raise PlanError(
            "--new-classes computes rows of the head in forward passes, without a budget or a recipe: "
            f"leave out --{', --'.join(options)} (--json writes the figures of the result)"
        )


def run_new_classes(arguments: argparse.Namespace) -> str:
    """Add the classes that the samples have, but the model does not, and return the status of the result."""
    from tbft.data.amounts import SplitBy
    from tbft.files import PATCH, claim
    from tbft.new_classes import add_classes

    _refuse_ignored(arguments)
    if arguments.out:
        claim(arguments.out, PATCH, [arguments.weights, arguments.card, arguments.data])
    base = load_base(arguments, load_samples)
    inputs = replace(base.inputs, class_names=None)
    samples = settle_threads(arguments, base.blocks, load_samples(arguments, inputs))
    # Without a val part, every sample is judged by a head that was learned on the others.
    parts = load_parts(
        arguments,
        samples,
        inputs,
        SplitBy(arguments.seed, arguments.group_by, arguments.order, min_val=len(samples)),
    )
    data = show_data(samples, parts)
    result = add_classes(base, parts, seed=arguments.seed)
    out_path = save_patch(result, arguments.out)
    if arguments.json:
        print_json({**result.to_json(), **data, "patch_path": out_path})
    else:
        print(replace(result, notes=tuple(not_shown(result.notes))))
    return result.status
