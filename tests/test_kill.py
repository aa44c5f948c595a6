"""A kill at any instant leaves what is whole. `make kill` tries 200 over all commands that write (KILLS)."""

from __future__ import annotations

import os
from collections import Counter

import pytest

pytest.importorskip("cryptography")
if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

from killing import COMMANDS, QUICK, Instant, count_operations, instants, kill, make_place

KILLS = int(os.environ.get("KILLS", "0"))


@pytest.mark.filterwarnings("ignore")
def test_a_kill_leaves_what_is_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("TBFT_KEYS", "TBFT_TRUST", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # given back at the end
    template = tmp_path / "template"
    template.mkdir()
    make_place(template)
    tried = tuple(COMMANDS) if KILLS else QUICK
    operations = {name: count_operations(name, template, tmp_path / "place") for name in tried}
    some = instants(KILLS or 9, tried, operations)
    if not KILLS:
        some.append(Instant("personalize", 12))
    counts: Counter[tuple[str, str]] = Counter()
    for at in some:
        outcome = kill(at, template, tmp_path / "place")
        assert outcome == "killed" or not at.operation, f"{at} was not reached"
        counts[at.command, outcome] += 1
    if KILLS:
        for name in COMMANDS:
            print(f"{name}: {counts[name, 'killed']} killed, {counts[name, 'done']} were quicker; all whole")
