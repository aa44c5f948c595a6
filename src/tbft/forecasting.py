"""``tbft.forecast``: what more labels would be worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tbft.blocks import Blocks
from tbft.choosing.label_forecast import Forecast, Seen, forecast_labels, rows_to_use
from tbft.data.forms import as_samples
from tbft.data.origin import origin_of
from tbft.data.samples import Samples
from tbft.diagnosis.card import SourceCard
from tbft.diagnosis.observation import observe
from tbft.errors import DataError, unknown, wrong_form
from tbft.loading import as_base, reader_of
from tbft.verification.compatibility import check_fits

#: How labeled samples came about, see :func:`forecast`.
DRAWN = ("auto", "random", "stretch")


def forecast(
    model: Any, data: Any, *, card: SourceCard | str | Path | None = None, drawn: str = "auto"
) -> Forecast:
    """Forecast the accuracy with the labels at hand, and with 2, 5 and 10 times as many; nothing is tuned.

    The forecast is for the base or a new head, whichever is better, on samples like those given. Each
    accuracy has an 80 % interval; how often it held is in ``docs/forecast.md``.

    Args:
        model, data: in any form that :func:`tbft.personalize` takes; at most 1,000 samples are used.
        card: source card of the base model, or its file; its accuracy bounds what labels can reach.
        drawn: ``random``: the samples are a random sample of what the model will meet. ``stretch``: they
            come from one stretch of time, and what comes later may differ; the interval is wider.
            ``auto``: stretch if they have a column for time, person, series or the like, or are windows.

    Raises:
        DataError: fewer than 3 labels, labels of one class, or another task than classification.
        CardError: the card belongs to another model.
    """
    if not isinstance(drawn, str):
        raise wrong_form("drawn", drawn, [f'"{way}"' for way in DRAWN])
    if drawn not in DRAWN:
        raise DataError(unknown("way of drawing", drawn, DRAWN))
    base = as_base(model, card, read=reader_of(data))
    samples = as_samples(data, base.inputs)
    if samples.targets is not None:
        raise DataError(
            f"{samples.name}: a forecast needs class labels; targets of another task have none. What more of "
            "them would give shows if tbft.personalize(..., loss=, test=) is run on a half and on all of them"
        )
    return forecast_samples(base.blocks, samples, base.card, drawn)


def forecast_samples(
    blocks: Blocks, samples: Samples, card: SourceCard | None = None, drawn: str = "auto"
) -> Forecast:
    """As :func:`forecast`, for samples and blocks."""
    check_fits(blocks, samples)
    if card is not None:
        card.check(blocks.model)
    stretch = drawn == "stretch" or (drawn == "auto" and origin_of(samples) != "random")
    few = samples.subset(rows_to_use(samples, stretch))
    observed = observe(blocks, few, "float32")
    seen = Seen(observed.features, observed.logits)
    accuracy = None if card is None else card.accuracy
    return forecast_labels(seen, few.labels, few.class_names, accuracy, stretch, len(samples))
