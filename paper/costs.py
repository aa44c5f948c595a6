"""The experiment ``system-cost``: the time of one step and of a whole job, block by block, for both models.

The tables of each model are kept in one file; what is there is not measured again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paper.experiments import PROTOCOL
from paper.identity import hashed
from paper.provenance import commit, machine, now
from tbft.files import atomic_path

#: The paper's two models, at 32 px and at 128 px.
MODELS = ("resnet26-cifar10", "resnet26-living17")
#: Samples of the whole job.
SAMPLES = 1000
#: Rounds of one sample, of which the median is taken.
ROUNDS, QUICK_ROUNDS = 21, 5


def run_costs(
    out: str | Path = "results", quick: bool = False, on_model: Callable[[str], None] | None = None
) -> list[Path]:
    """Measure what has not been measured yet. On a busy machine the times are worth little.

    Args:
        quick: only one sample, in fewer rounds, and no whole job.
        on_model: called with the name of a model before it is measured.

    Returns:
        the files, ``out/system-cost-<hash>/system-cost-<model>.json``.
    """
    rounds = QUICK_ROUNDS if quick else ROUNDS
    identity = {"experiment": "system-cost", "protocol": PROTOCOL, "quick": quick, "samples": SAMPLES}
    folder = Path(out) / f"system-cost-{hashed({**identity, 'rounds': rounds}, 8)}"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in MODELS:
        path = folder / f"system-cost-{name}.json"
        if not path.exists():
            if on_model is not None:
                on_model(name)
            measured = _measured(name, rounds, quick)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(measured, indent=1) + "\n")
        files.append(path)
    return files


def _measured(name: str, rounds: int, quick: bool) -> dict[str, Any]:
    import torch

    from paper import system_cost as system
    from tbft import find_model
    from tbft.data.placeholder import random_pictures
    from tbft.patches import versions

    torch.set_num_threads(1)
    torch.manual_seed(0)
    preset = find_model(name)
    side = preset.inputs.resolution
    assert side is not None
    blocks = preset.split(preset.build())  # the cost does not depend on the weights
    pictures = random_pictures(256, side, classes=len(preset.inputs.class_names or ()))
    tables = {"one sample, one epoch": system.one_sample(blocks, pictures, rounds)}
    if not quick:
        tables[f"whole job of {SAMPLES:,} samples"] = system.whole_job(blocks, pictures, SAMPLES)
    return {
        "model": name,
        "resolution": side,
        "samples": SAMPLES,
        "quick": quick,
        "energy_kind": "unavailable",
        "system": {title: [asdict(row) for row in rows] for title, rows in tables.items()},
        "system_columns": [*system.COLUMNS[:-1], "block_avg", system.COLUMNS[-1]],
        "published": system.published(side),
        "threads": 1,
        "versions": versions(),
        "machine": machine(),
        **commit(),
        "finished": now(),
    }
