"""Comparisons that must be done by a certain time: first fewer samples, then fewer pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import real
from torchbcos.evaluation.choosing import Chosen
from torchbcos.evaluation.measures import measure_of
from torchbcos.evaluation.named import NamedMethod
from torchbcos.evaluation.units import Worker, set_of

__all__ = ["within_budget"]

_ENOUGH = 30  # items, below which samples are spared first
_PARTS = (1, 2, 4, 8)  # a method's samples are divided by one of these
_COUNTS = ("samples", "masks", "steps", "copies", "points")


def within_budget(worker: Worker, seconds: float) -> tuple[Worker, tuple[str, ...]]:
    """The same work with fewer samples and items, so that it takes about so long, and what was spared, in sentences.

    The first item of each kind is measured, as in any comparison: an interrupted one chooses the same when it goes on.

    Raises:
        InputError: the budget is no positive number.
    """
    given = real(seconds)
    if given is None or given <= 0:
        raise InputError(f"budget is seconds, a positive number, not {seconds!r}.")
    pilots = [unit for unit in worker.units() if unit.start == 0]
    for unit in pilots:
        worker.run(unit)
    costs = {method.label: _cost(worker, method) for method in worker.plan.methods}
    sampled = {method.label for method in worker.plan.methods if _count(method) is not None}
    part, items = 1, 0.0
    for part in _PARTS:
        whole = sum((maps / part if label in sampled else maps) + scores for label, (maps, scores) in costs.items())
        items = given / whole if whole > 0 else float("inf")
        if items >= _ENOUGH or not sampled:
            break
    methods = tuple(_spared(method, part) for method in worker.plan.methods)
    count = int(max(1, items)) if items < 10**9 else 10**9
    sets = {name: Chosen(c.rows[:count], c.labels[:count], c.notes) for name, c in worker.plan.sets.items()}
    said = []
    if part > 1:
        both = [(_count(method), _count(old), old.label) for method, old in zip(methods, worker.plan.methods, strict=True)]
        changed = [f"{label} {new} of {usual}" for new, usual, label in both if new != usual]
        said.append(f"To keep the budget, methods drew fewer samples than usual: {', '.join(changed)}.")
    if any(len(sets[name].rows) < len(chosen.rows) for name, chosen in worker.plan.sets.items()):
        said.append(f"To keep the budget of {given:g} seconds, {count} items of each kind were measured.")
    plan = dataclasses.replace(worker.plan, methods=methods, sets=sets)
    return dataclasses.replace(worker, plan=plan), tuple(said)


def _cost(worker: Worker, method: NamedMethod) -> tuple[float, float]:
    """Seconds of the maps and of the scores of one item of each kind, for all models."""
    maps: dict[tuple[str, str, str], float] = {}
    scores = 0.0
    for metric in worker.plan.metrics:
        name, variant = set_of(metric), measure_of(metric).variant
        for model in worker.models:
            found: dict[str, Any] = worker.store.numbers(worker.value_key(model, method, metric, 0)) or {}
            maps[model.label, name, variant] = found.get("map_seconds", 0.0)
            scores += found.get("seconds", 0.0)
    return sum(maps.values()), scores


def _count(method: NamedMethod) -> int | None:
    """How many samples a method draws; None: it draws none."""
    if "samples" in method.options:
        return int(method.options["samples"])
    if method.explainer is None:
        return None
    found = (getattr(method.explainer, field.name) for field in dataclasses.fields(method.explainer) if field.name in _COUNTS)
    return next((int(one) for one in found if isinstance(one, int) and one > 1), None)


def _spared(method: NamedMethod, part: int) -> NamedMethod:
    count = _count(method)
    return (
        method
        if count is None or part == 1
        else dataclasses.replace(method, options={**method.options, "samples": max(2, count // part)})
    )
