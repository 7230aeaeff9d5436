"""The work of a comparison in parts that depend on nothing but their names: any process may do any of them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from torchbcos._core.errors import BcosError, ExplanationWarning, InputError, shorten
from torchbcos.data.labelled import Split
from torchbcos.evaluation.choosing import Chosen, target_of
from torchbcos.evaluation.dumb import DUMB, lines
from torchbcos.evaluation.foreign_maps import read_map
from torchbcos.evaluation.measured import Measured, geometry
from torchbcos.evaluation.measures import BOXES, GRIDS, Case, measure_of, settings_of
from torchbcos.evaluation.named import MAPS, NamedMethod, NamedMetric, digest
from torchbcos.evaluation.pointing import cell_targets
from torchbcos.evaluation.randomised import layers_of, randomised
from torchbcos.evaluation.store import Kept, Store, kept_of
from torchbcos.metrics import compose_grids, own_cells
from torchbcos.pictures import Preprocess

__all__ = ["Plan", "Unit", "Units", "Worker", "set_of", "value_key"]

_Hash = tuple[str, int, str, str, str]  # items, number, model, variant, hash
_STAGES = 5  # of networks that lose their training


@dataclass(frozen=True)
class Plan:
    """What is measured: enough for any process to do its part.

    Attributes:
        methods, metrics: by name, with settings.
        classes: of the data.
        sets: name of a kind of items ("grids-2", "pictures", "boxes") -> which.
        cell: side of a cell of a grid, in pixels; None: as the first model's pictures.
        size: side of a picture; None: each model's own.
        rescale: cells are shrunk so that a grid is as large as a picture.
        seed: of everything that is drawn.
        batch_size: items whose maps are computed together.
    """

    methods: tuple[NamedMethod, ...]
    metrics: tuple[NamedMetric, ...]
    classes: tuple[str, ...]
    sets: Mapping[str, Chosen]
    cell: int | None = None
    size: int | None = None
    rescale: bool = False
    seed: int = 0
    batch_size: int = 1

    def of_set(self, name: str) -> tuple[NamedMetric, ...]:
        """The metrics of a kind of items."""
        return tuple(metric for metric in self.metrics if set_of(metric) == name)


def set_of(metric: NamedMetric) -> str:
    """The name of the items that a metric is about."""
    items = measure_of(metric).items
    return f"{items}-{settings_of(metric)['n']}" if items == GRIDS else items


@dataclass(frozen=True)
class Unit:
    """One model, one method, and the items from `start` to `stop` of a set."""

    items: str
    start: int
    stop: int
    model: int
    method: int


@dataclass(frozen=True)
class Units(Sequence[Unit]):
    """All units of a plan, made when they are asked for: there may be millions. Those of an item are neighbours, for all models
    and methods, so that its picture is decoded once, and what an interrupted comparison has is the same for all methods.

    >>> units = Units({"pictures": 3}, models=2, methods=5, size=2)
    >>> len(units), units[0], units[-1].stop
    (20, Unit(items='pictures', start=0, stop=2, model=0, method=0), 3)

    Attributes:
        counts: name of a kind of items -> how many.
        models, methods: how many.
        size: items of a unit, at most.
    """

    counts: Mapping[str, int]
    models: int
    methods: int
    size: int = 1

    @property
    def block(self) -> int:
        """How many units there are of the same items."""
        return self.models * self.methods

    def __len__(self) -> int:
        return self.block * sum(-(-count // self.size) for count in self.counts.values())

    @overload
    def __getitem__(self, number: int) -> Unit: ...
    @overload
    def __getitem__(self, number: slice) -> list[Unit]: ...
    def __getitem__(self, number: int | slice) -> Unit | list[Unit]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        place, rest = divmod(range(len(self))[number], self.block)
        for name, count in self.counts.items():
            steps = -(-count // self.size)
            if place < steps:
                start = place * self.size
                return Unit(name, start, min(start + self.size, count), *divmod(rest, self.methods))
            place -= steps
        raise IndexError(number)  # not reached: the range above refuses such numbers


@dataclass
class Worker:
    """Does units of a plan: takes maps from the store or computes them, and notes what each metric says of them.

    Attributes:
        plan: what is measured.
        models: in the plan's order.
        split: the data.
        store: of maps and numbers.
        masks: (row, (H, W) of the picture) -> (H, W) bool, where there are boxes.
        computed: maps that were computed, not read.
    """

    plan: Plan
    models: Sequence[Measured]
    split: Split
    store: Store
    masks: Callable[[int, Preprocess], Tensor] | None = None
    computed: int = 0
    _copies: dict[int, list[tuple[str, nn.Module]]] = field(default_factory=dict, repr=False)
    _items: dict[tuple[str, int, str, str], str] = field(default_factory=dict, repr=False)
    _last: tuple[Any, Any] = field(default=(None, None), repr=False)

    def units(self) -> Units:
        """All of them, items first."""
        counts = {name: len(chosen.rows) for name, chosen in self.plan.sets.items()}
        return Units(counts, len(self.models), len(self.plan.methods), self.plan.batch_size)

    def hashes(self) -> list[_Hash]:
        """The hashes of items that this worker has seen, for another one: each costs the decoding of a picture."""
        return [(*known, found) for known, found in self._items.items()]

    def learn(self, hashes: Iterable[Sequence[Any]]) -> None:
        """Take over what `hashes` of another worker of this comparison gave."""
        self._items.update({(str(a), int(b), str(c), str(d)): str(found) for a, b, c, d, found in hashes})

    # -- items ---------------------------------------------------------------------------------------------------------

    def prepare(self, items: str, model: Measured) -> Preprocess:
        """How the pictures of a set are resized and cut."""
        if items.startswith(GRIDS):
            return geometry(self.models[0].classifier.transform, self.plan.cell)
        return geometry(model.classifier.transform, self.plan.size)

    def pixels(self, items: str, start: int, stop: int, model: Measured) -> Tensor:
        """(b, C, H, W) in [0, 1]."""
        prepare = self.prepare(items, model)
        key = (items, start, stop, prepare)
        if self._last[0] != key:
            rows = self.plan.sets[items].rows[start:stop]
            flat = model.pixels(self.split, rows.flatten().tolist(), prepare)
            if items.startswith(GRIDS):
                n = round(rows.shape[1] ** 0.5)
                flat = compose_grids(
                    flat.view(*rows.shape, *flat.shape[1:]), n, order=self.order(items), rescale=self.plan.rescale
                )
            self._last = (key, flat)
        found: Tensor = self._last[1]
        return found

    def order(self, items: str) -> str:
        """In which order the pictures of a grid are set: "row" or "column"."""
        return str(settings_of(self.plan.of_set(items)[0])["order"])

    def targets(self, items: str, start: int, stop: int, model: Measured, variant: str) -> Tensor:
        """(b, K) outputs of a model: of grids the class of each cell."""
        labels = self.plan.sets[items].labels[start:stop]
        found = target_of(model, self.plan.classes, labels.flatten()).view(labels.shape)
        if variant:
            at = own_cells(round(labels.shape[1] ** 0.5), self.order(items))
            by_place = cell_targets(found[:, at.argsort()], len(model.classifier.class_names))
            return by_place[:, at]
        return found

    def item_key(self, items: str, number: int, model: Measured, variant: str) -> str:
        """A hash of what the network gets and of the targets of an item."""
        known = (items, number, model.label, variant)
        if known not in self._items:
            x = model.inputs(self.pixels(items, number, number + 1, model))
            self._items[known] = _item_key(x[0], self.targets(items, number, number + 1, model, variant)[0], variant)
        return self._items[known]

    def item_keys(self, items: str, model: Measured, variant: str) -> list[str]:
        """`item_key` of all items of a set."""
        return [self.item_key(items, number, model, variant) for number in range(len(self.plan.sets[items].rows))]

    def lines(self, metric: NamedMetric) -> dict[str, float]:
        """What maps that know nothing, or everything, get in a metric."""
        name, settings = set_of(metric), settings_of(metric)
        model = self.models[0]
        prepare = self.prepare(name, model)
        if name.startswith(GRIDS):
            side = None if prepare.crop is None else prepare.crop // settings["n"] if self.plan.rescale else prepare.crop
            return lines(metric.name, settings, cell=side)
        area = None
        if name == BOXES and self.masks is not None:
            rows = self.plan.sets[name].rows[:, 0].tolist()
            area = sum(float(self.masks(row, prepare).double().mean()) for row in rows) / len(rows)
        return lines(
            metric.name, settings, area=area, pixels=None if prepare.crop is None else prepare.crop**2,
            classes=len(model.classifier.class_names),
        )  # fmt: skip

    # -- work ----------------------------------------------------------------------------------------------------------

    def run(self, unit: Unit) -> None:
        """Do a unit; what is in the store already is not done again."""
        model, method = self.models[unit.model], self.plan.methods[unit.method]
        groups: dict[str, list[NamedMetric]] = {}
        for metric in self.plan.of_set(unit.items):
            groups.setdefault(measure_of(metric).variant, []).append(metric)
        for variant, chosen in groups.items():
            self._run(unit, model, method, variant, chosen)

    def _run(self, unit: Unit, model: Measured, method: NamedMethod, variant: str, chosen: Sequence[NamedMetric]) -> None:
        items = [self.item_key(unit.items, number, model, variant) for number in range(unit.start, unit.stop)]
        keys = {metric.label: [value_key(model, method, metric, item) for item in items] for metric in chosen}
        missing = [metric for metric in chosen if any(self.store.numbers(key) is None for key in keys[metric.label])]
        if not missing:
            return
        x = model.inputs(self.pixels(unit.items, unit.start, unit.stop, model))
        targets = self.targets(unit.items, unit.start, unit.stop, model, variant)
        try:
            kept, told = self.maps(model, method, x, targets, items, variant, unit)
        except BcosError as error:
            refused = {key: {"refused": shorten(str(error), 400)} for metric in missing for key in keys[metric.label]}
            self.store.note(refused)
            return
        case = self._case(unit, model, method, x, targets, kept, variant)
        for metric in missing:
            self.store.note(self._measured(case, metric, keys[metric.label], kept, told))

    def _measured(
        self, case: Case, metric: NamedMetric, keys: Sequence[str], kept: Sequence[Kept], told: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        began = time.perf_counter()
        try:
            values, curves = measure_of(metric).run(case, settings_of(metric))
        except BcosError as error:
            return {key: {"refused": shorten(str(error), 400)} for key in keys}
        seconds = (time.perf_counter() - began) / len(keys)
        return {
            key: {
                "values": [float(v) for v in values[i].tolist()], "passes": kept[i].passes, "map_seconds": kept[i].seconds,
                "seconds": seconds, "told": list(told), **{f"curve {name}": c[i].tolist() for name, c in curves.items()},
            }
            for i, key in enumerate(keys)
        }  # fmt: skip

    def maps(
        self, model: Measured, method: NamedMethod, x: Tensor, targets: Tensor, items: Sequence[str], variant: str, unit: Unit
    ) -> tuple[list[Kept], list[str]]:
        """The maps of some items, from the store or computed, and what the method warned of."""
        found = [self.store.read(model.key, method.key, item) for item in items]
        whole = [one for one in found if one is not None]
        if len(whole) == len(items):
            return whole, list(dict.fromkeys(text for one in whole for text in one.told))
        began = time.perf_counter()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            computed = self._compute(model, method, x, targets, variant, unit)
        seconds = (time.perf_counter() - began) / len(items)
        maps, values, delta, passes = computed
        said = list(dict.fromkeys(str(one.message) for one in told if issubclass(one.category, ExplanationWarning)))
        fresh = [
            kept_of(maps[i], values[i], None if delta is None else delta[i], passes, seconds, said) for i in range(len(items))
        ]
        self.computed += len(items)
        for item, one in zip(items, fresh, strict=True):
            self.store.write(model.key, method.key, item, one)
        return fresh, said

    def _compute(
        self, model: Measured, method: NamedMethod, x: Tensor, targets: Tensor, variant: str, unit: Unit
    ) -> tuple[Tensor, Tensor, Tensor | None, int]:
        n = round(targets.shape[1] ** 0.5) if unit.items.startswith(GRIDS) else 1
        if method.name == MAPS:
            maps = self._foreign(model, method, x, targets, unit)
            return maps, torch.zeros(targets.shape), None, 0
        if method.dumb:
            pixels = self.pixels(unit.items, unit.start, unit.stop, model)
            return self._dumb(method, pixels, targets, n), torch.zeros(targets.shape), None, 0
        network = model.network(variant, n)
        found = model.attribute(method, x, targets, network=network)
        return found.maps, found.outputs.gather(1, found.targets), found.delta, found.passes

    def _dumb(self, method: NamedMethod, pixels: Tensor, targets: Tensor, n: int) -> Tensor:
        one = DUMB[method.name].function(pixels, cells=n, seed=self.plan.seed)
        return one[:, None].expand(-1, targets.shape[1], -1, -1)

    def _foreign(self, model: Measured, method: NamedMethod, x: Tensor, targets: Tensor, unit: Unit) -> Tensor:
        if unit.items.startswith(GRIDS):
            raise InputError(
                "Maps from files are of pictures; grids are put together here: give a method that this library runs."
            )
        rows = self.plan.sets[unit.items].rows[unit.start : unit.stop, 0].tolist()
        read = [
            read_map(Path(str(method.folder)), self.split.names[row], int(target), (x.shape[2], x.shape[3]))
            for row, target in zip(rows, targets[:, 0].tolist(), strict=True)
        ]
        return torch.stack(read)[:, None]

    def _case(
        self, unit: Unit, model: Measured, method: NamedMethod, x: Tensor, targets: Tensor, kept: Sequence[Kept], variant: str
    ) -> Case:
        maps, values = torch.stack([one.maps for one in kept]), torch.stack([one.values for one in kept])
        deltas = [one.delta for one in kept if one.delta is not None]
        masks = None
        if unit.items == BOXES and self.masks is not None:
            prepare = self.prepare(unit.items, model)
            masks = torch.stack(
                [self.masks(row, prepare) for row in self.plan.sets[BOXES].rows[unit.start : unit.stop, 0].tolist()]
            )

        def explain(points: Tensor, wanted: Tensor) -> Tensor:
            return self._compute_at(model, method, points, wanted)

        def copies() -> Mapping[str, Tensor]:
            return {
                name: self._compute_at(model, method, x, targets[:, :1], network=copy)[:, 0].cpu().float()
                for name, copy in self._randomised(unit.model)
            }

        return Case(
            model, method, x, maps, targets, values, torch.stack(deltas) if len(deltas) == len(kept) else None, masks, explain,
            copies, self.plan.seed,
        )  # fmt: skip

    def _compute_at(
        self, model: Measured, method: NamedMethod, points: Tensor, wanted: Tensor, network: nn.Module | None = None
    ) -> Tensor:
        """Maps of inputs that are no items, which are not kept."""
        if method.name == MAPS:
            raise InputError("Maps from files are of the pictures alone: this metric needs maps of changed pictures or networks.")
        if method.dumb:
            transform = model.classifier.transform
            return self._dumb(method, points if model.prepare is not None else transform.decode(points), wanted, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExplanationWarning)  # as of the items' own maps, where it is told
            return model.attribute(method, points, wanted, network=network).maps

    def _randomised(self, number: int) -> list[tuple[str, nn.Module]]:
        """Copies of a network at a few stages on the way to a random one, from the logits down."""
        if number not in self._copies:
            generator = torch.Generator().manual_seed(self.plan.seed)
            total = len(layers_of(self.models[number].model))
            wanted = {round((k + 1) * total / _STAGES) - 1 for k in range(_STAGES)} if total else set()
            walk = randomised(self.models[number].model, order="top_down", generator=generator)
            self._copies = {number: [pair for i, pair in enumerate(walk) if i in wanted or i == total - 1]}
        return self._copies[number]


def _item_key(x: Tensor, targets: Tensor, variant: str) -> str:
    """By which the maps of an item are kept."""
    return digest(x, targets, variant)[:24]


def value_key(model: Measured, method: NamedMethod, metric: NamedMetric, item: str) -> str:
    """By which the numbers of an item are kept; a temperature changes those of metrics that ask for probabilities."""
    heat = [t] if (t := model.classifier.card.temperature) is not None else []
    return digest(model.key, method.key, metric.name, settings_of(metric), item, *heat)[:32]
