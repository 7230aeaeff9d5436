"""Judging a run's network: which weights, on which split, and which were best."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from torchbcos._core.errors import InputError, shorten
from torchbcos.data.labelled import Split
from torchbcos.data.loading import seed_of
from torchbcos.judging import Outputs, judge, predict_split
from torchbcos.models import recalibrate
from torchbcos.training.context import Run
from torchbcos.training.distillation import Teacher
from torchbcos.training.machine import everyones, processes
from torchbcos.training.state import State

__all__ = ["judge_epoch", "judge_outputs", "measure_norms", "predict_over_all"]

_CALIBRATION = 1024  # pictures for norm statistics of averaged weights


def _judged_network(run: Run, state: State) -> nn.Module:
    """The network that is judged while a run trains: the averaged weights, or the network itself."""
    if state.average is None:
        return state.network
    measure_norms(run, state, state.average)
    return state.average


def measure_norms(run: Run, state: State, average: nn.Module) -> None:
    """Give the averaged weights norm statistics of their own, once for the same weights."""
    if state.calibrated == state.done:
        return
    state.calibrated = state.done
    examples = run.examples(run.splits.train)
    count = min(_CALIBRATION, len(examples))
    generator = torch.Generator().manual_seed(seed_of(run.recipe.seed, 2))
    rows = torch.randperm(len(examples), generator=generator)[:count].tolist()
    parts = -(-count // 64)  # of equal size: every batch weighs the same

    def batch(part: int) -> torch.Tensor:
        x, _, failures = run.chosen(examples, rows[part::parts])
        state.failures += failures
        return x

    recalibrate(average, (batch(part) for part in range(parts)))


def predict_over_all(run: Run, state: State, network: nn.Module, split: Split) -> Outputs:
    """What a network says of a split of whole pictures, over all processes."""
    recipe, (rank, world) = run.recipe, processes()
    mine = predict_split(network, run.examples(split), workers=recipe.workers, on_error=recipe.on_error, rank=rank, world=world)
    state.failures += mine.failures
    return _agreeing(run, Outputs.join(everyones([mine])), split)


def _agreeing(run: Run, outputs: Outputs, split: Split) -> Outputs:
    """Of a run without labels, the teacher's first class in the place of a target: accuracy is then agreement with it.

    Raises:
        InputError: the student saw a picture that the teacher could not.
    """
    teacher = run.teacher
    if teacher is None or not run.recipe.aligns:
        return outputs
    # asked once a split; again where a picture can be read now that could not be read then
    if not teacher.said.get(id(split), {}).keys() >= set(outputs.rows):
        recipe, (rank, world) = run.recipe, processes()
        found = predict_split(
            _Listener(teacher), run.examples(split), workers=recipe.workers, on_error=recipe.on_error, rank=rank, world=world
        )
        joined = Outputs.join(everyones([found]))
        teacher.said[id(split)] = dict(zip(joined.rows, joined.logits.argmax(1).tolist(), strict=True))
    known = teacher.said[id(split)]
    if not known.keys() >= set(outputs.rows):
        raise InputError(f"Pictures of {shorten(str(run.source), 120)!r} can be read at times only: copy them here.")
    return replace(outputs, targets=torch.tensor([known[row] for row in outputs.rows], dtype=torch.long))


class _Listener(nn.Module):
    """A teacher that takes what its student takes."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher, self.network = teacher, teacher.network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.teacher.answers(self.teacher.encode(self.teacher.student.decode(x)))


def judge_outputs(run: Run, outputs: Outputs, temperature: float | None = None) -> dict[str, float]:
    """Metrics of what a network says of a split; unreadable examples, if skipped, do not count."""
    return judge(outputs, run.probability, temperature=temperature)


def judge_epoch(run: Run, state: State, epoch: int) -> dict[str, float]:
    """Metrics on the split that chooses, where this epoch is judged; the best weights are kept.

    Returns:
        Name -> value; nothing in epochs that are not judged.
    """
    last, selection = state.done == run.total, run.splits.selection
    if selection is not None and (last or epoch % run.recipe.judge_every == 0):
        network = _judged_network(run, state)
        found = judge_outputs(run, predict_over_all(run, state, network, selection))
        score = found.get("top1", found.get("map", 0.0))
        score = 0.0 if math.isnan(score) else score  # no label holds for any of these examples
        if score > state.best["score"]:
            state.best = {"score": score, "epoch": epoch}
            if run.first:
                run.folder.write_checkpoint("best.ckpt", {"state": network.state_dict(), **state.best})
        return found
    if last:
        _judged_network(run, state)  # the last checkpoint holds the averaged weights with norm statistics of their own
    return {}
