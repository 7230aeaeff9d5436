"""Ctrl-C and SIGTERM while pictures are answered: what is finished is kept, counted and said."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "answering_signals"]

_NERVOUS = 1.0  # seconds in which a second Ctrl-C means the same as the first


class Stopped(KeyboardInterrupt):
    """A signal ended the command.

    Attributes:
        code: what the command ends with: 128 and the signal's number (130 for Ctrl-C, 143 for SIGTERM).
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.code = 128 + number


@contextmanager
def answering_signals() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into `Stopped`; those that follow within a second are ignored, so that the answer is whole.

    What ignores Ctrl-C, like a command in the background of a shell, goes on ignoring it, and other handlers stay.
    """
    usual: dict[int, object] = {}
    last = -_NERVOUS

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= _NERVOUS:
            raise Stopped(number)

    if threading.current_thread() is threading.main_thread():  # no other may
        for each, own in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(each) is own:
                usual[each] = signal.signal(each, stop)
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned
