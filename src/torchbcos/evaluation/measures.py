"""How a comparison computes each metric: which items it is about, and what it does with their maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torchbcos import metrics
from torchbcos._core.errors import InputError
from torchbcos._core.names import hint
from torchbcos.evaluation.measured import Measured
from torchbcos.evaluation.named import NamedMethod, NamedMetric
from torchbcos.metrics import METRICS

__all__ = ["BOXES", "GRIDS", "MEASURES", "PICTURES", "Case", "Measure", "best_of", "measure_of", "settings_of"]

GRIDS, PICTURES, BOXES = "grids", "pictures", "boxes"


@dataclass(frozen=True)
class Case:
    """Items of one kind whose maps are measured.

    Attributes:
        model: whose maps.
        method: that made them.
        x: (b, C, H, W), as `Measured.inputs` gives them.
        maps: (b, K, H, W).
        targets: (b, K) int64.
        values: (b, K) logits.
        delta: (b, K), or None.
        masks: (b, H, W) bool, of boxes.
        explain: maps (b, K, H, W) of other inputs or other targets by the same method.
        copies: networks that lost their training, by stages: (name, maps of x) one after the other.
        weights: (b, C, H, W) by which the method multiplies the input, or None.
        seed: of what is drawn.
    """

    model: Measured
    method: NamedMethod
    x: Tensor
    maps: Tensor
    targets: Tensor
    values: Tensor
    delta: Tensor | None
    masks: Tensor | None
    explain: Callable[[Tensor, Tensor], Tensor]
    copies: Callable[[], Mapping[str, Tensor]]
    weights: Callable[[], Tensor | None]
    seed: int

    @property
    def one(self) -> Tensor:
        """(b, H, W): the map of the first target."""
        return self.maps[:, 0]

    @property
    def generator(self) -> torch.Generator:
        """A fresh one: every item draws the same."""
        return torch.Generator().manual_seed(self.seed)

    def predict(self, kind: str) -> Callable[[Tensor], Tensor]:
        """From inputs to scores (b, classes); metrics pick the targets' columns."""
        return self.model.scores(kind)


_Run = Callable[[Case, Mapping[str, Any]], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Measure:
    """How a metric is computed.

    Attributes:
        items: "grids", "pictures" or "boxes".
        run: a case and the settings -> values (b, V), and curves or the like by name, (b, L) each.
        settings: all it has, with the usual values.
        variant: "difull" or "dipart": the network that the maps belong to.
        best: which values are good, where that depends on the settings; None: as `METRICS` says.
    """

    items: str
    run: _Run
    settings: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    best: Callable[[Mapping[str, Any]], str] | None = None


def _pointing(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    n = given["n"]
    cells = metrics.own_cells(n, given["order"])
    options = {key: given[key] for key in ("smooth", "inside", "kernel")}
    b = len(case.maps)
    scores = metrics.grid_pointing(case.maps.flatten(0, 1), cells.repeat(b), n=n, **options)
    return scores.view(b, n * n), {}


def _deletion(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    predict = case.predict(given["score"])
    columns = case.targets[:, 0]
    found, curves = [], {}
    for first in ("most", "least") if given["first"] == "gap" else (given["first"],):
        order = metrics.removal_order(case.one, first=first, ties=given["ties"], sign=given["sign"], generator=case.generator)
        curve = metrics.removal_curve(
            predict, case.x, order, replace=given["replace"], fractions=_fractions(given["fractions"]), targets=columns
        )
        found.append(curve)
        curves[first] = curve.values
    if len(found) == 2:
        return metrics.gap(*found, normalised=given["normalised"])[:, None], curves
    reach = float(found[0].fractions[-1])
    return metrics.area(found[0], normalised=given["normalised"])[:, None] / reach, curves


def _fractions(given: Any) -> Any:
    """A number of steps, fractions, or "0.25/128": 128 steps up to a quarter."""
    if not isinstance(given, str):
        return given
    reach, slash, steps = given.partition("/")
    try:
        if slash and int(steps) < 1:
            raise ValueError
        return [float(reach) * j / int(steps) for j in range(int(steps) + 1)] if slash else float(reach)
    except ValueError:
        raise InputError(f"fractions is a number of steps, or REACH/STEPS such as 0.25/128, not {given!r}.") from None


def _insertion(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    order = metrics.removal_order(case.one, ties=given["ties"], sign=given["sign"], generator=case.generator)
    curve = metrics.removal_curve(
        case.predict(given["score"]), case.x, order, replace=given["replace"], fractions=_fractions(given["fractions"]),
        keep=True, targets=case.targets[:, 0],
    )  # fmt: skip
    return metrics.area(curve, normalised=given["normalised"])[:, None], {"most": curve.values}


def _single_deletion(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    found = metrics.single_deletion(
        case.predict(given["score"]), case.x, case.one, cells=given["cells"], replace=given["replace"], targets=case.targets[:, 0]
    )
    return found[:, None], {}


def _road(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    found = metrics.road(
        case.predict(given["score"]), case.x, case.one, measure=given["measure"], noise=given["noise"], ties=given["ties"],
        generator=case.generator, targets=case.targets[:, 0],
    )  # fmt: skip
    return found[:, None], {}


def _sensitivity_n(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    pixels, steps = case.one[0].numel(), given["sizes"]
    sizes = sorted({round(math.exp(j / max(1, steps - 1) * math.log(0.8 * pixels))) for j in range(steps)})
    found = metrics.sensitivity_n(
        case.predict(given["score"]), case.x, case.one, n=sizes, subsets=given["subsets"], replace=given["replace"],
        generator=case.generator, targets=case.targets[:, 0],
    )  # fmt: skip
    return found.nanmean(1, keepdim=True), {"sizes": found}


def _infidelity(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    weights = case.weights()
    if weights is None:
        return case.one.new_full((len(case.one), 1), math.nan), {}
    found = metrics.infidelity(
        case.predict("logit"), case.x, weights, perturb=given["noise"], samples=given["samples"], scaled=given["scaled"],
        generator=case.generator, targets=case.targets[:, 0],
    )  # fmt: skip
    return found[:, None], {}


def _max_sensitivity(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    found = []
    for i in range(len(case.x)):
        wanted = case.targets[i : i + 1, :1]

        def explain(x: Tensor, wanted: Tensor = wanted) -> Tensor:
            return case.explain(x, wanted.expand(len(x), 1))[:, 0]

        found.append(
            metrics.max_sensitivity(
                explain, case.x[i : i + 1], radius=given["radius"], samples=given["samples"], generator=case.generator
            )
        )
    return torch.cat(found)[:, None], {}


def _residual(case: Case, _: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    if case.delta is None:
        return case.one.new_full((len(case.one), 1), math.nan), {}
    return case.delta[:, :1].abs() / case.values[:, :1].abs().clamp_min(1.0), {}


def _randomisation(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    found = metrics.randomisation(case.one, case.copies(), kind=given["kind"])
    return found.mean[:, None], {"stages": found.similarity.T}


def _label_sensitivity(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    logits = case.model.logits(case.x)
    rest = logits.scatter(1, case.targets[:, :1].to(logits.device), -math.inf)
    others = rest.argmax(1, keepdim=True)  # the class that the network thinks of next
    found = metrics.label_sensitivity(case.one, case.explain(case.x, others)[:, 0].to(case.one), given["kind"])
    return found[:, None], {}


def _per_map(function: Callable[..., Tensor]) -> _Run:
    return lambda case, _: (function(case.one)[:, None], {})


def _on_object(function: Callable[..., Tensor], *names: str) -> _Run:
    def run(case: Case, given: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        assert case.masks is not None  # of boxes
        return function(case.one, case.masks, **{name: given[name] for name in names})[:, None].float(), {}

    return run


_GRID = {"n": 2, "smooth": 1, "inside": False, "kernel": "average", "order": "row"}
_CURVE = {"replace": "grey", "fractions": 32, "sign": "signed", "ties": "random", "normalised": False, "score": "probability"}

MEASURES: Mapping[str, Measure] = {
    "grid-pointing": Measure(GRIDS, _pointing, _GRID),
    "difull": Measure(GRIDS, _pointing, _GRID, variant="difull"),
    "dipart": Measure(GRIDS, _pointing, _GRID, variant="dipart"),
    "energy-pointing": Measure(BOXES, _on_object(metrics.energy_pointing)),
    "map-iou": Measure(BOXES, _on_object(metrics.map_iou, "threshold"), {"threshold": 0.5}),
    "pointing-hit": Measure(BOXES, _on_object(metrics.pointing_hit, "tolerance"), {"tolerance": 0}),
    "deletion": Measure(
        PICTURES, _deletion, {"first": "most", **_CURVE}, best=lambda given: "low" if given["first"] == "most" else "high"
    ),
    "insertion": Measure(PICTURES, _insertion, {**_CURVE, "replace": "blur"}),
    "single-deletion": Measure(PICTURES, _single_deletion, {"cells": 4, "replace": "grey", "score": "logit"}),
    "idsds": Measure(PICTURES, _single_deletion, {"cells": 4, "replace": "grey", "score": "logit"}),
    "road": Measure(PICTURES, _road, {"measure": "score", "noise": 0.01, "ties": "random", "score": "probability"}),
    "sensitivity-n": Measure(PICTURES, _sensitivity_n, {"sizes": 5, "subsets": 50, "replace": "grey", "score": "logit"}),
    "infidelity": Measure(PICTURES, _infidelity, {"noise": 0.1, "samples": 10, "scaled": False}),
    "max-sensitivity": Measure(PICTURES, _max_sensitivity, {"radius": 0.02, "samples": 10}),
    "residual": Measure(PICTURES, _residual),
    "randomisation": Measure(PICTURES, _randomisation, {"kind": "spearman"}),
    "label-sensitivity": Measure(PICTURES, _label_sensitivity, {"kind": "spearman"}),
    "gini": Measure(PICTURES, _per_map(metrics.gini)),
    "entropy": Measure(PICTURES, _per_map(metrics.entropy)),
}


def measure_of(metric: NamedMetric) -> Measure:
    """How a metric is computed.

    Raises:
        InputError: it is none that compares methods on items.
    """
    if metric.name not in MEASURES:
        elsewhere = {
            "accuracy": "torchbcos evaluate accuracy, and every comparison says it of its models",
            "agreement": "every comparison of several methods has it",
            "funnybirds": "torchbcos.evaluation.evaluate_funnybirds",
        }
        raise InputError(f"{metric.name} is not measured method by method: {elsewhere[metric.name]}.")
    return MEASURES[metric.name]


def settings_of(metric: NamedMetric) -> dict[str, Any]:
    """All settings of a metric, those that were given and the usual ones.

    Raises:
        InputError: it has no such setting.
    """
    usual = measure_of(metric).settings
    for key in metric.settings:
        if key not in usual:
            has = f"It has {', '.join(usual)}." if usual else "It has none."
            raise InputError(f"{metric.name} has no setting {key!r}.{hint(key, list(usual))} {has}")
    return {**usual, **metric.settings}


def best_of(metric: NamedMetric) -> str:
    """Which of its values are good: "high", "low" or "neither"."""
    rule = measure_of(metric).best
    return METRICS[metric.name].best if rule is None else rule(settings_of(metric))
