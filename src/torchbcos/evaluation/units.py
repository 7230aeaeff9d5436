"""The work of a comparison in parts that depend on nothing but their names: any process may do any of them."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torchbcos._core.errors import BcosError, ExplanationWarning, InputError, StateError, shorten
from torchbcos.evaluation.dumb import DUMB
from torchbcos.evaluation.items import Items, Plan, Unit, Units, set_of
from torchbcos.evaluation.measured import Measured
from torchbcos.evaluation.measures import BOXES, GRIDS, Case, measure_of, settings_of
from torchbcos.evaluation.named import MAPS, NamedMethod, NamedMetric
from torchbcos.evaluation.randomised import layers_of, randomised
from torchbcos.evaluation.store import Kept, kept_of

__all__ = ["Plan", "Unit", "Units", "Worker", "set_of"]

_STAGES = 5  # of networks that lose their training
_COPIES = 3  # networks whose copies are held at a time
_LONGEST = 400  # letters of a reason


class _Refused(Exception):
    """A method is not defined here, and why."""


class _Maps(NamedTuple):
    maps: Tensor
    values: Tensor
    delta: Tensor | None
    passes: int


@dataclass
class Worker(Items):
    """Does units of a plan: takes maps from the store or computes them, and notes what each metric says of them.

    Attributes:
        computed: maps that were computed, not read.
    """

    computed: int = 0
    _copies: dict[int, list[tuple[str, nn.Module]]] = field(default_factory=dict, repr=False)

    def units(self) -> Units:
        """All of them, items first."""
        counts = {name: len(chosen.rows) for name, chosen in self.plan.sets.items()}
        return Units(counts, len(self.models), len(self.plan.methods), self.plan.batch_size)

    def run(self, unit: Unit) -> None:
        """Do a unit; what is in the store already is not done again.

        Raises:
            StateError: the store cannot be written, or memory ran out; what was done before is kept.
        """
        model, method = self.models[unit.model], self.plan.methods[unit.method]
        groups: dict[str, list[NamedMetric]] = {}
        for metric in self.plan.of_set(unit.items):
            groups.setdefault(measure_of(metric).variant, []).append(metric)
        for variant, chosen in groups.items():
            self._run(unit, model, method, variant, chosen)

    def _run(self, unit: Unit, model: Measured, method: NamedMethod, variant: str, chosen: Sequence[NamedMetric]) -> None:
        missing: dict[int, list[NamedMetric]] = {}
        for number, metric in itertools.product(range(unit.start, unit.stop), chosen):
            if self.store.numbers(self.value_key(model, method, metric, number)) is None:
                missing.setdefault(number, []).append(metric)
        if not missing:
            return
        found = self._maps(unit, list(missing), model, method, variant)
        for metric in chosen:
            numbers = [number for number, wanted in missing.items() if metric in wanted]
            keys = {number: self.value_key(model, method, metric, number) for number in numbers}
            refused = {number: one for number in numbers if isinstance(one := found[number], str)}
            records: dict[str, dict[str, Any]] = {keys[number]: {"refused": text} for number, text in refused.items()}
            for number, one in found.items():
                if number in keys and isinstance(one, Kept):
                    records[keys[number]] = self._measured(unit, number, model, method, metric, one, variant)
            self.store.note(records)

    def _measured(
        self, unit: Unit, number: int, model: Measured, method: NamedMethod, metric: NamedMetric, kept: Kept, variant: str
    ) -> dict[str, Any]:
        case = self._case(unit, number, model, method, kept, variant)
        began = time.perf_counter()
        try:
            with _one_sentence(f"{metric.label} of {method.label}"):
                values, curves = measure_of(metric).run(case, settings_of(metric))
        except _Refused as error:
            return {"refused": str(error)}
        return {
            "values": [float(v) for v in values[0].tolist()], "passes": kept.passes, "map_seconds": kept.seconds,
            "seconds": time.perf_counter() - began, "told": list(kept.told),
            **{f"curve {name}": c[0].tolist() for name, c in curves.items()},
        }  # fmt: skip

    # -- maps ----------------------------------------------------------------------------------------------------------

    def _maps(
        self, unit: Unit, numbers: Sequence[int], model: Measured, method: NamedMethod, variant: str
    ) -> dict[int, Kept | str]:
        """The maps of some items, from the store or computed, or why there are none."""
        try:
            with _one_sentence(method.label):
                there = {number: self.kept(unit.items, number, model, method, variant) for number in numbers}
        except _Refused as error:
            return self._one_by_one(unit, numbers, model, method, variant, str(error))
        rest = [number for number, one in there.items() if one is None]
        found: dict[int, Kept | str] = {number: one for number, one in there.items() if one is not None}
        return {**found, **(self._fresh(unit, rest, model, method, variant) if rest else {})}

    def _fresh(
        self, unit: Unit, numbers: Sequence[int], model: Measured, method: NamedMethod, variant: str
    ) -> dict[int, Kept | str]:
        """Compute and keep maps."""
        x = torch.cat([self._inputs(unit.items, number, model) for number in numbers])
        targets = torch.cat([self.targets(unit.items, number, number + 1, model, variant) for number in numbers])
        began = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as heard, _one_sentence(method.label):
                warnings.simplefilter("always")
                maps, values, delta, passes = self._compute(model, method, x, targets, variant, unit.items)
        except _Refused as error:
            return self._one_by_one(unit, numbers, model, method, variant, str(error))
        seconds = (time.perf_counter() - began) / len(numbers)
        told = list(dict.fromkeys(str(one.message) for one in heard if issubclass(one.category, ExplanationWarning)))
        found: dict[int, Kept | str] = {}
        for i, number in enumerate(numbers):
            kept = kept_of(maps[i], values[i], None if delta is None else delta[i], passes, seconds, told)
            self.store.write(model.key, self.method_key(method), self.item_key(unit.items, number, model, variant), kept)
            found[number] = kept
            self.computed += 1
        return found

    def _one_by_one(
        self, unit: Unit, numbers: Sequence[int], model: Measured, method: NamedMethod, variant: str, reason: str
    ) -> dict[int, Kept | str]:
        """One bad picture of a batch spoils no other."""
        if len(numbers) == 1:
            return {numbers[0]: shorten(reason, _LONGEST)}
        found: dict[int, Kept | str] = {}
        for number in numbers:
            found |= self._maps(unit, [number], model, method, variant)
        return found

    def _inputs(self, items: str, number: int, model: Measured) -> Tensor:
        return model.inputs(self.pixels(items, number, number + 1, model))

    def _compute(self, model: Measured, method: NamedMethod, x: Tensor, targets: Tensor, variant: str, items: str) -> _Maps:
        n = round(targets.shape[1] ** 0.5) if items.startswith(GRIDS) else 1
        if method.name == MAPS:
            what = "Maps from files are of pictures; grids are put together here: give a method that this library runs."
            raise InputError(what if n > 1 or items.startswith(GRIDS) else "There is no map of this picture and class.")
        if method.dumb:
            return _Maps(self._dumb(model, method, x, targets, n), torch.zeros(targets.shape), None, 0)
        found = model.attribute(method, x, targets, network=model.network(variant, n))
        return _Maps(found.maps, found.outputs.gather(1, found.targets), found.delta, found.passes)

    def _dumb(self, model: Measured, method: NamedMethod, x: Tensor, targets: Tensor, n: int) -> Tensor:
        pixels = x if model.prepare is not None else model.classifier.transform.decode(x)
        one = DUMB[method.name].function(pixels, cells=n, seed=self.plan.seed)
        return one[:, None].expand(-1, targets.shape[1], -1, -1)

    def _case(self, unit: Unit, number: int, model: Measured, method: NamedMethod, kept: Kept, variant: str) -> Case:
        x = self._inputs(unit.items, number, model)
        targets = self.targets(unit.items, number, number + 1, model, variant)
        mask = self.mask(number, model) if unit.items == BOXES else None

        def explain(points: Tensor, wanted: Tensor) -> Tensor:
            return self._compute_at(model, method, points, wanted)

        def copies() -> Mapping[str, Tensor]:
            return {
                name: self._compute_at(model, method, x, targets[:, :1], network=copy)[:, 0].cpu().float()
                for name, copy in self._randomised(unit.model)
            }

        return Case(
            model, method, x, kept.maps[None], targets, kept.values[None], None if kept.delta is None else kept.delta[None],
            None if mask is None else mask[None], explain, copies,
            lambda: model.weights(method, x, targets[:, :1]), self.plan.seed,
        )  # fmt: skip

    def _compute_at(
        self, model: Measured, method: NamedMethod, points: Tensor, wanted: Tensor, network: nn.Module | None = None
    ) -> Tensor:
        """Maps of inputs that are no items, which are not kept."""
        if method.name == MAPS:
            raise InputError("Maps from files are of the pictures alone: this metric needs maps of changed pictures or networks.")
        if method.dumb:
            return self._dumb(model, method, points, wanted, 1)
        with warnings.catch_warnings():  # the maps of the picture said it
            warnings.simplefilter("ignore", ExplanationWarning)
            return model.attribute(method, points, wanted, network=network).maps

    def _randomised(self, number: int) -> list[tuple[str, nn.Module]]:
        """Copies of a network at a few stages on the way to a random one, from the logits down."""
        if number not in self._copies:
            while len(self._copies) >= _COPIES:
                del self._copies[next(iter(self._copies))]
            generator = torch.Generator().manual_seed(self.plan.seed)
            total = len(layers_of(self.models[number].model))
            wanted = {round((k + 1) * total / _STAGES) - 1 for k in range(_STAGES)} if total else set()
            walk = randomised(self.models[number].model, order="top_down", generator=generator)
            self._copies[number] = [pair for i, pair in enumerate(walk) if i in wanted or i == total - 1]
        return self._copies[number]


@contextmanager
def _one_sentence(label: str) -> Iterator[None]:
    """Whatever a method raises becomes a reason, but for what another try may mend: memory that ran out."""
    try:
        yield
    except BcosError as error:
        raise _Refused(shorten(str(error), _LONGEST)) from None
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise StateError(
            f"{label} ran out of memory: measure fewer together (--batch-size), or smaller pictures (--size, --cell). What was "
            "computed is kept."
        ) from error
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise _Refused(shorten(f"The network or the method fails here: {why}", _LONGEST)) from None
