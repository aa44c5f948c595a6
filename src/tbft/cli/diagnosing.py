"""``tbft card`` and ``tbft diagnose``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tbft.cli.common import Subparsers, add_json, add_profile, command, load_profile, print_json, show_notes
from tbft.cli.data_options import add_data, add_some, load_samples, load_some, show_data
from tbft.cli.model_options import add_model, load_base, settle_threads
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.diagnosis.card import SourceCard

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
    card = commands.add_parser("card", help="build and show source cards", allow_abbrev=False)
    actions = card.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = command(actions, "build", "build a source card from held-out source samples", BUILD_EXAMPLES)
    add_model(build)
    add_data(build)
    build.add_argument("--out", metavar="FILE", required=True, help="source card to write (.safetensors)")
    add_json(build)
    build.set_defaults(run=run_build)
    show = command(actions, "show", "print a summary of a source card", SHOW_EXAMPLES)
    show.add_argument("card", metavar="FILE")
    add_json(show)
    show.set_defaults(run=run_show)

    parser = command(commands, "diagnose", "diagnose the level of drift from samples", DIAGNOSE_EXAMPLES)
    add_model(parser)
    add_data(parser)
    add_card(parser)
    add_some(parser)
    parser.add_argument("--unlabeled", action="store_true", help="ignore the labels")
    parser.add_argument(
        "--explain", action="store_true", help="also print the plan that would be chosen, and its cost"
    )
    add_profile(parser)
    add_json(parser)
    parser.set_defaults(run=run_diagnose)


def add_card(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--card",
        metavar="FILE",
        help="source card of the base model (tbft card build); default: the one shipped with it, or none",
    )


def run_build(arguments: argparse.Namespace) -> None:
    from tbft.diagnosis.card_building import card_of_samples
    from tbft.files import CARD, claim

    out = claim(arguments.out, CARD, [arguments.weights, arguments.data])
    base = load_base(arguments, load_samples)
    samples = settle_threads(arguments, base.blocks, load_samples(arguments, base.inputs))
    data = show_data(samples)
    card = card_of_samples(base.blocks, samples, arguments.seed)
    card.save(out)
    show_notes(card.notes)
    _print_card(card, str(out), arguments.json, data)


def run_show(arguments: argparse.Namespace) -> None:
    from tbft.diagnosis.card import SourceCard

    _print_card(SourceCard.load(arguments.card), arguments.card, arguments.json)


def _print_card(card: SourceCard, path: str, as_json: bool, data: Mapping[str, Any] | None = None) -> None:
    from tbft.data.preprocessing import Preprocessing

    size = len(card.to_bytes())
    if as_json:
        names = ("base_fingerprint", "sample_count", "accuracy", "confidence")
        fields = {name: getattr(card, name) for name in names}
        inputs = None if card.inputs is None else card.inputs.to_json()
        known = {"layers": card.layers, "preprocessing": dict(card.preprocessing), "inputs": inputs}
        print_json({"path": path, "bytes": size, **fields, **known, "warnings": card.notes, **(data or {})})
        return
    rows = [
        ("card", f"{path}: {size:,} bytes"),
        ("base", card.base_fingerprint[:16]),
        ("made from", f"{card.sample_count:,} source samples"),
        ("accuracy", f"{100 * card.accuracy:.1f} %, mean confidence {100 * card.confidence:.1f} %"),
        ("layers", f"{len(card.layers)}, from {card.layers[0]} to {card.layers[-1]}"),
    ]
    if card.preprocessing:
        rows.append(("preprocessing", str(Preprocessing.from_json(card.preprocessing))))
    if card.inputs is not None:
        shape = "x".join(map(str, card.inputs.shape))
        rows.append(("inputs", f"{shape}, from {card.inputs.low:.4g} to {card.inputs.high:.4g}"))
    rows += [("warning", note) for note in card.notes if data is None]  # else they are printed already
    print(table(rows))


def run_diagnose(arguments: argparse.Namespace) -> None:
    from tbft.choosing.planning import Setting, choose_plan
    from tbft.front_door import diagnose
    from tbft.plan import Allowance
    from tbft.report.terminal import choice_text, diagnosis_text

    base = load_base(arguments, load_samples)
    samples = base.checked(settle_threads(arguments, base.blocks, load_some(arguments, base.inputs)))
    data = show_data(samples)
    labeled, choice = not arguments.unlabeled, None
    if arguments.explain:
        setting = Setting(base.recipe("fast"), base.card, labeled, seed=arguments.seed)
        allowance = Allowance(profile=load_profile(arguments))
        choice = choose_plan(base.blocks, samples, setting, allowance)
        diagnosis = choice.diagnosis
    else:
        diagnosis = diagnose(base, samples, labeled=labeled)
    plain = None if choice is None else choice.to_json()
    if arguments.json:
        print_json({**diagnosis.to_json(), "choice": plain, **data})
        return
    print(diagnosis_text(diagnosis.to_json()))
    if plain is not None:
        print("\n" + choice_text(plain))
