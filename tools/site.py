"""Copy the pages, and the files that they link to, into build/pages, from which `make docs` builds the site.

The pages keep their places in the repository, so the same links work in both. A link to a folder becomes one
to its list of files, and the tutorial in percent format becomes a page.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "pages"
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "paper/README.md",
    "results/README.md",
)
STYLE = "site.css"
#: Tutorial in percent format -> the page that is made of it.
SCRIPTS = {"examples/tutorial_motion.py": "docs/tutorials/motion.md"}

_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    pages = [ROOT / name for name in PAGES] + sorted((ROOT / "docs").rglob("*.md"))
    texts = {page: page.read_text() for page in pages}
    texts |= {ROOT / page: as_page((ROOT / script).read_text()) for script, page in SCRIPTS.items()}
    OUT.mkdir(parents=True)
    shutil.copyfile(ROOT / "tools" / STYLE, OUT / STYLE)
    for page, text in texts.items():
        _write(page, with_links(page, text, set(texts)))


def with_links(page: Path, text: str, pages: set[Path]) -> str:
    """The page with links that work on the site; files that it links to are copied."""

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = (page.parent / target).resolve()
        if "://" in target or path in pages or not path.exists():
            return match[0]  # what does not exist is reported when the site is built
        name = str(path.relative_to(ROOT))
        if name in SCRIPTS:
            return f"]({_relative(page, ROOT / SCRIPTS[name])}{anchor})"
        if path.is_dir():
            _write(
                path / "index.md",
                f"# {name}\n\n" + "".join(f"- [{p.name}]({p.name})\n" for p in _files(path)),
            )
            for file in _files(path):
                _copy(file)
            return f"]({target.rstrip('/')}/index.md)"
        if path.suffix == ".md":  # a page that no menu lists
            _write(path, with_links(path, path.read_text(), pages))
        else:
            _copy(path)
        return match[0]

    return _LINK.sub(link, text)


def on_page_content(html: str, **_: object) -> str:
    """Called by MkDocs: names in docstrings without the roles of reStructuredText."""
    return re.sub(r":(?:func|class|attr|meth|mod):(?=<code>)", "", html)


def as_page(script: str) -> str:
    """A script in percent format as a page: cells of Markdown as they are, cells of code as blocks."""
    return "\n".join(_cells(script))


def _cells(script: str) -> Iterator[str]:
    for cell in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        kind, _, body = cell.partition("\n")
        if "[markdown]" in kind:
            yield re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        elif body.strip():
            yield f"```python\n{body.strip()}\n```\n"


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix not in {".pyc", ".md"})


def _relative(page: Path, target: Path) -> str:
    up = "../" * (len(page.relative_to(ROOT).parts) - 1)
    return f"{up}{target.relative_to(ROOT)}"


def _copy(path: Path) -> None:
    target = OUT / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _write(path: Path, text: str) -> None:
    target = OUT / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


if __name__ == "__main__":
    main()
