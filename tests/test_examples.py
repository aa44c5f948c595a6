"""The examples run anywhere: without a network, without data, and with names from the root only."""

from __future__ import annotations

import ast
import importlib
import runpy
import socket
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
#: Packages that an example needs besides the installation for tests.
NEEDS = {"timm_model": "timm", "skorch_classifier": "skorch"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_adapts_and_says_what_it_gained(path, monkeypatch, tmp_path, capsys):
    if package := NEEDS.get(path.stem):
        try:
            importlib.import_module(package)
        except (ImportError, RuntimeError) as error:  # timm imports torchvision, which has to fit torch
            pytest.skip(f"{package} cannot be imported: {error}")

    def refuse(*_):
        raise AssertionError("an example opens a connection")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("TBFT_DATA", raising=False)
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert "accuracy" in printed and "refused" not in printed and "rejected" not in printed
    assert path.stem != "tutorial_motion" or (tmp_path / "motion.png").stat().st_size > 5_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_needs_only_the_root(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("tbft"), f"{path.name} imports from {node.module}"
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("tbft.") for alias in node.names), path.name


def test_there_are_six():
    assert len(EXAMPLES) == 6
