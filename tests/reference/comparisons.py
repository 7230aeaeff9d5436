"""A comparison written a second time: pictures one by one, no cache, no parts; `torchbcos.attribute` and the metrics alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import torchbcos
from torchbcos import metrics
from torchbcos.evaluation import cell_targets, difull, dipart, randomised
from torchbcos.zoo import Classifier

__all__ = ["grid_values", "mask_of_box", "object_values", "picture_values"]


def _pixels(clf: Classifier, file: Path) -> Tensor:
    with Image.open(file) as image:
        return clf.transform.place(image.convert("RGB"))


def _map(clf: Classifier, x: Tensor, target: int, method: str) -> Tensor:
    return torchbcos.attribute(clf.model, x, [[target]], method=method).maps[:, 0]


def grid_values(
    clf: Classifier, place: Path, grids: Sequence[Sequence[str]], method: str, name: str, n: int = 2
) -> list[list[float]]:
    """Grid pointing, DiFull or DiPart of grids of pictures, set row by row."""
    found = []
    for names in grids:
        rows = [torch.cat([_pixels(clf, place / one) for one in names[i * n : i * n + n]], 2) for i in range(n)]
        x = clf.transform.encode(torch.cat(rows, 1)[None], dim=1)
        labels = torch.tensor([[clf.class_names.index(Path(one).parts[0]) for one in names]])
        network, targets = clf.model, labels
        if name != "grid-pointing":
            network = {"difull": difull, "dipart": dipart}[name](clf.model, n)
            targets = cell_targets(labels, len(clf.class_names))
        maps = torchbcos.attribute(network, x, targets, method=method).maps[0]
        found.append([float(metrics.grid_pointing(maps[k : k + 1], torch.tensor([k]), n=n)) for k in range(n * n)])
    return found


def mask_of_box(box: Sequence[float], side: int) -> Tensor:
    """(1, H, W) of (cx, cy, w, h) in fractions, for a square picture that is neither resized nor cut."""
    cx, cy, w, h = box
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[0, round((cy - h / 2) * side) : round((cy + h / 2) * side), round((cx - w / 2) * side) : round((cx + w / 2) * side)] = (
        True
    )
    return mask


def object_values(
    clf: Classifier, place: Path, names: Sequence[str], masks: Mapping[str, Tensor], method: str, name: str
) -> list[float]:
    """A metric on objects."""
    function = {"energy-pointing": metrics.energy_pointing, "map-iou": metrics.map_iou, "pointing-hit": metrics.pointing_hit}[
        name
    ]
    found = []
    for one in names:
        x = clf.transform.encode(_pixels(clf, place / one)[None], dim=1)
        found.append(float(function(_map(clf, x, clf.class_names.index(Path(one).parts[0]), method), masks[one])))
    return found


def picture_values(clf: Classifier, place: Path, names: Sequence[str], method: str, name: str) -> list[float]:
    """A metric on pictures, with its usual settings, seed 0."""
    found = []
    for one in names:
        x = clf.transform.encode(_pixels(clf, place / one)[None], dim=1)
        target = clf.class_names.index(Path(one).parts[0])
        with torch.enable_grad():
            found.append(_PICTURES[name](clf, x, target, method))
    return found


def _logit(clf: Classifier, target: int) -> Callable[[Tensor], Tensor]:
    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = clf.model(x)[:, target]
        return found

    return predict


def _probability(clf: Classifier, target: int) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.sigmoid(_logit(clf, target)(x))


def _deletion(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    order = metrics.removal_order(_map(clf, x, target, method))
    return float(metrics.area(metrics.removal_curve(_probability(clf, target), x, order, replace="grey", fractions=32)))


def _insertion(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    order = metrics.removal_order(_map(clf, x, target, method))
    curve = metrics.removal_curve(_probability(clf, target), x, order, replace="blur", fractions=32, keep=True)
    return float(metrics.area(curve))


def _single(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    return float(metrics.single_deletion(_logit(clf, target), x, _map(clf, x, target, method), cells=4, replace="grey"))


def _road(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    return float(metrics.road(_probability(clf, target), x, _map(clf, x, target, method), measure="score", noise=0.01))


def _sensitivity_n(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    most = 0.8 * x[0, 0].numel()
    sizes = sorted({round(math.exp(math.log(most) * j / 4)) for j in range(5)})
    found = [
        float(metrics.sensitivity_n(_logit(clf, target), x, _map(clf, x, target, method), n=size, subsets=50)) for size in sizes
    ]
    defined = [value for value in found if not math.isnan(value)]
    return sum(defined) / len(defined)


def _infidelity(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    if method == "inherent":
        weights = torchbcos.explain(clf.model, x, [[target]]).weights[:, 0]
    elif method == "input_x_gradient":
        leaf = x.clone().requires_grad_()
        (weights,) = torch.autograd.grad(clf.model(leaf)[0, target], leaf)
    else:
        return math.nan
    return float(metrics.infidelity(_logit(clf, target), x, weights, perturb=0.1, samples=10))


def _max_sensitivity(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    def explain(points: Tensor) -> Tensor:
        return torch.cat([_map(clf, point[None], target, method) for point in points])

    return float(metrics.max_sensitivity(explain, x, radius=0.02, samples=10))


def _residual(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    a = torchbcos.attribute(clf.model, x, [[target]], method=method)
    if a.delta is None:
        return math.nan
    if method == "inherent":
        constants = {name: c[:, 0] for name, c in torchbcos.explain(clf.model, x, [[target]]).constants.items()}
        return float(metrics.residual(a.maps[:, 0], constants, a.outputs[:, target]))
    return float(a.delta[0, 0].abs() / max(1.0, abs(float(a.outputs[0, target]))))


def _randomisation(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    walk = [copy for _, copy in randomised(clf.model, order="top_down", generator=torch.Generator().manual_seed(0))]
    stages = sorted({round((k + 1) * len(walk) / 5) - 1 for k in range(5)} - {-1})
    maps = {str(i): torchbcos.attribute(walk[i], x, [[target]], method=method).maps[:, 0] for i in stages}
    return float(metrics.randomisation(_map(clf, x, target, method), maps, kind="spearman").mean)


def _label_sensitivity(clf: Classifier, x: Tensor, target: int, method: str) -> float:
    with torch.no_grad():
        order = clf.model(x)[0].argsort(descending=True).tolist()
    other = next(k for k in order if k != target)
    return float(metrics.label_sensitivity(_map(clf, x, target, method), _map(clf, x, other, method), "spearman"))


_PICTURES: Mapping[str, Callable[[Any, Tensor, int, str], float]] = {
    "deletion": _deletion, "insertion": _insertion, "single-deletion": _single, "idsds": _single, "road": _road,
    "sensitivity-n": _sensitivity_n, "infidelity": _infidelity, "max-sensitivity": _max_sensitivity, "residual": _residual,
    "randomisation": _randomisation, "label-sensitivity": _label_sensitivity,
    "gini": lambda clf, x, target, method: float(metrics.gini(_map(clf, x, target, method))),
    "entropy": lambda clf, x, target, method: float(metrics.entropy(_map(clf, x, target, method))),
}  # fmt: skip
