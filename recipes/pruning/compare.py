"""The embedded network of ten classes, pruned: what repairs are worth, and what evolution finds.

    python recipes/pruning/compare.py repairs --data DATA                  how much is left at the same operations, by repair
    python recipes/pruning/compare.py search --data DATA --out FOLDER      evolution against uniform widths and random search
    python recipes/pruning/compare.py speed --model FOLDER                 the pruned network beside the given one, in pairs

Layers are fitted to training pictures of Imagenette; `repairs` and `search` are judged by validation pictures, which no layer was
fitted to and which nothing is chosen by. What came out: docs/explanation/pruning.md; `make pruning` runs all of it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

import torchbcos
from torchbcos import functional
from torchbcos.search import Candidate, Judge, Pruner, hypervolume, search

FITTED, JUDGED = 192, 300
WORST = (1.01, 0.92)  # operations and errors that count for nothing: a little more than all, and guessing among ten, nearly


def pictures(data: Path, shard: str, count: int, side: int) -> tuple[Tensor, Tensor]:
    """(N, 6, side, side) encoded pictures, and their classes."""
    numbers = {row["wnid"]: int(row["class"]) for row in csv.DictReader((data / "imagenette" / "classes.csv").open())}
    x, y = [], []
    with tarfile.open(data / "imagenette" / shard) as archive:
        for member in archive.getmembers()[:count]:
            content = archive.extractfile(member)
            assert content is not None
            photo = Image.open(io.BytesIO(content.read())).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            x.append(torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8).view(side, side, 3).permute(2, 0, 1) / 255)
            y.append(numbers[member.name.split("/")[0]])
    return functional.add_inverse(torch.stack(x)), torch.tensor(y)


def repairs(data: Path, side: int) -> list[dict[str, Any]]:
    """Uniform widths, by repair and by ranking."""
    network = torchbcos.load("imagenette", deploy=False).model
    x, _ = pictures(data, "train-0000.tar", FITTED, side)
    judge = Judge(*pictures(data, "val-0000.tar", JUDGED, side), grids=40)
    rows = [{"repair": "given", "flops": 1.0, "accuracy": judge.accuracy(network), "localisation": judge.localisation(network)}]
    for ranking in ("magnitude", "contribution"):
        for repair in ("none", "norms", "least_squares"):
            pruner = Pruner(network, x, repair=repair, ranking=ranking)
            for share in (0.65, 0.51, 0.39):
                found = judge.look(pruner, pruner.uniform(share))
                rows.append({"repair": repair, "ranking": ranking, **vars(found)})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def compared(data: Path, out: Path, side: int, evaluations: int) -> list[dict[str, Any]]:
    """Evolution and random search, as many candidates each, three seeds; networks that both look at are judged once."""
    network = torchbcos.load("imagenette", deploy=False).model
    pruner = Pruner(network, pictures(data, "train-0000.tar", FITTED, side)[0])
    judge = Remembering(*pictures(data, "val-0000.tar", JUDGED, side), grids=0)
    rows = []
    for seed in range(3):
        for control in (False, True):
            found = search(
                pruner, judge, population=12, evaluations=evaluations, seed=seed, control=control,
                journal=out / f"{'random' if control else 'evolution'}-{seed}.jsonl",
            )  # fmt: skip
            uniform = [one for one in found.candidates if len(set(one.steps)) == 1]
            volume = hypervolume([one.aims(found.aims) for one in found.candidates], WORST)
            flat = hypervolume([one.aims(found.aims) for one in uniform], WORST)
            rows.append({"seed": seed, "random": control, "volume": volume, "uniform": flat, "front": len(found.front())})
            print(json.dumps(rows[-1]), flush=True)
    return rows


class Remembering(Judge):
    """A judge that looks at each candidate once."""

    def look(self, pruner: Pruner, steps: tuple[int, ...]) -> Candidate:
        """Build a candidate, and judge it, unless that was done."""
        known = self.__dict__.setdefault("known", {})
        if steps not in known:
            known[steps] = super().look(pruner, steps)
        found: Candidate = known[steps]
        return found


def speed(model: Path, side: int) -> dict[str, Any]:
    """Seconds of the pruned network for one of the given one, deployed both, in interleaved pairs; and the given one twice."""
    given, pruned = torchbcos.load("imagenette").model, torchbcos.load(model).model
    found = {}
    for batch in (1, 16):
        x = functional.add_inverse(torch.rand(batch, 3, side, side))
        for name, call in (("predict", _predict), ("explain", _explain)):
            pairs = [next(_ratios(call, given, pruned, given, x)) for _ in range(15)]
            found[f"{name}, {batch}"] = {
                "pruned / given": round(statistics.median(a for a, _ in pairs), 3),
                "given / given": round(statistics.median(b for _, b in pairs), 3),
            }
    print(json.dumps(found, indent=1))
    return found


def _predict(network: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        network(x)


def _explain(network: nn.Module, x: Tensor) -> None:
    torchbcos.explain(network, x, [0] * len(x))


def _ratios(call: Any, a: nn.Module, b: nn.Module, c: nn.Module, x: Tensor) -> Iterator[tuple[float, float]]:
    times = []
    for network in (a, b, c):
        began = time.perf_counter()
        call(network, x)
        times.append(time.perf_counter() - began)
    yield times[1] / times[0], times[2] / times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["repairs", "search", "speed"])
    parser.add_argument("--data", type=Path, help="folder with imagenette")
    parser.add_argument("--out", type=Path, default=Path("pruning"), help="folder of journals and numbers")
    parser.add_argument("--model", type=Path, help="a pruned model, for speed")
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--evaluations", type=int, default=60)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "repairs":
        found: Any = repairs(given.data, given.side)
    elif given.what == "search":
        found = compared(given.data, given.out, given.side, given.evaluations)
    else:
        found = speed(given.model, given.side)
    (given.out / f"{given.what}.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
