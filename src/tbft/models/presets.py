"""The presets that tbft brings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tbft.data.cifar import CIFAR10_CLASSES
from tbft.data.spec import InputSpec
from tbft.models.digits import DigitsNet
from tbft.models.registry import Preset, register
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

#: Base models that ship, each with its card and ``<preset>.md``, which tells its making.
BASES = Path(__file__).parent / "bases"

_HALF = (0.5, 0.5, 0.5)
_ZERO, _ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

register(
    Preset(
        name="resnet26-cifar10",
        build=partial(ResNet26, classes=10, resolution=32, mean=_HALF, std=_HALF),
        cuts=ResNet26.cuts,
        block_names=ResNet26.block_names,
        inputs=InputSpec(class_names=CIFAR10_CLASSES, resolution=32, channels=3),
        mean=_HALF,
        std=_HALF,
        summary="the paper's ResNet-26 for CIFAR-10",
    )
)

register(
    Preset(
        name="resnet26-living17",
        build=partial(ResNet26, classes=17, resolution=128, mean=_ZERO, std=_ONE),
        cuts=ResNet26.cuts,
        block_names=ResNet26.block_names,
        inputs=InputSpec(class_names=LIVING17_CLASSES, resolution=128, channels=3, mixed=True),
        mean=_ZERO,
        std=_ONE,
        recipes={"paper": "paper-living17", "base-paper": "base-paper-living17"},
        summary="the paper's ResNet-26 for Living-17 photos",
    )
)

register(
    Preset(
        name="resnet26-tiny17",
        build=partial(ResNet26, classes=17, resolution=64, mean=_HALF, std=_HALF),
        cuts=ResNet26.cuts,
        block_names=ResNet26.block_names,
        inputs=InputSpec(class_names=TINY17_CLASSES, resolution=64, channels=3, mixed=True),
        mean=_HALF,
        std=_HALF,
        weights=BASES / "resnet26-tiny17.safetensors",
        card=BASES / "resnet26-tiny17.card.safetensors",
        summary="the same ResNet-26, trained on Tiny-17's source domain (64 px)",
    )
)

register(
    Preset(
        name="resnet20-cifar10",
        build=partial(ResNet20, classes=10, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
        cuts=ResNet20.cuts,
        block_names=ResNet20.block_names,
        inputs=InputSpec(class_names=CIFAR10_CLASSES, resolution=32, channels=3),
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
        inputs=InputSpec(class_names=tuple("0123456789"), resolution=8, channels=1),
        summary="a small network for 8x8 handwritten digits, as in the demo",
    )
)
