"""The queue: together what can be, in order, and nothing for those who went away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbcos._core.errors import InputError
from torchbcos.service.queueing import Queue
from torchbcos.service.refusals import Refused


class Work:
    """Doubles numbers, remembers what came together, and waits at a gate."""

    def __init__(self) -> None:
        self.batches: list[tuple[Hashable, list[Any]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, kind: Hashable, questions: Sequence[Any]) -> list[Any]:
        self.gate.wait(20)
        self.batches.append((kind, list(questions)))
        if any(question == "bad" for question in questions):
            raise InputError("bad")
        if any(question == "worse" for question in questions):
            raise ZeroDivisionError("worse")
        return [2 * question for question in questions]


async def begun(work: Work, queue: Queue[Any]) -> asyncio.Task[Any]:
    """A question that the queue's thread holds at the gate, while others gather."""
    work.gate.clear()
    first = asyncio.ensure_future(queue.ask("first", 0, seconds=20))
    while len(queue) or not first.get_coro():
        await asyncio.sleep(0.001)
        if not len(queue):
            break
    await asyncio.sleep(0.02)
    return first


@given(kinds=st.lists(st.sampled_from("abc"), min_size=1, max_size=30), batch=st.integers(1, 7))
@settings(deadline=None, max_examples=30)
def test_each_gets_its_own_answer_and_kinds_are_not_mixed(kinds: list[str], batch: int) -> None:
    work = Work()
    queue = Queue[Any](work, length=64, batch=batch)

    async def run() -> None:
        first = await begun(work, queue)
        asked = [asyncio.ensure_future(queue.ask(kind, i, seconds=20)) for i, kind in enumerate(kinds)]
        await asyncio.sleep(0.01)
        work.gate.set()
        assert await asyncio.gather(*asked) == [2 * i for i in range(len(kinds))]
        await first

    asyncio.run(run())
    queue.close()
    for kind, questions in work.batches[1:]:
        assert {kinds[i] for i in questions} == {kind}
        assert questions == sorted(questions) and len(questions) <= batch
    assert sorted(i for _, questions in work.batches[1:] for i in questions) == list(range(len(kinds)))
    assert len(work.batches) - 1 == sum(-(-kinds.count(kind) // batch) for kind in set(kinds))


def test_one_that_fails_takes_no_other_with_it() -> None:
    work = Work()
    queue = Queue[Any](work, length=64, batch=8)

    async def run() -> list[Any]:
        first = await begun(work, queue)
        asked = [asyncio.ensure_future(queue.ask("k", question, seconds=20)) for question in (1, "bad", 3, "worse", 5)]
        await asyncio.sleep(0.01)
        work.gate.set()
        await first
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(run())
    queue.close()
    assert [found[0], found[2], found[4]] == [2, 6, 10]
    assert isinstance(found[1], InputError) and isinstance(found[3], ZeroDivisionError)


def test_a_full_queue_refuses_and_says_for_how_long() -> None:
    work = Work()
    queue = Queue[Any](work, length=3, batch=8)

    async def run() -> None:
        first = await begun(work, queue)
        asked = [asyncio.ensure_future(queue.ask("k", i, seconds=20)) for i in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(Refused) as refused:
            await queue.ask("k", 9, seconds=20)
        assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
        work.gate.set()
        assert await asyncio.gather(*asked) == [0, 2, 4]
        await first
        assert await queue.ask("k", 9, seconds=20) == 18

    asyncio.run(run())
    queue.close()


def test_what_nobody_waits_for_is_not_computed() -> None:
    work = Work()
    queue = Queue[Any](work, length=64, batch=8)

    async def run() -> None:
        first = await begun(work, queue)
        gone = asyncio.ensure_future(queue.ask("k", 1, seconds=20))
        late = asyncio.ensure_future(queue.ask("k", 2, seconds=0.05))
        stays = asyncio.ensure_future(queue.ask("k", 3, seconds=20))
        await asyncio.sleep(0.01)
        gone.cancel()
        with pytest.raises(Refused) as refused:
            await late
        assert refused.value.status == 503
        work.gate.set()
        assert await stays == 6
        await first

    asyncio.run(run())
    queue.close()
    assert [questions for _, questions in work.batches] == [[0], [3]]


def test_the_end_answers_what_waits_and_refuses_what_comes() -> None:
    work = Work()
    queue = Queue[Any](work, length=64, batch=8)

    async def run() -> None:
        first = await begun(work, queue)
        waits = asyncio.ensure_future(queue.ask("k", 4, seconds=20))
        await asyncio.sleep(0.01)
        queue.close()
        with pytest.raises(Refused) as refused:
            await queue.ask("k", 5, seconds=20)
        assert refused.value.status == 503
        work.gate.set()
        assert (await waits, await first) == (8, 0)

    asyncio.run(run())
    queue.thread.join(5)
    assert not queue.thread.is_alive()


def test_it_tells_of_every_batch() -> None:
    told: list[tuple[int, float]] = []
    queue = Queue[Any](Work(), length=4, batch=4, noted=lambda count, seconds: told.append((count, seconds)))
    assert asyncio.run(queue.ask("k", 1, seconds=20)) == 2
    for _ in range(100):
        if told:
            break
        time.sleep(0.01)
    assert told[0][0] == 1 and told[0][1] >= 0
    queue.close()
