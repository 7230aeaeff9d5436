"""Train, or go on where an interrupted run stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torchbcos._core.errors import InputError, StateError
from torchbcos.data.labelled import Labelled
from torchbcos.data.sources import open_labelled
from torchbcos.training.plan import Place, divide, summary
from torchbcos.training.recipe import Recipe, read_recipe, to_dict
from torchbcos.training.session import Say, Session, Watch

# what decides the trajectory: a run goes on only with the same
FIXED = (
    "model", "options", "plain", "pretrained", "seed", "batch_size", "accumulate", "repeats", "selection_share", "report_share",
    "optimizer", "decay_all", "averaged",
)  # fmt: skip


def train(
    recipe: Recipe, data: str | os.PathLike[str], out: str | os.PathLike[str], *, devices: int | str = "auto", nodes: int = 1,
    strategy: str = "auto", accelerator: str = "auto", say: Say = print, progress: Watch | None = None,
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
    place = Place(Path(out))
    began = begun(place, recipe)
    if place.report.is_file() and began is not None:
        report = json.loads(place.report.read_text("utf-8"))
        if (report.get("epochs"), report.get("max_steps", 0)) == (recipe.epochs, recipe.max_steps):
            say(f"{place.out} is finished ({report['epochs']} epochs): {summary(report)}. The model is in {place.model}.")
            return cast(dict[str, Any], report)
    labelled = open_labelled(data)
    check_same_data(place, began, labelled)
    splits = divide(labelled, recipe)
    session = Session(recipe, labelled, splits, place, say, Path(data), progress)
    return session.run(devices=devices, nodes=nodes, strategy=strategy, accelerator=accelerator)


def begun(place: Place, recipe: Recipe) -> dict[str, Any] | None:
    """The [run] table of a run that was begun here with a recipe that this one can go on from; None for a new one.

    Raises:
        InputError: what decides the trajectory has changed.
    """
    if not place.recipe.is_file():
        return None
    before, facts = read_recipe(place.recipe)
    old, new = ({**to_dict(r), "averaged": bool(r.ema_decay)} for r in (before, recipe))
    changed = [key for key in FIXED if old[key] != new[key]]
    if changed:
        said = "; ".join(f"{key} was {old[key]!r}, now {new[key]!r}" for key in changed)
        raise InputError(
            f"{str(place.out)!r} was begun with another recipe ({said}): go on with that one, or choose another --out."
        )
    return facts


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
