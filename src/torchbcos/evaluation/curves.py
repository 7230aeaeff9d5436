"""Curves of a comparison, mean over items: what is left of the score while evidence goes or comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from torchbcos.evaluation.findings import Record
from torchbcos.rendering.figures import Curve, curves
from torchbcos.rendering.shapes import Drawing

__all__ = ["Curves", "curve_figures", "fractions_of"]

Curves = Mapping[tuple[str, str, str], Mapping[str, Tensor]]  # (model, method, metric) -> name -> (items, L)
_WORDS = {"most": "most important first", "least": "least important first"}


def fractions_of(metric: Record, points: int) -> list[float]:
    """What part of the pixels is gone at each point of a metric's curves.

    >>> fractions_of({"settings": {"fractions": "0.25/2"}}, 3), fractions_of({"settings": {"fractions": 4}}, 5)[1]
    ([0.0, 0.125, 0.25], 0.25)
    """
    given = metric["settings"].get("fractions")
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == points:
        return [float(one) for one in given]
    reach = float(given.partition("/")[0]) if isinstance(given, str) and "/" in given else 1.0
    steps: list[float] = torch.linspace(0, reach, points, dtype=torch.float64).tolist()
    return steps


def curve_figures(facts: Record, metric: Record, given: Curves) -> list[tuple[str, Drawing]]:
    """A figure for each model and kind of curve of a metric, with words about it; items without a number are left out."""
    found = []
    for model in (one["label"] for one in facts["models"]):
        of_model = {method["label"]: given.get((model, method["label"], metric["label"]), {}) for method in facts["methods"]}
        for name in dict.fromkeys(name for one in of_model.values() for name in one):
            lines = [_curve(label, one[name], metric) for label, one in of_model.items() if name in one]
            what = f"{metric['label']} on {model}, {_WORDS.get(name, name)}: mean over items"
            score = str(metric["settings"].get("score", "score"))
            found.append((what, curves(lines, x_label="part of the pixels", y_label=score, label=what)))
    return found


def _curve(label: str, values: Tensor, metric: Record) -> Curve:
    mean = values.double().nanmean(0)
    return Curve(label, fractions_of(metric, len(mean)), mean.tolist())
