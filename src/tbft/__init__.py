"""tbft: adapt a deployed network to one user, device or place by tuning one block of it.

    scenario -> split -> diagnose -> choose -> tune (under a meter) -> verify -> patch

Names are imported on first use, so that ``import tbft`` costs next to nothing. Two functions carry the
name of their module and are imported from there: ``tbft.pipeline.personalize`` and
``tbft.verification.evaluation.evaluate``.
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
    "evaluate",
    "find_model",
    "find_recipe",
    "fingerprint",
    "load_weights",
    "make_patch",
    "make_samples",
    "personalize",
    "plan_level",
    "read",
    "split",
    "split_samples",
    "tune",
]

_HOME = {
    "diagnose": "diagnosis.levels",
    "choose_plan": "pipeline",
    "build_card": "diagnosis.card",
    "SourceCard": "diagnosis.card",
    "Diagnosis": "diagnosis.levels",
    "Blocks": "blocks",
    "split": "blocks",
    "InputSpec": "data",
    "Samples": "data",
    "apply_drift": "scenarios",
    "make_samples": "data",
    "read": "data",
    "split_samples": "data",
    "TbftError": "errors",
    "Evaluation": "verification.evaluation",
    "evaluate": "verification.evaluation",
    "find_model": "models",
    "fingerprint": "blocks.tensors",
    "load_weights": "models",
    "Patch": "patches",
    "make_patch": "patches",
    "Personalization": "pipeline",
    "personalize": "pipeline",
    "plan_level": "pipeline",
    "Plan": "plan",
    "Recipe": "plan",
    "find_recipe": "plan",
    "Tuned": "tuning.execution",
    "tune": "tuning.execution",
}

if TYPE_CHECKING:
    from tbft.blocks import Blocks, split
    from tbft.blocks.tensors import fingerprint
    from tbft.data import InputSpec, Samples, make_samples, read, split_samples
    from tbft.diagnosis.card import SourceCard, build_card
    from tbft.diagnosis.levels import Diagnosis, diagnose
    from tbft.errors import TbftError
    from tbft.models import find_model, load_weights
    from tbft.patches import Patch, make_patch
    from tbft.pipeline import Personalization, choose_plan, personalize, plan_level
    from tbft.plan import Plan, Recipe, find_recipe
    from tbft.scenarios import apply_drift
    from tbft.tuning.execution import Tuned, tune
    from tbft.verification.evaluation import Evaluation, evaluate


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tbft' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tbft.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
