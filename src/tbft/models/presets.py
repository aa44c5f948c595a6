"""The presets of tbft."""

from __future__ import annotations

from functools import partial
from typing import Any

from tbft.data.cifar import CIFAR10_CLASSES
from tbft.data.spec import InputSpec
from tbft.models.checkpoints import BASES
from tbft.models.digits import DigitsNet
from tbft.models.preset import Preset
from tbft.models.registry import register
from tbft.models.resnet20 import ResNet20
from tbft.models.resnet26 import ResNet26

#: Superclasses of BREEDS Living-17 in label order (Santurkar et al. 2020).
LIVING17_CLASSES = (
    "salamander",
    "turtle",
    "lizard",
    "snake, serpent, ophidian",
    "spider",
    "grouse",
    "parrot",
    "crab",
    "dog, domestic dog, Canis familiaris",
    "wolf",
    "fox",
    "domestic cat, house cat, Felis domesticus, Felis catus",
    "bear",
    "beetle",
    "butterfly",
    "ape",
    "monkey",
)

#: Superclasses of Tiny-17, cut from Tiny-ImageNet-200 in the manner of BREEDS, in label order.
TINY17_CLASSES = (
    "dog",
    "cat",
    "bird",
    "arthropod",
    "long insect",
    "winged insect",
    "sea invertebrate",
    "ungulate",
    "car",
    "large vehicle",
    "bottle",
    "garment",
    "ball",
    "bridge",
    "fruit",
    "dish",
    "landscape",
)

#: Base models that ship, each with its card and ``<preset>.md``, which describes how it was made.

_CIFAR10 = InputSpec(class_names=CIFAR10_CLASSES, resolution=32, channels=3, normalizes=True)
#: Mean and standard deviation by which a model normalizes each channel.
Normalization = tuple[tuple[float, ...], tuple[float, ...]]
_HALVES: Normalization = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_UNCHANGED: Normalization = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _resnet26(
    name: str,
    summary: str,
    class_names: tuple[str, ...],
    resolution: int,
    normalization: Normalization = _HALVES,
    ships: bool = False,
    **more: Any,
) -> Preset:
    """The paper's ResNet-26; with `ships`, trained weights and their source card are in the package."""
    mean, std = normalization
    if ships:
        more |= {"weights": BASES / f"{name}.safetensors", "card": BASES / f"{name}.card.safetensors"}
    return Preset(
        name=name,
        build=partial(ResNet26, classes=len(class_names), resolution=resolution, mean=mean, std=std),
        cuts=ResNet26.cuts,
        block_names=ResNet26.block_names,
        # Photos come in many sizes; CIFAR-10's pictures do not.
        inputs=InputSpec(
            class_names=class_names,
            resolution=resolution,
            channels=3,
            mixed=resolution > 32,
            normalizes=True,
        ),
        mean=mean,
        std=std,
        summary=summary,
        **more,
    )


register(_resnet26("resnet26-cifar10", "the paper's ResNet-26 for CIFAR-10", CIFAR10_CLASSES, 32))
register(
    _resnet26(
        "resnet26-cifar10-jpeg",
        "the same ResNet-26, trained on a JPEG copy of CIFAR-10",
        CIFAR10_CLASSES,
        32,
        ships=True,
    )
)
register(
    _resnet26(
        "resnet26-living17",
        "the paper's ResNet-26 for Living-17 photos",
        LIVING17_CLASSES,
        128,
        normalization=_UNCHANGED,
        recipes={"paper": "paper-living17", "base-paper": "base-paper-living17"},
    )
)
register(
    _resnet26(
        "resnet26-tiny17",
        "the same ResNet-26, trained on Tiny-17's source domain (64 px)",
        TINY17_CLASSES,
        64,
        ships=True,
    )
)
register(
    Preset(
        name="resnet20-cifar10",
        build=partial(ResNet20, classes=10, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
        cuts=ResNet20.cuts,
        block_names=ResNet20.block_names,
        inputs=_CIFAR10,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        summary="CIFAR-10 ResNet-20 of He et al., post-activation, head `linear`",
    )
)

register(
    Preset(
        name="digits",
        build=partial(DigitsNet, classes=10),
        cuts=DigitsNet.cuts,
        block_names=DigitsNet.block_names,
        inputs=InputSpec(class_names=tuple("0123456789"), resolution=8, channels=1, normalizes=True),
        summary="a small network for 8x8 handwritten digits, as in the demo",
    )
)
