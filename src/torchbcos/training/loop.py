"""The loop: every step of a run, on one page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from torchbcos.data.loading import check_batch, seed_generator, seed_of
from torchbcos.training.context import Run
from torchbcos.training.exponents import share_at
from torchbcos.training.interrupts import Interrupts
from torchbcos.training.journal import Journal
from torchbcos.training.judge import judge_epoch
from torchbcos.training.network import head_of
from torchbcos.training.optimisation import Mixer, check_finite, clip_gradients, set_rates, update_average
from torchbcos.training.state import State

if TYPE_CHECKING:  # Lightning exports no name for what `Fabric.setup_module` returns
    from lightning.fabric.wrappers import _FabricModule

__all__ = ["after_step", "fit", "save"]

_LAST = "last.ckpt"


def fit(
    run: Run, state: State, objective: _FabricModule, batches: Iterator[dict[str, Any]], journal: Journal, interrupts: Interrupts
) -> int:
    """Every step that is left.

    Args:
        run: what stays.
        state: what changes.
        objective: network and losses, set up for all processes.
        batches: of this process, from the first part of the next step on.
        journal: is told.
        interrupts: may ask to stop.

    Returns:
        The signal that ended it early; 0: none did.

    Raises:
        StateError: a loss is no number.
    """
    recipe, network, optimizer, scaler = run.recipe, state.network, state.optimizer, state.scaler
    mixer = Mixer(recipe, len(run.data.classes))
    for step in range(state.done, run.total):
        set_rates(optimizer, step, run.per_epoch, recipe)
        if recipe.b_epochs and run.exponents is not None:
            for one in (network, state.average) if state.average is not None else (network,):
                run.exponents.give(one, share_at(step, run.per_epoch, recipe))
        if recipe.freeze_epochs:
            _freeze(network, frozen=step // run.per_epoch < recipe.freeze_epochs)
        for part in range(recipe.accumulate):
            loaded = next(batches)
            began = time.perf_counter()
            state.failures += check_batch(loaded, recipe.on_error)
            seed_generator(seed_of(recipe.seed, 1, step, part, run.fabric.global_rank), run.device)
            batch = run.batch(loaded)
            x, targets = mixer(batch.x, batch.targets)  # guidance refuses recipes that mix
            with run.fabric.no_backward_sync(objective, enabled=part + 1 < recipe.accumulate):
                loss = objective(replace(batch, x=x, targets=targets))
                check_finite(loss, step)
                if part == 0:
                    # here, not after the step: freed before a forward pass, gradients' memory goes back to the system, which
                    # clears every page of it anew (4 % of a step of ResNet-18)
                    optimizer.zero_grad()
                run.fabric.backward(scaler.scale(loss / recipe.accumulate))
            state.note_loss(loss)
            if part + 1 == recipe.accumulate:
                scaler.unscale_(optimizer)
                clip_gradients(network.parameters(), recipe)
                scaler.step(optimizer)
                scaler.update()
            journal.pace.note_part(time.perf_counter() - began, loaded["seconds"], len(x))
        state.done = step + 1
        if state.average is not None:
            update_average(state.average, network, state.done, run.per_epoch, recipe)
        journal.note_step(state)
        stop = interrupts.anywhere(run.device)
        after_step(run, state, journal, stopping=bool(stop))
        if stop:
            return stop
    return 0


def _freeze(network: nn.Module, *, frozen: bool) -> None:
    """Let only the classifier learn, and norms keep their statistics; or let everything learn."""
    head = head_of(network)
    for p in network.parameters():
        p.requires_grad_(not frozen or id(p) in head)
    network.train(not frozen)


def after_step(run: Run, state: State, journal: Journal, *, stopping: bool) -> None:
    """What is watched, the end of an epoch, and checkpoints."""
    recipe, done = run.recipe, state.done
    if recipe.watch_every and done % recipe.watch_every == 0:
        journal.watch(state)
    if done % run.per_epoch == 0 or done == run.total:
        epoch = -(-done // run.per_epoch)
        journal.note_epoch(state, epoch, judge_epoch(run, state, epoch))
        save(run, state, _LAST)
        if recipe.keep_every and done % (recipe.keep_every * run.per_epoch) == 0:
            save(run, state, f"epoch-{done // run.per_epoch:04d}.ckpt")
    elif stopping or (recipe.checkpoint_steps and done % recipe.checkpoint_steps == 0):
        save(run, state, _LAST)


def save(run: Run, state: State, name: str) -> None:
    """A checkpoint, unless the weights are no numbers; no process goes on, or ends, before it is written."""
    if run.first and state.finite():
        run.folder.write_checkpoint(name, state.to_checkpoint())
    run.fabric.barrier()
