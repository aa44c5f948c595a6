"""Where the seconds of a training step of the front block go: ResNet-26, 32 px, batches of 48.

    python benchmarks/step.py --weights resnet26_cifar10_released.pth --json benchmarks/results/step.json

Processor seconds and page faults of a step, with memory returned to the system in every step and with memory
kept, as tuning does; each in processes of their own, one thread, alternating. The shares of operations are
of processor time: for each call in a step, the median over the steps. (A profiler that reads a clock blames
long operations for what else runs on the machine.) The rate of convolutions is counted operations by time.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from own_process import in_own_process
from records import parser_of, store
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tbft.blocks.precision import Computing
from tbft.models import find_model
from tbft.plan import find_recipe
from tbft.tuning.loop import loss_of
from tbft.tuning.optimizers import make_optimizer
from tbft.tuning.pages import pages_kept

#: Operation -> group.
GROUPS = {
    "convolution": "convolutions, forward",
    "convolution_backward": "convolutions, backward",
    "native_batch_norm": "BatchNorm, forward",
    "native_batch_norm_backward": "BatchNorm, backward",
    "relu": "ReLU",
    "threshold_backward": "ReLU",
    "add": "additions",
    "add_": "additions",
    "_to_copy": "conversions",
    "_fused_adamw_": "optimizer",
}


class OperationTimes(TorchDispatchMode):
    """Records the processor time of each operation, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, float]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.thread_time()
        out = func(*args, **(kwargs or {}))
        self.calls.append((func.overloadpacket.__name__, time.thread_time() - start))
        return out


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint of the ResNet-26")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_process(**json.loads(arguments.one), arguments=arguments)))
        return
    content: dict[str, Any] = {"batch": arguments.batch}
    for precision in ("float32", "bfloat16"):
        content[precision] = compared(precision, arguments.rounds)
        print(precision, json.dumps(content[precision], indent=1))
    if arguments.json:
        store(arguments.json, **content)


def compared(precision: str, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"returned": [], "kept": []}
    for _ in range(rounds):
        for way, found in runs.items():
            found.append(in_own_process({"precision": precision, "way": way}))
    middle = {
        f"{key}, memory {way}": round(median(run[key] for run in found), 4)
        for key in ("processor seconds", "page faults")
        for way, found in runs.items()
    }
    last = runs["kept"][-1]
    return {**middle, "conv_gflops_per_second": last["conv_gflops_per_second"], "shares": last["shares"]}


def one_process(precision: str, way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    preset = find_model("resnet26-cifar10")
    model = preset.load(arguments.weights)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(arguments.batch, 3, 32, 32, generator=generator)
    y = torch.randint(0, 10, (arguments.batch,), generator=generator)
    computing = Computing(precision, True)
    with (
        preset.split(model).only("front", "all") as parameters,
        pages_kept() if way == "kept" else nullcontext(),
    ):
        optimizer = make_optimizer(find_recipe("fast").optimization, parameters)

        def step() -> None:
            optimizer.zero_grad()
            loss_of(model, computing, x, y).backward()
            optimizer.step()

        for _ in range(3):
            step()
        seconds, faults = [], []
        for _ in range(8):
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
            step()
            seconds.append(time.process_time() - start)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        found: dict[str, Any] = {"processor seconds": median(seconds), "page faults": median(faults)}
        if way == "kept":
            with FlopCounterMode(display=False) as counter:
                step()
            times = grouped(step, 8)
            total, convolutions = sum(times.values()), sum(t for g, t in times.items() if "convol" in g)
            found["conv_gflops_per_second"] = round(counter.get_total_flops() / convolutions / 1e9)
            found["shares"] = {group: round(t / total, 3) for group, t in times.items()}
    return found


def grouped(step: Callable[[], None], steps: int) -> dict[str, float]:
    """Group of operations -> processor seconds in a step; for each call, the median over the steps."""
    runs = []
    for _ in range(steps):
        with OperationTimes() as times:
            step()
        runs.append(times.calls)
    totals: dict[str, float] = {}
    for calls in zip(*runs, strict=True):
        group = GROUPS.get(calls[0][0], "everything else")
        totals[group] = totals.get(group, 0.0) + median(seconds for _, seconds in calls)
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
