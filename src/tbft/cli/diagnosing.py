"""``tbft card`` and ``tbft diagnose``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbft.cli.common import (
    Subparsers,
    add_data,
    add_json,
    add_model,
    add_profile,
    command,
    load_profile,
    load_recipe,
    load_samples,
    load_trained,
    print_json,
    table,
)

if TYPE_CHECKING:
    from tbft.choosing.choice import Choice
    from tbft.diagnosis.card import SourceCard
    from tbft.diagnosis.levels import Diagnosis
    from tbft.models import Preset

BUILD_EXAMPLES = """
tbft card build resnet26-cifar10 --weights base.pth --data held_out.tar --out base.card.safetensors
tbft card build my.models:net --data validation.npz --out net.card.safetensors
"""
SHOW_EXAMPLES = "tbft card show base.card.safetensors\ntbft card show base.card.safetensors --json"
DIAGNOSE_EXAMPLES = """
tbft diagnose resnet26-cifar10 --weights base.pth --card base.card.safetensors --data set.tar --explain
tbft diagnose resnet26-cifar10 --weights base.pth --data test.tar --drift fog:3 --samples 10/class
tbft diagnose my.models:net --data phone.npz --unlabeled --json
"""


def add(commands: Subparsers) -> None:
    card = commands.add_parser("card", help="make and show source cards", allow_abbrev=False)
    actions = card.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = command(actions, "build", "make a source card from held-out source samples", BUILD_EXAMPLES)
    add_model(build)
    add_data(build)
    build.add_argument("--out", metavar="FILE", required=True, help="the card to write (.safetensors)")
    add_json(build)
    build.set_defaults(run=run_build)
    show = command(actions, "show", "show what a source card says", SHOW_EXAMPLES)
    show.add_argument("card", metavar="FILE")
    add_json(show)
    show.set_defaults(run=run_show)

    parser = command(commands, "diagnose", "tell the level of drift that samples show", DIAGNOSE_EXAMPLES)
    add_model(parser)
    add_data(parser)
    add_card(parser)
    parser.add_argument(
        "--samples", metavar="N", help="use so many: a fraction, 500, or 10/class (default all)"
    )
    parser.add_argument("--unlabeled", action="store_true", help="do not look at the labels")
    parser.add_argument(
        "--explain", action="store_true", help="also tell what would be done, and at what cost"
    )
    add_profile(parser)
    parser.set_defaults(recipe="fast", epochs=None, batch_size=None, learning_rate=None)
    add_json(parser)
    parser.set_defaults(run=run_diagnose)


def add_card(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--card",
        metavar="FILE",
        help="source card of the base model (tbft card build); default: what ships with it, or none",
    )


def load_card(arguments: argparse.Namespace, preset: Preset) -> SourceCard | None:
    """The card that the options name, or the one that ships with the weights used."""
    from tbft.diagnosis.card import SourceCard

    path = arguments.card or (None if arguments.weights else preset.card)
    return SourceCard.load(path) if path else None


def run_build(arguments: argparse.Namespace) -> None:
    from tbft.diagnosis.card import build_card
    from tbft.files import check_writable

    out = check_writable(arguments.out, ".safetensors")
    preset, model = load_trained(arguments)
    card = build_card(preset.split(model), load_samples(arguments, preset), arguments.seed)
    card.save(out)
    _print_card(card, str(out), arguments.json)


def run_show(arguments: argparse.Namespace) -> None:
    from tbft.diagnosis.card import SourceCard

    _print_card(SourceCard.load(arguments.card), arguments.card, arguments.json)


def _print_card(card: SourceCard, path: str, as_json: bool) -> None:
    size = len(card.to_bytes())
    if as_json:
        names = ("base_fingerprint", "sample_count", "accuracy", "confidence")
        fields = {name: getattr(card, name) for name in names}
        print_json(
            {"path": path, "bytes": size, **fields, "places": card.places, "gradients": card.gradients}
        )
        return
    gradients = ", ".join(f"{block} {norm:.2f}" for block, norm in card.gradients.items())
    rows = [
        ("card", f"{path}: {size:,} bytes"),
        ("base", card.base_fingerprint[:16]),
        ("made from", f"{card.sample_count:,} source samples"),
        ("accuracy", f"{100 * card.accuracy:.1f} %, mean confidence {100 * card.confidence:.1f} %"),
        ("places", f"{len(card.places)}, from {card.places[0]} to {card.places[-1]}"),
        ("gradients", f"{gradients} (norm over that of the weights)"),
    ]
    print(table(rows))


def run_diagnose(arguments: argparse.Namespace) -> None:
    from tbft.data import split_samples
    from tbft.diagnosis.levels import diagnose
    from tbft.pipeline import choose_plan

    preset, model = load_trained(arguments)
    card = load_card(arguments, preset)
    blocks = preset.split(model)
    samples = load_samples(arguments, preset)
    if arguments.samples:
        samples = split_samples(samples, arguments.samples, 0, 0, arguments.seed, "none").train
    labeled = not arguments.unlabeled
    choice = None
    if arguments.explain:
        recipe = load_recipe(arguments, preset)
        choice = choose_plan(
            blocks, samples, recipe, card, None, arguments.seed, labeled, profile=load_profile(arguments)
        )
        diagnosis = choice.diagnosis
    else:
        diagnosis = diagnose(blocks, samples, card, labeled)
    if arguments.json:
        print_json({**diagnosis.to_json(), "choice": None if choice is None else choice.to_json()})
        return
    print(diagnosis_text(diagnosis))
    if choice is not None:
        print("\n" + choice_text(choice))


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """Levels and reasons, one a line."""
    name = f"drift at the level: {' and '.join(diagnosis.levels)}" if diagnosis.levels else {
        "none": "no drift, or none that matters", "cannot tell": "cannot tell"
    }[diagnosis.verdict]  # fmt: skip
    lines = [f"{name} (confidence {100 * diagnosis.confidence:.0f} %)"]
    lines += [f"  - {reason}" for reason in diagnosis.reasons]
    if diagnosis.advice:
        lines.append(f"to be surer: {diagnosis.advice}")
    return "\n".join(lines)


def choice_text(choice: Choice) -> str:
    """What every option promises and costs, and which was taken."""
    rows = [("option", "expected %", "seconds", "joules", "patch bytes", "")]
    for name, cost in choice.costs.items():
        value = choice.expected_accuracies.get(name)
        shown = "-" if value is None else f"{100 * value:.0f}"
        energy = "unavailable" if cost.energy_joules is None else f"{cost.energy_joules:.1f}"
        note = "<- taken" if name == choice.option else choice.excluded.get(name, "")
        rows.append((name, shown, f"{cost.cpu_seconds:.1f}", energy, f"{cost.patch_bytes:,}", note))
    return f"{table(rows, right='1234')}\n{choice.explanation}"
