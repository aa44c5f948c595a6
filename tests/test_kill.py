"""A kill at any instant leaves what is whole. `make kill` tries 200 over all commands that write (KILLS)."""

from __future__ import annotations

import os
from collections import Counter

import pytest

pytest.importorskip("cryptography")
if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

from killing import COMMANDS, QUICK, Instant, instants, kill, make_place

KILLS = int(os.environ.get("KILLS", "0"))


@pytest.mark.filterwarnings("ignore")
def test_a_kill_leaves_what_is_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("TBFT_KEYS", "TBFT_TRUST", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # given back at the end
    template = tmp_path / "template"
    template.mkdir()
    make_place(template)
    some = instants(KILLS, tuple(COMMANDS)) if KILLS else [*instants(9, QUICK), Instant("personalize", 12)]
    counts = Counter((at.command, kill(at, template, tmp_path / "place")) for at in some)
    assert sum(n for (_, what), n in counts.items() if what == "killed") >= len(some) / 3
    if KILLS:
        for name in COMMANDS:
            print(f"{name}: {counts[name, 'killed']} killed, {counts[name, 'done']} were quicker; all whole")
