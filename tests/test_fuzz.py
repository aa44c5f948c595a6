"""Broken files of every kind: refused in words, or right. `make fuzz` does it for an hour (FUZZ_SECONDS)."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from fuzzing import TARGETS as FILES
from fuzzing import check
from fuzzing_readers import READER_TARGETS
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

TARGETS = FILES | READER_TARGETS
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
EXAMPLES = {"checkpoint": 25, "resume": 20, "card": 20, "npz": 30, "tar": 30}  # of the slower ones
EXAMPLES |= dict.fromkeys(READER_TARGETS, 30)
EXAMPLES |= {"private key": 20, "safetensors": 30, "meter log": 30, "table": 20, "zip": 30, "cifar": 20}
CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_broken_files_are_refused_in_words_or_right(kind, tmp_path):
    """Seeded; with FUZZ_SECONDS over seed after seed, and what is found is written into build/fuzz."""
    target, end = TARGETS[kind], time.monotonic() + SECONDS / len(TARGETS)
    last = b""

    def one(data):
        nonlocal last
        last = target.broken(data.draw)
        check(target, last, tmp_path)

    number = count = 0
    while True:
        run = settings(
            max_examples=200 if SECONDS else EXAMPLES.get(kind, 60),
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(given(st.data())(one))
        try:
            seed(number)(run)()
        except BaseException:
            if SECONDS:
                place = Path("build/fuzz")
                place.mkdir(parents=True, exist_ok=True)
                name = f"{kind}-{hashlib.sha256(last).hexdigest()[:8]}{target.suffix}"
                (place / name).write_bytes(last)
            raise
        number, count = number + 1, count + 200
        if time.monotonic() > end:
            break
    if SECONDS:
        print(f"\n{kind}: {count:,} broken files, none used wrongly")


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore")
def test_what_was_found_once_stays_mended(path, tmp_path):
    check(TARGETS[path.name.partition("-")[0]], path.read_bytes(), tmp_path)
