"""``tbft forecast``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json
from tbft.cli.data_options import add_data, add_some, load_samples, load_some, show_data
from tbft.cli.diagnosing import add_card
from tbft.cli.model_options import add_model, load_base, settle_threads
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.choosing.label_forecast import Forecast

EXAMPLES = """
tbft forecast resnet26-cifar10-jpeg --data labeled.tar
tbft forecast resnet26-cifar10-jpeg --data test.tar --drift fog:3 --samples 5/class --json
tbft forecast my.models:net --weights base.pth --card base.card.safetensors --data phone.npz --where subject=7
"""


def add(commands: Subparsers) -> None:
    parser = command(commands, "forecast", "forecast the accuracy that more labels would bring", EXAMPLES)
    add_model(parser)
    add_data(parser)
    add_card(parser)
    add_some(parser)
    parser.add_argument(
        "--drawn",
        choices=("auto", "random", "stretch"),
        default="auto",
        help="how the samples were drawn: at random from all that the model will meet, or from a stretch of "
        "time, after which things may differ (default: stretch if they have a column for time, person or "
        "series, or are windows)",
    )
    add_json(parser)
    parser.set_defaults(run=run_forecast)


def run_forecast(arguments: argparse.Namespace) -> None:
    from tbft.forecasting import forecast

    base = load_base(arguments, load_samples)
    samples = base.checked(settle_threads(arguments, base.blocks, load_some(arguments, base.inputs)))
    data = show_data(samples)
    found = forecast(base, samples, drawn=arguments.drawn)
    if arguments.json:
        print_json({**found.to_json(), **data})
    else:
        print(forecast_text(found))


def forecast_text(found: Forecast) -> str:
    """A table of expected accuracies, and what to know of it."""
    rows = [("labels", "per class", "expected %", "80 % interval", "")]
    for e in found.expected:
        per_class, when = f"{e.labels / found.class_count:.3g}", "now" if e.factor == 1 else f"{e.factor}x"
        interval = f"{100 * e.low:.0f} to {100 * e.high:.0f}"
        rows.append((f"{e.labels:,}", per_class, f"{100 * e.accuracy:.0f}", interval, when))
    return "\n".join([table(rows, right="012"), *(f"  - {sentence}" for sentence in found.advice)])
