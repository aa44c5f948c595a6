"""The session in docs/trust.md is one that was run: its commands, run again, print what is printed there."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

pytest.importorskip("cryptography")

from tbft.blocks.tensors import fingerprint
from tbft.cli import main
from tbft.models import read_state
from tbft.models.digits import DigitsNet
from tbft.patches import make_patch

PAGE = Path(__file__).parents[1] / "docs" / "trust.md"


def session() -> str:
    """The block of the page that makes a key first."""
    blocks = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith("$ tbft keys new"))


def run(line: str) -> str:
    """What a line of a session prints."""
    line = line.partition("#")[0].strip()
    if line.startswith("export "):
        name, _, value = line.removeprefix("export ").partition("=")
        os.environ[name] = value
        return ""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        main(line.removeprefix("tbft ").split())
    return printed.getvalue()


def plain(text: str) -> list[str]:
    """Lines without what differs from key to key, and from run to run."""
    return re.sub(r"tbft-ed25519 \S+|\b[0-9a-f]{12,64}\b", "*", text).splitlines()


def test_the_session_of_the_page_prints_what_the_page_shows_and_ends_in_the_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("TBFT_KEYS", "TBFT_TRUST", "TBFT_REQUIRE_SIGNATURE", "TBFT_KEY_PASSPHRASE"):
        monkeypatch.setenv(name, "")  # given back at the end
    torch.manual_seed(0)
    base = state = DigitsNet(10).state_dict()
    torch.save(base, "base.pt")
    for number, day in enumerate(("monday", "tuesday")):
        changed = {"fc.bias": torch.full((10,), float(number))}
        make_patch(state, changed, "rear").save(f"{day}.safetensors")
        state = {**state, **changed}
    os.environ.update(TBFT_KEYS="keys", TBFT_TRUST="trust")
    shown = session()
    again = ""
    for command in re.findall(r"^\$ (.*)$", shown, re.MULTILINE):
        again += f"$ {command}\n{run(command)}"
    assert plain(again) == plain(shown)
    assert fingerprint(read_state("device.safetensors")) == fingerprint(base)
