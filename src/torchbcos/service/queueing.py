"""Requests that wait for the network, and the thread that answers those of one kind together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torchbcos.service.refusals import Refused

__all__ = ["Queue"]

_Question = TypeVar("_Question")


@dataclass(eq=False)
class _Waiting(Generic[_Question]):
    """One request.

    Attributes:
        kind: requests of one kind can be answered together.
        question: what is asked.
        size: how much of a batch it takes.
        until: the moment (of `time.monotonic`) from which nobody waits for the answer.
        answer: becomes the answer.
        loop: that of `answer`.
        gone: nobody waits any more.
    """

    kind: Hashable
    question: _Question
    size: int
    until: float
    answer: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    gone: threading.Event = field(default_factory=threading.Event)

    def give(self, result: Any, error: Exception | None = None) -> None:
        """Hand over the answer, on the loop's thread."""

        def hand() -> None:
            if self.answer.done():
                return
            if error is None:
                self.answer.set_result(result)
            else:
                self.answer.set_exception(error)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(hand)


class Queue(Generic[_Question]):
    """Answers questions on a thread of its own, several of one kind at a time, in the order in which they came.

    While one batch is computed the next one gathers: nobody waits for company.

    Args:
        work: answers the questions of one kind, in their order: an answer or an exception for each.
        length: questions that wait at most.
        batch: the size of all that are answered together; a single one may be larger.
        noted: is told the number of every batch, and its seconds.
    """

    def __init__(
        self, work: Callable[[Hashable, Sequence[_Question]], Sequence[Any]], *, length: int, batch: int,
        noted: Callable[[int, float], None] = lambda count, seconds: None,
    ) -> None:  # fmt: skip
        self.work, self.length, self.batch, self.noted = work, length, batch, noted
        self.waiting: deque[_Waiting[_Question]] = deque()
        self.ready = threading.Condition()
        self.closed = False
        self.busy = 0.0  # seconds of the last batch: how long the next one will take
        self.thread = threading.Thread(target=self._run, name="torchbcos-queue", daemon=True)
        self.thread.start()

    def __len__(self) -> int:
        return len(self.waiting)

    async def ask(self, kind: Hashable, question: _Question, *, size: int = 1, seconds: float) -> Any:
        """The answer.

        Args:
            kind, question, size: see the class.
            seconds: how long to wait for it at most.

        Raises:
            Refused: 429, too many wait; 503, it took too long, or the service ends.
        """
        loop = asyncio.get_running_loop()
        mine = _Waiting(kind, question, size, time.monotonic() + seconds, loop.create_future(), loop)
        with self.ready:
            if self.closed:
                raise Refused(503, "This service is ending.", {"Retry-After": "5"})
            if len(self.waiting) >= self.length:
                after = max(1, round(self.busy * len(self.waiting) / max(1, self.batch)))
                raise Refused(429, "Too many requests wait already: try again.", {"Retry-After": str(min(after, 60))})
            self.waiting.append(mine)
            self.ready.notify()
        try:
            return await asyncio.wait_for(mine.answer, seconds)
        except asyncio.TimeoutError:
            raise Refused(503, f"No answer within {seconds:g} seconds: try again later.", {"Retry-After": "5"}) from None
        finally:
            mine.gone.set()

    def close(self) -> None:
        """Answer what waits, and then end; new questions are refused."""
        with self.ready:
            self.closed = True
            self.ready.notify()

    def _run(self) -> None:
        while (found := self._next()) is not None:
            began = time.monotonic()
            for one, answer in zip(found, self._answers(found), strict=True):
                one.give(*((None, answer) if isinstance(answer, Exception) else (answer,)))
            self.busy = time.monotonic() - began
            self.noted(len(found), self.busy)

    def _next(self) -> list[_Waiting[_Question]] | None:
        """Those that are answered together next; None: the end."""
        with self.ready:
            while True:
                now = time.monotonic()
                while self.waiting and (self.waiting[0].gone.is_set() or self.waiting[0].until <= now):
                    self.waiting.popleft()
                if self.waiting:
                    break
                if self.closed:
                    return None
                self.ready.wait()
            first = self.waiting.popleft()
            found, size, rest = [first], first.size, deque[_Waiting[_Question]]()
            for one in self.waiting:
                if one.gone.is_set() or one.until <= now:
                    continue
                if one.kind == first.kind and size + one.size <= self.batch:
                    found.append(one)
                    size += one.size
                else:
                    rest.append(one)
            self.waiting = rest
            return found

    def _answers(self, found: list[_Waiting[_Question]]) -> Sequence[Any]:
        """Of each its answer or an exception; what fails together is tried one by one."""
        try:
            return list(self.work(found[0].kind, [one.question for one in found]))
        except Exception as error:  # whatever it is, the thread goes on, and the others are answered
            if len(found) == 1:
                return [error]
        return [answer for one in found for answer in self._answers([one])]
