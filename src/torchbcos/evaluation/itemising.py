"""From predictions to the items of a comparison; of maps from files also what is missing, and what belongs to nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.names import quote
from torchbcos.evaluation.boxes import Boxes
from torchbcos.evaluation.choosing import Chosen, Looked, choose_pictures, grids_of, target_of
from torchbcos.evaluation.foreign_maps import Inventory, map_file, read_map
from torchbcos.evaluation.items import Items, set_of
from torchbcos.evaluation.measures import BOXES, GRIDS
from torchbcos.evaluation.named import MAPS

__all__ = ["choose"]


def choose(
    draft: Items,
    looked: Mapping[str, Looked],
    *,
    limit: int,
    pictures: int,
    chooser: Mapping[str, Any],
    boxes: Boxes | None,
    inside: Inventory | None = None,
) -> tuple[dict[str, Chosen], dict[str, Any]]:
    """The items of every set that the plan's metrics are about.

    Args:
        draft: a plan without sets.
        looked: what the models say, of "grids" and of "pictures".
        limit: grids of a set at most.
        pictures: single pictures of a set at most.
        chooser: "confidence", and "legacy" of grids.
        boxes: where there are any.
        inside: what lies in the folder of maps, if there is one.

    Returns:
        Name of a set -> items; and, under "maps", what is to be said of maps from files, if there are any.
    """
    plan = draft.plan
    folder = next((str(method.folder) for method in plan.methods if method.name == MAPS), None)
    files = None if folder is None or inside is None else _Files(folder, draft, inside)
    found: dict[str, Chosen] = {}
    for name in dict.fromkeys(set_of(metric) for metric in plan.metrics):
        if name.startswith(GRIDS):
            n = int(name.partition("-")[2])
            found[name] = grids_of(looked[GRIDS], n, limit=limit, seed=plan.seed, **chooser)
            continue
        options: dict[str, Any] = {"limit": pictures, "confidence": chooser["confidence"], "seed": plan.seed}
        if name == BOXES and boxes is not None:
            options |= {"among": boxes.rows, "which": "with boxes"}
        usual = choose_pictures(looked["pictures"], **options)
        found[name] = usual if files is None else files.choose(name, usual, looked["pictures"], options)
    return found, {} if files is None else {"maps": files.record()}


@dataclass
class _Files:
    """Maps from files, and what is wrong with them."""

    folder: str
    draft: Items
    inside: Inventory
    missing: dict[str, None] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    resized: set[str] = field(default_factory=set)

    def choose(self, name: str, usual: Chosen, looked: Looked, options: Mapping[str, Any]) -> Chosen:
        """As `choose_pictures`, among pictures that have a map of the class that each model is asked for."""
        targets = self._targets(looked)
        self.missing |= {self._name(row): None for row in usual.rows[:, 0].tolist() if not self._there(row, targets)}
        among = {row for row in options.get("among", looked.rows) if row in targets and self._there(row, targets)}
        which = " and ".join(part for part in (options.get("which", ""), "with maps") if part)
        while True:
            if not among:
                raise InputError(self._nothing(targets, looked))
            chosen = choose_pictures(looked, **{**options, "among": among, "which": which.replace("boxes and with", "boxes and")})
            bad = {row for row in chosen.rows[:, 0].tolist() if not self._sound(name, row, targets)}
            if not bad:
                return replace(chosen, notes=(*chosen.notes, *self._notes()))
            among -= bad

    def _targets(self, looked: Looked) -> dict[int, list[int]]:
        """Place of a picture -> the output of each model that is explained."""
        models, classes = self.draft.models, self.draft.plan.classes
        own = looked.predicted or [target_of(model, classes, looked.labels) for model in models]
        return {row: [int(one[i]) for one in own] for i, row in enumerate(looked.rows)}

    def _name(self, row: int) -> str:
        return self.draft.split.names[row]

    def _there(self, row: int, targets: Mapping[int, Sequence[int]]) -> bool:
        files = [map_file(self.folder, self._name(row), target) for target in targets[row]]
        return all(file is not None and file.is_file() for file in files)

    def _sound(self, name: str, row: int, targets: Mapping[int, Sequence[int]]) -> bool:
        for model, target in zip(self.draft.models, targets[row], strict=True):
            side = self.draft.prepare(name, model).crop
            try:
                size = (
                    (side, side)
                    if side is not None
                    else model.pixels(self.draft.split, [row], model.classifier.transform).shape[2:]
                )
                found = read_map(self.folder, self._name(row), target, size)
            except InputError as error:
                self.damaged[self._name(row)] = str(error)
                return False
            if found is not None and found.resized:
                self.resized.add(self._name(row))
        return True

    def _nothing(self, targets: Mapping[int, Sequence[int]], looked: Looked) -> str:
        if self.damaged:
            return f"No map in {quote(self.folder)} can be used; the first: {next(iter(self.damaged.values()))}"
        file = map_file("", self._name(looked.rows[0]), targets[looked.rows[0]][0])
        wanted = "" if file is None else f"; of the first picture {quote(file.as_posix())} is looked for"
        return f"No map in {quote(self.folder)} is of a picture that is measured, and of its class in the model's order{wanted}."

    def record(self) -> dict[str, Any]:
        """As the comparison has it."""
        return {
            "files": self.inside.files, "unknown": list(self.inside.unknown), "missing": list(self.missing),
            "damaged": dict(self.damaged),
            "resized": sorted(self.resized),
        }  # fmt: skip

    def _notes(self) -> list[str]:
        unknown, found = self.inside.unknown, []
        if unknown:
            found.append(f"Of no picture or class: {_files(len(unknown))} in the folder of maps, {quote(unknown[0])} say.")
        if self.missing:
            first = next(iter(self.missing))
            found.append(f"Without a map, and so left out: {_pictures(len(self.missing))}, {quote(first)} say.")
        if self.damaged:
            found.append(f"{_files(len(self.damaged))} of maps cannot be used; the first: {next(iter(self.damaged.values()))}")
        if self.resized:
            found.append(
                f"Maps of {_pictures(len(self.resized))} had another size than the picture, and were resized (bilinear)."
            )
        if len(self.draft.models) > 1:
            found.append("Maps from files stand for every model alike, whichever they were made with.")
        return found


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _pictures(count: int) -> str:
    return f"{count} picture{'s' * (count != 1)}"
