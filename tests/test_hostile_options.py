"""Whatever is written after an option: it is taken, or refused in one message."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from tbft.cli import main, parser
from tbft.data.amounts import parse_amount
from tbft.errors import DataError

HOSTILE = ("nan", "-1", "9" * 400, "9" * 5000, "\udc80", "\x1b[2J", "--")


def options(top: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Each option that converts its value, with a command that has it."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from options(inner, (*path, name))
        elif action.option_strings and action.type is not None:
            yield action.option_strings[-1], " ".join(path)


TOP = parser()
CONVERTING = sorted(dict(options(TOP)).items())


def test_no_value_of_an_option_is_a_traceback(capsys):
    assert len(CONVERTING) > 15
    for option, command in CONVERTING:
        for value in HOSTILE:
            with pytest.raises(SystemExit) as ended:
                TOP.parse_args([*command.split(), f"{option}={value}", "--no-such-option"])
            assert ended.value.code == 2
    capsys.readouterr()


@pytest.mark.parametrize("value", HOSTILE)
def test_what_is_refused_is_said_in_one_line_that_does_not_steer_the_terminal(value, capsys):
    for command in ("blocks digits --input", "train digits --data x --out y.safetensors --epochs"):
        try:
            status = main(f"{command}={value}".split())
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr().err
        assert status == 2
        assert said.splitlines()[-1].startswith("tbft") and "\x1b" not in said


@pytest.mark.parametrize("amount", ["9" * 400, "9" * 5000, f"{'9' * 400}/class", "nan", "inf%"])
def test_an_amount_beyond_all_samples_is_refused(amount):
    with pytest.raises(DataError, match="is not a valid amount"):
        parse_amount(amount)
