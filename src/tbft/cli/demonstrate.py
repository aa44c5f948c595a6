"""``tbft demo``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tbft.cli.common import Subparsers, add_json, command, integer, print_json
from tbft.cli.data_options import whole_number
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.demo import Outcome


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "demo",
        "show on handwritten digits what tbft does, in under a minute",
        "tbft demo",
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="random seed (default 0)")
    parser.add_argument(
        "--repeats", type=integer, default=1, help="number of random splits behind the table (default 1)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("tbft-demo"),
        metavar="FOLDER",
        help="folder for base, samples, patch and page (default tbft-demo)",
    )
    add_json(parser)
    parser.set_defaults(run=run_demo)


def run_demo(arguments: argparse.Namespace) -> None:
    import time
    from dataclasses import asdict

    import torch

    from tbft import demo
    from tbft.demo import story as telling
    from tbft.errors import TbftError

    if arguments.repeats < 1:
        raise TbftError("--repeats has to be 1 or more")
    start, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)  # for such a small network, more threads would only wait for each other
    try:
        story = demo.tell(arguments.out, arguments.seed)
        if not arguments.json:
            print(*telling.text(story), sep="\n")
        outcomes = _table(arguments.seed, arguments.repeats)
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - start
    if arguments.json:
        found: dict[str, Any] = {
            "seed": arguments.seed,
            "repeats": arguments.repeats,
            "wall_seconds": seconds,
            "threads": 1,
            "story": telling.to_json(story),
            "outcomes": [{**asdict(o), "conclusion": demo.conclusion(o)} for o in outcomes],
        }
        print_json(found)
        return
    print("Every arm on every kind of drift")
    for outcome in outcomes:
        _show(outcome)
    splits = "One random split" if arguments.repeats == 1 else f"Means over {arguments.repeats} splits"
    print(f"\n{splits} (--repeats), {seconds:.0f} s in all. Try it on the demo's files, then on your own:\n")
    for line in telling.commands(story.files):
        print(f"  {program()} {line}")


def _table(seed: int, repeats: int) -> list[Outcome]:
    from tqdm import tqdm

    from tbft import demo

    with tqdm(desc="adapting", total=3 * 8 * repeats, unit="", leave=False, disable=None) as bar:

        def on_arm(level: str, arm: str) -> None:
            bar.set_postfix_str(f"{level} level, {arm}")
            bar.update()

        return demo.run(seed, repeats, on_arm)


def _show(outcome: Outcome) -> None:
    from tbft import demo

    print(f"\n{outcome.level.capitalize()}-level drift: {outcome.story}")
    print(f"{outcome.train_samples} samples to tune on, {outcome.test_samples} to test on\n")
    rows = [("arm", "accuracy %", "processor s", "patch bytes", "")]
    for row in outcome.rows:
        mark = "<- matches the level" if row.arm == outcome.matching else row.note
        rows.append(
            (row.arm, f"{100 * row.accuracy:.1f}", f"{row.cpu_seconds:.2f}", f"{row.patch_bytes:,}", mark)
        )
    print(table(rows, right="123"))
    print(f"\n{demo.conclusion(outcome)}")


def program() -> str:
    """How to call this program from here: ``tbft``, or its path if it is not on the search path."""
    script = Path(sys.executable).with_name("tbft")
    found = shutil.which("tbft")
    if found and Path(found).resolve() == script.resolve():
        return "tbft"
    if not script.exists():
        return f"{sys.executable} -m tbft"
    relative = os.path.relpath(script)
    return str(script) if relative.startswith("..") else relative
