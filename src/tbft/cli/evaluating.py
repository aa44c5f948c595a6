"""``tbft evaluate``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json, show_notes
from tbft.cli.data_options import add_data, load_samples, show_data
from tbft.cli.diagnosing import add_card
from tbft.cli.model_options import add_model, load_base, settle_threads
from tbft.report.terminal import table

if TYPE_CHECKING:
    pass


EXAMPLES = """
tbft evaluate resnet26-cifar10 --weights base.pth --data test.tar
tbft evaluate resnet26-cifar10 --weights base.pth --patch user.safetensors --data test.tar --drift contrast:5
"""


def add(commands: Subparsers) -> None:
    parser = command(commands, "evaluate", "measure the accuracy of a model on a set", EXAMPLES)
    add_model(parser)
    add_data(parser)
    add_card(parser)
    parser.add_argument("--patch", metavar="FILE", help="apply this patch first (in memory)")
    parser.add_argument("--per-class", action="store_true", help="also print the accuracy of each class")
    add_json(parser)
    parser.set_defaults(run=run_evaluate)


def run_evaluate(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict, replace

    from tbft.base import noted_preprocessing
    from tbft.data.prepared import check_prepared
    from tbft.patches import Patch
    from tbft.verification.evaluation import evaluate_samples, warn_if_dependent

    base = load_base(arguments, load_samples)
    inputs, stored = base.inputs, {}
    if arguments.patch:
        patch = Patch.load(arguments.patch)
        patch.apply(base.model)
        if inputs.class_names:
            inputs = replace(inputs, class_names=inputs.class_names + patch.header.new_classes)
        stored = patch.header.preprocessing
        completed = inputs.completed_by(stored, "the patch")
        show_notes(noted_preprocessing(inputs, completed, "the patch"))
        inputs = completed
    samples = settle_threads(arguments, base.blocks, load_samples(arguments, inputs))
    notes = () if base.card is None else base.card.check_inputs(samples)  # the model may be a patched one
    samples = replace(samples, notes=(*samples.notes, *notes))
    check_prepared(samples, stored, "the patch")
    data = show_data(samples)
    result = evaluate_samples(base.blocks, samples)
    warn_if_dependent(base.blocks, samples)
    if arguments.json:
        print_json({"model": base.name, **data, "patch": arguments.patch, **asdict(result)})
        return
    share = f"{100 * result.score:.2f} % of {result.sample_count:,} samples"
    print(f"{samples.name}: {share}, loss {result.loss:.4f}")
    if arguments.per_class:
        counts = samples.class_counts()
        rows = [("class", "samples", "accuracy %")]
        rows += [
            (c, str(counts[c]), "-" if a is None else f"{100 * a:.1f}")
            for c, a in result.class_accuracies.items()
        ]
        print(table(rows, right="12"))
