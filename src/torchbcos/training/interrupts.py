"""Signals that end a run before its time: the step is finished and kept first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType

import torch

from torchbcos.training.machine import processes

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(KeyboardInterrupt):
    """A signal ended a run.

    Attributes:
        number: of the signal.
        code: what a command ends with: 128 and that number (130 for Ctrl-C, 143 for SIGTERM).
    """

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number, self.code = number, 128 + number


class Interrupts:
    """Ctrl-C and SIGTERM (which SLURM and Kubernetes send) while a run trains: the first asks, the second ends at once.

    What ignores Ctrl-C, like a command in the background of a shell, goes on ignoring it; a handler of SIGTERM that the
    caller has set stays.

    Attributes:
        number: of the first signal, 0 before it.
        patient: whether the first signal waits for the end of the step; otherwise it ends the run at once, too.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.number = 0
        self.patient = False
        self.usual: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        """Answer signals; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) not in (None, signal.SIG_IGN):
                self.usual[signal.SIGINT] = signal.signal(signal.SIGINT, self.answer)
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                self.usual[signal.SIGTERM] = signal.signal(signal.SIGTERM, self.answer)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """The caller's handlers again."""
        for number, handler in self.usual.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def answer(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; end at the second."""
        if self.number or not self.patient:
            raise Interrupted("", number)
        self.number = number
        with suppress(RuntimeError):  # it may arrive in the middle of another line
            self.say("Interrupted: finishing this step (once more: at once).")

    def anywhere(self, device: torch.device) -> int:
        """The signal that any process of the run got, so that all of them stop at the same step."""
        number = self.number  # read once: it may change at any moment
        if processes()[1] == 1:
            return number
        found = torch.tensor(number, device=device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)
