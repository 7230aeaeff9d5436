"""How far a run is, how fast it goes, and what it writes about that."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Lines", "Pace", "Progress", "clock", "summary"]

_CALLED = {"top1": "top1", "map": "map", "f1": "f1 at 0.5"}
_WARM = 2  # the first steps compile, allocate and fill caches: they are not representative of the others


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


class Lines:
    """Says how far a run is, a line now and then.

    Args:
        say: gets the lines.
        every: seconds between two of them.

    >>> Lines(print, every=0)(Progress(3, 40, 1, 2, 0.5, 80.2, 300.0, 61.0))
    step 3/40 (epoch 1/2): loss 0.5000; 80 pictures/s, the data could give 300; 1 min 1 s left
    """

    def __init__(self, say: Callable[[str], None], every: float = 60) -> None:
        self.say, self.every, self.told = say, every, time.monotonic()

    def __call__(self, now: Progress) -> None:
        """After every step; the last one has a line of its own."""
        if time.monotonic() - self.told >= self.every and now.done < now.total:
            self.told = time.monotonic()
            self.say(now.describe())


@dataclass
class Pace:
    """The speed of one process of a run.

    Attributes:
        start: the step at which this process began.
        readers: processes that read pictures, over all.
        world: processes that train.
        busy, reading: seconds of this epoch in steps, and in reading pictures.
        pictures: of this epoch, in this process.
    """

    start: int
    readers: int
    world: int
    began: float = field(default_factory=time.time)
    warm_since: float = 0.0
    busy: float = 0.0
    reading: float = 0.0
    pictures: int = 0

    def note_part(self, busy: float, reading: float, pictures: int) -> None:
        """After every part of a step: seconds that it took, seconds that its pictures took to read, and how many there are."""
        self.busy, self.reading, self.pictures = self.busy + busy, self.reading + reading, self.pictures + pictures

    def note_step(self, done: int) -> None:
        """After every step."""
        if done - self.start == _WARM:
            self.warm_since = time.time()

    def new_epoch(self) -> None:
        """Forget the epoch before."""
        self.busy, self.reading, self.pictures = 0.0, 0.0, 0

    def rates(self) -> tuple[float, float]:
        """Pictures a second of the steps, and what the readers could give, over all processes."""
        steps = self.world * self.pictures / self.busy if self.busy else 0.0
        pipeline = self.readers * self.pictures / self.reading if self.reading else 0.0
        return round(steps, 1), round(pipeline, 1)

    def left(self, done: int, total: int) -> float:
        """Seconds to the last step."""
        steps, since = done - self.start, self.began
        if steps > _WARM:
            steps, since = steps - _WARM, self.warm_since
        return (time.time() - since) / max(1, steps) * (total - done)


def summary(report: Mapping[str, Any]) -> str:
    """The reported numbers in a few words."""
    split = "report" if report.get("report") else "selection"
    found = report.get(split) or {}
    words = ", ".join(
        f"{_CALLED[name]} {value:.2f} %" for name, value in found.items() if name in _CALLED and math.isfinite(value)
    )
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
