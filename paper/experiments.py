"""The paper's experiments, as data. No torch here.

They are those of Huang et al. (EuroMLSys 2024), sections 3 and 4, and of its scripts; ``paper/README.md``
says where ours differ, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tbft import TbftError
from tbft.errors import unknown

#: Part of every run's identity; raise it when the same arguments would mean another experiment.
PROTOCOL = 1
#: Part of the identity of the runs of ``ours``, except for 1; raise it when diagnosis or choice change.
OURS = 3

#: The fifteen common corruptions of CIFAR-10-C, in RobustBench's order.
CORRUPTIONS = (
    "shot_noise", "motion_blur", "snow", "pixelate", "gaussian_noise", "defocus_blur", "brightness", "fog",
    "zoom_blur", "frost", "glass_blur", "impulse_noise", "contrast", "jpeg_compression", "elastic_transform",
)  # fmt: skip

#: Methods that tune one block, in the order of the blocks; ``rear`` is the paper's ``fc``, the last layer.
BLOCK_METHODS = ("front", "layer2", "layer3", "rear")
#: What every table holds. ``ours`` diagnoses, chooses and tunes on its own, with the recipe ``fast``.
OWN_METHODS = ("none", "adabn", *BLOCK_METHODS, "full", "ours")
#: Methods from other papers, re-derived in ``paper/baselines``.
BASELINE_METHODS = ("auto-rgn", "tent", "memo")
METHODS = OWN_METHODS + BASELINE_METHODS
#: Methods that do not depend on the recipe of the arms.
RECIPE_FREE = ("none", "ours", *BASELINE_METHODS)

RECIPES = ("paper", "fast")


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper.

    Attributes:
        level: the level of drift; None: all levels, or the experiment is about cost.
        paper_best: the block that the paper finds best at that level; None: it names none.
        model: a preset.
        weights: checkpoint of the base, in the data folder; None: the weights that ship with the model.
        data: sets to draw train, val and test from, in the data folder; several are joined.
        data_name: what tables call the data; another set goes by the name of its file.
        test_data: a separate set to test on, in the data folder.
        where, class_map: as ``--where`` and ``--classes`` of ``tbft personalize``; a map may be a file in the
            data folder.
        drifts: what is put on top of the data, one cell each; None: nothing.
        noised: blocks that get noise on their weights, one cell each; None: no block.
        noised_accuracy: accuracy that the noise is to leave, 0 to 1.
        sizes: size in percent -> training part, as ``tbft.data.split_samples`` takes it.
        val, test: the other parts.
        spare: samples kept out of all three, to find the noise on.
        changes: fields of the paper's recipe that differ in this experiment.
        batch_size: replaces the recipe's where there are too few samples for it; None: the recipe's.
    """

    name: str
    title: str
    level: str | None = None
    paper_best: str | None = None
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
        """Whether it measures time alone, and is not made of runs."""
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
            paper_best="front",
            drifts=tuple(f"{name}:5" for name in CORRUPTIONS),
        ),
        Experiment(
            name="cifar-flip",
            title="output level: labels in reverse order",
            level="output",
            paper_best="rear",
            drifts=("labels:reverse",),
        ),
        Experiment(
            name="living17",
            title="feature level: BREEDS Living-17, from a local ImageNet tree",
            level="feature",
            paper_best="layer3",
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
            title="feature level: the photos of Living-17's target domain that are available, 103 of 205",
            level="feature",
            paper_best="layer3",
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
            paper_best="layer3",
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


#: What differs in the quick versions: fewer drifts and samples, and smaller batches, so that the paper's
#: recipe takes as many steps as at its smallest size.
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
    """Minutes instead of hours. Records say that they are quick, and no table mixes the two kinds."""
    smaller = {"title": f"{experiment.title} (quick version)", "seeds": 1, "quick": True}
    return replace(experiment, **smaller, **QUICK.get(experiment.name, {}))  # type: ignore[arg-type]
