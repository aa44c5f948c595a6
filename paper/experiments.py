"""The paper's experiments, as data. No torch here.

What they are: Huang et al. (EuroMLSys 2024), sections 3 and 4, and its scripts; ``docs/reproduce.md`` tells
where ours differ and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tbft.errors import TbftError, unknown

#: Goes into every run's identity; raise it when the same arguments would mean another experiment.
PROTOCOL = 1

#: The fifteen common corruptions of CIFAR-10-C, in RobustBench's order.
CORRUPTIONS = (
    "shot_noise", "motion_blur", "snow", "pixelate", "gaussian_noise", "defocus_blur", "brightness", "fog",
    "zoom_blur", "frost", "glass_blur", "impulse_noise", "contrast", "jpeg_compression", "elastic_transform",
)  # fmt: skip

#: What tunes one block, in the order of the blocks; ``rear`` is the paper's ``fc``, the last layer alone.
BLOCK_METHODS = ("front", "layer2", "layer3", "rear")
#: What every table holds. ``ours`` diagnoses, chooses and tunes by itself, with the recipe ``fast``.
OWN_METHODS = ("none", "adabn", *BLOCK_METHODS, "full", "ours")
#: Other people's, re-derived from their papers in ``reproduce/baselines``.
BASELINE_METHODS = ("auto-rgn", "tent", "memo")
METHODS = OWN_METHODS + BASELINE_METHODS
#: What does the same whatever the recipe of the arms.
RECIPE_FREE = ("none", "ours", *BASELINE_METHODS)

RECIPES = ("paper", "fast")


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper.

    Attributes:
        level: the level of drift it is about; None where it is about all, or about cost.
        right: the block that the paper finds best; None where there is not one.
        model: a preset.
        weights: the base's checkpoint, below the folder of data; None: what ships with the model.
        data: sets to draw train, val and test from, below the folder of data; several are joined.
        data_name: what they are, for tables; set by the file's name where another is given.
        test_data: the set to test on, where it is another.
        where, class_map: as ``tbft personalize --where`` and ``--classes``; a path below the folder of data.
        drifts: what is put on top, a cell each; None: nothing.
        noised: blocks that get noise on their weights, a cell each; None: none does.
        noised_accuracy: what the noise's strength is found for, 0 to 1.
        sizes: size in percent -> the training part, as ``--train`` of ``tbft personalize``.
        val, test: the other parts.
        spare: samples in none of the three, where noise is found on such.
        changes: fields of the paper's recipe that this experiment has otherwise.
        batch_size: in place of every recipe's, where samples are too few for its own; None: its own.
    """

    name: str
    title: str
    level: str | None = None
    right: str | None = None
    model: str = "resnet26-cifar10"
    weights: str | None = "checkpoints/resnet26_cifar10_released.pth"
    data: tuple[str, ...] = ("cifar10/test.tar",)
    data_name: str = "CIFAR-10 test set (JPEG copy)"
    test_data: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    class_map: str | None = None
    drifts: tuple[str | None, ...] = (None,)
    noised: tuple[str | None, ...] = (None,)
    noised_accuracy: float = 0.0
    sizes: Mapping[int, str] = field(default_factory=lambda: {10: "0.1", 20: "0.2", 30: "0.3"})
    val: str = "0.15"
    test: str = "0.15"
    spare: str | None = None
    seeds: int = 3
    changes: Mapping[str, float] = field(default_factory=dict)
    batch_size: int | None = None
    quick: bool = False

    @property
    def is_cost(self) -> bool:
        """Whether it is about time and energy alone, and not made of runs."""
        return self.name == "system-cost"


EXPERIMENTS = {
    one.name: one
    for one in (
        Experiment(
            name="noise-motivation",
            title="noise on one block, tuning of each block",
            data=("cifar10/train.tar",),
            data_name="CIFAR-10 (JPEG copy)",
            test_data="cifar10/test.tar",
            noised=BLOCK_METHODS,
            noised_accuracy=0.2,
            sizes={10: "0.1"},
            val="0.03",
            test="0",
            spare="1000",
            changes={"epochs": 50, "patience": 20},
        ),
        Experiment(
            name="cifar10-c",
            title="input level: the fifteen corruptions of CIFAR-10-C, severity 5",
            level="input",
            right="front",
            drifts=tuple(f"{name}:5" for name in CORRUPTIONS),
        ),
        Experiment(
            name="cifar-flip",
            title="output level: labels in reverse order",
            level="output",
            right="rear",
            drifts=("labels:reverse",),
        ),
        Experiment(
            name="living17",
            title="feature level: BREEDS Living-17, from a local ImageNet tree",
            level="feature",
            right="layer3",
            model="resnet26-living17",
            weights="checkpoints/resnet26_living17_released.pth",
            data=("imagenet/train",),
            data_name="Living-17, target domain",
            where={"domain": "target"},
            class_map="living17:rand",
            sizes={10: "180/class", 20: "360/class", 30: "540/class"},
            seeds=4,
        ),
        Experiment(
            name="living17-photos",
            title="feature level: the photos of Living-17's target domain that are at hand, 103 of 205",
            level="feature",
            right="layer3",
            model="resnet26-living17",
            weights="checkpoints/resnet26_living17_released.pth",
            data=(
                "living17/ilsvrc_val_acuity.npz",
                "living17/imagenet_sample_1perclass.npz",
                "living17/nips17_adv_dev.npz",
            ),
            data_name="Living-17, target domain, 103 photos",
            where={"domain": "target"},
            sizes={30: "rest"},
            val="0.2",
            test="0.5",
            seeds=10,
            batch_size=16,
        ),
        Experiment(
            name="tiny17",
            title="feature level: Tiny-17, a stand-in for Living-17 cut from Tiny-ImageNet",
            level="feature",
            right="layer3",
            model="resnet26-tiny17",
            weights=None,
            data=("tiny17/target.tar",),
            data_name="Tiny-17, target domain",
            class_map="tiny17/splits.json",
        ),
        Experiment(
            name="system-cost",
            title="time and energy of each block, at 32 and at 128 px",
            sizes={},
        ),
    )
}


#: What the quick versions have otherwise: fewer drifts and samples, and smaller batches, so that the paper's
#: recipe makes as many steps as it does on its smallest size.
QUICK: dict[str, dict[str, object]] = {
    "noise-motivation": {
        "noised": ("front", "rear"),
        "sizes": {10: "300"},
        "val": "0.006",
        "batch_size": 40,
        "changes": {},
    },
    "cifar10-c": {
        "drifts": ("gaussian_noise:5", "contrast:5"),
        "sizes": {10: "0.03"},
        "val": "0.03",
        "test": "0.1",
        "batch_size": 40,
    },
    "cifar-flip": {"sizes": {10: "0.03"}, "val": "0.03", "test": "0.1", "batch_size": 40},
    "living17": {"sizes": {10: "10/class"}, "val": "10/class", "test": "25/class", "batch_size": 24},
    "living17-photos": {"changes": {"epochs": 3}},
    "tiny17": {"sizes": {10: "10/class"}, "val": "10/class", "test": "25/class", "batch_size": 24},
}


def find_experiment(name: str, quick: bool = False) -> Experiment:
    """The experiment with this name, or its quick version."""
    if name not in EXPERIMENTS:
        raise TbftError(unknown("experiment", name, EXPERIMENTS))
    return _quick(EXPERIMENTS[name]) if quick else EXPERIMENTS[name]


def _quick(experiment: Experiment) -> Experiment:
    """Minutes instead of hours. Records say that they are quick, and no table mixes the two."""
    smaller = {"title": f"{experiment.title} (quick version)", "seeds": 1, "quick": True}
    return replace(experiment, **smaller, **QUICK.get(experiment.name, {}))  # type: ignore[arg-type]
