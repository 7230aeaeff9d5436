"""What was begun in a run's folder, and whether a recipe and data can go on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchbcos._core.errors import InputError, StateError, WeightsError, shorten
from torchbcos._core.files import read_whole
from torchbcos.data.labelled import Labelled, Split
from torchbcos.runs import HELD_OUT, RunFolder, read_held_out
from torchbcos.training.recipe import Recipe, differences, machine_keys, read_recipe, to_dict, trajectory_keys

__all__ = [
    "Begun",
    "check_same_data",
    "check_same_division",
    "find_begun",
    "finished_report",
    "keeps_together",
    "with_whole_paths",
]

_AT_THE_END = ("max_steps", "export", "calibrate")  # what decides when a run ends, and what is made of its weights then
_MOST_BYTES = 2**24  # of a report, which has a few kilobytes


@dataclass(frozen=True)
class Begun:
    """A run that was begun.

    Attributes:
        recipe: of its last process. facts: the [run] table of its recipe's file.
    """

    recipe: Recipe
    facts: Mapping[str, Any]

    def changes(self, recipe: Recipe, done: int) -> tuple[str, ...]:
        """Which settings were changed on the way and at which steps, with those that change now."""
        known: tuple[str, ...] = tuple(self.facts.get("changes", ()))
        found = differences(self.recipe, recipe)
        passing = (*machine_keys(), *_AT_THE_END)  # with these, every step stays as it would have been
        new = [f"{key} {old!r} -> {now!r}" for key, (old, now) in found.items() if key not in passing]
        return (*known, f"from step {done}: {', '.join(new)}") if new and done else known


def with_whole_paths(recipe: Recipe) -> Recipe:
    """The recipe with the paths of other models from the root on, so that its file means the same in any folder."""
    found = {key: Path(getattr(recipe, key)) for key in ("teacher", "pretrained") if getattr(recipe, key)}
    # exists of os.path: it has an answer for names that no file can have
    there = {key: path for key, path in found.items() if os.path.exists(path)}
    here = {key: str(path.absolute()) for key, path in there.items() if len(path.parts) > 1 or path.suffix}
    return recipe.changed(**here)


def find_begun(folder: RunFolder, recipe: Recipe) -> Begun | None:
    """What was begun here, if this recipe can go on from it; None for a new run.

    Raises:
        InputError: what decides the trajectory has changed.
    """
    if not folder.begun:
        return None
    before, facts = read_recipe(folder.recipe, allow_code=True)  # compared, and never trained by
    changed = _in_words(before, recipe, trajectory_keys())
    if changed:
        raise InputError(
            f"{str(folder.out)!r} was begun with another recipe ({changed}): go on with that one, or choose another --out."
        )
    return Begun(before, facts)


def finished_report(folder: RunFolder, begun: Begun | None, recipe: Recipe) -> dict[str, Any] | None:
    """The report of a run that has nothing left to do; None where there are steps, another export, or a model to write.

    Raises:
        InputError: all steps are done, and other settings are asked for now.
    """
    if begun is None or not folder.finished:
        return None
    before = begun.recipe
    if any(getattr(before, key) != getattr(recipe, key) for key in ("epochs", *_AT_THE_END)):
        return None
    report = _read_report(folder)
    if report is None:  # damaged: it is written anew
        return None
    changed = _in_words(before, recipe, [key for key in to_dict(recipe) if key not in machine_keys()])
    if changed:
        raise InputError(f"{str(folder.out)!r} is finished, with other settings ({changed}): choose another --out for these.")
    return report


def _read_report(folder: RunFolder) -> dict[str, Any] | None:
    """The report of a run; None where the file holds something else."""
    try:
        report = json.loads(read_whole(folder.report, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(report, dict) or not isinstance(report.get("epochs"), int):
        return None
    for name in HELD_OUT:
        numbers = report.get(name, {})
        if not isinstance(numbers, dict) or not all(isinstance(value, int | float) for value in numbers.values()):
            return None
    return report


def _in_words(before: Recipe, recipe: Recipe, keys: Iterable[str]) -> str:
    """Which of some keys two recipes do not share."""
    found = differences(before, recipe)
    return "; ".join(f"{key} was {found[key][0]!r}, now {found[key][1]!r}" for key in keys if key in found)


def keeps_together(begun: Begun | None) -> bool:
    """Whether byte-identical copies are kept on one side of a division: always but in runs that were begun otherwise."""
    return begun is None or begun.facts.get("copies") == "together"


def check_same_division(folder: RunFolder, begun: Begun | None, data: Labelled, held_out: Mapping[str, Split | None]) -> None:
    """Refuse to go on where other pictures would be held out than before: some of those were trained on.

    Raises:
        StateError: they would be others.
    """
    if begun is None:
        return
    with suppress(WeightsError):  # the file is damaged, and will be written anew
        for name, before in read_held_out(folder, data).items():
            split = held_out[name]
            if sorted(before) != sorted(split.names if split is not None else ()):
                raise StateError(
                    f"{shorten(str(folder.out), 90)!r} was begun with other pictures held out as {name!r} than now: the "
                    "shares, the seed, or copies among the pictures have changed. Restore them, or choose another --out."
                )


def check_same_data(folder: RunFolder, begun: Begun | None, data: Labelled) -> None:
    """Refuse to go on with other classes or pictures.

    Raises:
        StateError: they are others.
    """
    if begun is None:
        return
    facts, out = begun.facts, str(folder.out)
    if list(facts.get("classes", data.classes)) != list(data.classes):
        missing = [c for c in facts["classes"] if c not in data.classes]
        new = [c for c in data.classes if c not in facts["classes"]]
        parts = [f"{word} {', '.join(names[:5])}" for word, names in (("without", missing), ("with", new)) if names]
        before, now = (shorten(", ".join(names), 90) for names in (facts["classes"], data.classes))
        raise StateError(
            f"{shorten(out, 90)!r} was begun with {len(facts['classes'])} classes, the data now has {len(data.classes)} "
            f"({shorten(' and '.join(parts), 120) or 'in another order'}). Then: {before}; now: {now}. Restore them, or choose "
            "another --out."
        )
    if facts.get("fingerprint", data.train.fingerprint()) != data.train.fingerprint():
        raise StateError(
            f"The training data of {out!r} has changed since the run was begun ({facts.get('pictures')} pictures "
            f"then, {len(data.train)} now, or others): restore it, or choose another --out."
        )
