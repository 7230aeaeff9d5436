"""Train, or go on where an interrupted run stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from torchbcos._core.errors import InputError, StateError
from torchbcos.data.labelled import Labelled
from torchbcos.data.sources import open_labelled
from torchbcos.training.plan import Place, divide, summary
from torchbcos.training.recipe import Recipe, differences, machine_keys, read_recipe, to_dict, trajectory_keys
from torchbcos.training.session import Say, Session, Watch


def train(
    recipe: Recipe,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    devices: int | str = "auto",
    nodes: int = 1,
    strategy: str = "auto",
    accelerator: str = "auto",
    say: Say = print,
    progress: Watch | None = None,
) -> dict[str, Any]:
    """Train a network by a recipe, or go on where an interrupted run stopped.

    `out` holds `recipe.toml` (the resolved recipe with versions: it alone reproduces the run), `history.csv`, TensorBoard
    logs, `checkpoints/`, and at the end `model/`, which `torchbcos.load` opens, and `report.json`.

    Args:
        recipe: see `torchbcos.training.find_recipe` and `Recipe`.
        data: what `torchbcos.data.open_labelled` recognises.
        out: the run's folder; created.
        devices, nodes, strategy, accelerator: as Lightning's Trainer takes them.
        say: gets every line that a person should read.
        progress: gets a `Progress` after every step.

    Returns:
        The report: metrics of the selection and the reported split, epochs, seconds, failures.

    Raises:
        MissingFileError, InputError: the data or the recipe cannot be used.
        StateError: the loss is no number; the disk is full; the run was begun with other classes.
        WeightsError: no checkpoint of an interrupted run can be read.
        KeyboardInterrupt: Ctrl-C; the step was finished and saved first.
    """
    place, recipe = Place(Path(out)), with_whole_paths(recipe)
    before, began = begun(place, recipe)
    report = finished(place, before, recipe)
    if report is not None:
        say(f"{place.out} is finished ({report['epochs']} epochs): {summary(report)}. The model is in {place.model}.")
        return report
    labelled = open_labelled(data)
    check_same_data(place, began, labelled)
    splits = divide(labelled, recipe)
    session = Session(recipe, labelled, splits, place, say, Path(data), progress)
    session.before, session.changes = before, list((began or {}).get("changes", []))
    return session.run(devices=devices, nodes=nodes, strategy=strategy, accelerator=accelerator)


def with_whole_paths(recipe: Recipe) -> Recipe:
    """The recipe with the paths of other models from the root on, so that its file means the same in any folder."""
    found = {key: Path(getattr(recipe, key)) for key in ("teacher", "pretrained") if getattr(recipe, key)}
    here = {key: str(path.absolute()) for key, path in found.items() if path.exists() and (len(path.parts) > 1 or path.suffix)}
    return recipe.changed(**here)


def finished(place: Place, before: Recipe | None, recipe: Recipe) -> dict[str, Any] | None:
    """The report of a run that has nothing left to do; None where there are steps, another export, or a model to write.

    Raises:
        InputError: all steps are done, and other settings are asked for now.
    """
    if before is None or not place.finished:
        return None
    if any(getattr(before, key) != getattr(recipe, key) for key in ("epochs", "max_steps", "export")):
        return None
    try:
        report = json.loads(place.report.read_text("utf-8"))
    except ValueError:  # damaged: it is written anew
        return None
    changed = in_words(before, recipe, [key for key in to_dict(recipe) if key not in machine_keys()])
    if changed:
        raise InputError(f"{str(place.out)!r} is finished, with other settings ({changed}): choose another --out for these.")
    return cast(dict[str, Any], report)


def in_words(before: Recipe, recipe: Recipe, keys: Iterable[str]) -> str:
    """Which of some keys two recipes do not share."""
    found = differences(before, recipe)
    return "; ".join(f"{key} was {found[key][0]!r}, now {found[key][1]!r}" for key in keys if key in found)


def begun(place: Place, recipe: Recipe) -> tuple[Recipe | None, dict[str, Any] | None]:
    """The recipe and the [run] table of what was begun here, if this recipe can go on from it; None twice for a new run.

    Raises:
        InputError: what decides the trajectory has changed.
    """
    if not place.begun:
        return None, None
    before, facts = read_recipe(place.recipe)
    changed = in_words(before, recipe, trajectory_keys())
    if changed:
        raise InputError(
            f"{str(place.out)!r} was begun with another recipe ({changed}): go on with that one, or choose another --out."
        )
    return before, facts


def check_same_data(place: Place, began: Mapping[str, Any] | None, data: Labelled) -> None:
    """Refuse to go on with other classes or pictures.

    Raises:
        StateError: they are others.
    """
    if began is None:
        return
    if list(began.get("classes", data.classes)) != list(data.classes):
        missing = [c for c in began["classes"] if c not in data.classes]
        new = [c for c in data.classes if c not in began["classes"]]
        parts = [f"{word} {', '.join(names[:5])}" for word, names in (("without", missing), ("with", new)) if names]
        raise StateError(
            f"{str(place.out)!r} was begun with {len(began['classes'])} classes, the data now has {len(data.classes)} "
            f"({' and '.join(parts) or 'in another order'}): restore it, or choose another --out."
        )
    if began.get("fingerprint", data.train.fingerprint()) != data.train.fingerprint():
        raise StateError(
            f"The training data of {str(place.out)!r} has changed since the run was begun ({began.get('pictures')} pictures "
            f"then, {len(data.train)} now, or others): restore it, or choose another --out."
        )
