"""Where a run lives, and what it is trained, chosen and reported on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from torchbcos._core.errors import BcosError, InputError
from torchbcos.data.labelled import Labelled, Split, split_rows
from torchbcos.data.loading import seed_of
from torchbcos.runs import RunFolder
from torchbcos.training.recipe import Recipe

Place = RunFolder  # until the loop is rewritten


@dataclass(frozen=True)
class Splits:
    """What is trained on, what chooses, what is reported."""

    train: Split
    selection: Split | None
    report: Split | None

    def describe(self) -> str:
        """In words."""
        parts = [f"{len(self.train)} to train on"]
        parts += [f"{len(self.selection)} held out to choose by"] if self.selection else []
        parts += [f"{len(self.report)} to report"] if self.report else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done, total: optimiser steps. epoch, epochs: this one, counted from 1, and all. loss: mean of this epoch so far.
        rate, pipeline: pictures a second of the steps, and what the readers could give. left: seconds.
    """

    done: int
    total: int
    epoch: int
    epochs: int
    loss: float
    rate: float
    pipeline: float
    left: float

    def describe(self) -> str:
        """In a line.

        >>> Progress(3, 40, 1, 2, 0.5, 80.2, 300.0, 61.0).describe()
        'step 3/40 (epoch 1/2): loss 0.5000; 80 pictures/s, the data could give 300; 1 min 1 s left'
        """
        return (
            f"step {self.done}/{self.total} (epoch {self.epoch}/{self.epochs}): loss {self.loss:.4f}; "
            f"{self.rate:.0f} pictures/s, the data could give {self.pipeline:.0f}; {clock(self.left)} left"
        )


def divide(data: Labelled, recipe: Recipe) -> Splits:
    """The seeded splits: one that chooses never is the one that is reported."""
    train, report = data.train, data.report
    if report is None and recipe.report_share:
        rest, held = split_rows(train.targets, recipe.report_share, seed_of(recipe.seed, 11) % 2**31)
        train, report = train.take(rest), data.train.take(held)
    selection = None
    if recipe.selection_share:
        rest, held = split_rows(train.targets, recipe.selection_share, seed_of(recipe.seed, 12) % 2**31)
        train, selection = train.take(rest), train.take(held)
    return Splits(train, selection or None, report or None)


def channels_of(split: Split, recipe: Recipe, source: Path) -> int:
    """Encoded channels of the examples.

    Raises:
        InputError: there are none, none can be read, or the recipe asks of arrays what they cannot undergo.
    """
    if not len(split):
        raise InputError(f"There is nothing to train on in {str(source)!r}: every example is held out.")
    for i in range(min(10, len(split))):
        try:
            example = split.read(i)
        except BcosError:
            if recipe.on_error == "stop":
                raise
            continue
        raw = len(example) if isinstance(example, Tensor) else 3
        if isinstance(example, Tensor):
            check_arrays(example, recipe)
        return raw if recipe.plain else 2 * raw
    raise InputError("None of the first ten training examples can be read.")


def check_arrays(example: Tensor, recipe: Recipe) -> None:
    """Refuse what only pictures can undergo.

    Raises:
        InputError: arrays of this shape (C, *S) cannot.
    """
    pictures = {"augment": recipe.augment, "mixup": recipe.mixup, "cutmix": recipe.cutmix, "erasing": recipe.erasing}
    wanted = [key for key, value in pictures.items() if value]
    if example.dim() != 3 and wanted:
        raise InputError(f"{', '.join(wanted)} change pictures, and the data are arrays {tuple(example.shape)}: leave them out.")
    if recipe.augment and len(example) not in (1, 3):
        said = f"works on one or three channels, the data has {len(example)}"
        raise InputError(f"augment={recipe.augment!r} {said}: set augment=''.")
    if example.dim() != 3 and recipe.model and ":" not in recipe.model:
        raise InputError(
            f"The data are arrays {tuple(example.shape)}, and {recipe.model!r} takes pictures (C, H, W): set model to a function "
            "of your own, package.module:function (docs/how-to/train.md), or give the arrays a channel axis."
        )


def summary(report: Mapping[str, Any]) -> str:
    """The reported numbers in a few words."""
    split = "report" if report.get("report") else "selection"
    found = report.get(split) or {}
    words = ", ".join(f"{name} {value:.2f} %" for name, value in found.items() if name in ("top1", "map", "f1"))
    where = "the reported split" if split == "report" else "the split that chose"
    return f"{words} on {where}" if words else "nothing was held out to judge by"


def clock(seconds: float) -> str:
    """A length of time in words.

    >>> clock(75), clock(7300)
    ('1 min 15 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
