"""The service under load: is every answer right, does its memory stay, and what does a request cost beside the library's loop?

    python benchmarks/service.py --clients 64 --seconds 300 --json service.json

In one run, in turn: `torchbcos serve`, a naive handler (decode, one picture through the network, answer), and the library's
batch loop over the same photos with decoding. Cost is processor time of the server's process, of all its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import torchbcos
from torchbcos.zoo.records import explained, predicted

ROOT = Path(__file__).parents[1]
PHOTOS = sorted((ROOT / "docs" / "photos").glob("*.jpg"))
PATHS = ("predict", "explain")

NAIVE = """
import asyncio, io, json, sys, threading
import uvicorn, torchbcos
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from torchbcos.zoo.records import explained, predicted
clf, lock = torchbcos.load("imagenet", device="cpu"), threading.Lock()
def work(name, data):
    with lock:
        return {"predict": predicted, "explain": explained}[name](clf, ["picture"], [io.BytesIO(data)])[0]
async def answer(request):
    return JSONResponse(await asyncio.to_thread(work, request.path_params["name"], await request.body()))
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
app = Starlette(routes=[Route("/v1/{name}", answer, methods=["POST"])])
uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
"""


@dataclass
class Seen:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    wrong: int = 0


def used(pid: int) -> tuple[float, float]:
    """Processor seconds and resident MiB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def alike(mine: Any, theirs: Any) -> bool:
    """Whether two records say the same, numbers to 1e-4 of the larger or 2e-5."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = (mine.keys() | theirs.keys()) - {"file", "picture", "residual"}
        return all(alike(mine.get(key), theirs.get(key)) for key in keys)
    if isinstance(mine, list) and isinstance(theirs, list):
        return len(mine) == len(theirs) and all(map(alike, mine, theirs))
    if isinstance(mine, float) and isinstance(theirs, float):
        return abs(mine - theirs) <= max(2e-5, 1e-4 * abs(theirs))
    return bool(mine == theirs)


def answers_of(classifier: torchbcos.Classifier) -> dict[tuple[str, int], Any]:
    """The library's own answer for each path and photo."""
    ask = {"predict": predicted, "explain": explained}
    return {(path, i): ask[path](classifier, ["picture"], [photo])[0] for path in PATHS for i, photo in enumerate(PHOTOS)}


async def client(address: str, wanted: dict[tuple[str, int], Any], until: float, number: int, seen: Seen) -> None:
    """One person: a photo, an answer, the next one; asks again where it was refused for now."""
    rng = random.Random(number)
    data = [path.read_bytes() for path in PHOTOS]
    async with httpx.AsyncClient(base_url=address, timeout=120) as http:
        while time.monotonic() < until:
            path, i = rng.choice(PATHS), rng.randrange(len(PHOTOS))
            began = time.monotonic()
            answer = await http.post(f"v1/{path}", content=data[i], headers={"Content-Type": "image/jpeg"})
            seen.statuses[answer.status_code] = seen.statuses.get(answer.status_code, 0) + 1
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["Retry-After"]))
            elif answer.status_code == 200:
                seen.seconds.append(time.monotonic() - began)
                seen.wrong += not alike(answer.json(), wanted[path, i])


async def watched(pid: int, until: float) -> list[float]:
    """Resident memory, once a second."""
    found = []
    while time.monotonic() < until:
        found.append(used(pid)[1])
        await asyncio.sleep(1)
    return found


async def load(address: str, pid: int, wanted: dict[tuple[str, int], Any], clients: int, seconds: float) -> dict[str, Any]:
    """Numbers of one server."""
    warm = Seen()
    await asyncio.gather(*(client(address, wanted, time.monotonic() + min(20, seconds / 3), n, warm) for n in range(clients)))
    seen, until, before, began = Seen(), time.monotonic() + seconds, used(pid)[0], time.monotonic()
    people = (client(address, wanted, until, clients + n, seen) for n in range(clients))
    memory, *_ = await asyncio.gather(watched(pid, until), *people)
    answered, wall = len(seen.seconds), time.monotonic() - began
    part = max(1, len(memory) // 5)
    return {
        "answered": answered, "wrong": seen.wrong + warm.wrong, "statuses": {str(k): v for k, v in sorted(seen.statuses.items())},
        "a second": round(answered / wall, 2), "processor seconds a request": round((used(pid)[0] - before) / answered, 4),
        "median seconds": round(statistics.median(seen.seconds), 2),
        "95 % seconds": round(statistics.quantiles(seen.seconds, n=20)[-1], 2),
        "memory, first fifth, MiB": round(statistics.median(memory[:part]), 1),
        "memory, last fifth, MiB": round(statistics.median(memory[-part:]), 1),
    }  # fmt: skip


def served(command: list[str], wanted: dict[tuple[str, int], Any], clients: int, seconds: float) -> dict[str, Any]:
    """Start a server, load it, end it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        return asyncio.run(load(found[0].replace("localhost", "127.0.0.1"), process.pid, wanted, clients, seconds))
    finally:
        process.terminate()
        process.wait(60)


def loop(classifier: torchbcos.Classifier, seconds: float) -> dict[str, Any]:
    """The library's own loop over files, 16 at a time."""
    rng, count, began, before = random.Random(0), 0, time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        paths = [rng.choice(PHOTOS) for _ in range(16)]
        ask = {"predict": predicted, "explain": explained}[PATHS[count // 16 % 2]]
        for record in ask(classifier, [path.name for path in paths], paths):
            json.dumps(record)
        count += 16
    wall = time.monotonic() - began
    return {"answered": count, "a second": round(count / wall, 2),
            "processor seconds a request": round((time.process_time() - before) / count, 4)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    classifier = torchbcos.load("imagenet", device="cpu")
    wanted = answers_of(classifier)
    found = {"the library's loop, before": loop(classifier, args.seconds / 5)}
    serve = [sys.executable, "-m", "torchbcos.cli", "serve", "--port", "0", "--device", "cpu"]
    found["torchbcos serve"] = served(serve, wanted, args.clients, args.seconds)
    print(json.dumps(found, indent=1), flush=True)
    found["a naive handler"] = served([sys.executable, "-c", NAIVE], wanted, args.clients, args.seconds / 3)
    found["the library's loop, after"] = loop(classifier, args.seconds / 5)
    print(json.dumps(found, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
