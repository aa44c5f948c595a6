"""tbft: adapt a deployed network to one user, device or place by tuning one block of it.

    scenario -> split -> diagnose -> choose -> tune (under a meter) -> verify -> patch

Names are imported on first use, so that ``import tbft`` costs next to nothing. Two functions carry the
name of their module and are imported from there: ``tbft.personalize.personalize`` and
``tbft.evaluate.evaluate``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Blocks",
    "Diagnosis",
    "Evaluation",
    "InputSpec",
    "Patch",
    "Personalization",
    "Plan",
    "Recipe",
    "Samples",
    "SourceCard",
    "TbftError",
    "Tuned",
    "__version__",
    "apply_drift",
    "build_card",
    "choose_plan",
    "diagnose",
    "find_model",
    "find_recipe",
    "fingerprint",
    "load_weights",
    "make_patch",
    "make_samples",
    "plan_level",
    "read",
    "split",
    "split_samples",
    "tune",
]

_HOME = {
    "diagnose": "diagnosis",
    "choose_plan": "personalize",
    "build_card": "card",
    "SourceCard": "card",
    "Diagnosis": "diagnosis",
    "Blocks": "blocks",
    "split": "blocks",
    "InputSpec": "data",
    "Samples": "data",
    "apply_drift": "data",
    "make_samples": "data",
    "read": "data",
    "split_samples": "data",
    "TbftError": "errors",
    "Evaluation": "evaluate",
    "find_model": "models",
    "fingerprint": "models",
    "load_weights": "models",
    "Patch": "patch",
    "make_patch": "patch",
    "Personalization": "personalize",
    "plan_level": "personalize",
    "Plan": "plan",
    "Recipe": "plan",
    "find_recipe": "plan",
    "Tuned": "tuning",
    "tune": "tuning",
}

if TYPE_CHECKING:
    from tbft.blocks import Blocks, split
    from tbft.card import SourceCard, build_card
    from tbft.data import InputSpec, Samples, apply_drift, make_samples, read, split_samples
    from tbft.diagnosis import Diagnosis, diagnose
    from tbft.errors import TbftError
    from tbft.evaluate import Evaluation
    from tbft.models import find_model, fingerprint, load_weights
    from tbft.patch import Patch, make_patch
    from tbft.personalize import Personalization, choose_plan, plan_level
    from tbft.plan import Plan, Recipe, find_recipe
    from tbft.tuning import Tuned, tune


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tbft' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tbft.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
