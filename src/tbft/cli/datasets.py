"""``tbft data list | show | check``; the other actions are modules of their own."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.cli import corrupting, fetching
from tbft.cli.common import Subparsers, add_json, command, print_json
from tbft.cli.data_options import DataOptions, add_selection, load_samples
from tbft.errors import DataError, unknown
from tbft.report.terminal import table
from tbft.text import visible

if TYPE_CHECKING:
    from PIL.Image import Image

    from tbft.data import Samples
    from tbft.data.quality import Problem

LIST = """
tbft data list
tbft data list --json
"""
SHOW = """
tbft data show photos/
tbft data show test.tar --drift contrast:5 --out sheet.png
tbft data show fog --out fog.png
tbft data show clean,fog:1..5,fog:4..1,clean --data test.tar --out film.png
"""
CHECK = """
tbft data check photos/
tbft data check phone.npz --where subject=7 --json
"""
EXAMPLES = "\n".join(text.strip() for text in (LIST, SHOW, CHECK, corrupting.EXAMPLES, fetching.EXAMPLES))


def add(commands: Subparsers) -> None:
    parser = command(commands, "data", "list drifts, show, check, corrupt and download sets", EXAMPLES)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listed = command(actions, "list", "list the drifts that can be applied to any set", LIST)
    add_json(listed)
    listed.add_argument("--markdown", action="store_true", help="print a Markdown table, as in the README")
    listed.set_defaults(run=run_list)
    show = command(actions, "show", "print what is in a set, or draw a drift", SHOW)
    show.add_argument("data", metavar="SET|DRIFT", help="a set, or a drift, a mixture or a schedule")
    show.add_argument("--data", metavar="SET", dest="pictures", help="apply the drift to these pictures")
    add_selection(show)
    show.add_argument("--out", metavar="FILE", help="draw a contact sheet to this file (.png)")
    add_json(show)
    show.set_defaults(run=run_show)
    check = command(
        actions,
        "check",
        "print what is in a set and possible problems: damaged files, copies, contradicting labels, pictures "
        "that look alike, uneven classes; exit status 1 if there are any, 2 if files are damaged",
        CHECK,
    )
    check.add_argument("data", metavar="SET")
    add_selection(check)
    add_json(check)
    check.set_defaults(run=run_check)
    corrupting.add(actions)
    fetching.add(actions)


def run_list(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from tbft.scenarios import class_maps, drifts

    if arguments.json:
        keys = ("name", "level", "usage", "examples", "summary", "source")
        listed = [{key: asdict(drift)[key] for key in keys} for drift in drifts()]
        maps = [
            {"name": m.name, "usage": m.usage, "examples": m.specs, "summary": m.summary, "source": m.source}
            for m in class_maps()
        ]
        print_json({"drifts": listed, "class_maps": maps})
        return
    rows = [(f"--drift {d.usage}", d.level, d.summary) for d in drifts()]
    rows += [(f"--classes {m.usage}", "feature", m.summary) for m in class_maps()]
    if arguments.markdown:
        print("| option | level | what |\n|---|---|---|")
        for option, level, what in rows:
            print(f"| `{option}` | {level} | {what} |")
    else:
        print(table([("option", "level", "what"), *rows]))


def run_show(arguments: argparse.Namespace) -> None:
    from tbft.files import SHEET, claim
    from tbft.scenarios import class_maps

    if arguments.out:
        claim(arguments.out, SHEET)
    if arguments.data.partition(":")[0] in {family.name for family in class_maps()}:
        _show_class_map(arguments)
    elif _is_scenario(arguments.data):
        _show_scenario(arguments)
    else:
        _show_set(arguments)


def _is_scenario(text: str) -> bool:
    from tbft.data.factory import is_factory
    from tbft.scenarios import drifts

    if Path(text).exists():
        return False
    words = {drift.name.partition(":")[0] for drift in drifts()}
    first = text.split(",")[0].split("+")[0].partition(":")[0].strip()
    if first not in words and not (is_factory(text) or Path(text).suffix or "/" in text):
        raise DataError(f"{text!r} is not a file or folder, and {unknown('drift', first, words)}")
    return first in words


def _show_scenario(arguments: argparse.Namespace) -> None:
    from tbft.scenarios import find_drifts
    from tbft.scenarios.sheets import scenario_sheet, steps_of

    if arguments.drift:
        raise DataError(f"{arguments.data!r} is itself a drift; join drifts by +, without --drift")
    steps = steps_of(arguments.data)
    if arguments.out:
        scenario, arguments.data = arguments.data, arguments.pictures
        samples = load_samples(arguments) if arguments.pictures else None
        _save(scenario_sheet(scenario, samples, arguments.seed), arguments.out)
    applied = [(step, part.drift) for step in steps for part in find_drifts(step)]
    if arguments.json:
        print_json(
            {"steps": [{"drift": step, "level": d.level, "summary": d.summary} for step, d in applied]}
        )
    else:
        print(table([("drift", "level", "what"), *((step, d.level, d.summary) for step, d in applied)]))


def _show_class_map(arguments: argparse.Namespace) -> None:
    from tbft.scenarios import find_class_map
    from tbft.scenarios.sheets import domain_sheet

    class_map = find_class_map(arguments.data)
    if arguments.out:
        if not arguments.pictures:
            raise DataError(f"{class_map.name} has no pictures: give a set of its leaf classes with --data")
        arguments.data, arguments.classes = arguments.pictures, class_map.name
        _save(domain_sheet(load_samples(arguments)), arguments.out)
    members: dict[str, dict[str, list[str]]] = {
        c: {"source": [], "target": []} for c in class_map.class_names
    }
    for leaf, (label, domain) in class_map.leaves.items():
        members[class_map.class_names[label]][domain].append(
            class_map.leaf_names.get(leaf, leaf).split(",")[0]
        )
    if arguments.json:
        print_json({"name": class_map.name, "summary": class_map.summary, "superclasses": members})
        return
    rows = [(name, *(", ".join(leaves[d]) for d in ("source", "target"))) for name, leaves in members.items()]
    print(table([("superclass", "source", "target"), *rows]))


def _show_set(arguments: argparse.Namespace) -> None:
    from tbft.data.summary import describe
    from tbft.scenarios.sheets import set_sheet

    if arguments.pictures:
        raise DataError(f"--data is for a drift, but {arguments.data!r} is a set; give one of the two")
    samples = load_samples(arguments)
    if arguments.out:
        _save(set_sheet(samples), arguments.out)
    summary = describe(samples)
    if arguments.json:
        print(visible(str(summary)), file=sys.stderr)
        print_json(summary.to_json())
    else:
        print(visible(str(summary)))


def run_check(arguments: argparse.Namespace) -> int:
    """Print a set and possible problems.

    Returns:
        0 without any; 1 with some that other commands ignore or note; 2 with what they refuse.
    """
    from tbft.data.quality import find_problems
    from tbft.data.summary import describe

    options = DataOptions.of(arguments)
    samples, damaged = _read_what_can_be(options)
    problems = [*damaged, *find_problems(samples)]
    status = 2 if damaged else int(bool(problems))
    summary = describe(samples)
    if arguments.json:
        print_json({**summary.to_json(), "problems": [problem.to_json() for problem in problems]})
        return status
    lines = (
        [f"possible problems ({len(problems)}):", *map(str, problems)] if problems else ["no problems found"]
    )
    print(visible("\n".join([str(summary), *lines])))
    return status


def _read_what_can_be(options: DataOptions) -> tuple[Samples, list[Problem]]:
    """The samples that can be read, and a problem if some cannot."""
    from tbft.data.quality import Problem

    if options.spec.get("skip_damaged"):
        return options.read(), []
    try:
        return options.read(), []
    except DataError as error:
        refused = error
    try:
        samples = replace(options, spec={**options.spec, "skip_damaged": True}).read()
    except DataError:
        raise refused from None
    text = str(refused).removeprefix(f"{samples.name}: ").partition("; ")[0]
    start = text.partition(":")[0]
    samples = replace(samples, notes=tuple(note for note in samples.notes if not note.startswith(start)))
    count = text.split()[0].replace(",", "")
    return samples, [Problem("damaged", int(count) if count.isdecimal() else 1, text)]


def _save(sheet: Image, out: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    from tbft.files import SHEET, SHEET_MARK, atomic_path

    made_by = PngInfo()
    made_by.add_text(*SHEET_MARK)
    with atomic_path(out, kind=SHEET) as temporary:
        sheet.save(temporary, "PNG", pnginfo=made_by)
