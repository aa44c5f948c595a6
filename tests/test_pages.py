"""README, tutorials and how-to pages run as written: every block of a page, in order, in an empty folder.

A page may use what its first lines name: the files of `tbft demo`, or photos in a folder for each class.
Blocks marked `text` are not run: they install something, or need hardware.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tbft import demo
from tbft.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*/*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

#: 3 and 4: nothing was worth doing, or it did not help; `data check` exits with 1 if it found something.
ALLOWED = {"personalize": {0, 3, 4}, "data": {0, 1}}


@pytest.fixture(scope="module")
def demo_files(tmp_path_factory) -> Path:
    """The folder that `tbft demo` leaves."""
    folder = tmp_path_factory.mktemp("demo") / "tbft-demo"
    demo.tell(folder)
    return folder


def photos(folder: Path) -> None:
    """Forty photos of different sizes, whose color tells a cat from a dog."""
    generator = np.random.default_rng(0)
    for name, color in {"cat": (200, 120, 60), "dog": (60, 90, 190)}.items():
        (folder / name).mkdir(parents=True)
        for i in range(40):
            size = (int(generator.integers(60, 90)), int(generator.integers(60, 90)), 3)
            picture = np.clip(generator.normal(color, 40, size), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / name / f"{i}.jpg")


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, title and text of each block of a page."""
    block = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
    yield from block.findall(page.read_text())


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a block for the shell."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


@pytest.mark.parametrize("name", NAMES)
def test_a_page_runs_as_written(name, demo_files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    text = (ROOT / name).read_text()
    if "tbft-demo/" in text:
        shutil.copytree(demo_files, "tbft-demo")
    if "--data photos" in text:
        photos(Path("photos"))
    names: dict[str, object] = {}
    try:
        for language, title, code in blocks(ROOT / name):
            if language == "python" and title:
                Path(title).write_text(code)
            elif language == "python":
                exec(compile(code, name, "exec"), names)
            elif language == "sh":
                for program, *arguments in commands(code):
                    assert program == "tbft", f"{name} runs {program}: mark the block as text"
                    status = main(arguments)
                    shown = f"{shlex.join(arguments)}\n{capsys.readouterr().err}"
                    assert status in ALLOWED.get(arguments[0], {0}), shown
    finally:
        sys.modules.pop("shop", None)


def test_pages_have_something_to_run():
    assert sum("```sh" in page.read_text() for page in PAGES) >= 10
