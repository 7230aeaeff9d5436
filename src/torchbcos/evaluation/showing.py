"""Pictures of a comparison: where each method does best and worst, and what its maps look like on average."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from torchbcos.evaluation.aggregate import aggregate
from torchbcos.evaluation.cases import Average, Case, Cases
from torchbcos.evaluation.measured import Measured
from torchbcos.evaluation.measures import GRIDS, best_of, measure_of
from torchbcos.evaluation.named import NamedMethod, NamedMetric
from torchbcos.evaluation.reporting import Comparison
from torchbcos.evaluation.store import Kept
from torchbcos.evaluation.units import Worker, set_of
from torchbcos.metrics import own_cells
from torchbcos.rendering import heatmap
from torchbcos.rendering.files import to_uint8

__all__ = ["cases_of"]

_CASES = 3  # best, and as many worst
_FOR_AVERAGES = 20  # items, fewer say nothing on average
_METHODS = 3  # of each metric and model, and the inherent one
_SIDE = 160  # pixels of a picture on the page


def cases_of(worker: Worker, found: Comparison) -> list[Cases]:
    """Cases of the best methods of every metric and model, and of the inherent one, where their maps are kept."""
    cases = []
    for metric in worker.plan.metrics:
        if best_of(metric) == "neither":
            continue
        for number, model in enumerate(worker.models):
            for method in _chosen(worker, found, metric, model):
                cases.append(_cases(worker, found, metric, number, method))
    return [one for one in cases if one.best]


def _chosen(worker: Worker, found: Comparison, metric: NamedMetric, model: Measured) -> list[NamedMethod]:
    """Methods that a reader wants to see, best first."""
    rows = [row for row in found.rows if row["metric"] == metric.label and row["model"] == model.label]
    defined = [row for row in rows if math.isfinite(row["mean"])]
    ranked = sorted(defined, key=lambda row: row["mean"], reverse=best_of(metric) == "high")
    by_label = {method.label: method for method in worker.plan.methods}
    asked = [by_label[row["method"]] for row in ranked if not by_label[row["method"]].dumb]
    return [method for i, method in enumerate(asked) if i < _METHODS or method.name == "inherent"]


def _cases(worker: Worker, found: Comparison, metric: NamedMetric, number: int, method: NamedMethod) -> Cases:
    model = worker.models[number]
    values = found.values[model.label, method.label, metric.label]
    low = best_of(metric) == "low"
    worth = (-values if low else values).flatten()
    defined = [i for i in worth.argsort(descending=True, stable=True).tolist() if not math.isnan(float(worth[i]))]
    ends = [defined[:_CASES], defined[: -_CASES - 1 : -1] if len(defined) > 2 * _CASES else []]
    best, worst = ([one for i in rows for one in _case(worker, metric, number, method, i, values)] for rows in ends)
    averages: Sequence[Average] = ()
    if len(values) >= _FOR_AVERAGES:
        maps = [kept.maps[0] for kept in _kept(worker, metric, number, method, range(len(values)))]
        if len(maps) == len(values):
            averages = tuple(_averages(torch.stack(maps), values[:, 0], low))
    return Cases(model.label, method.label, metric.label, best, worst, averages)


def _averages(maps: Tensor, scores: Tensor, low: bool) -> Iterator[Average]:
    """Drawn average maps of the bins that hold an item, from the best scores to the worst."""
    for one in aggregate(maps, -scores if low else scores, signed=True):
        if one.map is not None:
            ends = (-one.best, -one.worst) if low else (one.best, one.worst)
            yield Average(one, min(ends), max(ends), _drawn(one.map.float()))


def _kept(worker: Worker, metric: NamedMetric, number: int, method: NamedMethod, items: Sequence[int]) -> Iterator[Kept]:
    model, variant = worker.models[number], measure_of(metric).variant
    for item in items:
        kept = worker.kept(set_of(metric), item, model, method, variant)
        if kept is not None:
            yield kept


def _case(
    worker: Worker, metric: NamedMetric, number: int, method: NamedMethod, place: int, values: Tensor
) -> Iterator[Case]:  # fmt: skip
    """The case at a place of the flattened values: an item, and of grids one of its cells."""
    name, model = set_of(metric), worker.models[number]
    item, cell = divmod(place, values.shape[1])
    chosen = worker.plan.sets[name]
    label = worker.plan.classes[int(chosen.labels[item, cell])]
    called = worker.split.names[int(chosen.rows[item, cell])]
    note = ""
    if name.startswith(GRIDS):
        at = int(own_cells(round(values.shape[1] ** 0.5), worker.order(name))[cell])
        n = round(values.shape[1] ** 0.5)
        note = f"row {at // n + 1}, column {at % n + 1} of grid {item + 1}"
    for kept in _kept(worker, metric, number, method, [item]):
        pixels = worker.pixels(name, item, item + 1, model)[0]
        yield Case(f"{label} ({called})", float(values[item, cell]), _photo(pixels), _drawn(kept.maps[cell]), note)


def _drawn(found: Tensor) -> Image.Image:
    return _fitted(Image.fromarray(to_uint8(heatmap(found))))


def _photo(pixels: Tensor) -> Image.Image:
    shown = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return _fitted(Image.fromarray(to_uint8(shown.permute(1, 2, 0).numpy())))


def _fitted(image: Image.Image) -> Image.Image:
    image.thumbnail((_SIDE, _SIDE))
    return image
