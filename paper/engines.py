"""Where runs are executed: in this process, or in a pool of processes on this machine.

An engine takes the runs that are wanted and yields what becomes of each: a record, or the reason why there is
none. Only the caller writes records.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from typing import TYPE_CHECKING, Any

from paper.runs import Run, Settings
from tbft import TbftError
from tbft.processes import become_worker

if TYPE_CHECKING:
    from paper.bench import Bench

ENGINES = ("serial", "pool")


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        record: None: there is none, for this `reason`; without a reason, another process has the run.
    """

    run: Run
    record: Mapping[str, Any] | None
    reason: str = ""


#: Asked before a run starts; False: another process has done it, or is at it.
IsFree = Callable[[Run], bool]


@dataclass(frozen=True)
class Work:
    """What a worker needs to know for all runs; `origin` has the commit and whether the code differs."""

    settings: Settings
    engine: str
    origin: Mapping[str, Any]


class Worker:
    """Executes runs one after the other, on one torch thread; keeps the base model and the latest cell."""

    def __init__(self, work: Work, bench: Bench | None = None) -> None:
        import torch

        from paper.bench import Bench

        torch.set_num_threads(1)
        self.work = work
        self.bench = bench or Bench(work.settings)

    def execute(self, run: Run) -> Outcome:
        from paper.methods import record_of

        try:
            return Outcome(run, record_of(self.bench, run, self.work.engine, self.work.origin))
        except TbftError as error:
            return Outcome(run, None, str(error))
        except (RuntimeError, MemoryError) as error:  # raised by torch, such as out of memory
            return Outcome(run, None, f"{type(error).__name__}: {error}")


def outcomes(
    work: Work,
    runs: Sequence[Run],
    workers: int | None = None,
    bench: Bench | None = None,
    is_free: IsFree = lambda run: True,
) -> Iterator[Outcome]:
    """Execute all runs; yield what becomes of each as soon as it is known.

    Args:
        workers: processes of ``pool``; None: one per core.
        bench: used by ``serial``, if it exists already.
    """
    if work.engine == "serial":
        return _in_this_process(work, runs, bench, is_free)
    return _in_a_pool(work, runs, workers or os.cpu_count() or 1, is_free)


def _in_this_process(
    work: Work, runs: Sequence[Run], bench: Bench | None, is_free: IsFree
) -> Iterator[Outcome]:
    import torch

    threads = torch.get_num_threads()
    try:
        worker = Worker(work, bench)
        for run in runs:
            yield worker.execute(run) if is_free(run) else Outcome(run, None)
    finally:
        torch.set_num_threads(threads)


def _in_a_pool(work: Work, runs: Sequence[Run], workers: int, is_free: IsFree) -> Iterator[Outcome]:
    """A worker that dies takes the pool with it. What was running is then repeated, one run at a time.

    So it turns out which run kills its worker: that one is reported, and the rest goes on in a new pool.
    """
    waiting, suspects = deque(runs), deque[Run]()
    while waiting or suspects:
        alone, running = bool(suspects), dict[Future[Outcome], Run]()
        queue, width = (suspects, 1) if alone else (waiting, min(workers, len(waiting)))
        with suppress(BrokenProcessPool), _pool(work, width) as pool:
            yield from _until_broken(pool, width, queue, is_free, running)
        for future, run in running.items():
            if future.exception() is None:
                yield future.result()
            elif alone:
                yield Outcome(run, None, "its worker died, and died again when the run was repeated alone")
            else:
                suspects.append(run)


def _until_broken(
    pool: ProcessPoolExecutor,
    width: int,
    queue: deque[Run],
    is_free: IsFree,
    running: dict[Future[Outcome], Run],
) -> Iterator[Outcome]:
    """Execute the queue; no run waits in the pool, so that each is asked for right before it starts.

    Raises:
        BrokenProcessPool: a worker died; `running` then holds what was lost.
    """
    while queue or running:
        while queue and len(running) < width:
            if is_free(queue[0]):
                running[pool.submit(_execute, queue[0])] = queue[0]
            else:
                yield Outcome(queue[0], None)
            queue.popleft()
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            outcome = future.result()
            del running[future]
            yield outcome


@contextmanager
def _pool(work: Work, width: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; on Ctrl-C they are stopped at once, whatever they are at."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when a new process loads it
    others = set(active_children())
    pool = ProcessPoolExecutor(width, get_context("spawn"), initializer=_start, initargs=(work,))
    try:
        yield pool
    except BaseException:
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_work: Work
_worker: Worker | None = None


def _start(work: Work) -> None:
    """Prepare a worker process; the base model is loaded with its first run."""
    from tqdm import tqdm

    global _work
    _work = work
    tqdm.set_lock(threading.RLock())  # the default is a system semaphore, which outlives a kill
    become_worker()


def _execute(run: Run) -> Outcome:
    global _worker
    try:
        _worker = _worker or Worker(_work)
    except TbftError as error:
        return Outcome(run, None, str(error))
    return _worker.execute(run)
