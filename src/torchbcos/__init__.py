"""torchbcos: build, explain and check B-cos networks, exactly.

Everything is loaded when it is first used: importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

from torchbcos._core.version import VERSION

__version__ = VERSION


# name -> the module that defines it
_DOOR = {
    "BcosError": "torchbcos._core.errors",
    "Card": "torchbcos.zoo",
    "Classifier": "torchbcos.zoo",
    "Explanation": "torchbcos.explanation",
    "ExplanationWarning": "torchbcos._core.errors",
    "Prediction": "torchbcos.zoo",
    "align": "torchbcos.training.aligning",
    "attribute": "torchbcos.attribution",
    "bcosify": "torchbcos.zoo.converting",
    "create_model": "torchbcos.zoo",
    "deploy": "torchbcos.deployment",
    "explain": "torchbcos.explanation",
    "explanation_graph": "torchbcos.explanation.graph",
    "export": "torchbcos.zoo.export",
    "frozen": "torchbcos._core.frozen",
    "list_models": "torchbcos.zoo",
    "load": "torchbcos.zoo",
    "recalibrate": "torchbcos.models",
    "register_rule": "torchbcos.kinds",
    "save": "torchbcos.zoo",
    "verify": "torchbcos.zoo.verifying",
}
_ROOMS = (
    "attribution",
    "conversion",
    "data",
    "functional",
    "kinds",
    "metrics",
    "models",
    "nn",
    "pictures",
    "rendering",
    "testing",
)
_MORE = ("evaluation", "search", "service", "training", "viewer")  # some need an extra: reachable, but no star import brings them

__all__ = sorted([*_DOOR, *_ROOMS, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(importlib.import_module(_DOOR[name]), name)
    if name in _ROOMS + _MORE:
        return importlib.import_module(f"torchbcos.{name}")
    if name.startswith("_"):
        raise AttributeError(f"module 'torchbcos' has no attribute {name!r}")
    raise importlib.import_module("torchbcos._core.habits").no_name(name, __all__)


def __dir__() -> list[str]:
    return __all__
