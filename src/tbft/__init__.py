"""tbft: adapt a deployed network to one user, device or place by tuning one block of it.

    scenario -> split -> diagnose -> choose -> tune (metered) -> verify -> patch -> report

    result = tbft.personalize(model, train, card="base.card.safetensors")
    print(result)
    result.patch.save("user.safetensors")

Names are imported on first use, so that ``import tbft`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

__all__ = [
    "Acceptance",
    "Allowance",
    "Arm",
    "Base",
    "Blocks",
    "Budget",
    "CachePolicy",
    "Choice",
    "Diagnosis",
    "DriftStream",
    "Evaluation",
    "Forecast",
    "InputSpec",
    "Meter",
    "NewClasses",
    "Parts",
    "Patch",
    "Personalization",
    "Plan",
    "Profile",
    "Recipe",
    "Samples",
    "SourceCard",
    "Statistics",
    "TbftError",
    "Tuned",
    "__version__",
    "add_classes",
    "apply_drift",
    "build_card",
    "diagnose",
    "evaluate",
    "find_model",
    "find_recipe",
    "fingerprint",
    "forecast",
    "load_base",
    "load_weights",
    "make_patch",
    "make_samples",
    "personalize",
    "plan_level",
    "read",
    "resolve",
    "split",
    "split_samples",
    "tune",
]

#: Where each name lives.
_HOME = {
    "Acceptance": "verification.acceptance",
    "Allowance": "plan",
    "Arm": "blocks",
    "Base": "base",
    "Blocks": "blocks",
    "Budget": "plan",
    "CachePolicy": "tuning.prefix_cache",
    "Choice": "choosing.choice",
    "Diagnosis": "diagnosis.levels",
    "DriftStream": "scenarios",
    "Evaluation": "verification.evaluation",
    "Forecast": "choosing.label_forecast",
    "InputSpec": "data",
    "Meter": "metering",
    "NewClasses": "new_classes",
    "Parts": "data",
    "Patch": "patches",
    "Personalization": "personalization",
    "Plan": "plan",
    "Profile": "metering",
    "Recipe": "plan",
    "Samples": "data",
    "SourceCard": "diagnosis.card",
    "Statistics": "plan",
    "TbftError": "errors",
    "Tuned": "tuning.execution",
    "add_classes": "new_classes",
    "apply_drift": "scenarios",
    "build_card": "front_door",
    "diagnose": "front_door",
    "evaluate": "front_door",
    "find_model": "models",
    "find_recipe": "plan",
    "fingerprint": "blocks.tensors",
    "forecast": "forecasting",
    "load_base": "loading",
    "load_weights": "models",
    "make_patch": "patches",
    "make_samples": "data",
    "personalize": "pipeline",
    "plan_level": "plan",
    "read": "data",
    "resolve": "plan",
    "split": "front_door",
    "split_samples": "data",
    "tune": "front_door",
}

if TYPE_CHECKING:
    from tbft.base import Base
    from tbft.blocks import Arm, Blocks
    from tbft.blocks.tensors import fingerprint
    from tbft.choosing.choice import Choice
    from tbft.choosing.label_forecast import Forecast
    from tbft.data import InputSpec, Parts, Samples, make_samples, read, split_samples
    from tbft.diagnosis.card import SourceCard
    from tbft.diagnosis.levels import Diagnosis
    from tbft.errors import TbftError
    from tbft.forecasting import forecast
    from tbft.front_door import build_card, diagnose, evaluate, split, tune
    from tbft.loading import load_base
    from tbft.metering import Meter, Profile
    from tbft.models import find_model, load_weights
    from tbft.new_classes import NewClasses, add_classes
    from tbft.patches import Patch, make_patch
    from tbft.personalization import Personalization
    from tbft.pipeline import personalize
    from tbft.plan import Allowance, Budget, Plan, Recipe, Statistics, find_recipe, plan_level, resolve
    from tbft.scenarios import DriftStream, apply_drift
    from tbft.tuning.execution import Tuned
    from tbft.tuning.prefix_cache import CachePolicy
    from tbft.verification.acceptance import Acceptance
    from tbft.verification.evaluation import Evaluation


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tbft' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tbft.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
