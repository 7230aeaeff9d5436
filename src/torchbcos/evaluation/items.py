"""What a comparison is about, item by item: pixels, targets, masks, and the names by which everything is kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor

from torchbcos.data.labelled import Split
from torchbcos.evaluation.choosing import Chosen, target_of
from torchbcos.evaluation.dumb import lines
from torchbcos.evaluation.foreign_maps import read_map
from torchbcos.evaluation.measured import Measured, common_geometry, geometry
from torchbcos.evaluation.measures import BOXES, GRIDS, measure_of, settings_of
from torchbcos.evaluation.named import MAPS, NamedMethod, NamedMetric, digest
from torchbcos.evaluation.pointing import cell_targets
from torchbcos.evaluation.store import Kept, Store, kept_of
from torchbcos.metrics import compose_grids, own_cells
from torchbcos.pictures import Preprocess
from torchbcos.runs.provenance import version_of

__all__ = ["Items", "Plan", "Unit", "Units", "set_of"]

_Hash = tuple[str, int, str, str, str]  # items, number, model, variant, hash


@functools.cache
def _version() -> str | None:
    return version_of("torchbcos")


@dataclass(frozen=True)
class Plan:
    """What is measured: enough for any process to do its part.

    Attributes:
        methods, metrics: by name, with settings.
        classes: of the data.
        sets: name of a kind of items ("grids-2", "pictures", "boxes") -> which.
        cell: side of a cell of a grid, in pixels; None: as the smallest of the models' pictures.
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
class Items:
    """The items of a plan, and what is known of them.

    Attributes:
        plan: what is measured.
        models: in the plan's order.
        split: the data.
        store: of maps and numbers.
        masks: (row, how pictures are prepared) -> (H, W) bool, where there are boxes.
    """

    plan: Plan
    models: Sequence[Measured]
    split: Split
    store: Store
    masks: Callable[[int, Preprocess], Tensor] | None = None
    _keys: dict[tuple[str, int, str, str], str] = field(default_factory=dict, repr=False)
    _beside: dict[tuple[str, int, str, str], str] = field(default_factory=dict, repr=False)
    _last: tuple[Any, Any] = field(default=(None, None), repr=False)

    # -- what goes in --------------------------------------------------------------------------------------------------

    def prepare(self, items: str, model: Measured) -> Preprocess:
        """How the pictures of a set are resized and cut, and read as the model's channels."""
        own = model.classifier.transform
        if items.startswith(GRIDS):
            return common_geometry([one.classifier.transform for one in self.models], self.plan.cell, own)
        return geometry(own, self.plan.size)

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
        chosen = self.plan.sets[items]
        if chosen.targets:
            found = chosen.targets[next(i for i, one in enumerate(self.models) if one is model)][start:stop]
        else:
            labels = chosen.labels[start:stop]
            found = target_of(model, self.plan.classes, labels.flatten()).view(labels.shape)
        if variant:
            at = own_cells(round(found.shape[1] ** 0.5), self.order(items))
            by_place = cell_targets(found[:, at.argsort()], len(model.classifier.class_names))
            return by_place[:, at]
        return found

    def mask(self, number: int, model: Measured) -> Tensor | None:
        """(H, W) bool of an item of the boxes; None where there are none."""
        if self.masks is None:
            return None
        return self.masks(int(self.plan.sets[BOXES].rows[number, 0]), self.prepare(BOXES, model))

    def name_of(self, items: str, number: int) -> str:
        """What messages call an item."""
        names = [self.split.names[row] for row in self.plan.sets[items].rows[number].tolist()]
        return names[0] if len(names) == 1 else f"grid {number + 1} with {names[0]}"

    # -- names under which it is kept ----------------------------------------------------------------------------------

    def item_key(self, items: str, number: int, model: Measured, variant: str) -> str:
        """A hash of what the network gets and of the targets of an item."""
        known = (items, number, model.label, variant)
        if known not in self._keys:
            x = model.inputs(self.pixels(items, number, number + 1, model))
            targets = self.targets(items, number, number + 1, model, variant)[0]
            self._keys[known] = digest(x[0], targets, variant)[:24]
        return self._keys[known]

    def hashes(self) -> list[_Hash]:
        """The hashes of items that are known here, for another process: each costs the decoding of a picture."""
        return [(*known, found) for known, found in self._keys.items()]

    def learn(self, hashes: Iterable[Sequence[Any]]) -> None:
        """Take over what `hashes` of another process of this comparison gave."""
        self._keys.update({(str(a), int(b), str(c), str(d)): str(found) for a, b, c, d, found in hashes})

    def method_key(self, method: NamedMethod) -> str:
        """A hash of everything that decides over a method's maps beside network and item; maps without a network are drawn."""
        return digest(_version(), method.key, self.plan.seed if method.dumb else 0)[:16]

    def value_key(self, model: Measured, method: NamedMethod, metric: NamedMetric, number: int) -> str:
        """A hash of everything that decides over the numbers of an item."""
        name, variant = set_of(metric), measure_of(metric).variant
        beside = [self._beside_of(name, number, model, "masks")] if name == BOXES else []
        if method.name == MAPS:
            beside.append(self._beside_of(name, number, model, str(method.folder)))
        item, card = self.item_key(name, number, model, variant), model.classifier.card
        return digest(
            model.key,
            card.probability,
            card.temperature,
            self.method_key(method),
            metric.name,
            settings_of(metric),
            item,
            self.plan.seed,
            len(beside),
            *beside,
        )[:32]

    def _beside_of(self, items: str, number: int, model: Measured, what: str) -> str:
        """A hash of what lies in files beside the pictures: masks, or maps of another library."""
        known = (items, number, model.label, what)
        if known not in self._beside:
            found = self.mask(number, model) if what == "masks" else None
            if what != "masks" and not items.startswith(GRIDS):
                kept = self._of_file(what, items, number, model)
                found = None if kept is None else kept.maps
            self._beside[known] = "" if found is None else digest(found)
        return self._beside[known]

    # -- what is there -------------------------------------------------------------------------------------------------

    def kept(self, items: str, number: int, model: Measured, method: NamedMethod, variant: str) -> Kept | None:
        """The maps of an item that are there already."""
        if method.name == MAPS:
            return None if items.startswith(GRIDS) else self._of_file(str(method.folder), items, number, model)
        return self.store.read(model.key, self.method_key(method), self.item_key(items, number, model, variant))

    def _of_file(self, folder: str, items: str, number: int, model: Measured) -> Kept | None:
        name = self.split.names[int(self.plan.sets[items].rows[number, 0])]
        target = int(self.targets(items, number, number + 1, model, "")[0, 0])
        size = self.pixels(items, number, number + 1, model).shape[2:]
        found = read_map(folder, name, target, size)
        return None if found is None else kept_of(found.map[None], torch.zeros(1), None, 0, 0.0)

    def numbers(self, model: Measured, method: NamedMethod, metric: NamedMetric) -> list[dict[str, Any] | None]:
        """What was noted of every item of a metric's set; None where there is nothing."""
        count = len(self.plan.sets[set_of(metric)].rows)
        return [self.store.numbers(self.value_key(model, method, metric, number)) for number in range(count)]

    def lines(self, metric: NamedMetric) -> dict[str, float]:
        """What maps that know nothing, or everything, get in a metric."""
        name, settings = set_of(metric), settings_of(metric)
        crops = {self.prepare(name, model).crop for model in self.models}
        side = crops.pop() if len(crops) == 1 else None  # of pictures of several sizes there is no one line
        if name.startswith(GRIDS):
            return lines(metric.name, settings, cell=side // settings["n"] if side and self.plan.rescale else side)
        area = None
        if name == BOXES and self.masks is not None:
            prepare, rows = self.prepare(name, self.models[0]), self.plan.sets[name].rows[:, 0].tolist()
            area = sum(float(self.masks(row, prepare).double().mean()) for row in rows) / len(rows)
        counts = {len(model.classifier.class_names) for model in self.models}
        return lines(
            metric.name, settings, area=area, pixels=None if side is None else side**2,
            classes=counts.pop() if len(counts) == 1 else None,
        )  # fmt: skip
