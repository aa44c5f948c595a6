"""Samples from ``package.module:factory``: whatever dataset or loader a function returns."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from tbft.data.datasets import collect, is_dataset
from tbft.data.samples import Samples, fit_samples
from tbft.data.source import Source
from tbft.data.spec import InputSpec
from tbft.errors import DataError, TbftError, TbftWarning

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

#: Module -> the working directory that it was imported from.
_from_working_directory: dict[str, str] = {}


def read_source(source: Source) -> Samples | None:
    """Samples that a factory returns."""
    is_one = is_factory(source.name) and not source.path.exists()
    return read_factory(source.name, source.spec) if is_one else None


def is_factory(text: str) -> bool:
    """Whether this looks like ``package.module:factory``.

    >>> is_factory("my.data:make"), is_factory("folder/file.npz")
    (True, False)
    """
    return _FACTORY.fullmatch(text) is not None


def call_factory(text: str) -> Any:
    """Import the module of ``package.module:factory`` and call the factory without arguments.

    Where its file lies in the working directory, it is taken from there; other modules are found there only
    while this runs, and only if they are found nowhere else.
    """
    module_name, _, name = text.partition(":")
    folder = str(Path.cwd())
    own = _lies_in(folder, module_name)
    if own:
        sys.path.append(folder)
    try:
        factory = _imported(module_name, name, folder if own else None)
        if not callable(factory):
            raise TbftError(f"{text!r} cannot be called; it has to be a function without arguments")
        return factory()
    finally:
        if own:
            sys.path.remove(folder)


def _lies_in(folder: str, module_name: str) -> bool:
    """Whether a module's file is in the working directory, and that is not searched anyway."""
    place = Path(folder, *module_name.split("."))
    searched = any(os.path.realpath(entry or ".") == os.path.realpath(folder) for entry in sys.path)
    return not searched and (
        place.with_name(f"{place.name}.py").is_file() or (place / "__init__.py").is_file()
    )


def _imported(module_name: str, name: str, folder: str | None) -> Any:
    try:
        if folder is not None:
            _import_from(folder, module_name.partition(".")[0])
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        where = f"{module_name}:{name}"
        raise TbftError(f"cannot import {where!r}: {error}; is the module on the path?") from error


def _import_from(folder: str, top: str) -> None:
    """Import a module or a package from a folder, whatever else has its name."""
    spec = PathFinder.find_spec(top, [folder])
    if spec is None or spec.loader is None:  # a folder without __init__.py: found by the path
        return
    if top in sys.modules:
        if _from_working_directory.get(top) == folder:
            return
        if top not in _from_working_directory:
            raise TbftError(f"{top!r} in {folder} has the name of another module that is in use; rename it")
        for name in [name for name in sys.modules if name.partition(".")[0] == top]:
            del sys.modules[name]
    if other := PathFinder.find_spec(top, [entry for entry in sys.path if entry != folder]):
        where = other.origin or "elsewhere"
        warnings.warn(f"{top} is taken from {folder}, not from {where}", TbftWarning, stacklevel=2)
    module = importlib.util.module_from_spec(spec)
    sys.modules[top], _from_working_directory[top] = module, folder
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(top, None)
        raise


def read_factory(text: str, spec: InputSpec) -> Samples:
    """Call a factory and collect its samples, or take the :class:`Samples` it returns."""
    made = call_factory(text)
    if isinstance(made, Samples):
        return fit_samples(made, spec)
    if not is_dataset(made):
        raise DataError(f"{text} gave a {type(made).__name__}; expected Samples, a Dataset or a DataLoader")
    return collect(made, spec, text)
