"""The cost of reading, splitting and one pass over a set of photos larger than memory.

    python benchmarks/large_set.py --json benchmarks/results/large_set.json
    git worktree add ../before e8871ba
    python benchmarks/large_set.py --before ../before/src --json benchmarks/results/large_set.json
    nice -n 19 python benchmarks/large_set.py --photos 100000 --held 1024 --repeats 1 \\
        --json benchmarks/results/large_set.json

The script makes photos of 227 px: smooth color with noise, as JPEG of quality 90, in ten class folders.
Every reading is a process of its own, whose peak resident memory is reported by the system. `held` MiB is
the limit for decoded pictures (``--data-memory``). Seconds are processor time and elapsed time. With
`--before`, the code of another version does the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from records import machine, parser_of, write
from tqdm import tqdm

from tbft.data import InputSpec, read, split_samples

SIDE = 227
BATCH = 64


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--held", type=int, nargs="*", default=[1024, 256, 4096], metavar="MIB")
    parser.add_argument("--before", type=Path, help="src of another version, to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_reading(Path(arguments.one), arguments.held)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), arguments.photos)
        files = sum(p.stat().st_size for p in Path(folder).rglob("*.jpg"))
        runs = {f"held_{mib}_mib": repeated(folder, arguments.repeats, [str(mib)]) for mib in arguments.held}
        if arguments.before:
            runs["before"] = repeated(folder, arguments.repeats, [], arguments.before.resolve())
    record = {
        "machine": machine(torch.get_num_threads()),
        "photos": arguments.photos,
        "side_px": SIDE,
        "file_bytes": files,
        "decoded_bytes": arguments.photos * SIDE * SIDE * 3,
        "repeats": arguments.repeats,
        "runs": runs,
    }
    print(json.dumps(record, indent=1))
    if arguments.json:
        write_record(arguments.json, record)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Put the record in the place of that of as many photos; records of other sizes stay."""
    known = json.loads(path.read_text())["sets"] if path.exists() else []
    others = [one for one in known if one["photos"] != record["photos"]]
    sets = sorted([*others, record], key=lambda one: int(one["photos"]))
    write(path, {"sets": sets})


def make_photos(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for i in tqdm(range(count), "making photos", leave=False, disable=None):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + generator.normal(0, 8, smooth.shape).astype(np.int16)
        place = folder / f"class{i % 10}" / f"{i:06}.jpg"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(place, quality=90)


def repeated(folder: str, times: int, held: list[str], source: Path | None = None) -> dict[str, Any]:
    """Repeat a reading, each time in a process of its own: mean and standard deviation of every figure."""
    env = dict(os.environ)
    if source is not None:
        env["PYTHONPATH"] = str(source)
    command = [sys.executable, __file__, "--one", folder, "--held", *held]
    runs = []
    for _ in range(times):
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        runs.append(json.loads(done.stdout))
    return {
        key: {"mean": statistics.mean(r[key] for r in runs), "values": [r[key] for r in runs]}
        for key in runs[0]
    }


def one_reading(folder: Path, held: list[int]) -> dict[str, float]:
    spec = InputSpec(resolution=SIDE, channels=3)
    if held:
        spec = replace(spec, memory_mib=held[0])
    figures: dict[str, float] = {}
    with timed("read", figures):
        samples = read(folder, spec)
    figures["read_peak_mib"] = peak_mib()
    with timed("split", figures):
        train = split_samples(samples, "rest", 0.15, 0.15).train
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(len(train))
        with timed(f"pass_{epoch + 1}", figures):
            for at in range(0, len(order), BATCH):
                train.batch(order[at : at + BATCH])
    return {**figures, "peak_mib": peak_mib()}


@contextmanager
def timed(what: str, figures: dict[str, float]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    figures[f"{what}_wall_seconds"] = time.perf_counter() - wall
    figures[f"{what}_cpu_seconds"] = time.process_time() - cpu


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
