"""Write the README's list of drifts and class maps from the registry: `make readme`."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from tbft.cli import main

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- made by `make readme` from the registry -->\n", "<!-- end -->\n"


def with_list(page: str) -> str:
    """The page with a new list between the marks."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        main(["data", "list", "--markdown"])
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}{text.getvalue()}{END}{after}"


if __name__ == "__main__":
    README.write_text(with_list(README.read_text()))
