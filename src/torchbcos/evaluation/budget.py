"""Comparisons that must be done by a certain time: first fewer samples, then fewer pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import real
from torchbcos.evaluation.measures import measure_of
from torchbcos.evaluation.named import NamedMethod, digest
from torchbcos.evaluation.units import Plan, Units, Worker, set_of

__all__ = ["candidates_within", "check_budget", "within_budget"]

_ENOUGH = 30  # items, below which samples are spared first
_REPORT = 0.1  # of the time, for what comes after the measuring
_CANDIDATES, _A_SECOND = 150, 3  # at least, and for each second: one thread predicts 12 of 160 pixels a second, for two sizes
_PARTS = (1, 2, 4, 8)  # a method's samples are divided by one of these
_FEWEST = {"lime": 32, "kernel_shap": 32}  # of samples, which must tell all segments apart, of volumes as well
_COUNTS = ("samples", "masks", "steps", "copies", "points")


def within_budget(worker: Worker, seconds: float, spent: Callable[[], float] = lambda: 0.0) -> tuple[Worker, tuple[str, ...]]:
    """The same work with fewer samples and items, so that it takes about so long, and what was spared, in sentences.

    The first item of each kind is measured, with the fewest samples. What follows from it is noted in the store: an interrupted
    comparison goes on with the same samples and items, however long the first try took.

    Args:
        worker: with a plan of everything that was asked for.
        seconds: from the start of the comparison to its end.
        spent: how many of them are over.

    Raises:
        InputError: the budget is no positive number.
    """
    given = check_budget(seconds)
    key = _key(worker, given)
    noted = (worker.store.numbers(key) or {}).get("values")
    if noted is None or len(noted) != 2:
        pilot = dataclasses.replace(worker, plan=_with_samples(worker.plan, _PARTS[-1]))
        for unit in Units(dict.fromkeys(worker.plan.sets, 1), len(worker.models), len(worker.plan.methods)):
            pilot.run(unit)
        noted = list(_decided(pilot, given, spent()))
        worker.store.note({key: {"values": noted}})
    part, count = int(noted[0]), int(noted[1])
    plan = _with_samples(worker.plan, part)
    plan = dataclasses.replace(plan, sets={name: chosen.first(count) for name, chosen in plan.sets.items()})
    return dataclasses.replace(worker, plan=plan), tuple(_said(worker, plan.methods, count, given))


def _with_samples(plan: Plan, part: int) -> Plan:
    return dataclasses.replace(plan, methods=tuple(_spared(method, part) for method in plan.methods))


def candidates_within(seconds: float | None) -> int | None:
    """How many candidates may be predicted: a part of the time, and the same number whatever the machine.

    >>> candidates_within(60), candidates_within(1), candidates_within(None)
    (180, 150, None)
    """
    return None if seconds is None else max(_CANDIDATES, int(_A_SECOND * seconds))


def check_budget(seconds: object) -> float:
    """Seconds.

    Raises:
        InputError: they are no positive number.
    """
    given = real(seconds)
    if given is None or not 0 < given < float("inf"):
        raise InputError(f"budget is seconds, a positive number, not {seconds!r}.")
    return given


def _key(worker: Worker, given: float) -> str:
    """By which the decision is kept."""
    plan = worker.plan
    return digest(
        "budget", given, [model.key for model in worker.models], [worker.method_key(method) for method in plan.methods],
        [[metric.name, metric.settings] for metric in plan.metrics], worker.split.fingerprint(), plan.cell, plan.size,
        plan.rescale, plan.seed, {name: chosen.rows.tolist() for name, chosen in plan.sets.items()},
    )[:32]  # fmt: skip


def _decided(pilot: Worker, given: float, spent: float) -> tuple[int, int]:
    """By what samples are divided, and how many items of each kind are measured."""
    rest, fewest = given * (1 - _REPORT) - spent, _PARTS[-1]
    costs = {method.label: _cost(pilot, method) for method in pilot.plan.methods}
    sampled = {method.label for method in pilot.plan.methods if _count(method) is not None}
    most = max(len(chosen.rows) for chosen in pilot.plan.sets.values())
    part, items = 1, 0.0
    for part in _PARTS:
        whole = sum((maps * fewest / part if label in sampled else maps) + s for label, (maps, s) in costs.items())
        items = rest / whole if whole > 0 else float(most)
        if items >= min(_ENOUGH, most) or not sampled:
            break
    if items < 1:
        return fewest, 1  # which is done already
    return part, min(most, int(min(items, float(most))))


def _said(worker: Worker, methods: Sequence[NamedMethod], count: int, given: float) -> list[str]:
    """What was spared."""
    said = []
    both = [(_count(method), _count(old), old.label) for method, old in zip(methods, worker.plan.methods, strict=True)]
    changed = [f"{label} {new} of {usual}" for new, usual, label in both if new != usual]
    if changed:
        said.append(f"To keep the budget, methods drew fewer samples than usual: {', '.join(changed)}.")
    fewer = [f"{count} of {len(c.rows)} {name}" for name, c in worker.plan.sets.items() if count < len(c.rows)]
    if fewer:
        said.append(f"To keep the budget of {given:g} seconds, fewer items were measured than there are: {', '.join(fewer)}.")
    return said


def _cost(worker: Worker, method: NamedMethod) -> tuple[float, float]:
    """Seconds of the maps and of the scores of one item of each kind, for all models."""
    maps: dict[tuple[str, str, str], float] = {}
    scores = 0.0
    for metric in worker.plan.metrics:
        for model in worker.models:
            found = worker.store.numbers(worker.value_key(model, method, metric, 0)) or {}
            maps[model.label, set_of(metric), measure_of(metric).variant] = found.get("map_seconds", 0.0)
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
    if count is None or part == 1:
        return method
    fewest = min(_FEWEST.get(method.name, 2), count)
    return dataclasses.replace(method, options={**method.options, "samples": max(fewest, count // part)})
