"""The paper's table of system costs, measured here, next to the published figures.

    python benchmarks/system_cost.py --json benchmarks/results/system_cost.json

For both of the paper's models: one sample and one epoch as in the paper, and a whole job of 1,000 samples,
of which one epoch is measured (see :mod:`paper.system_cost`). One thread; ways and blocks are interleaved;
medians over the rounds. Random pictures and weights cost the same as real ones. There is no energy sensor
here, so it contains no energy. `python -m paper run system-cost` measures the same for its page.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from records import parser_of, store
from tqdm import tqdm

from tbft.data.placeholder import random_pictures
from tbft.models import find_model

sys.path.append(str(Path(__file__).parents[1]))  # `paper` is at the root of the checkout
from paper.system_cost import COLUMNS, WAYS, one_sample, published, whole_job

#: Model, rounds of one sample, rounds of a whole job.
MODELS = (("resnet26-cifar10", 21, 2), ("resnet26-living17", 11, 1))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--json", type=Path, required=True, help="read finished tables from here, store new ones"
    )
    parser.add_argument("--samples", type=int, default=1000, help="number of samples of the whole job")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables: dict[str, Any] = {}
    if arguments.json.exists():
        tables = json.loads(arguments.json.read_text())["tables"]
    cells = [(m, mode, n) for m, one, job in MODELS for mode, n in (("one sample", one), ("whole job", job))]
    for model, mode, rounds in tqdm([c for c in cells if f"{c[0]}, {c[1]}" not in tables], disable=None):
        tables[f"{model}, {mode}"] = measured(model, mode, rounds, arguments.samples)
        content = {
            "ways": WAYS,
            "columns": [*COLUMNS[:-1], "block_avg", COLUMNS[-1]],
            "energy_kind": "unavailable",
            "tables": tables,
        }
        store(arguments.json, **content)


def measured(model: str, mode: str, rounds: int, count: int) -> dict[str, Any]:
    """One table."""
    torch.manual_seed(0)
    preset = find_model(model)
    side = preset.inputs.resolution
    assert side
    blocks = preset.split(preset.build())
    samples = random_pictures(256, side, classes=len(preset.inputs.class_names or ()))
    if mode == "one sample":
        rows, published_rows = one_sample(blocks, samples, rounds), published(side)
    else:
        rows, published_rows = whole_job(blocks, samples, count, rounds), None
    return {
        "model": model,
        "resolution": side,
        "samples": 1 if mode == "one sample" else count,
        "rounds": rounds,
        "rows": [asdict(row) for row in rows],
        "published": published_rows,
    }


if __name__ == "__main__":
    main()
