"""What the page of ``tbft personalize --report`` is made from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbft.cli.common import load_samples

if TYPE_CHECKING:
    from tbft.blocks import Blocks
    from tbft.data import Samples
    from tbft.models import Preset
    from tbft.pipeline import Personalization
    from tbft.report import Strip


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


def _strip(caption: str, samples: Samples) -> Strip:
    from tbft.report import Shown, Strip
    from tbft.scenarios.sheets import png

    names = [samples.class_names[label] for label in samples.labels]
    pairs = zip(samples.inputs, names, strict=True)
    return Strip(caption, [Shown(png(picture), name) for picture, name in pairs])
