"""Samples from ``package.module:factory``: whatever dataset or loader a function returns."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from tbft.data.datasets import collect, is_dataset
from tbft.data.samples import Samples, fit_samples
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
        return fit_samples(made, spec)
    if not is_dataset(made):
        raise DataError(f"{text} gave a {type(made).__name__}; expected Samples, a Dataset or a DataLoader")
    return collect(made, spec, text)
