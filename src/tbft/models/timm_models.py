"""Models of timm (extra ``timm``) by name: ``timm:mobilenetv3_small_100?classes=10``.

Options after the name, separated by ``?``, ``&`` or commas: ``classes`` (outputs), ``channels`` and
``resolution`` (px) of the pictures. What is not given comes from timm's configuration of the pretrained
weights, as normalization and crop do. Nothing is downloaded: weights come from a checkpoint (``--weights``).
"""

from __future__ import annotations

import difflib
import importlib
import math
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tbft.blocks.cutting import names_for, propose_cuts
from tbft.data.spec import InputSpec
from tbft.errors import MissingExtraError, SplitError, TbftError, unknown
from tbft.models.preset import Preset

PREFIX = "timm:"

#: Option after the name -> argument of ``timm.create_model``.
_OPTIONS = {"classes": "num_classes", "channels": "in_chans", "resolution": "img_size"}


def timm_preset(text: str) -> Preset:
    """The untrained model that ``timm:NAME?classes=10`` names, with its input and its cuts.

    It is cut where stages end by its ``feature_info``, and before its head.

    Raises:
        MissingExtraError: timm is not installed.
        TbftError: it cannot be imported, or has no such model, or an option is not valid.
    """
    name, options = parsed(text)
    timm = _timm()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.6)
        hint = f": did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise TbftError(f"timm {timm.__version__} has no model {name!r}{hint}")
    model = _created(timm, name, options)
    inputs = _inputs(getattr(model, "pretrained_cfg", None) or {}, options)
    cuts = _stage_cuts(model, inputs)
    return Preset(
        name=text,
        build=lambda: model,
        cuts=cuts,
        block_names=None if cuts is None else names_for(len(cuts) + 1),
        inputs=inputs,
        summary=f"timm's {name}",
    )


def parsed(text: str) -> tuple[str, dict[str, int]]:
    """The name of timm's model and the options behind it.

    >>> parsed("timm:resnet18?classes=10&resolution=64")
    ('resnet18', {'classes': 10, 'resolution': 64})
    """
    name, *parts = re.split(r"[?&,]", text.removeprefix(PREFIX))
    options = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in _OPTIONS:
            raise TbftError(f"{text}: {unknown('option', key, _OPTIONS)}")
        if not value.isdecimal() or not int(value):
            raise TbftError(f"{text}: {key} has to be a whole number from 1, not {value!r}")
        options[key] = int(value)
    return name, options


def _timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name == "timm":
            raise MissingExtraError("timm", "timm") from error
        raise _broken(error) from error
    except Exception as error:  # what it imports may raise anything
        raise _broken(error) from error


def _broken(error: Exception) -> TbftError:
    remedy = ""
    if "torchvision" in str(error):
        remedy = "; torchvision does not fit this torch: install both from one index, at matching versions"
    return TbftError(f"timm is installed, but cannot be imported: {error}{remedy}")


def _created(timm: ModuleType, name: str, options: Mapping[str, int]) -> nn.Module:
    """Models that take any size have no argument for it."""
    arguments = {_OPTIONS[key]: value for key, value in options.items()}
    try:
        return timm.create_model(name, pretrained=False, **arguments)
    except TypeError:
        if "img_size" not in arguments:
            raise
        del arguments["img_size"]
        return timm.create_model(name, pretrained=False, **arguments)


def _inputs(config: Any, options: Mapping[str, int]) -> InputSpec:
    """What the model takes, by timm's configuration of its weights."""
    channels, *sides = tuple(config.get("input_size") or (None,))
    channels = options.get("channels", channels)
    resolution = options.get("resolution", sides[0] if sides and len(set(sides)) == 1 else None)
    squash = config.get("crop_mode") == "squash"
    resize = None
    if resolution is not None and not squash:
        resize = math.floor(resolution / (config.get("crop_pct") or 1.0))
    mean, std = config.get("mean"), config.get("std")
    known = mean is not None and std is not None and channels in (None, len(mean))
    return InputSpec(
        channels=channels,
        resolution=resolution,
        resize=resize,
        crop="none" if squash else "center",
        mixed=True,
        mean=tuple(map(float, mean)) if known else None,
        std=tuple(map(float, std)) if known else None,
    )


def _stage_cuts(model: nn.Module, inputs: InputSpec) -> tuple[str, ...] | None:
    """Cuts at ends of stages that make parts of about the same cost; None if the model cannot be traced."""
    example = None
    if inputs.channels and inputs.resolution:
        example = torch.zeros(1, inputs.channels, inputs.resolution, inputs.resolution)
    try:
        return propose_cuts(model, example, among=stage_starts(model) or None).cuts
    except SplitError:
        return None


def stage_starts(model: nn.Module) -> tuple[str, ...]:
    """The modules that follow those of ``feature_info``, in which stages end; empty if the model has none."""
    try:
        ends = [str(info["module"]) for info in model.feature_info]  # type: ignore[union-attr]
    except (AttributeError, KeyError, TypeError):
        return ()
    following = (_next(model, end) for end in ends)
    return tuple(dict.fromkeys(name for name in following if name))


def _next(model: nn.Module, name: str) -> str:
    """The next module with parameters, in the model's order; empty after the last."""
    parent, _, last = name.rpartition(".")
    try:
        children = list(model.get_submodule(parent).named_children())
    except AttributeError:
        return ""
    names = [child for child, _ in children]
    after = children[names.index(last) + 1 :] if last in names else []
    for child, module in after:
        if any(True for _ in module.parameters()):
            return f"{parent}.{child}".removeprefix(".")
    return _next(model, parent) if parent else ""
