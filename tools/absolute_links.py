"""Make the links of README.md absolute, as a package index needs them: before a release is built, not in git.

python tools/absolute_links.py https://HOST/OWNER/NAME v0.2.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def absolute(text: str, repository: str, ref: str) -> str:
    """The page with links to files of the repository at this tag or branch; pictures as files.

    >>> absolute("[a](docs/a.md#b) ![p](p.svg) [c](#d) [e](https://e.org)", "https://h/o/n", "v1")
    '[a](https://h/o/n/blob/v1/docs/a.md#b) ![p](https://h/o/n/raw/v1/p.svg) [c](#d) [e](https://e.org)'
    """

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/{ref}/{target})"

    return _LINK.sub(link, text)


if __name__ == "__main__":
    README.write_text(absolute(README.read_text(), *sys.argv[1:3]))
