"""Where runs are done: in this process, in a pool of processes, or by Ray.

Each engine takes cells with the runs that are wanted in them and yields what becomes of each: a record, or
the reason why there is none. Only the caller writes records.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol

from paper.runs import Run, Settings
from tbft.errors import MissingExtraError, TbftError

if TYPE_CHECKING:
    from paper.bench import Bench

ENGINES = ("serial", "pool", "ray")
#: A run whose worker died is begun so many times in all.
ATTEMPTS = 2


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    run: Run
    record: Mapping[str, Any] | None
    reason: str = ""  # why there is no record; empty where the run was done by another process meanwhile


IsDone = Callable[[Run], bool]


@dataclass(frozen=True)
class Work:
    """What a worker needs to know of all runs."""

    settings: Settings
    engine: str
    origin: Mapping[str, Any]  # commit and dirty


class Worker:
    """Does runs, one after the other, in whatever process it is in; keeps base model and latest cell."""

    def __init__(self, work: Work, bench: Bench | None = None) -> None:
        import torch

        from paper.bench import Bench

        torch.set_num_threads(1)
        self.work = work
        self.bench = bench or Bench(work.settings)

    def do(self, run: Run) -> Outcome:
        from paper.methods import record_of

        try:
            return Outcome(run, record_of(self.bench, run, self.work.engine, self.work.origin))
        except TbftError as error:
            return Outcome(run, None, str(error))
        except (RuntimeError, MemoryError) as error:  # torch's, such as out of memory: the rest goes on
            return Outcome(run, None, f"{type(error).__name__}: {error}")


class Crew(Protocol):
    """Workers elsewhere, by number."""

    def hire(self, number: int) -> None:
        """Start a worker, in place of a dead one if there was one of this number."""

    def give(self, number: int, run: Run) -> None:
        """Have an idle worker do a run."""

    def next(self) -> tuple[int, Outcome | str]:
        """Wait for a busy worker: its outcome, or the reason why it will give none."""

    def dismiss(self) -> None:
        """End all workers at once."""


def outcomes(
    work: Work,
    cells: Sequence[Sequence[Run]],
    workers: int | None = None,
    bench: Bench | None = None,
    is_done: IsDone = lambda run: False,
) -> Iterator[Outcome]:
    """Do all runs and yield what becomes of each as soon as it is known.

    Args:
        workers: of ``pool`` and ``ray``; None: one a core of the machine or of the cluster.
        bench: for ``serial``, if it is made already.
        is_done: asked before a run is begun.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    if work.engine == "serial":
        return _one_by_one(work, cells, bench, is_done)
    if work.engine == "pool":
        return scheduled(Pool(work), cells, workers or os.cpu_count() or 1, is_done)
    crew = RayCrew(work)
    return scheduled(crew, cells, min(workers or crew.cores, crew.cores), is_done)


def _one_by_one(
    work: Work, cells: Sequence[Sequence[Run]], bench: Bench | None, is_done: IsDone
) -> Iterator[Outcome]:
    import torch

    threads = torch.get_num_threads()
    try:
        worker = Worker(work, bench)
        for runs in cells:
            for run in runs:
                yield Outcome(run, None) if is_done(run) else worker.do(run)
    finally:
        torch.set_num_threads(threads)


@dataclass
class _Desk:
    """What one worker has before it."""

    todo: list[Run] = field(default_factory=list)
    doing: Run | None = None
    attempts: int = 0


def scheduled(
    crew: Crew, cells: Sequence[Sequence[Run]], workers: int, is_done: IsDone = lambda run: False
) -> Iterator[Outcome]:
    """Deal cells to workers, run by run; a worker that dies is replaced, and its run begun once more.

    When no cell is left, one that has nothing to do takes half of what the busiest has before it.
    """
    waiting = [list(runs) for runs in cells if runs]
    desks = [_Desk() for _ in range(min(workers, sum(map(len, waiting))))]
    try:
        for number in range(len(desks)):
            crew.hire(number)
            yield from _go_on(crew, number, desks, waiting, is_done)
        while any(desk.doing is not None for desk in desks):
            number, outcome = crew.next()
            desk = desks[number]
            if desk.doing is None:  # an idle worker died, and nobody needs it any more
                continue
            if isinstance(outcome, str):
                crew.hire(number)
                if desk.attempts < ATTEMPTS:
                    desk.attempts += 1
                    crew.give(number, desk.doing)
                    continue
                outcome = Outcome(desk.doing, None, f"its worker died {ATTEMPTS} times: {outcome}")
            yield from _go_on(crew, number, desks, waiting, is_done)
            yield outcome
    finally:
        crew.dismiss()


def _go_on(
    crew: Crew, number: int, desks: Sequence[_Desk], waiting: list[list[Run]], is_done: IsDone
) -> Iterator[Outcome]:
    """Give a worker its next run; those that were done meanwhile are passed over."""
    desk = desks[number]
    desk.doing, desk.attempts = None, 1
    while True:
        if not desk.todo:
            desk.todo = waiting.pop(0) if waiting else _half(max(desks, key=lambda other: len(other.todo)))
        if not desk.todo:
            return
        run = desk.todo.pop(0)
        if not is_done(run):
            desk.doing = run
            crew.give(number, run)
            return
        yield Outcome(run, None)


def _half(desk: _Desk) -> list[Run]:
    """The later half of what a worker has before it, taken from it."""
    kept = len(desk.todo) // 2
    taken, desk.todo = desk.todo[kept:], desk.todo[:kept]
    return taken


class Pool:
    """Processes of this machine, one torch thread each."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, Any] = {}
        self._pipes: dict[int, Connection] = {}

    def hire(self, number: int) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when the new process loads it
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(self.work, theirs), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the worker does
        self._processes[number], self._pipes[number] = process, ours

    def give(self, number: int, run: Run) -> None:
        with suppress(OSError):  # it is dead, and `next` will say so
            self._pipes[number].send(run)

    def next(self) -> tuple[int, Outcome | str]:
        numbers = {id(pipe): number for number, pipe in self._pipes.items()}
        pipe = wait(list(self._pipes.values()))[0]
        assert isinstance(pipe, Connection)
        number = numbers[id(pipe)]
        try:
            outcome: Outcome | str = pipe.recv()
        except (EOFError, OSError):
            process = self._processes[number]
            process.join()
            outcome = f"exit status {process.exitcode}"
            pipe.close()
            del self._pipes[number]
        return number, outcome

    def dismiss(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()


def _work(work: Work, pipe: Connection) -> None:
    """The life of a process of the pool."""
    import signal
    import threading

    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its default is a semaphore of the system, which outlives a kill
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends this process
    worker: Worker | None = None
    while True:
        try:
            run = pipe.recv()
            try:
                worker = worker or Worker(work)
                outcome = worker.do(run)
            except TbftError as error:
                outcome = Outcome(run, None, str(error))
            pipe.send(outcome)
        except (EOFError, BrokenPipeError):  # the parent is gone
            return


class RayCrew:
    """Ray actors, one processor each, on this machine or on a cluster (``RAY_ADDRESS``)."""

    def __init__(self, work: Work) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray") from error
        self.ray = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            # Else they yield to everything else on the machine, and starve where it is busy.
            os.environ.setdefault("RAY_worker_niceness", "0")
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        self.cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        self._work = ray.put(work)
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(Worker)
        self._actors: dict[int, Any] = {}
        self._doing: dict[Any, int] = {}

    def hire(self, number: int) -> None:
        if number in self._actors:
            self.ray.kill(self._actors[number])
        environment = {"env_vars": {"OMP_NUM_THREADS": "1"}}
        self._actors[number] = self._actor.options(runtime_env=environment).remote(self._work)

    def give(self, number: int, run: Run) -> None:
        self._doing[self._actors[number].do.remote(run)] = number

    def next(self) -> tuple[int, Outcome | str]:
        ready, _ = self.ray.wait(list(self._doing), num_returns=1)
        number = self._doing.pop(ready[0])
        try:
            return number, self.ray.get(ready[0])
        except self.ray.exceptions.RayError as error:
            return number, str(error).strip().splitlines()[0]

    def dismiss(self) -> None:
        for actor in self._actors.values():
            self.ray.kill(actor)
        if self._ours:
            self.ray.shutdown()
