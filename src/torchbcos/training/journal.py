"""What a run tells while it trains: history.csv, TensorBoard, lines and progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torchbcos._core.optional import require
from torchbcos.runs import History
from torchbcos.training.context import Run
from torchbcos.training.progress import Pace, Progress, clock
from torchbcos.training.state import State
from torchbcos.training.watch import PICTURES, log_explanations

__all__ = ["Journal", "Watch"]

Watch = Callable[[Progress], None]


def _writer(folder: str) -> Any:
    """TensorBoard's writer."""
    for module in ("tensorboard", "torch.utils.tensorboard"):
        found = require(module, extra="train", why="the log of a training")
    return found.SummaryWriter(folder)


class Journal:
    """The journal of one process; only the first writes and speaks.

    Args:
        run: what is trained.
        start: the step at which this process begins.
        progress: gets a `Progress` after every step.
    """

    def __init__(self, run: Run, start: int, progress: Watch | None) -> None:
        self.run = run
        # of the first process alone: the others write nothing, and would move a damaged file aside a second time
        self.history = History(run.folder.history, start) if run.first else None
        if self.history is not None and self.history.complaint:
            run.say(self.history.complaint)
        self.progress = progress if run.first else None
        self.writer = _writer(str(run.folder.tensorboard)) if run.first else None
        world = run.fabric.world_size
        self.pace = Pace(start, readers=world * max(1, run.recipe.workers), world=world)

    def __enter__(self) -> Journal:
        """The journal is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what TensorBoard still waits for."""
        if self.writer is not None:
            self.writer.close()

    def note_step(self, state: State) -> None:
        """After every step."""
        self.pace.note_step(state.done)
        if self.progress is not None:
            self.progress(self.so_far(state))

    def so_far(self, state: State) -> Progress:
        """How far the run is."""
        run, (rate, pipeline) = self.run, self.pace.rates()
        epoch = min(state.done // run.per_epoch + 1, run.recipe.epochs)
        left = self.pace.left(state.done, run.total)
        return Progress(state.done, run.total, epoch, run.recipe.epochs, state.loss, rate, pipeline, left)

    def note_epoch(self, state: State, epoch: int, judged: dict[str, float]) -> None:
        """The end of an epoch: a row, and a line."""
        rate, pipeline = self.pace.rates()
        row: dict[str, Any] = {
            "step": state.done, "epoch": epoch, "loss": state.loss, **{f"selection_{k}": v for k, v in judged.items()},
            "pictures_per_second": rate, "pipeline_per_second": pipeline, "seconds": round(state.elapsed(), 1),
        }  # fmt: skip
        if self.writer is not None and self.history is not None:
            self.history.add(row)
            for key, value in ((key, value) for key, value in row.items() if math.isfinite(value)):
                self.writer.add_scalar(key, float(value), state.done)
        score = "".join(f", {name} {judged[name]:.1f} %" for name in ("top1", "map") if math.isfinite(judged.get(name, math.nan)))
        self.run.say(
            f"epoch {epoch}/{self.run.recipe.epochs}: loss {state.loss:.4f}{score}; {rate:.0f} pictures/s, "
            f"the data could give {pipeline:.0f}; {clock(self.so_far(state).left)} left"
        )
        state.new_epoch()
        self.pace.new_epoch()

    def watch(self, state: State) -> None:
        """Explanations and alignment of the same few pictures."""
        if self.writer is None or self.history is None:
            return
        run = self.run
        split = run.splits.selection or run.splits.train
        x, y, failures = run.chosen(run.examples(split), list(range(min(PICTURES, len(split)))))
        state.failures += failures
        y = y.nan_to_num(0.0).argmax(1) if run.data.multi_label else y  # the first label that holds
        if run.teacher is not None and run.student is not None:  # without labels: the teacher's first class
            y = run.teacher.look(x, len(run.data.classes)).logits.argmax(1)
        numbers = log_explanations(self.writer, state.network, x, y.to(x.device), state.done)
        self.history.add({"step": state.done, **{k: v for k, v in numbers.items() if k.startswith("watch/")}})
