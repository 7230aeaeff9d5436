"""Which examples of the data are measured, and their targets in the order of the model's classes."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.names import hint
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.labels import UNCERTAIN
from torchbcos.data.sources import open_labelled
from torchbcos.pictures import Range
from torchbcos.runs import HELD_OUT
from torchbcos.zoo import Card, Classifier

__all__ = ["choose_split", "match_classes", "open_for", "ready_for"]

_SPLITS = ("val", "train", "all")


def choose_split(data: Labelled, split: str, held_out: Mapping[str, Sequence[str]] | None = None) -> tuple[Split, str]:
    """The split of a name, and the name of what it turned out to be.

    Args:
        data: the examples.
        split: "val" (the data's own; where it has none, what the run held out to report, or everything), "train", "all",
            "selection" or "report".
        held_out: split name -> names of the examples that a run held out (`read_held_out`).

    Raises:
        InputError: there is no such split.
    """
    known, held_out = (*_SPLITS, *HELD_OUT), held_out or {}
    if split not in known:
        raise InputError(f"There is no split {split!r}: choose {', '.join(known)}.{hint(split, known)}")
    if split == "val" and data.report is None and held_out.get("report"):
        split = "report"
    if split in HELD_OUT:
        # Files of both parts often go by the same names, "cat/1.jpg" say: a run reports the data's own report where there is one,
        # and selects from what may be trained on.
        part = data.report if split == "report" and data.report is not None else data.train
        wanted = set(held_out.get(split, ()))
        rows = [i for i, name in enumerate(part.names) if name in wanted]
        if rows:
            return part.take(rows), split
        raise InputError(f"No example of this data was held out as {split!r} by a run: --model RUN names one that did.")
    if split == "train" or data.report is None:
        return data.train, "train" if split == "train" and data.report is not None else "all"
    if split == "val":
        return data.report, "val"
    raise InputError("'all' is for data without a split of its own: this has 'train' and 'val'.")


def open_for(model: Classifier, data: str | os.PathLike[str], uncertain: str | None = None) -> Labelled:
    """Labelled data as a model takes it: its axes, and what a label of -1 meant when it was trained.

    Raises:
        InputError: it is no labelled data.
    """
    return open_labelled(data, uncertain=uncertain or _trained_with(model.card), volumes=model.transform.axes == 3)


def _trained_with(card: Card) -> str:
    """What uncertain labels meant to the recipe of a card."""
    said = card.recipe.get("uncertain") if isinstance(card.recipe, Mapping) else None
    return said if said in UNCERTAIN else "error"


def ready_for(model: Classifier, split: Split, classes: Sequence[str], value_range: Range | None = None) -> Split:
    """A split with targets in the order of the model's classes, its numbers read within a range.

    Raises:
        InputError: the data has classes that the model lacks.
    """
    return replace(split, targets=match_classes(split.targets, classes, model.class_names)).within(value_range)


def match_classes(targets: Tensor, classes: Sequence[str], names: Sequence[str]) -> Tensor:
    """Targets in the order of a model's classes.

    Args:
        targets: (N,) int64 in the order of `classes`, or (N, len(classes)) of labels.
        classes: of the data.
        names: of the model; it may know more.

    Returns:
        (N,) int64, or (N, len(names)) of labels: NaN, not known, where the data has no such label.

    Raises:
        InputError: the data has classes that the model lacks.

    >>> match_classes(torch.tensor([0, 1]), ["cat", "dog"], ["dog", "fox", "cat"])
    tensor([2, 0])
    """
    if tuple(names) == tuple(classes):
        return targets
    places = {unicodedata.normalize("NFC", name): i for i, name in enumerate(names)}
    places |= {name: i for i, name in enumerate(names)}
    missing = [name for name in classes if name not in places]
    if missing:
        known = ", ".join(names[:10])
        raise InputError(
            f"The model knows no class {missing[0]!r}, the data has it ({len(missing)} such).{hint(missing[0], places)} It knows "
            f"{len(names)}: {known}{', …' if len(places) > 10 else ''}."
        )
    order = torch.tensor([places[name] for name in classes])
    if targets.dim() == 1:
        return order[targets]
    wide = torch.full((len(targets), len(names)), torch.nan)
    wide[:, order] = targets
    return wide
