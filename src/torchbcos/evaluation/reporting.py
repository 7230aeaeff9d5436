"""From numbers of items to a comparison: rows, paired differences, agreement of metrics, sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torchbcos import metrics
from torchbcos._core.errors import BcosError
from torchbcos._core.files import finite_or_null
from torchbcos._core.names import quote
from torchbcos.attribution import METHODS
from torchbcos.evaluation.cases import Cases
from torchbcos.evaluation.choosing import Looked
from torchbcos.evaluation.measured import Measured
from torchbcos.evaluation.measures import GRIDS, best_of, measure_of, settings_of
from torchbcos.evaluation.named import NamedMethod, NamedMetric, described
from torchbcos.evaluation.statistics import pair, rank_agreements, row
from torchbcos.evaluation.telling import sentences, unreadable_sentence
from torchbcos.evaluation.units import Worker, set_of
from torchbcos.metrics import METRICS
from torchbcos.runs.provenance import version_of

__all__ = ["Comparison", "report"]

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_ALIKE = 20  # items whose maps are compared between methods


@dataclass(frozen=True)
class Comparison:
    """What was measured.

    Attributes:
        facts: models, methods, metrics, items, rows, pairs, rankings and sentences, as JSON has them (`to_dict`).
        cost: seconds and passes of a map, one record for each model, method and kind of items. Times differ from run to run, and
            are no part of `facts`.
        values: (model, method, metric) -> (items, V) numbers, NaN where undefined.
        curves: the same -> name -> (items, L).
        cases: pictures of where methods do best and worst, if they were asked for.
    """

    facts: dict[str, Any]
    cost: list[dict[str, Any]]
    values: Mapping[tuple[str, str, str], Tensor] = field(repr=False)
    curves: Mapping[tuple[str, str, str], Mapping[str, Tensor]] = field(repr=False, default_factory=dict)
    cases: Sequence[Cases] = field(repr=False, default=())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One record for each model, method and metric."""
        found: list[dict[str, Any]] = self.facts["rows"]
        return found

    @property
    def sentences(self) -> list[str]:
        """What a reader should be told."""
        found: list[str] = self.facts["sentences"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: the same for the same data and settings, however many processes there were."""
        found: dict[str, Any] = finite_or_null(self.facts)
        return found


@dataclass
class _Numbers:
    """The numbers of one model, method and metric.

    Attributes:
        values: (items, V).
        records: what the store has, one an item; None where nothing was noted.
    """

    values: Tensor
    records: list[dict[str, Any] | None]

    @property
    def refused(self) -> dict[str, list[int]]:
        """Why there is nothing, and of which items."""
        found: dict[str, list[int]] = {}
        for number, one in enumerate(self.records):
            if one and "refused" in one:
                found.setdefault(one["refused"], []).append(number)
        return found

    @property
    def note(self) -> str:
        """Why the method gave nothing at all; "" where it gave something."""
        nothing = sum(map(len, self.refused.values())) == len(self.records)
        return next(iter(self.refused)) if nothing and self.records else ""

    @property
    def told(self) -> list[str]:
        """What it warned of."""
        return _gathered(text for one in self.records if one for text in one.get("told", ()))

    def mean_of(self, key: str) -> float | None:
        """The mean of a noted number."""
        found = [one[key] for one in self.records if one and key in one]
        return sum(found) / len(found) if found else None

    def curves(self) -> dict[str, Tensor]:
        """Curves by name, (items, L), where every item has them."""
        names = dict.fromkeys(key for one in self.records if one for key in one if key.startswith("curve "))
        whole = {name: [one[name] for one in self.records if one and name in one] for name in names}
        return {
            name.removeprefix("curve "): torch.tensor(rows, dtype=torch.float64)
            for name, rows in whole.items() if len(rows) == len(self.records) and len({len(row) for row in rows}) == 1
        }  # fmt: skip


def _gathered(texts: Iterable[str]) -> list[str]:
    """Sentences, those that differ in nothing but numbers once, and how many were like it: each picture may have its own.

    >>> _gathered(["It misses 2.5 by 1.", "It misses 3 by 2e-05.", "It is odd."])
    ['It misses 2.5 by 1. (And 1 more like it.)', 'It is odd.']
    """
    groups: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        groups.setdefault(_NUMBER.sub("#", text), []).append(text)
    return [one[0] + f" (And {len(one) - 1:,} more like it.)" * (len(one) > 1) for one in groups.values()]


def report(
    worker: Worker, looked: Mapping[str, Looked], about: Mapping[str, Any], settings: Mapping[str, Any], notes: Sequence[str] = ()
) -> Comparison:
    """The comparison that the store of a worker holds; `notes` are told first."""
    plan, models = worker.plan, worker.models
    found: dict[tuple[str, str, str], _Numbers] = {}
    for metric in plan.metrics:
        for model in models:
            for method in plan.methods:
                found[model.label, method.label, metric.label] = _numbers(worker, model, method, metric)
    values = {key: one.values for key, one in found.items()}
    same = {model.label: _same(worker, model) for model in models}
    rows = [
        _row(plan_metric, key, found[key], same) for plan_metric in plan.metrics for key in found if key[2] == plan_metric.label
    ]
    facts = {
        "schema": 1, "torchbcos": version_of("torchbcos"), "seed": plan.seed, "settings": described(settings),
        "data": {**about, **_unreadable(looked)},
        "models": [_model(model, looked, number) for number, model in enumerate(models)],
        "methods": [_method(method) for method in plan.methods],
        "metrics": [_metric(metric, worker) for metric in plan.metrics],
        "items": {name: _items(worker, name) for name in plan.sets},
        "rows": rows, "pairs": _pairs(worker, values), "rankings": _rankings(worker, values),
        "agreement": _agreement(worker),
    }  # fmt: skip
    facts["sentences"] = [*notes, *_sentences(facts, worker, found), *sentences(finite_or_null(facts))]
    cost = _cost(worker, found)
    return Comparison(facts, cost, values, {key: one.curves() for key, one in found.items() if one.curves()})


def _numbers(worker: Worker, model: Measured, method: NamedMethod, metric: NamedMetric) -> _Numbers:
    records = worker.numbers(model, method, metric)
    empty = [math.nan] * worker.plan.sets[set_of(metric)].rows.shape[1]
    whole = [one["values"] if one and len(one.get("values", ())) == len(empty) else empty for one in records]
    return _Numbers(torch.tensor(whole, dtype=torch.float64), records)


def _model(model: Any, looked: Mapping[str, Looked], number: int) -> dict[str, Any]:
    card = model.classifier.card
    top = next(one.top1()[number] for one in looked.values())
    return {
        "label": model.label, "source": model.source, "name": card.name, "architecture": card.architecture, "hash": model.key,
        "parameters": sum(p.numel() for p in model.model.parameters()), "plain": model.plain,
        "top1": None if top is None else round(top, 4),
        "candidates": next(len(one.rows) for one in looked.values()),
    }  # fmt: skip


def _method(method: NamedMethod) -> dict[str, Any]:
    record = METHODS.get(method.name)
    return {
        "label": method.label, "name": method.name, "settings": method.settings, "dumb": method.dumb,
        "kind": record.kind if record is not None else "none" if method.dumb else "files",
        "class_specific": record.class_specific if record is not None else not method.dumb,
    }  # fmt: skip


def _metric(metric: NamedMetric, worker: Worker) -> dict[str, Any]:
    about = METRICS[metric.name]
    return {
        "label": metric.label, "name": metric.name, "settings": described(settings_of(metric)), "best": best_of(metric),
        "summary": about.summary, "range": about.range, "blind": about.blind, "source": about.source, "items": set_of(metric),
        "lines": worker.lines(metric),
    }  # fmt: skip


def _items(worker: Worker, name: str) -> dict[str, Any]:
    chosen = worker.plan.sets[name]
    names = [[worker.split.names[row] for row in rows] for rows in chosen.rows.tolist()]
    classes = [[worker.plan.classes[label] for label in labels] for labels in chosen.labels.tolist()]
    common: dict[str, Any] = {"count": len(names), "notes": list(chosen.notes)}
    if name.startswith(GRIDS):
        return {**common, "n": round(len(names[0]) ** 0.5), "cell": worker.prepare(name, worker.models[0]).crop, "names": names,
                "classes": classes}  # fmt: skip
    return {**common, "size": worker.prepare(name, worker.models[0]).crop, "names": [one[0] for one in names],
            "classes": [one[0] for one in classes]}  # fmt: skip


def _unreadable(looked: Mapping[str, Looked]) -> dict[str, Any]:
    names = dict.fromkeys(name for one in looked.values() for name in one.unreadable)
    failures = dict.fromkeys(text for one in looked.values() for text in one.failures)
    copies = dict.fromkeys(name for one in looked.values() for name in one.copies)
    return {"unreadable": list(names), "failures": list(failures), "copies": list(copies)}


def _rule(metric: NamedMetric) -> str:
    """What an undefined number counts as: 0 where high is good, so that nobody gains by it; nothing elsewhere."""
    return "zero" if best_of(metric) == "high" else "skip"


def _row(
    metric: NamedMetric, key: tuple[str, str, str], found: _Numbers, same: Mapping[str, Mapping[str, list[str]]]
) -> dict[str, Any]:
    model, method, label = key
    numbers: Mapping[str, Any] = row(found.values, undefined=_rule(metric))
    return {
        "model": model, "method": method, "metric": label, **numbers, "passes": found.mean_of("passes"),
        "same_as": same[model].get(method, []), "note": found.note, "told": found.told,
    }  # fmt: skip


def _same(worker: Worker, model: Measured) -> dict[str, list[str]]:
    """Methods of a model that give the same maps on the first items of the first kind."""
    maps = _maps(worker, model)
    groups = metrics.same_maps(maps) if len(maps) > 1 else []
    return {label: [other for other in group if other != label] for group in groups for label in group}


def _maps(worker: Worker, model: Measured) -> dict[str, Tensor]:
    """Label of a method -> (items, H, W): maps of the first target of a few items, of methods that have all of them."""
    name = next(iter(worker.plan.sets))
    variants = [measure_of(metric).variant for metric in worker.plan.of_set(name)]
    variant = "" if "" in variants else variants[0]
    numbers, found = range(min(_ALIKE, len(worker.plan.sets[name].rows))), {}
    for method in worker.plan.methods:
        try:
            kept = [worker.kept(name, number, model, method, variant) for number in numbers]
        except BcosError:  # of a damaged file of another library
            continue
        whole = [one.maps[0] for one in kept if one is not None]
        if whole and len(whole) == len(kept):
            found[method.label] = torch.stack(whole)
    return found


def _agreement(worker: Worker) -> list[dict[str, Any]]:
    """Spearman's correlation of each two methods' maps, pooled to 14 x 14, the mean over a few items."""
    found = []
    for model in worker.models:
        maps = _maps(worker, model)
        labels = list(maps)
        for i, first in enumerate(labels):
            for second in labels[i + 1 :]:
                value = float(metrics.agreement(maps[first], maps[second]).nanmean())
                found.append({"model": model.label, "first": first, "second": second, "n": len(maps[first]), "spearman": value})
    return found


def _pairs(worker: Worker, values: Mapping[tuple[str, str, str], Tensor]) -> list[dict[str, Any]]:
    """Each model's best method, its inherent one and the best map without a network, against all others; one model's against
    those of other models.
    """
    found = []
    models, methods = [model.label for model in worker.models], [method.label for method in worker.plan.methods]
    dumb = {method.label for method in worker.plan.methods if method.dumb}
    for metric in worker.plan.metrics:
        best = best_of(metric)
        if best == "neither":
            continue
        means = {
            key: float(row(value, undefined=_rule(metric), samples=0)["mean"])
            for key, value in values.items()
            if key[2] == metric.label
        }
        wanted: dict[tuple[str, str, str, str], None] = {}
        for model in models:
            defined = [m for m in methods if math.isfinite(means[model, m, metric.label])]
            if not defined:
                continue
            order = sorted(defined, key=lambda m: means[model, m, metric.label], reverse=best == "high")
            anchors = dict.fromkeys([order[0], *(m for m in order if m == "inherent"), *[m for m in order if m in dumb][:1]])
            wanted |= {(model, anchor, model, other): None for anchor in anchors for other in defined if other != anchor}
        first = "inherent" if "inherent" in methods else methods[0]
        for model in models[1:]:
            wanted |= {(models[0], first, model, other): None for other in methods}
        once: dict[frozenset[tuple[str, str]], tuple[str, str, str, str]] = {}  # the same two the other way round are no new test
        for one in wanted:
            once.setdefault(frozenset([one[:2], one[2:]]), one)
        for model, method, other_model, other in once.values():
            a, b = values[model, method, metric.label], values[other_model, other, metric.label]
            if bool(a.isnan().all()) or bool(b.isnan().all()):
                continue
            numbers = pair(a, b, lower=best == "low", undefined=_rule(metric))
            found.append({
                "model": model, "metric": metric.label, "method": method, "other": other, "other_model": other_model, **numbers,
            })  # fmt: skip
    return found


def _rankings(worker: Worker, values: Mapping[tuple[str, str, str], Tensor]) -> list[dict[str, Any]]:
    """How alike each two metrics rank the methods of a model."""
    found = []
    chosen = [metric for metric in worker.plan.metrics if best_of(metric) != "neither"]
    methods = [method.label for method in worker.plan.methods]
    if len(chosen) < 2 or len(methods) < 3:
        return []
    for model in worker.models:
        tables = {
            metric.label: torch.stack([values[model.label, method, metric.label] for method in methods]) for metric in chosen
        }
        records = rank_agreements(
            tables, groups={metric.label: set_of(metric) for metric in chosen},
            lower=[metric.label for metric in chosen if best_of(metric) == "low"],
        )  # fmt: skip
        found += [{"model": model.label, **one} for one in records]
    return found


def _sentences(facts: Mapping[str, Any], worker: Worker, found: Mapping[tuple[str, str, str], _Numbers]) -> list[str]:
    notes = [note for chosen in worker.plan.sets.values() for note in chosen.notes]
    lost = facts["data"]["unreadable"]
    if lost:
        notes.append(unreadable_sentence(lost))
    if facts["data"]["copies"]:
        count, first = len(facts["data"]["copies"]), quote(facts["data"]["copies"][0])
        notes.append(
            f"{count} {'picture is a copy' if count == 1 else 'pictures are copies'} of another, and not counted: {first}."
        )
    sets = {metric.label: set_of(metric) for metric in worker.plan.metrics}
    told: dict[str, None] = {}
    for (model, method, metric), one in found.items():
        reasons = [(text, "") for text in one.told]
        for text, numbers in one.refused.items():
            some = len(numbers) < len(one.records)
            reasons.append((text, f" ({_of(numbers, one.records, worker, sets[metric])})" if some else ""))
        told |= {f"{method} on {model}: {text}{where}": None for text, where in reasons}
    return [*notes, *told]


def _of(numbers: Sequence[int], records: Sequence[object], worker: Worker, items: str) -> str:
    return f"{len(numbers)} of {len(records)}, the first {quote(worker.name_of(items, numbers[0]))}"


def _cost(worker: Worker, found: Mapping[tuple[str, str, str], _Numbers]) -> list[dict[str, Any]]:
    rows = []
    sets = {metric.label: set_of(metric) for metric in worker.plan.metrics}
    for (model, method, metric), one in found.items():
        rows.append({
            "model": model, "method": method, "metric": metric, "items": sets[metric],
            "seconds_a_map": one.mean_of("map_seconds"), "seconds_a_score": one.mean_of("seconds"),
            "passes": one.mean_of("passes"),
        })  # fmt: skip
    return rows
