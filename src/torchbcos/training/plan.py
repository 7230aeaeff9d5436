"""What a run is trained, chosen and reported on, and how the training examples are cut into steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torchbcos._core.errors import InputError
from torchbcos._core.names import quote
from torchbcos.data.division import split_groups
from torchbcos.data.labelled import Labelled, Split, split_rows
from torchbcos.data.loading import Order, seed_of
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
    train, report = data.train if together else replace(data.train, twins=None), data.report
    together = train.twins is not None
    selection, notes = None, list[str]()
    if report is None and recipe.report_share:
        train, report = _divided(train, recipe.report_share, seed_of(recipe.seed, 11) % 2**31, "to report", data.classes, notes)
    if recipe.selection_share:
        share, seed = recipe.selection_share, seed_of(recipe.seed, 12) % 2**31
        train, selection = _divided(train, share, seed, "to choose by", data.classes, notes)
    return Splits(train, selection or None, report or None, together, tuple(notes))


def _divided(
    split: Split, share: float, seed: int, use: str, classes: Sequence[str], notes: list[str]
) -> tuple[Split, Split]:  # fmt: skip
    """What is left of a split, and the share that is held out of it; what a person should know of it is added to `notes`."""
    rest, held = split_groups(split.targets, share, seed, split.groups) if split.groups is not None else ([], [])
    if not held:
        rest, held = split_rows(split.targets, share, seed, split.twins)
        if split.groups is not None and {split.groups[i] for i in held} & {split.groups[i] for i in rest}:
            notes.append(
                f"{'Scans' if split.kin == 'patient' else 'Examples'} of one {split.kin} are both trained on and held out {use}: "
                f"there are too few {split.kin}s to hold some out. The result says little about other {split.kin}s."
            )
    elif split.targets.dim() == 1:
        there = set(split.targets[rest].tolist()) - set(split.targets[held].tolist())
        lacking = [classes[c] for c in sorted(there) if int((split.targets == c).sum()) > 1]
        if lacking:
            more = f" (and of {len(lacking) - 1:,} more)" if lacking[1:] else ""
            notes.append(f"Nothing of {quote(lacking[0])}{more} is held out {use}: all of it is of one {split.kin}.")
    return split.take(rest), split.take(held)


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
