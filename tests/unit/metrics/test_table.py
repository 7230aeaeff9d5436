"""The dictionary of metrics: its names, and that nothing is in it that was not checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.reference import birds, completeness, complexity, likeness, places, removal, sanity, scores
from torchbcos import metrics
from torchbcos.metrics import METRICS, Metric

# the names of `torchbcos evaluate`, called from outside
NAMES = (
    "accuracy", "grid-pointing", "difull", "dipart", "energy-pointing", "map-iou", "pointing-hit", "deletion", "insertion",
    "single-deletion", "idsds", "road", "sensitivity-n", "infidelity", "max-sensitivity", "residual", "randomisation",
    "label-sensitivity", "gini", "entropy", "agreement", "funnybirds",
)  # fmt: skip
# name -> its slow twin
TWINS: dict[str, Callable[..., Any]] = {
    "accuracy": scores.top,
    "grid-pointing": places.grid_pointing,
    "difull": places.grid_pointing,
    "dipart": places.grid_pointing,
    "energy-pointing": places.energy,
    "map-iou": places.iou,
    "pointing-hit": places.hit,
    "deletion": removal.curve,
    "insertion": removal.curve,
    "road": removal.imputed,
    "sensitivity-n": removal.sensitivity_n,
    "infidelity": removal.infidelity,
    "max-sensitivity": removal.max_sensitivity,
    "single-deletion": removal.single_deletion,
    "idsds": removal.single_deletion,
    "residual": completeness.residual,
    "randomisation": sanity.randomisation,
    "label-sensitivity": likeness.spearman,
    "gini": complexity.gini,
    "entropy": complexity.entropy,
    "agreement": likeness.spearman,
    "funnybirds": birds.measure,
}


def test_the_names_are_those_that_are_called_from_outside() -> None:
    assert set(METRICS) == set(NAMES) and set(TWINS) == set(NAMES)
    assert all(name == metric.name for name, metric in METRICS.items())


def unchecked(found: dict[str, Metric], twins: dict[str, Callable[..., Any]]) -> list[str]:
    """Metrics that lack something a user must know before believing the number."""
    lacking = [name for name, metric in found.items() if not all(str(value).strip() for value in vars(metric).values())]
    lacking += [name for name, metric in found.items() if "closed form" not in metric.verified]
    lacking += [name for name, metric in found.items() if metric.best not in ("high", "low", "neither")]
    lacking += [name for name in found if name not in twins]
    return lacking + [
        name for name, metric in found.items() if metric.function and metric.function.__name__ not in metrics.__all__
    ]


def test_what_is_listed_was_checked() -> None:
    assert unchecked(dict(METRICS), TWINS) == []


@pytest.mark.parametrize("fault", [{"blind": " "}, {"verified": "twin"}, {"best": "tall"}, {"function": unchecked}])
def test_what_was_not_checked_is_seen(fault: dict[str, Any]) -> None:
    record = Metric(**{**vars(METRICS["gini"]), **fault})
    assert unchecked({"gini": record}, TWINS) == ["gini"]
    assert unchecked({"other": METRICS["gini"]}, TWINS) == ["other"]


def test_nobody_changes_the_dictionary() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        METRICS["gini"] = METRICS["entropy"]  # type: ignore[index]
