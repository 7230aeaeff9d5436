"""A comparison on many processes and machines, started by torchrun or by `launching`."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.names import quote, whole_number
from torchbcos.evaluation.choosing import Chosen
from torchbcos.evaluation.engines import Engine, ranks
from torchbcos.evaluation.meeting import Meeting
from torchbcos.evaluation.named import digest
from torchbcos.evaluation.reporting import Comparison
from torchbcos.evaluation.units import Units, Worker
from torchbcos.judging import ProgressBar

__all__ = ["Processes"]

_MEETINGS = itertools.count()  # the same in all processes, which make the same comparisons in the same order
_SLOW = 60.0  # seconds after which a disk that several machines share shows a new file to all of them


class Processes(Engine):
    """Many processes that share a folder of maps: the first looks, chooses and reports, all work.

    Each takes the items that nobody has taken, so that a slow machine does fewer; an item's picture is decoded by one process.
    Every process calls `compare` with the same arguments. One that dies is noticed by its silence.

    Args:
        meeting: of the processes; None: the one that torchrun, or whoever started them, named in the environment.
    """

    def __init__(self, meeting: Meeting | None = None) -> None:
        self.rank, self.world = (meeting.rank, meeting.world) if meeting is not None else ranks()
        self.first = self.rank == 0
        self.told = not self.first  # what is wrong before they meet is wrong in all processes
        self._given = meeting
        self._meeting: Meeting | None = None

    @property
    def meeting(self) -> Meeting:
        """Of the comparison that is being made."""
        assert self._meeting is not None, "an engine is entered"
        return self._meeting

    def __enter__(self) -> Processes:
        self.told = False
        self._meeting = self._given or Meeting.here(self.rank, self.world, next(_MEETINGS))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        meeting, self._meeting = self.meeting, None
        if error is not None:
            self.told = meeting.fail(error)
        meeting.leave(last=self.first)

    def device(self, asked: str) -> str:
        """A CUDA device of its own for each process of a machine; other devices as they were asked for."""
        if asked not in ("auto", "cuda") or not torch.cuda.is_available():
            return asked
        return f"cuda:{(whole_number(os.environ.get('LOCAL_RANK', '0')) or 0) % torch.cuda.device_count()}"

    def check(self, kept: bool, opening: Mapping[str, Any]) -> None:
        """Refuse maps in a folder that only one process would know."""
        if not kept:
            raise InputError(f"{self.world} processes need a folder of maps that all of them see: name it with out= (or --out).")

    def decide(self, draft: Worker, choose: Callable[[], Worker]) -> Worker:
        """The first process chooses, and the others take over what it chose, once all agree on what is measured."""
        told = _agreed(draft)
        self._check_folder(draft.store.root)
        if self.first:
            worker = choose()
            self.meeting.post("plan", {**told, **_written(worker)})
            return worker
        plan = self.meeting.wait("plan", 0)
        for what, own in told.items():
            if plan[what] != own:
                raise StateError(
                    f"The processes of this comparison do not measure the same: {what} differ between the first and process "
                    f"{self.rank}. All need the same files, versions and arguments."
                )
        return _read(draft, plan)

    def _check_folder(self, root: Path) -> None:
        """Refuse folders that carry the same name on several machines, and are several."""
        sign = root / f".meeting-{uuid.uuid4().hex}"
        if self.first:
            sign.touch()
            self.meeting.post("folder", sign.name)
            try:
                for other in range(1, self.world):
                    self.meeting.wait(f"sees-{other}", other)
            finally:
                sign.unlink(missing_ok=True)
            return
        sign, ends = root / self.meeting.wait("folder", 0), time.monotonic() + min(_SLOW, self.meeting.patience)
        while not os.path.exists(sign) and time.monotonic() < ends:
            self.meeting.check()
            os.listdir(root)  # a network's disk looks again
            time.sleep(0.05)
        if not sign.exists():
            raise StateError(
                f"{quote(root)} on process {self.rank} is not the folder of that name on the first process: maps and numbers go "
                "where all machines see them. Name a folder on a shared disk (--out, or --cache)."
            )
        self.meeting.post(f"sees-{self.rank}", True)

    def run(self, worker: Worker, progress: ProgressBar | None) -> None:
        """Do units that nobody does, until there are none."""
        units = worker.units()
        size = units.block if len(units) >= units.block * self.world else 1
        pieces = -(-len(units) // size)
        walk = self._pieces(worker, units, size, pieces)
        for _ in progress(walk, pieces) if progress and self.first else walk:
            pass

    def _pieces(self, worker: Worker, units: Units, size: int, pieces: int) -> Iterator[int]:
        """Work; all pieces, whoever does them, come out as they are done."""
        told = 0
        while (piece := self.meeting.take("piece")) < pieces:
            self.meeting.check()
            for unit in units[piece * size : (piece + 1) * size]:
                worker.run(unit)
            done = min(self.meeting.taken("piece"), pieces)
            yield from range(told, done)
            told = max(told, done)
        if self.first:
            for other in range(1, self.world):
                worker.learn(self.meeting.wait(f"done-{other}", other))
            yield from range(told, pieces)
        else:
            self.meeting.post(f"done-{self.rank}", worker.hashes())

    def report(self, make: Callable[[], Comparison]) -> Comparison:
        """The first process makes the comparison; the others get its facts and costs."""
        if self.first:
            found = make()
            self.meeting.post("facts", [found.to_dict(), found.cost])
            return found
        facts, cost = self.meeting.wait("facts", 0)
        return Comparison(facts, cost, {}, {})


def _agreed(draft: Worker) -> dict[str, str]:
    """What must be the same in all processes."""
    plan = draft.plan
    return {
        "versions of torch": torch.__version__,
        "models": digest([model.key for model in draft.models]),
        "data": draft.split.fingerprint(),
        "arguments": digest(
            [[method.label, method.key] for method in plan.methods],
            [[metric.label, metric.name, metric.settings] for metric in plan.metrics],
            list(plan.classes), plan.cell, plan.size, plan.rescale, plan.seed, plan.batch_size,
        ),
    }  # fmt: skip


def _written(worker: Worker) -> dict[str, Any]:
    """What was decided, as JSON has it."""
    return {
        "sets": {name: chosen.to_dict() for name, chosen in worker.plan.sets.items()},
        "samples": [method.options.get("samples") for method in worker.plan.methods],
    }


def _read(draft: Worker, plan: Mapping[str, Any]) -> Worker:
    """The worker of what was decided."""
    methods = tuple(
        method if samples is None else dataclasses.replace(method, options={**method.options, "samples": samples})
        for method, samples in zip(draft.plan.methods, plan["samples"], strict=True)
    )
    sets = {name: Chosen.from_dict(chosen) for name, chosen in plan["sets"].items()}
    return dataclasses.replace(draft, plan=dataclasses.replace(draft.plan, methods=methods, sets=sets))
