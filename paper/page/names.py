"""What readers know methods, experiments and drifts as, and the order in which they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from paper.published import BLOCK_AVERAGE
from paper.tables import ROWS

LABELS: Mapping[str, str] = {
    "none": "no adaptation",
    "adabn": "AdaBN",
    "front": "front (block 1)",
    "layer2": "block 2",
    "layer3": "block 3",
    "rear": "rear (fc)",
    BLOCK_AVERAGE: "block average",
    "full": "full",
    "ours": "tbft",
    "auto-rgn": "Auto-RGN",
    "tent": "TENT",
    "memo": "MEMO",
}
EXPERIMENT_LABELS: Mapping[str, str] = {
    "cifar10-c": "CIFAR-10-C",
    "cifar-flip": "Label reversal",
    "tiny17": "Tiny-17",
    "living17": "Living-17",
    "living17-photos": "Living-17, photos",
}


def label(method: str) -> str:
    """What readers know a method as.

    >>> label("rear"), label("something new")
    ('rear (fc)', 'something new')
    """
    return LABELS.get(method, method)


def experiment_label(name: str) -> str:
    """What readers know an experiment as."""
    return EXPERIMENT_LABELS.get(name, name)


def drift_label(name: str) -> str:
    """A corruption in words.

    >>> drift_label("gaussian_noise:5")
    'gaussian noise'
    """
    return name.partition(":")[0].replace("_", " ")


def ordered(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the tables, unknown ones last.

    >>> ordered({"full", "none", "xyz"})
    ['none', 'full', 'xyz']
    """
    known = {name: i for i, name in enumerate(ROWS)}
    return sorted(methods, key=lambda name: (known.get(name, len(known)), name))
