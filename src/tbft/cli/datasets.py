"""``tbft data show | corrupt``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbft.cli.common import (
    Subparsers,
    add_json,
    add_selection,
    command,
    load_samples,
    print_json,
    table,
)
from tbft.errors import DataError

if TYPE_CHECKING:
    from tbft.data import Samples

EXAMPLES = """
tbft data show photos/
tbft data show test.tar --drift contrast:5 --out sheet.png
tbft data corrupt test.tar --drift gaussian_noise:5 --out noisy/
"""


def add(commands: Subparsers) -> None:
    parser = command(commands, "data", "look at samples, or put a drift on them", EXAMPLES)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = command(actions, "show", "print what is in a set", "\n".join(EXAMPLES.strip().splitlines()[:2]))
    show.add_argument("data", metavar="SET")
    add_selection(show)
    show.add_argument("--out", metavar="FILE", help="draw some of the pictures of each class as a .png")
    add_json(show)
    show.set_defaults(run=run_show)
    corrupt = command(
        actions,
        "corrupt",
        "write a set with a drift on it, in the shape of CIFAR-10-C",
        EXAMPLES.splitlines()[-1],
    )
    corrupt.add_argument("data", metavar="SET")
    add_selection(corrupt)
    corrupt.add_argument("--out", metavar="DIR", required=True, help="folder for <drift>.npy and labels.npy")
    corrupt.set_defaults(run=run_corrupt)


def run_show(arguments: argparse.Namespace) -> None:
    from tbft.files import check_writable

    if arguments.out:
        check_writable(arguments.out)
    samples = load_samples(arguments)
    if arguments.out:
        _draw(samples, arguments.out)
    about = {
        "name": samples.name,
        "samples": len(samples),
        "input_shape": list(samples.inputs.shape[1:]),
        "input_type": str(samples.inputs.dtype),
        "class_counts": samples.class_counts(),
        "attributes": {key: len(set(values.tolist())) for key, values in samples.attributes.items()},
    }
    if arguments.json:
        print_json(about)
        return
    attributes = ", ".join(f"{k} ({n} values)" for k, n in about["attributes"].items()) or "none"  # type: ignore[attr-defined]
    print(
        table(
            [
                ("set", samples.name),
                ("samples", f"{len(samples):,}"),
                ("inputs", f"{samples.inputs.dtype} {'x'.join(map(str, samples.inputs.shape[1:]))}"),
                ("attributes", attributes),
                ("classes", str(len(samples.class_names))),
                *((f"  {name}", f"{count:,}") for name, count in samples.class_counts().items()),
            ]
        )
    )


def _draw(samples: Samples, out: str) -> None:
    """A contact sheet, one row a class, eight pictures each."""
    import numpy as np
    from PIL import Image

    from tbft.files import atomic_path

    if not samples.are_pictures:
        raise DataError(f"{samples.name}: its inputs are no uint8 pictures, so there is nothing to draw")
    rows = [np.flatnonzero(samples.labels == c)[:8] for c in np.unique(samples.labels)]
    height, width, channels = samples.inputs.shape[1:]
    sheet = np.full((len(rows) * (height + 2), 8 * (width + 2), channels), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, i in enumerate(row):
            top, left = r * (height + 2) + 1, c * (width + 2) + 1
            sheet[top : top + height, left : left + width] = samples.inputs[i]
    image = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    scale = max(1, 64 // height)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    with atomic_path(out) as temporary:
        image.save(temporary, "PNG")


def run_corrupt(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    import numpy as np

    from tbft.data import find_drift
    from tbft.data.arrays import ABOUT
    from tbft.files import atomic_path

    if not arguments.drift:
        raise DataError("name the drift to put on: --drift gaussian_noise:5")
    folder = Path(arguments.out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give a folder")
    samples = load_samples(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    drift, _ = find_drift(arguments.drift)
    name = drift.name if drift.level == "input" else arguments.drift.replace(":", "_")
    for stem, array in ((name, samples.inputs), ("labels", samples.labels)):
        with atomic_path(folder / f"{stem}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, array)
    with atomic_path(folder / ABOUT) as temporary, temporary.open("wb") as file:
        about = {"class_names": np.array(samples.class_names), **samples.attributes}
        np.savez(file, allow_pickle=False, **about)
    print(f"{folder}: {len(samples):,} samples in {name}.npy, labels.npy and {ABOUT}")
