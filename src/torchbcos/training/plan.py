"""What a run is trained, chosen and reported on, and how the training examples are cut into steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from torchbcos._core.errors import BcosError, InputError
from torchbcos.data.labelled import Labelled, Split, split_rows
from torchbcos.data.loading import Order, seed_of
from torchbcos.training.recipe import OptimisationSettings, Recipe

__all__ = ["Splits", "batch_order", "encoded_channels", "epoch_steps", "hold_out"]


@dataclass(frozen=True)
class Splits:
    """What is trained on, what chooses, what is reported."""

    train: Split
    selection: Split | None
    report: Split | None
    together: bool = False  # whether byte-identical copies were kept on one side

    def held_out(self) -> tuple[tuple[str, Split | None], ...]:
        """What was not trained on, by name."""
        return ("selection", self.selection), ("report", self.report)

    def describe(self) -> str:
        """In words."""
        parts = [f"{len(self.train)} to train on"]
        parts += [f"{len(self.selection)} held out to choose by"] if self.selection else []
        parts += [f"{len(self.report)} to report"] if self.report else []
        return ", ".join(parts)


def hold_out(data: Labelled, recipe: Recipe, *, together: bool = True) -> Splits:
    """Divide the data, by the seed: no example both chooses and is reported, nor a byte-identical copy of it.

    Args:
        data: the examples.
        recipe: says how much is held out.
        together: False divides as runs did that were begun when copies were not looked for.
    """
    train, report = data.train if together else replace(data.train, twins=None), data.report
    together = train.twins is not None
    if report is None and recipe.report_share:
        rest, held = split_rows(train.targets, recipe.report_share, seed_of(recipe.seed, 11) % 2**31, train.twins)
        train, report = train.take(rest), train.take(held)
    selection = None
    if recipe.selection_share:
        rest, held = split_rows(train.targets, recipe.selection_share, seed_of(recipe.seed, 12) % 2**31, train.twins)
        train, selection = train.take(rest), train.take(held)
    return Splits(train, selection or None, report or None, together)


def encoded_channels(split: Split, recipe: Recipe, source: Path) -> int:
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
            _check_arrays(example, recipe)
        return raw if recipe.plain else 2 * raw
    raise InputError("None of the first ten training examples can be read.")


def _check_arrays(example: Tensor, recipe: Recipe) -> None:
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


def epoch_steps(recipe: OptimisationSettings, count: int, world: int) -> int:
    """Optimiser steps of an epoch.

    Args:
        recipe: says how large a step is, and in how many parts it is computed.
        count: examples.
        world: processes.

    Raises:
        InputError: there are too few examples, or a batch cannot be divided over the processes.
    """
    return max(1, Order(count, _part_size(recipe, count, world), world=world).per_epoch // recipe.accumulate)


def batch_order(recipe: Recipe, count: int, done: int, rank: int, world: int) -> Order:
    """The batches of one process that are still to come, after `done` steps; arguments as for `epoch_steps`."""
    size = _part_size(recipe, count, world)
    order = Order(count, size, epochs=recipe.epochs, seed=recipe.seed, repeats=recipe.repeats, rank=rank, world=world)
    order.per_epoch = epoch_steps(recipe, count, world) * recipe.accumulate  # what does not fill a whole step is left out
    order.start, order.stop = done * recipe.accumulate, recipe.max_steps * recipe.accumulate
    return order


def _part_size(recipe: OptimisationSettings, count: int, world: int) -> int:
    """Pictures of one part of a step, over all processes: fewer than asked for where there are too few.

    Raises:
        InputError: there are fewer pictures than parts and processes.
    """
    asked = recipe.batch_size // recipe.accumulate
    if asked * recipe.accumulate <= count:
        return asked
    fitting = count // recipe.accumulate // world * world
    if fitting < 1:
        raise InputError(
            f"{count} pictures to train on are too few for steps of {recipe.accumulate} parts on {world} processes: "
            "set accumulate=1, or use fewer devices."
        )
    return min(asked, fitting)
