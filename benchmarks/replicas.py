"""Two replicas on Ray under load, one of which is killed again and again: is every answer got by asking again, and how soon?

    python -m benchmarks.replicas --kills 20 --clients 8 --json replicas.json

`kill -9` takes a replica while the callers ask; the next kill comes when another process in its place answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import ray
from ray import serve

import torchbcos
from benchmarks.service import PATHS, PHOTOS, alike, answers_of, used
from torchbcos.service import ray_app

TRIES, BUSY, LONGEST = 8, 0.3, 120.0


@dataclass
class Seen:
    """What callers saw."""

    answers: int = 0
    wrong: int = 0
    failed: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


def replicas() -> set[int]:
    """Processes that Ray calls replicas of ours."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::ServeReplica:default:torchbcos"):
                found.add(int(path.parent.name))
        except OSError:  # it ended meanwhile
            continue
    return found


async def asked(http: httpx.AsyncClient, path: str, data: bytes, seen: Seen) -> Any:
    """The answer, asked for again where it failed; None: it never came."""
    for attempt in range(TRIES):
        try:
            answer = await http.post(f"v1/{path}", content=data, headers={"Content-Type": "image/jpeg"})
            if answer.status_code == 200:
                return answer.json()
            seen.retried[str(answer.status_code)] += 1
        except httpx.HTTPError as error:
            seen.retried[type(error).__name__] += 1
        await asyncio.sleep(0.2 * 2**attempt)
    return None


async def client(address: str, wanted: dict[tuple[str, int], Any], end: asyncio.Event, number: int, seen: Seen) -> None:
    rng, data = random.Random(number), [path.read_bytes() for path in PHOTOS]
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        while not end.is_set():
            path, i, began = rng.choice(PATHS), rng.randrange(len(PHOTOS)), time.monotonic()
            answer = await asked(http, path, data[i], seen)
            seen.slowest = max(seen.slowest, time.monotonic() - began)
            seen.answers += answer is not None
            seen.failed += answer is None
            seen.wrong += answer is not None and not alike(answer, wanted[path, i])


def running() -> int:
    """Replicas that Ray counts as running."""
    return int(serve.status().applications["default"].deployments["torchbcos"].replica_states.get("RUNNING", 0))


async def killed(rng: random.Random) -> float:
    """Kill one of two, and wait for another one that works; the seconds between."""
    before = replicas()
    victim, began = rng.choice(sorted(before)), time.monotonic()
    os.kill(victim, signal.SIGKILL)
    while time.monotonic() - began < LONGEST:
        await asyncio.sleep(0.1)
        fresh = replicas() - before
        if fresh and len(replicas()) == 2 and await asyncio.to_thread(running) == 2:
            (pid,) = fresh
            start = used(pid)[0]
            while time.monotonic() - began < LONGEST:
                if used(pid)[0] - start > BUSY:  # it answers: ten pictures take as much
                    return time.monotonic() - began
                await asyncio.sleep(0.1)
    raise SystemExit(f"No replica in the place of {victim} within {LONGEST:g} s.")


async def run(address: str, wanted: dict[tuple[str, int], Any], clients: int, kills: int) -> dict[str, Any]:
    seen, end, rng = Seen(), asyncio.Event(), random.Random(0)
    people = [asyncio.create_task(client(address, wanted, end, n, seen)) for n in range(clients)]
    await asyncio.sleep(5)
    back = []
    for k in range(kills):
        back.append(await killed(rng))
        print(f"kill {k + 1}: another one answers after {back[-1]:.1f} s; {seen}", flush=True)
        await asyncio.sleep(rng.uniform(0.5, 2))
    end.set()
    await asyncio.gather(*people)
    return {
        "kills": kills, "answers": seen.answers, "wrong": seen.wrong, "failed for a caller that asks again": seen.failed,
        "asked again": dict(seen.retried), "slowest answer, s": round(seen.slowest, 1),
        "serves again after, s, median": round(statistics.median(back), 1), "longest": round(max(back), 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    wanted = answers_of(torchbcos.load("imagenet", device="cpu"))
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": args.port})
        serve.run(ray_app({"sources": "imagenet", "device": "cpu"}))
        found = asyncio.run(run(f"http://127.0.0.1:{args.port}/", wanted, args.clients, args.kills))
    finally:
        serve.shutdown()
        ray.shutdown()
    print(json.dumps(found, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
