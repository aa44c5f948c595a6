"""Models by name: presets, ``package.module:factory``, and ``timm:NAME``.

To add a preset, write its module beside this file and one :func:`register` line in ``presets.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from tbft.blocks import sequential
from tbft.blocks.tokens import takes_token_ids
from tbft.data.factory import call_factory, is_factory
from tbft.data.spec import InputSpec
from tbft.errors import TbftError, check_form, unknown
from tbft.models.preset import Preset

TIMM = "timm:"

_PRESETS: dict[str, Preset] = {}


def register(preset: Preset) -> Preset:
    """Make a preset known under its name."""
    if preset.name in _PRESETS:
        raise ValueError(f"a preset named {preset.name!r} is registered already")
    _PRESETS[preset.name] = preset
    return preset


def presets() -> tuple[Preset, ...]:
    """Every registered preset."""
    return tuple(_PRESETS.values())


def find_model(
    name: str, cuts: Sequence[str] | None = None, block_names: Sequence[str] | None = None
) -> Preset:
    """The preset with this name, or one made of a factory's model or of a model of timm.

    A factory returns a :class:`Preset`, a module, or a list of ``(name, module)``. A module may carry the
    attributes ``cuts``, ``block_names``, ``class_names``, ``resolution`` and ``channels``.
    ``timm:NAME?classes=10`` is described in :mod:`tbft.models.timm_models`.

    Args:
        cuts, block_names: used in place of the preset's own.

    Raises:
        TbftError: no such model, or a factory that cannot be imported or returns something else.
    """
    if name in _PRESETS:
        preset = _PRESETS[name]
    elif name.startswith(TIMM):
        from tbft.models.timm_models import timm_preset

        preset = timm_preset(name)
    elif is_factory(name):
        preset = _preset_of(name, call_factory(name))
    else:
        raise TbftError(f"{unknown('model', name, _PRESETS)}; or package.module:factory, or timm:NAME")
    for what, given in (("cuts", cuts), ("names", block_names)):
        check_form(what, given, (list, tuple), "a list of names")
    if cuts is not None:
        preset = replace(preset, cuts=tuple(cuts), block_names=None)
    if block_names is not None:
        preset = replace(preset, block_names=tuple(block_names))
    return preset


def _preset_of(name: str, made: object) -> Preset:
    if isinstance(made, Preset):
        return replace(made, untrained=False)
    if isinstance(made, (list, tuple)):
        made = sequential(made)
    if not isinstance(made, nn.Module):
        raise TbftError(f"{name} returned a {type(made).__name__}, not a module, a list or a Preset")
    model = made
    return Preset(
        name=name,
        build=lambda: model,
        inputs=inputs_of(model),
        summary=type(model).__name__,
        untrained=False,
    )


#: Numbers of channels that pictures have.
CHANNELS = (1, 3, 4)


def inputs_of(model: nn.Module) -> InputSpec:
    """What a model takes, as far as it says: its attributes `class_names`, `resolution` and `channels`.

    Attributes of these names that cannot mean that, such as the width of a layer, are the model's own.
    """
    classes, side = getattr(model, "class_names", None), getattr(model, "resolution", None)
    if isinstance(classes, Mapping):  # number -> name
        classes = [classes[number] for number in sorted(classes)]
    channels = getattr(model, "channels", None)
    return InputSpec(
        class_names=None if classes is None or isinstance(classes, str) else tuple(map(str, classes)),
        resolution=side if type(side) is int and side > 0 else None,
        channels=channels if channels in CHANNELS else None,
        token_ids=takes_token_ids(model),
    )
