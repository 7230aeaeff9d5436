"""The temperature of a classifier, fitted on labelled data and written into its card."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos.data.division import divide
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.loading import Examples
from torchbcos.evaluation.diagram import bins_of
from torchbcos.evaluation.splits import choose_split, open_for, ready_for
from torchbcos.judging import ProgressBar, calibrate, judge, predict_split
from torchbcos.pictures import Range
from torchbcos.runs import RunFolder, read_held_out
from torchbcos.zoo import Card, Classifier

__all__ = ["calibrate_model"]

_SHARE, _SEED = 0.1, 42  # of a training that sets neither
_SHOWN = ("ece", "loss")


def calibrate_model(
    model: Classifier,
    data: str | os.PathLike[str],
    *,
    split: str = "selection",
    batch_size: int = 32,
    workers: int = 2,
    on_error: str = "stop",
    progress: ProgressBar | None = None,
    run: str | os.PathLike[str] | None = None,
    value_range: Range | None = None,
    uncertain: str | None = None,
) -> tuple[Classifier, dict[str, Any]]:
    """Fit the temperature of a classifier on labelled data; see `torchbcos.metrics.fit_temperature`.

    Args:
        model: see `torchbcos.load`, `open_model`.
        data: what `torchbcos.data.open_labelled` recognises.
        split: "selection": what `run` held out to choose by; without a run, what the recipe of the model's card would hold out,
            or a seeded tenth of what may be trained on. "val", "report", "train" and "all" as in `measure_accuracy`: then the
            notes say what that split can no longer tell, or what the network has seen.
        batch_size, workers, on_error, progress, run, value_range, uncertain: as in `measure_accuracy`.

    Returns:
        The classifier with its card's new temperature, on the same network; and what was found: `model`, `data`, `split`,
        `pictures`, `unreadable`, `temperature`, `was` (that of the card), `before` and `after` (`ece` in percent, `loss`),
        `reliability` (the bins, `before` and `after`), and `notes`.

    Raises:
        InputError: there is no such split, the classes are not the model's, pictures cannot be read, or these examples have no
            best temperature (every answer is right, say).
    """
    labelled = open_for(model, data, uncertain)
    chosen, name, notes = _chosen(model.card, labelled, split, run)
    chosen = ready_for(model, chosen, labelled.classes, value_range)
    outputs = predict_split(
        model.model, Examples(chosen, model.transform),
        batch_size=batch_size, workers=workers, on_error=on_error, progress=progress,
    )  # fmt: skip
    probability, was = model.card.probability, model.card.temperature
    before = judge(outputs, probability, temperature=was)
    found = calibrate(outputs, probability)
    if found.temperature is None:
        raise InputError(f"There is no temperature to keep. {found.note}")
    after = judge(outputs, probability, temperature=found.temperature)
    record: dict[str, Any] = {
        "model": model.card.name, "data": str(data), "split": name, "pictures": found.examples,
        "unreadable": [chosen.names[i] for i in outputs.unreadable], "temperature": found.temperature, "was": was,
        "before": {key: before[key] for key in _SHOWN if key in before},
        "after": {key: after[key] for key in _SHOWN if key in after},
        "reliability": {
            "before": bins_of(outputs, probability, was), "after": bins_of(outputs, probability, found.temperature),
        },
        "notes": [*labelled.notes, *notes, *([found.note] if found.note else []), *_worse(before, after)],
    }  # fmt: skip
    card = dataclasses.replace(model.card, temperature=found.temperature, notes=_noted(model.card, record))
    return Classifier(model.model, card), record


def _worse(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """A sentence where the fitted temperature has the larger calibration error, which a reader would take for a mistake."""
    if not before.get("ece", math.nan) < after.get("ece", math.nan):
        return []
    return [
        "The calibration error (ece) of these pictures is larger with it than before: what is fitted is the likelihood of all "
        "classes, and this error looks at the surest answer alone. Measure both on other pictures before you keep it."
    ]


def _noted(card: Card, record: Mapping[str, Any]) -> Any:
    """The notes of a card, and on what its temperature was fitted; notes that are no table stay as they are."""
    if card.notes is not None and not isinstance(card.notes, Mapping):
        return card.notes
    fitted = f"{record['pictures']} pictures of {Path(record['data']).name} ({record['split']})"
    return {**(card.notes or {}), "temperature fitted on": fitted}


def _chosen(
    card: Card, data: Labelled, split: str, run: str | os.PathLike[str] | None
) -> tuple[Split, str, tuple[str, ...]]:  # fmt: skip
    """The examples to fit on, what they are called, and what a person should know of that."""
    held_out = read_held_out(RunFolder(Path(run)), data) if run is not None else {}
    if split == "selection" and not held_out.get("selection"):
        return _divided(card, data)
    chosen, name = choose_split(data, split, held_out)
    if name in ("val", "report"):
        return chosen, name, (
            f"The temperature is fitted on {name!r}: this split is no honest judge of the calibration of this model any more. "
            "Report its calibration error on other pictures.",
        )  # fmt: skip
    if name != "selection":
        return chosen, name, (f"If the network was trained on {name!r}, {_SEEN}",)
    return chosen, name, ()


_SEEN = "it is right more often there, and surer, than on new pictures: the temperature is smaller than new ones would have it."


def _divided(card: Card, data: Labelled) -> tuple[Split, str, tuple[str, ...]]:
    """What a training by the card's recipe would hold out to choose by."""
    recipe: Mapping[str, Any] = card.recipe if isinstance(card.recipe, Mapping) else {}
    asked: tuple[Any, Any, Any] = (recipe.get("selection_share"), recipe.get("report_share"), recipe.get("seed"))
    share, report, seed = asked
    known = _is_share(share) and _is_share(report) and isinstance(seed, int) and not isinstance(seed, bool)
    said = share if known else None
    parts = divide(data, selection=said or _SHARE, report=report if known else _SHARE, seed=seed if known else _SEED)
    if parts.selection is None:
        raise InputError("Too few examples to hold some out: say --split train (or all, or val), and read what it warns of.")
    if said:
        note = f"Fitted on what the recipe of this model holds out of such data ({said:.0%}, seed {seed}), which it has not seen."
    elif known:
        note = f"The recipe of this model held nothing out (selection_share = 0): if it was trained on these pictures, {_SEEN}"
    else:
        note = f"Nobody knows what this model was trained on: if these pictures were among it, {_SEEN}"
    return parts.selection, "selection", (*parts.notes, note)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 0.5
