"""Where the seconds of a training step of the front block go: ResNet-26, 32 px, batches of 48.

    python benchmarks/step.py --weights resnet26_cifar10_released.pth --json benchmarks/results/step.json

Processor seconds and page faults of a step, with memory returned to the system in every step and with memory
kept, as tuning does; each in processes of their own, one thread, alternating. The shares of operations come
from torch's profiler: for each call in a step, the median over the steps, so that what else runs on the
machine counts little. The rate of convolutions is their counted operations divided by their time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tbft.blocks.precision import Computing
from tbft.files import atomic_path
from tbft.models import find_model
from tbft.patches import versions
from tbft.plan import find_recipe
from tbft.tuning.loop import loss_of
from tbft.tuning.optimizers import make_optimizer
from tbft.tuning.pages import pages_kept

#: Group -> beginnings of the names of operations.
GROUPS = {
    "convolutions, forward": ("aten::mkldnn_convolution", "aten::convolution"),
    "convolutions, backward": ("aten::convolution_backward",),
    "BatchNorm, forward": ("aten::native_batch_norm",),
    "BatchNorm, backward": ("aten::native_batch_norm_backward",),
    "ReLU, forward and backward": ("aten::clamp_min", "aten::threshold_backward", "aten::relu"),
    "additions": ("aten::add", "aten::add_"),
    "optimizer": ("aten::_fused_adamw_",),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint of the ResNet-26")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_process(arguments.one[0], arguments.one[1], arguments)))
        return
    content: dict[str, Any] = {"machine": platform.machine(), "cores": os.cpu_count(), **versions()}
    content["batch"] = arguments.batch
    for precision in ("float32", "bfloat16"):
        content[precision] = compared(precision, arguments.rounds)
        print(precision, json.dumps(content[precision], indent=1))
    if arguments.json:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")


def compared(precision: str, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"returned": [], "kept": []}
    for _ in range(rounds):
        for way, found in runs.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--one", precision, way]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
            )
            found.append(json.loads(done.stdout))
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
            found["conv_gflops_per_second"] = round(counter.get_total_flops() / convolutions / 1e3)
            found["shares"] = {group: round(t / total, 3) for group, t in times.items()}
    return found


def grouped(step: Callable[[], None], steps: int) -> dict[str, float]:
    """Group of operations -> microseconds in a step."""
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(steps):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            step()
        calls: Counter[str] = Counter()
        for event in profiled.events() or []:
            times.setdefault((event.name, calls[event.name]), []).append(event.self_cpu_time_total)
            calls[event.name] += 1
    totals: dict[str, float] = {}
    for (name, _), values in times.items():
        group = next((group for group, names in GROUPS.items() if name in names), "everything else")
        totals[group] = totals.get(group, 0.0) + float(np.median(values))
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
