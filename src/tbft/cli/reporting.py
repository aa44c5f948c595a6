"""What the pages of ``tbft personalize --report`` and ``tbft reproduce report`` are made from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tbft.cli.common import load_samples

if TYPE_CHECKING:
    from tbft.blocks import Blocks
    from tbft.data import Samples
    from tbft.models import Preset
    from tbft.pipeline import Personalization
    from tbft.report import Strip
    from tbft.reproduce.reporting import Report

PHOTO_SIDE = 64  # px of the sample pictures of drifts


def write_adaptation(
    arguments: argparse.Namespace,
    result: Personalization,
    blocks: Blocks,
    preset: Preset,
    samples: Samples,
    patch_path: str | None,
) -> None:
    """Write the page of one adaptation."""
    from tbft.diagnosis.levels import INPUT_DISTANCE, STRAYS
    from tbft.report import Adaptation, adaptation_page, write_page

    given = Adaptation(
        result=result.to_json(),
        weights=arguments.weights or (str(preset.weights) if preset.weights else None),
        patch_path=patch_path,
        model_bytes=sum(block.size_bytes for block in blocks),
        strips=_strips(arguments, preset, samples),
        thresholds={"distance": INPUT_DISTANCE, "strays": STRAYS},
    )
    write_page(adaptation_page(given), arguments.report)


def _strips(arguments: argparse.Namespace, preset: Preset, samples: Samples) -> list[Strip]:
    """A few of the samples, beside the same ones without the drift that was put on them, if one was."""
    from tbft.scenarios.sheets import scenario_rows

    if not samples.are_pictures:
        return []
    if arguments.drift:
        clean = argparse.Namespace(**{**vars(arguments), "drift": None})
        rows = scenario_rows(arguments.drift, load_samples(clean, preset), arguments.seed)
    else:
        rows = [("as they are met", scenario_rows("clean", samples)[0][1])]
    return [_strip(caption, shown) for caption, shown in rows]


def _strip(caption: str, samples: Samples, labeled: bool = True) -> Strip:
    from tbft.report import Shown, Strip
    from tbft.scenarios.sheets import png

    names = [samples.class_names[label] for label in samples.labels]
    pairs = zip(samples.inputs, names, strict=True)
    return Strip(caption, [Shown(png(picture), name if labeled else "", name) for picture, name in pairs])


def write_reproduction(report: Report, records: str, out: str) -> Path:
    """Write the page of the reproduced paper beside its tables and claims."""
    from tbft.report import write_page
    from tbft.report.records import reproduction_of
    from tbft.report.reproduction import reproduction_page
    from tbft.reproduce import claims, tables
    from tbft.reproduce.experiments import EXPERIMENTS
    from tbft.reproduce.published import published
    from tbft.reproduce.records import read_costs, read_records

    given = reproduction_of(
        tables.to_json(report.tables)["tables"],
        claims.to_json(report.claims),
        read_records(records),
        [{"name": e.name, "title": e.title, "right": e.right} for e in EXPERIMENTS.values()],
        published("noise-motivation"),
        read_costs(records),
        _drift_strips(),
    )
    path = Path(out) / "index.html"
    write_page(reproduction_page(given), path)
    return path


def _drift_strips() -> list[Strip]:
    """The paper's drifts on four photos that anyone may show; none without the extra that brings them."""
    from tbft.errors import MissingExtraError
    from tbft.reproduce.experiments import EXPERIMENTS
    from tbft.scenarios import apply_drift
    from tbft.scenarios.sheets import photos

    try:
        clean = photos(PHOTO_SIDE)
        strips = [_strip("clean", clean)]
        for name in ("cifar-flip", "cifar10-c"):
            drifts = [drift for drift in EXPERIMENTS[name].drifts if drift is not None]
            strips += [_strip(d, apply_drift(clean, d), labeled=name == "cifar-flip") for d in drifts]
    except MissingExtraError:
        return []
    return strips
