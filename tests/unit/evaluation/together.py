"""A small comparison by one process or several, for tests: pictures of one colour a class, and networks that tell colours apart.

    python together.py HOW FOLDER

prints what `HOW` says as JSON. Processes are forked: nothing is imported anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from PIL import Image
from torch import nn

from torchbcos import Classifier
from torchbcos._core.errors import BcosError
from torchbcos.evaluation import compare
from torchbcos.evaluation.engines import Engine
from torchbcos.evaluation.meeting import Meeting
from torchbcos.evaluation.processes import Processes
from torchbcos.evaluation.store import Store
from torchbcos.evaluation.units import Worker

CLASSES = ("red", "green", "blue", "black")
METHODS = ("guided_backprop", "rise:samples=8", "edges")
METRICS = ("grid-pointing", "deletion:fractions=4", "label-sensitivity")
OPTIONS: dict[str, Any] = {"limit": 3, "confidence": 0.3, "device": "cpu"}
PATIENCE = 2.0


def pictures(folder: Path, *, each: int = 6) -> Path:
    """32 x 32 PNGs with noise: brightest in the colour of their class."""
    draw = torch.Generator().manual_seed(0)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            noise = torch.rand(32, 32, 3, generator=draw) * 100
            noise[8:24, 8:24, : 3 if number < 3 else 0] *= 0.3
            if number < 3:
                noise[4:28, 4:28, number] += 150
            Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / name / f"{i}.png")
    return folder


class Colours(nn.Module):
    """Some thousand weights; that it tells colours apart is not left to chance."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 8, 3, padding=1), nn.Tanh())
        self.head = nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(0.2 * torch.randn(weight.shape, generator=draw))
        self.register_buffer("colour", torch.cat([torch.eye(3) * 6 - 2, torch.full((1, 3), -3.0)])[:, :, None, None])
        self.register_buffer("shift", torch.tensor([0.0, 0.0, 0.0, 2.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = nn.functional.conv2d(x, self.colour, self.shift)
        return 3 * (own + 0.3 * self.head(self.features(x))).mean((2, 3))


def models(*, other: bool = False) -> list[Any]:
    """Two networks; `other`: the second differs from what it is elsewhere."""
    size = {"resize": 32, "crop": 32, "encoding": "none"}
    return [
        (name, Classifier(Colours(seed), class_names=CLASSES, preprocess=size, probability="softmax"))
        for name, seed in (("one", 0), ("two", 5 if other else 1))
    ]


def written(found: Any) -> str:
    """The bytes that are compared."""
    return json.dumps(found.to_dict(), sort_keys=True)


def make(data: Path, out: Path, engine: Engine | None = None, **changes: Any) -> str:
    """The comparison of all tests."""
    given = models(other=changes.pop("other", False))
    return written(compare(given, METHODS, METRICS, data, out=out, engine=engine, **{**OPTIONS, **changes}))


# -- counting ----------------------------------------------------------------------------------------------------------

_WRITE, _RUN = Store.write, Worker.run


def count_maps(log: Path) -> None:
    """Every map that is kept from now on is a line in a file of this process."""

    def write(self: Store, model: str, method: str, item: str, kept: Any) -> None:
        _WRITE(self, model, method, item, kept)
        with log.open("a") as file:
            file.write(f"{model}/{method}/{item}\n")

    Store.write = write  # type: ignore[method-assign]


def logged(folder: Path, pattern: str) -> list[str]:
    """The maps of all logs of a name."""
    return [line for file in sorted(folder.glob(pattern)) for line in file.read_text().splitlines()]


# -- several processes -------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def fork(rank: int, world: int, port: int, said: Path, work: Callable[[Engine, int], str]) -> int:
    """A process of the comparison; its number. It leaves what it made, or what it said, in a file."""
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1 + rank)  # what differs from process to process must make no difference
        torch.set_flush_denormal(rank == 1)
        meeting = Meeting(rank, world, "127.0.0.1", port, serve=rank == 0, patience=PATIENCE)
        said.write_text(work(Processes(meeting), rank))
    except BcosError as error:
        said.write_text(f"said: {error}")
    except BaseException:
        said.write_text(traceback.format_exc())
    os._exit(0)


def several(folder: Path, name: str, work: Callable[[Engine, int], str], *, world: int = 3, wait: float = 60) -> list[str]:
    """What each of several processes left; "" where it was killed, "still there" where it did not end."""
    port = free_port()
    said = [folder / f"{name}-{rank}.txt" for rank in range(world)]
    children = [fork(rank, world, port, said[rank], work) for rank in range(world)]
    ends = time.monotonic() + wait
    for child, file in zip(children, said, strict=True):
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > ends:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                file.write_text("still there")
                break
            time.sleep(0.02)
    return [file.read_text() if file.exists() else "" for file in said]


def killed_after(units: int) -> Callable[[Worker, Any], None]:
    """A `Worker.run` that is killed in a unit: maps are kept, and the numbers of the last are not."""
    done = 0

    def run(self: Worker, unit: Any) -> None:
        nonlocal done
        done += 1
        if done == units:
            note = self.store.note
            self.store.note = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
            _RUN(self, unit)
            self.store.note = note  # type: ignore[method-assign]  # all was there already
        _RUN(self, unit)

    return run


def same(folder: Path) -> dict[str, Any]:
    """One process and three; three of which one is killed, and again."""
    data = pictures(folder / "data")
    found: dict[str, Any] = {"alone": make(data, folder / "alone")}

    shutil.rmtree(folder / "alone" / "maps" / "values")
    found["from maps alone"] = make(data, folder / "alone")

    def counted(out: str, killed: int | None = None, **changes: Any) -> Callable[[Engine, int], str]:
        def work(engine: Engine, rank: int) -> str:
            count_maps(folder / f"{out}-{os.getpid()}.log")
            if killed == rank:
                Worker.run = killed_after(5)  # type: ignore[method-assign]
            made = make(data, folder / out.partition("@")[0], engine, **{k: v[rank] for k, v in changes.items()})
            return made

        return work

    found["three"] = several(folder, "three", counted("three@1"))
    found["computed"] = logged(folder, "three@1-*.log")
    found["with one killed"] = several(folder, "killed", counted("killed@1", killed=1))
    found["kept"] = logged(folder, "killed@1-*.log")
    found["again"] = several(folder, "again", counted("killed@2"))
    found["computed again"] = logged(folder, "killed@2-*.log")
    found["first killed"] = several(folder, "first", counted("first@1", killed=0))
    found["other networks"] = several(folder, "other", counted("other@1", other=[False, False, True]))
    found["left behind"] = [path.name for path in (folder / "three" / "maps").glob(".meeting*")]

    def apart(engine: Engine, rank: int) -> str:
        return make(data, folder / f"apart-{rank}", engine)

    found["apart"] = several(folder, "apart", apart)
    return found


# -- a cluster ---------------------------------------------------------------------------------------------------------


class Deadly(Colours):
    """Kills the first process that asks it for the tenth time; or each that asks it (`_always`); never this one.

    What begins with an underscore is no part of the key of a network.
    """

    _mark: Path | None = None  # of who was killed
    _always = False
    _home = 0
    _asked = (0, 0)  # which process, how often

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        here = os.getpid()
        self._asked = (here, self._asked[1] + 1 if self._asked[0] == here else 1)
        if (
            self._mark is not None
            and here != self._home
            and self._asked[1] >= (1 if self._always else 10)
            and (self._always or not self._mark.exists())
        ):
            self._mark.write_text(str(here))
            os.kill(here, signal.SIGKILL)
        return super().forward(x)


def cluster(folder: Path) -> dict[str, Any]:
    """One process, and two workers of Ray of which one is killed."""
    from torchbcos.evaluation import ray_engine

    ray_engine._MANY = 10  # the cluster predicts, too
    data = pictures(folder / "data", each=30)

    def given(mark: Path | None, always: bool) -> list[Any]:
        deadly = Deadly(0)
        deadly._mark, deadly._home, deadly._always = mark, os.getpid(), always
        size = {"resize": 32, "crop": 32, "encoding": "none"}
        return [("one", Classifier(deadly, class_names=CLASSES, preprocess=size, probability="softmax")), *models()[1:]]

    def made(out: str, mark: Path | None, engine: Engine | None, always: bool = False) -> str:
        options = {**OPTIONS, "limit": 8}
        try:
            return written(compare(given(mark, always), METHODS, METRICS, data, out=folder / out, engine=engine, **options))
        except BcosError as error:
            return f"said: {error}"

    found: dict[str, Any] = {"alone": made("alone", None, None)}
    mark = folder / "killed"
    found["cluster"] = made("cluster", mark, ray_engine.Ray(2))
    found["killed"] = mark.exists()
    found["writers"] = len(list((folder / "cluster" / "maps" / "values").glob("*.jsonl")))
    found["left behind"] = [path.name for path in (folder / "cluster" / "maps").glob(".meeting*")]
    found["always killed"] = made("always", folder / "always killed", ray_engine.Ray(2), True)
    usual = ray_engine._sign
    ray_engine._sign = lambda root: contextlib.nullcontext("another folder")  # type: ignore[assignment]
    found["another folder"] = made("another", None, ray_engine.Ray(1))
    ray_engine._sign = usual
    return found


HOW = {"same": same, "cluster": cluster}


def main(words: Sequence[str]) -> None:
    torch.set_num_threads(1)
    print(json.dumps(HOW[words[0]](Path(words[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])
