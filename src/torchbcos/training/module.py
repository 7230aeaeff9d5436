"""The Lightning module: a step, its optimiser, averaged weights, and judging."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import lightning as L
import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.data.loading import Examples, check_batch, collate, seed_generator, seed_of
from torchbcos.metrics import score
from torchbcos.models import Network, recalibrate, refresh_filters
from torchbcos.training import guidance
from torchbcos.training.machine import processes
from torchbcos.training.objective import (
    Mixer,
    average_of,
    check_finite,
    classification_loss,
    clip_gradients,
    make_optimizer,
    rate_factor,
    targets_of,
    update_average,
)
from torchbcos.training.recipe import Recipe
from torchbcos.zoo import create_model, load, official_cards

T = TypeVar("T")
CALIBRATION = 1024  # pictures for norm statistics of averaged weights


def build_network(
    recipe: Recipe, classes: int, channels: int, *, names: Sequence[str] = (), sync: bool = False
) -> tuple[nn.Module, str | None]:
    """The network of a recipe, for so many classes and encoded channels, and the terms of what it begins with.

    A pretrained network gets a fresh classifier, unless its classes are those of `names` in the same order.

    Raises:
        InputError: the network cannot be built, or a pretrained one takes other channels.
    """
    options: dict[str, Any] = dict(recipe.options)
    terms: str | None = None
    network: nn.Module
    if ":" in recipe.model:
        try:
            return imported(recipe.model)(num_classes=classes, in_channels=channels, **options), terms
        except TypeError as error:
            raise InputError(
                f"model={recipe.model!r} must take num_classes, in_channels and the recipe's options, and does not: {error}."
            ) from error
    if recipe.pretrained == "official":
        network = create_model(recipe.model, pretrained=True, num_classes=classes, **options)
        terms = official_cards()[recipe.model].terms
        if tuple(names) != official_cards()[recipe.model].class_names():
            cast(Any, network).reset_classifier(classes)
    elif recipe.pretrained:
        found = load(recipe.pretrained, device="cpu", deploy=False)
        network, terms = found.model.train().requires_grad_(True), found.card.terms
        if tuple(found.class_names) != tuple(names):
            cast(Any, network).reset_classifier(classes)
        network.class_names = None  # type: ignore[assignment]
    else:
        network = create_model(recipe.model, num_classes=classes, in_channels=channels, plain=recipe.plain, **options)
    if cast(Any, network).in_channels != channels:
        raise InputError(f"The pretrained network takes {cast(Any, network).in_channels} channels, the data has {channels}.")
    if recipe.pretrained and recipe.refresh:
        refresh_filters(network)
    for norm in network.modules() if sync else ():
        if isinstance(norm, bnn.BatchNorm):
            norm.sync = True
    return network, terms


def imported(path: str) -> Callable[..., nn.Module]:
    """A function by "package.module:name".

    Raises:
        InputError: there is none.
    """
    module, _, name = path.partition(":")
    if (here := os.getcwd()) not in sys.path:  # as `python -m` has it
        sys.path.insert(0, here)
    try:
        return cast(Callable[..., nn.Module], getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"model={path!r} names no function that can be imported: {error}.") from error


def head_of(network: nn.Module) -> set[int]:
    """The ids of the parameters of the last layer: what `reset_classifier` replaces. Empty for networks of other makers."""
    return network.classifier_parameters() if isinstance(network, Network) else set()


def check_head(network: nn.Module, recipe: Recipe) -> None:
    """Refuse what needs to know the classifier where it is not known.

    Raises:
        InputError: the recipe freezes everything else, or gives it a rate of its own.
    """
    if (recipe.freeze_epochs or recipe.head_lr != 1) and not head_of(network):
        raise InputError(
            f"freeze_epochs and head_lr need to know the classifier, and {type(network).__name__} is no "
            "torchbcos.models.Network, which names it: set freeze_epochs=0 and head_lr=1."
        )


def channels_last(network: nn.Module, recipe: Recipe) -> nn.Module:
    """The network with its filters in that order, where the recipe wants it and they are of two dimensions."""
    flat = all(p.dim() <= 4 for p in network.parameters())
    return network.to(memory_format=torch.channels_last) if recipe.channels_last and flat else network


class Training(L.LightningModule):
    """Trains one network by a recipe.

    Everything random in a step is drawn from a seed of the step's number, so a resumed run needs no saved generators.

    Args:
        recipe: what to do.
        network: to train.
        classes: how many.
        per_epoch: optimiser steps an epoch.
        multi_label: several labels may hold.
    """

    session: Any
    guide: Any
    run: Callable[[Tensor], Tensor]

    def __init__(self, recipe: Recipe, network: nn.Module, *, classes: int, per_epoch: int, multi_label: bool = False) -> None:
        super().__init__()
        self.recipe, self.classes, self.per_epoch, self.multi_label = recipe, classes, per_epoch, multi_label
        check_head(network, recipe)
        self.network = channels_last(network, recipe)
        self.average = average_of(self.network, recipe)
        self.mixer = Mixer(recipe, classes)
        self.done = 0  # optimiser steps, over all sessions
        self.part = 0  # of the accumulated parts of a step
        self.calibrated = -1  # the step at which the averaged weights got their norm statistics
        self.loss_sum, self.losses = 0.0, 0
        self.pipeline_seconds, self.pictures = 0.0, 0
        self.failures: list[str] = []
        self.__dict__["run"] = torch.compile(self.network, dynamic=False) if recipe.compile else self.network
        self.__dict__["guide"] = guidance.Guide(recipe, multi_label) if recipe.guide or recipe.teacher else None

    @property
    def epoch(self) -> int:
        """The epoch of the next step."""
        return self.done // self.per_epoch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimiser; its rate is set at every step."""
        return make_optimizer(self.network, self.recipe, head_of(self.network))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the rate, the seed, and what learns."""
        self.stepped = time.perf_counter()
        factor = rate_factor(self.done, self.per_epoch, self.recipe)
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.lr * factor * (self.recipe.head_lr if group["head"] else 1.0)
        seed_generator(seed_of(self.recipe.seed, 1, self.done, self.part, self.global_rank), self.device)
        if self.recipe.freeze_epochs:
            frozen = self.epoch < self.recipe.freeze_epochs
            head = head_of(self.network)
            for p in self.network.parameters():
                p.requires_grad_(not frozen or id(p) in head)
            self.network.train(not frozen)

    def on_fit_start(self) -> None:
        """Go on from the session's checkpoint."""
        self.session.restore()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add where the run is."""
        checkpoint["torchbcos"] = self.session.state()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of one part of a step."""
        self.failures += check_batch(batch, self.recipe.on_error)
        x, targets = batch["x"], targets_of(batch["y"], self.classes)
        if self.recipe.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.guide is not None:
            loss = self.guide.loss(self, x, targets, batch)
        else:
            x, targets = self.mixer(x, targets)
            loss = classification_loss(self.run(x), targets, self.recipe, multi_label=self.multi_label)
        check_finite(loss, self.done)
        self.loss_sum, self.losses = self.loss_sum + float(loss.detach()), self.losses + 1
        self.pipeline_seconds, self.pictures = self.pipeline_seconds + batch["seconds"], self.pictures + len(x)
        return cast(Tensor, loss)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """The recipe's clipping."""
        clip_gradients(self.network.parameters(), self.recipe)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count; after a whole step, average."""
        self.session.busy += time.perf_counter() - self.stepped
        self.part = (self.part + 1) % self.recipe.accumulate
        if self.part == 0:
            self.done += 1
            if self.average is not None:
                update_average(self.average, self.network, self.done, self.per_epoch, self.recipe)
            self.session.after_step()

    def judged(self, calibration: Examples | None, which: str = "auto") -> nn.Module:
        """The network that is judged and exported: averaged weights with norm statistics of their own, or the network."""
        if which in ("best", "last") or self.average is None:
            return self.network
        if calibration is not None and self.calibrated != self.done:
            self.calibrated = self.done
            count = min(CALIBRATION, len(calibration))
            generator = torch.Generator().manual_seed(seed_of(self.recipe.seed, 2))
            rows = torch.randperm(len(calibration), generator=generator)[:count].tolist()
            parts = -(-count // 64)  # of equal size: every batch weighs the same
            recalibrate(self.average, (self.encoded(calibration, rows[k::parts])[0] for k in range(parts)))
        return self.average

    def encoded(self, examples: Examples, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Some examples as the network takes them, on its device."""
        batch = collate([examples[i] for i in rows])
        self.failures += check_batch(batch, self.recipe.on_error)
        return self.placed(batch["x"]), batch["y"]

    def placed(self, x: Tensor) -> Tensor:
        """A batch on the network's device, in the order of its filters."""
        x = x.to(self.device)
        return x.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last and x.dim() == 4 else x

    @torch.no_grad()
    def judge(self, network: nn.Module, batches: Iterable[tuple[list[int], Any]], probability: str) -> dict[str, float]:
        """Metrics of a network on a split, over all processes; unreadable examples, if they are skipped, do not count."""
        mode = network.training
        network.eval()
        outputs, truths = [], []
        try:
            for rows, batch in batches:
                self.failures += check_batch(batch, self.recipe.on_error)
                own = batch["rows"] == torch.tensor(rows)  # an unreadable example was replaced by another
                outputs.append(network(self.placed(batch["x"])).float().cpu()[own])
                truths.append(batch["y"][own])
        finally:
            network.train(mode)
        pairs = everyones(list(zip(outputs, truths, strict=True)))
        logits, targets = torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])
        return score(logits, targets, probability=probability)


def everyones(items: list[T]) -> list[T]:
    """The items of all processes, one process after the other."""
    world = processes()[1]
    if world == 1:
        return items
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
