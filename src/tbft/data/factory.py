"""Samples from ``package.module:factory``: any map-style dataset of (input, label) pairs."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Sized
from typing import Any, cast

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from tbft.data.arrays import fit_arrays
from tbft.data.samples import Samples, make_samples, match_classes
from tbft.data.spec import InputSpec
from tbft.errors import DataError, TbftError

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_factory(text: str) -> bool:
    """Does this look like ``package.module:factory``?

    >>> is_factory("my.data:make"), is_factory("folder/file.npz")
    (True, False)
    """
    return _FACTORY.fullmatch(text) is not None


def call_factory(text: str) -> Any:
    """Import the module of ``package.module:factory`` and call the factory without arguments.

    The current folder is searched too, as ``python -m`` does.
    """
    module_name, _, name = text.partition(":")
    added = "" not in sys.path
    if added:
        sys.path.insert(0, "")
    try:
        factory = _imported(module_name, name)
        if not callable(factory):
            raise TbftError(f"{text!r} cannot be called; it has to be a function without arguments")
        return factory()
    finally:
        if added:
            sys.path.remove("")


def _imported(module_name: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        where = f"{module_name}:{name}"
        raise TbftError(f"cannot import {where!r}: {error}; is the module on the path?") from error


def read_factory(text: str, spec: InputSpec) -> Samples:
    """Call a factory and collect its samples, or take the :class:`Samples` it returns."""
    made = call_factory(text)
    if isinstance(made, Samples):
        return made
    if not isinstance(made, Sized) or len(made) == 0:
        raise DataError(f"{text} gave {type(made).__name__}; expected a dataset with at least one sample")
    # A dataset need not be iterable by itself: indexing is all that torch asks of one.
    indexed = cast(Any, made)
    pairs: Iterable[tuple[Any, Any]] = (indexed[i] for i in range(len(made)))
    inputs, labels = [], []
    for x, y in tqdm(pairs, f"reading {text}", len(made), unit="", leave=False, disable=None):
        inputs.append(_to_array(x))
        labels.append(int(y))
    if len(shapes := {a.shape for a in inputs}) > 1:
        shown = ", ".join(str(s) for s in sorted(shapes)[:3])
        raise DataError(f"{text}: inputs of mixed shapes: {shown}; make them one size")
    own = getattr(made, "classes", None)
    own = None if own is None else [str(c) for c in own]
    x = fit_arrays(np.stack(inputs), spec, text)
    return match_classes(make_samples(x, labels, own or spec.class_names, name=text), spec.class_names)


def _to_array(x: Any) -> np.ndarray[Any, Any]:
    if isinstance(x, Tensor):
        return np.asarray(x.detach().cpu().numpy())
    if isinstance(x, Image.Image):
        return np.asarray(x)
    return np.asarray(x)
