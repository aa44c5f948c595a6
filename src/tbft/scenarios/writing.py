"""Drifted sets on disk, in the shape of CIFAR-10-C: ``<name>.npy``, ``labels.npy`` and ``about.npz``.

A run that was stopped goes on: each file is written under a temporary name and renamed when it is
whole, and a file that is there is not made again. ``about.npz`` tells what the folder was made of,
so nothing else is ever mixed in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, as_completed, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tbft.data.arrays import Array
from tbft.data.cifar10c import ABOUT, ATTRIBUTE, SEVERITIES, read_about
from tbft.data.samples import Samples, digest
from tbft.errors import DataError
from tbft.files import allocate, atomic_path
from tbft.processes import become_worker
from tbft.scenarios.drift import apply_drift, find_drifts

#: Pictures that a worker gets at a time.
CHUNK = 500
#: Chunks that wait for a worker or are with one.
_AT_ONCE = 32


def write_corruptions(
    samples: Samples,
    names: Sequence[str],
    folder: str | Path,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    workers: int = 1,
) -> list[Path]:
    """Write corrupted copies of a set: ``<folder>/<corruption>.npy``, severities one after the other.

    Args:
        samples: ``uint8`` pictures.
        names: of registered corruptions; a file that is there already is left as it is.
        workers: processes; the result does not depend on them. More than one needs a main module
            that can be imported (``if __name__ == "__main__"``).

    Returns:
        the files that were written now.

    Raises:
        DataError: an unknown corruption, inputs that are no pictures, or a folder made of something else.
    """
    for name in names:
        for severity in severities:
            find_drifts(f"{name}:{severity}")
    if not samples.are_pictures:
        raise DataError(f"{samples.name}: corruptions work on uint8 pictures, not on {samples.inputs.dtype}")
    place = _opened(Path(folder), samples, severities, seed)
    missing = [name for name in names if not (place / f"{name}.npy").exists()]
    total = len(samples) * len(severities)
    with (
        _pool(workers) as pool,
        tqdm(total=len(names) * total, unit="picture", unit_scale=True, leave=False, disable=None) as bar,
    ):
        bar.update((len(names) - len(missing)) * total)
        for name in missing:
            bar.set_description(name)
            _write_one(samples, name, severities, place, seed, pool, bar)
    return [place / f"{name}.npy" for name in missing]


def write_drifted(samples: Samples, spec: str, folder: str | Path, seed: int = 0) -> Path:
    """Write a set with any drift on it, labels included, as one file of a folder of its own.

    A single corruption goes where :func:`write_corruptions` would write it.

    Raises:
        DataError: as :func:`apply_drift`, or a folder made of something else.
    """
    first, *more = find_drifts(spec)
    if first.drift.level == "input" and not more:
        write_corruptions(samples, [first.drift.name], folder, (first.argument,), seed)
        return Path(folder) / f"{first.drift.name}.npy"
    drifted = apply_drift(samples, spec, seed)
    path = _opened(Path(folder), drifted, (), seed) / f"{_file_name(spec)}.npy"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        kind = np.lib.format.dtype_to_descr(drifted.inputs.dtype)
        whole = {"descr": kind, "fortran_order": False, "shape": drifted.inputs.shape}
        np.lib.format.write_array_header_1_0(file, whole)
        for start in range(0, len(drifted), CHUNK):
            file.write(np.ascontiguousarray(drifted.inputs[start : start + CHUNK]).data)
    return path


def _file_name(spec: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in spec)


def _opened(folder: Path, samples: Samples, severities: Sequence[int], seed: int) -> Path:
    """The folder with its labels and :data:`ABOUT`, made now or found to be made of the same samples."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give a folder")
    times = max(1, len(severities))
    about: dict[str, Array] = {
        "class_names": np.array(samples.class_names),
        "severities": np.array(severities, dtype=np.int64),
        "seed": np.array(seed),
        "made_of": np.array(digest(samples)),
        **{ATTRIBUTE + key: np.tile(values, times) for key, values in samples.attributes.items()},
    }
    if (folder / ABOUT).exists():
        _check_same(read_about(folder), about, folder)
        return folder
    if folder.is_dir() and any(folder.glob("*.npy")):
        raise DataError(f"{folder} holds arrays that tbft did not write; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "labels.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.tile(samples.labels, times))
    with atomic_path(folder / ABOUT) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **about)
    return folder


def _check_same(found: dict[str, Array], wanted: dict[str, Array], folder: Path) -> None:
    same = set(found) == set(wanted)
    differ = [key for key in wanted if key in found and not np.array_equal(found[key], wanted[key])]
    if differ or not same:
        what = ", ".join(key.removeprefix(ATTRIBUTE) for key in differ) or "attributes"
        raise DataError(f"{folder} was made of something else ({what} differ); choose another folder")


def _write_one(
    samples: Samples,
    name: str,
    severities: Sequence[int],
    folder: Path,
    seed: int,
    pool: Executor | None,
    bar: Any,
) -> None:
    shape = (len(severities) * len(samples), *samples.inputs.shape[1:])
    row_bytes = samples.inputs[:1].nbytes
    with atomic_path(folder / f"{name}.npy") as temporary:
        allocate(temporary, shape[0] * row_bytes)
        with temporary.open("r+b") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            start_bytes = file.tell()
            parts = (
                (k * len(samples) + start, _chunk(samples, start), f"{name}:{severity}", seed)
                for k, severity in enumerate(severities)
                for start in range(0, len(samples), CHUNK)
            )
            for at, pictures in _corrupted(parts, pool):
                file.seek(start_bytes + at * row_bytes)
                file.write(np.ascontiguousarray(pictures).data)
                bar.update(len(pictures))


Part = tuple[int, Samples, str, int]


def _chunk(samples: Samples, start: int) -> Samples:
    """Some samples without what a worker does not need."""
    at = slice(start, start + CHUNK)
    return Samples(
        np.array(samples.inputs[at]),
        samples.labels[at],
        samples.class_names,
        samples.ids[at],
        {},
        samples.name,
    )


def _corrupted(parts: Iterator[Part], pool: Executor | None) -> Iterator[tuple[int, Array]]:
    if pool is None:
        yield from (_corrupt(part) for part in parts)
        return
    running: set[Future[tuple[int, Array]]] = set()
    for part in parts:
        running.add(pool.submit(_corrupt, part))
        if len(running) >= _AT_ONCE:  # what waits for a worker takes memory
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in done)
    yield from (one.result() for one in as_completed(running))


def _corrupt(part: Part) -> tuple[int, Array]:
    at, samples, spec, seed = part
    return at, apply_drift(samples, spec, seed).inputs


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    if workers <= 1:
        yield None
        return
    # Forking a process that has run torch's threads can hang; workers start afresh.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=become_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
