"""Write drifted sets to disk in the format of CIFAR-10-C: ``<name>.npy``, ``labels.npy`` and ``about.npz``.

A stopped run resumes: each file is written under a temporary name and renamed when it is complete, and
existing files are not written again. ``about.npz`` records what the folder was made from, so that nothing
else is ever mixed in.
"""

from __future__ import annotations

import math
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
from tbft.files import allocate, atomic_path, claimed, explained
from tbft.processes import become_worker
from tbft.scenarios.drift import apply_drift, find_drifts

#: Number of pictures that a worker gets at a time.
CHUNK = 500
#: Maximum number of chunks submitted to workers at a time.
_MAX_PENDING = 32


def write_corruptions(
    samples: Samples,
    names: Sequence[str],
    folder: str | Path,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    workers: int = 1,
) -> list[Path]:
    """Write corrupted copies of a set to ``<folder>/<corruption>.npy``, one severity after the other.

    Args:
        samples: ``uint8`` pictures.
        names: names of registered corruptions; existing files are left alone.
        workers: number of processes, which does not affect the result. More than one needs a main module that
            can be imported (``if __name__ == "__main__"``).

    Returns:
        the files written by this call.

    Raises:
        DataError: an unknown corruption, inputs that are not pictures, or a folder made from something else.
    """
    for name in names:
        for severity in severities:
            find_drifts(f"{name}:{severity}")
    if not samples.are_pictures:
        raise DataError(f"{samples.name}: corruptions work on uint8 pictures, not on {samples.inputs.dtype}")
    with _opened(Path(folder), samples, severities, seed) as place:
        return _write_missing(samples, names, place, severities, seed, workers)


def _write_missing(
    samples: Samples, names: Sequence[str], place: Path, severities: Sequence[int], seed: int, workers: int
) -> list[Path]:
    missing = [name for name in names if not (place / f"{name}.npy").exists()]
    total = len(samples) * len(severities)
    with (
        _pool(workers) as pool,
        tqdm(total=len(names) * total, unit="picture", unit_scale=True, leave=False, disable=None) as bar,
    ):
        bar.update((len(names) - len(missing)) * total)
        for name in missing:
            bar.set_description(name)
            chunks = _corrupted(_parts(samples, name, severities, seed), pool)
            _write_pictures(place / f"{name}.npy", (total, *samples.inputs.shape[1:]), chunks, bar)
    return [place / f"{name}.npy" for name in missing]


def write_drifted(samples: Samples, spec: str, folder: str | Path, seed: int = 0) -> Path:
    """Write a set with any drift applied, including label drift, as one file in a folder of its own.

    A single corruption is written as :func:`write_corruptions` would write it.

    Raises:
        DataError: as in :func:`apply_drift`, or a folder made from something else.
    """
    first, *more = find_drifts(spec)
    if first.drift.level == "input" and not more:
        write_corruptions(samples, [first.drift.name], folder, (first.argument,), seed)
        return Path(folder) / f"{first.drift.name}.npy"
    drifted = apply_drift(samples, spec, seed)
    with _opened(Path(folder), drifted, (), seed) as place:
        path = place / f"{_file_name(spec)}.npy"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            dtype = np.lib.format.dtype_to_descr(drifted.inputs.dtype)
            header = {"descr": dtype, "fortran_order": False, "shape": drifted.inputs.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(drifted), CHUNK):
                file.write(np.ascontiguousarray(drifted.inputs[start : start + CHUNK]).data)
    return path


def _file_name(spec: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in spec)


@contextmanager
def _opened(folder: Path, samples: Samples, severities: Sequence[int], seed: int) -> Iterator[Path]:
    """The folder with its labels and :data:`ABOUT`, created now or checked to come from the same samples.

    No other process may write into it during the body.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give a folder")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder / ABOUT):
        _describe(folder, samples, severities, seed)
        yield folder


def _describe(folder: Path, samples: Samples, severities: Sequence[int], seed: int) -> None:
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
    elif any(folder.glob("*.npy")):
        raise DataError(f"{folder} holds arrays that tbft did not write; choose another folder")
    # Whatever else lies here after a kill, it is known what it was made of.
    if not (folder / ABOUT).exists():
        with atomic_path(folder / ABOUT) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **about)
    if not (folder / "labels.npy").exists():
        with atomic_path(folder / "labels.npy") as temporary, temporary.open("wb") as file:
            np.save(file, np.tile(samples.labels, times))


def _check_same(existing: dict[str, Array], wanted: dict[str, Array], folder: Path) -> None:
    same_keys = set(existing) == set(wanted)
    differ = [key for key in wanted if key in existing and not np.array_equal(existing[key], wanted[key])]
    if differ or not same_keys:
        what = ", ".join(key.removeprefix(ATTRIBUTE) for key in differ) or "attributes"
        raise DataError(f"{folder} was made from something else ({what} differ); choose another folder")


#: Position in the file, samples, drift, seed.
Part = tuple[int, Samples, str, int]


def _parts(samples: Samples, name: str, severities: Sequence[int], seed: int) -> Iterator[Part]:
    """What there is to corrupt for one file, in chunks."""
    for k, severity in enumerate(severities):
        for start in range(0, len(samples), CHUNK):
            yield k * len(samples) + start, _chunk(samples, start), f"{name}:{severity}", seed


#: Position in the file, pictures.
Chunk = tuple[int, Array]


def _write_pictures(path: Path, shape: tuple[int, ...], chunks: Iterator[Chunk], bar: Any) -> None:
    """Write an ``.npy`` file of pictures from chunks in any order."""
    row_bytes = math.prod(shape[1:])
    with atomic_path(path) as temporary:
        allocate(temporary, shape[0] * row_bytes)
        with temporary.open("r+b") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            start_bytes = file.tell()
            for position, pictures in chunks:
                file.seek(start_bytes + position * row_bytes)
                file.write(np.ascontiguousarray(pictures).data)
                bar.update(len(pictures))


def _chunk(samples: Samples, start: int) -> Samples:
    """Some samples, without the attributes, which a worker does not need."""
    rows = slice(start, start + CHUNK)
    return Samples(
        np.array(samples.inputs[rows]),
        samples.labels[rows],
        samples.class_names,
        samples.ids[rows],
        {},
        samples.name,
    )


def _corrupted(parts: Iterator[Part], pool: Executor | None) -> Iterator[Chunk]:
    if pool is None:
        yield from (_corrupt(part) for part in parts)
        return
    running: set[Future[Chunk]] = set()
    for part in parts:
        running.add(pool.submit(_corrupt, part))
        if len(running) >= _MAX_PENDING:  # pending chunks take memory
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    yield from (future.result() for future in as_completed(running))


def _corrupt(part: Part) -> Chunk:
    position, samples, spec, seed = part
    return position, apply_drift(samples, spec, seed).inputs


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    if workers <= 1:
        yield None
        return
    # Forking a process that has run torch's threads can hang, so workers are spawned.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=become_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
