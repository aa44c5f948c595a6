"""The table and the picture of the people's records."""

from pathlib import Path


def write_report(paths: list[Path]) -> None:
    raise NotImplementedError
