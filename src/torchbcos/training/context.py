"""What stays while a run trains: recipe, data, devices and folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.probability import trained_with
from torchbcos.data.annotations import find_annotations
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.loading import Examples, check_batch, collate
from torchbcos.pictures import Preprocess
from torchbcos.runs import RunFolder
from torchbcos.training.augment import Augment
from torchbcos.training.form import Seen
from torchbcos.training.losses import Batch
from torchbcos.training.optimisation import targets_of
from torchbcos.training.plan import Splits
from torchbcos.training.recipe import Recipe

if TYPE_CHECKING:  # to list recipes, nothing of this is needed
    from lightning.fabric import Fabric

    from torchbcos.training.distillation import Teacher
    from torchbcos.training.exponents import Exponents
    from torchbcos.training.student import Student

__all__ = ["Run", "Say"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One process of a run.

    Attributes:
        recipe: what to do.
        data, source: all examples, and where they lie.
        splits: what is trained on, what chooses, what is reported.
        folder: where the run is written.
        seen: what the examples are, and how whole ones are prepared.
        fabric: devices and processes.
        tell: gets every line that a person should read.
        per_epoch: optimiser steps of an epoch.
        student: what is aligned, of a run without labels.
        teacher: that is learned from, once it was opened.
        exponents: that layers have at the end.
    """

    recipe: Recipe
    data: Labelled
    source: Path
    splits: Splits
    folder: RunFolder
    seen: Seen
    fabric: Fabric
    tell: Say
    per_epoch: int
    student: Student | None = None
    teacher: Teacher | None = None
    exponents: Exponents | None = None

    @property
    def prepare(self) -> Preprocess:
        """How whole examples are prepared."""
        return self.seen.prepare

    @property
    def total(self) -> int:
        """Optimiser steps of the whole run."""
        every = self.per_epoch * self.recipe.epochs
        return min(self.recipe.max_steps or every, every)

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return bool(self.fabric.is_global_zero)

    @property
    def probability(self) -> str:
        """How logits become probabilities, as the loss has it."""
        if self.student is not None:
            return self.student.probability
        return trained_with(self.recipe.loss, multi_label=self.data.multi_label)

    @property
    def device(self) -> torch.device:
        """Of this process."""
        return self.fabric.device

    def say(self, text: str) -> None:
        """A line for the person, from one process only."""
        if self.first:
            self.tell(text)

    def examples(self, split: Split) -> Examples:
        """A split as encoded, whole examples."""
        return Examples(split, self.prepare, None, self.recipe.seed)

    def training_examples(self) -> Examples:
        """The training split, augmented, with the annotations that guide.

        Raises:
            InputError: the recipe guides, and moves things where no annotation follows.
        """
        recipe, split, masks = self.recipe, self.splits.train, None
        if recipe.guide:
            if recipe.augment or recipe.mixup or recipe.cutmix:
                raise InputError("Guidance needs to know where things are: set augment='', mixup=0 and cutmix=0.")
            masks = find_annotations(self.source, split, share=recipe.guide_share, seed=recipe.seed)
            self.say(f"Guidance by {len(masks)} annotated examples of {len(split)}.")
        augment = Augment(recipe, self.prepare) if self.prepare.axes == 2 else None
        return Examples(split, self.prepare, augment, recipe.seed, masks)

    def placed(self, x: Tensor) -> Tensor:
        """Encoded examples on the device, in the order of axes that the network's filters have."""
        x = x.to(self.device, non_blocking=True)
        return x.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last and x.dim() == 4 else x

    def batch(self, loaded: dict[str, Any]) -> Batch:
        """What the readers loaded, on the device."""
        y = loaded["y"].to(self.device, non_blocking=True)
        mask = loaded["mask"].to(self.device, non_blocking=True) if "mask" in loaded else None
        return Batch(self.placed(loaded["x"]), targets_of(y, len(self.data.classes)), y, mask)

    def chosen(self, examples: Examples, rows: list[int]) -> tuple[Tensor, Tensor, list[str]]:
        """Some examples on the device, their targets, and what could not be read."""
        loaded = collate([examples[i] for i in rows])
        failures = check_batch(loaded, self.recipe.on_error)
        return self.placed(loaded["x"]), loaded["y"], failures
