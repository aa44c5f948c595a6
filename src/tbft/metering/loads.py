"""Work that keeps cores busy in a known way, for calibration: one process per core.

    with Busy("convolution", cores=2) as busy:
        ...                       # read the meter
    print(busy.cores, busy.gflops_per_second)

``python -m tbft.metering.loads LOAD`` is such a process. It says ``ready``, works from the line ``go`` on
until ``stop`` or the end of its input, and prints what it used as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from tbft.errors import TbftError, unknown

Work = Callable[[], float]  # one unit of work; returns its floating-point operations

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def plain() -> Work:
    """Whole numbers in registers and the nearest cache."""

    def work() -> float:
        total = 0
        for i in range(100_000):
            total += i * i
        return 0.0

    return work


def memory() -> Work:
    """Copies of 32 MiB, far beyond the caches of a small board."""
    import numpy as np

    source = np.ones(4 << 20)
    target = np.empty_like(source)

    def work() -> float:
        np.copyto(target, source)
        return 0.0

    return work


def convolution() -> Work:
    """Training steps of a 3x3 convolution, 32 channels, 16 pictures of 32 px, on one thread.

    Its forward pass takes 2 * 16 * 32 * 32 * 32 * 32 * 9 operations, its backward pass twice as many.
    """
    import torch

    torch.set_num_threads(1)
    layer = torch.nn.Conv2d(32, 32, 3, padding=1)
    x = torch.randn(16, 32, 32, 32, requires_grad=True)

    def work() -> float:
        layer(x).sum().backward()
        return 3.0 * 2 * 16 * 32 * 32 * 32 * 32 * 9

    return work


LOADS: dict[str, Callable[[], Work]] = {"plain": plain, "memory": memory, "convolution": convolution}


class Busy:
    """Keeps a number of cores busy in the body of a ``with`` statement.

    Attributes:
        cores: processor seconds per second, once the body has ended.
        gflops_per_second: floating-point operations of all cores; 0 where none are counted.

    Raises:
        TbftError: unknown load, or a process that does not start.
    """

    cores = 0.0
    gflops_per_second = 0.0

    def __init__(self, load: str, cores: int) -> None:
        if load not in LOADS:
            raise TbftError(unknown("load", load, LOADS))
        self._load, self._count = load, cores
        self._workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Busy:
        command = [sys.executable, "-m", "tbft.metering.loads", self._load]
        environment = {**os.environ, **_ONE_THREAD}
        try:
            for _ in range(self._count):
                self._workers.append(
                    subprocess.Popen(
                        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                    )
                )
            for worker in self._workers:
                if self._reply(worker) != "ready":
                    raise TbftError(f"the load {self._load!r} does not start")
            self._send("go\n")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._send("stop\n")
            replies = [json.loads(self._reply(worker) or "{}") for worker in self._workers]
            self.cores = sum(r["cpu_seconds"] / r["wall_seconds"] for r in replies if r)
            self.gflops_per_second = sum(r["flops"] / 1e9 / r["wall_seconds"] for r in replies if r)
        self._kill()

    def _send(self, line: str) -> None:
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write(line)
            worker.stdin.flush()

    def _reply(self, worker: subprocess.Popen[str]) -> str:
        assert worker.stdout is not None
        return worker.stdout.readline().strip()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.communicate()


def main(load: str) -> None:
    """One busy process; see the head of this module."""
    work = LOADS[load]()
    work()
    print("ready", flush=True)
    if not sys.stdin.readline():  # the process that started it is gone
        return
    stop = threading.Event()

    def wait_for_stop() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=wait_for_stop, daemon=True).start()
    wall, cpu, flops = time.perf_counter(), time.process_time(), 0.0
    while not stop.is_set():
        flops += work()
    used = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    with suppress(BrokenPipeError):
        print(json.dumps({**used, "flops": flops}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
