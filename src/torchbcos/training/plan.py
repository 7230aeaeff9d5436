"""What a run is trained, chosen and reported on, and how the training examples are cut into steps."""

from __future__ import annotations

from dataclasses import dataclass

from torchbcos._core.errors import InputError
from torchbcos.data.division import divide
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.loading import Order
from torchbcos.training.recipe import OptimisationSettings, Recipe

__all__ = ["Splits", "batch_order", "epoch_steps", "hold_out"]


@dataclass(frozen=True)
class Splits:
    """What is trained on, what chooses, what is reported."""

    train: Split
    selection: Split | None
    report: Split | None
    together: bool = False  # whether byte-identical copies were kept on one side
    notes: tuple[str, ...] = ()  # where scans of one patient are on several sides, or held out of some classes only

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
    """Divide the data, by the seed: no example both chooses and is reported, nor a byte-identical copy or a scan of its patient.

    Args:
        data: the examples.
        recipe: says how much is held out.
        together: False divides as runs did that were begun when copies were not looked for.
    """
    parts = divide(data, selection=recipe.selection_share, report=recipe.report_share, seed=recipe.seed, together=together)
    return Splits(parts.train, parts.selection, parts.report, parts.together, parts.notes)


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
