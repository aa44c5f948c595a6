"""``tbft demo``."""

from __future__ import annotations

import argparse

from tbft.cli.common import (
    Subparsers,
    add_json,
    command,
    print_json,
)
from tbft.cli.data_options import (
    whole_number,
)
from tbft.report.terminal import table


def add(commands: Subparsers) -> None:
    parser = command(
        commands, "demo", "adapt a small network to drift at each level, on handwritten digits", "tbft demo"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="random seed (default 0)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="number of random splits to average over (default 3)"
    )
    add_json(parser)
    parser.set_defaults(run=run_demo)


def run_demo(arguments: argparse.Namespace) -> None:
    import time
    from dataclasses import asdict

    import torch
    from tqdm import tqdm

    from tbft import demo
    from tbft.errors import TbftError

    if arguments.repeats < 1:
        raise TbftError("--repeats has to be 1 or more")
    start, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)  # for such a small network, more threads would only wait for each other
    with tqdm(desc="adapting", total=3 * 7 * arguments.repeats, unit="", leave=False, disable=None) as bar:

        def on_arm(level: str, arm: str) -> None:
            bar.set_postfix_str(f"{level} level, {arm}")
            bar.update()

        try:
            outcomes = demo.run(arguments.seed, arguments.repeats, on_arm)
        finally:
            torch.set_num_threads(threads)
    seconds = time.perf_counter() - start
    if arguments.json:
        print_json(
            {
                "seed": arguments.seed,
                "repeats": arguments.repeats,
                "wall_seconds": seconds,
                "threads": 1,
                "outcomes": [{**asdict(o), "conclusion": demo.conclusion(o)} for o in outcomes],
            }
        )
        return
    for outcome in outcomes:
        print(f"\n{outcome.level.capitalize()}-level drift: {outcome.story}")
        print(f"{outcome.train_samples} samples to tune on, {outcome.test_samples} to test on\n")
        rows = [("arm", "accuracy %", "processor s", "patch bytes", "")]
        for row in outcome.rows:
            mark = "<- matches the level" if row.arm == outcome.matching else ""
            rows.append(
                (row.arm, f"{100 * row.accuracy:.1f}", f"{row.cpu_seconds:.2f}", f"{row.patch_bytes:,}", mark)
            )
        print(table(rows, right="123"))
        print(f"\n{demo.conclusion(outcome)}")
    print(
        f"\nMeans over {arguments.repeats} splits in {seconds:.0f} s. "
        "For your own model: tbft personalize --help"
    )
