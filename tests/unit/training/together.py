"""Start two trainings on one folder together, again and again: DATA OUT TIMES.

Prints a list of [how each ended: "trained", or what it said; whether recipe, card and model are of the one that trained].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch

from tests.unit.training.data import tiny
from torchbcos._core.errors import BcosError
from torchbcos.training import read_recipe, train

torch.set_num_threads(1)
RATES = (1e-3, 1e-4)


def begin(data: Path, out: Path, rate: float, start: float, said: Path) -> int:
    """Train in a process of its own, from a moment on; its number."""
    child = os.fork()
    if child == 0:
        try:
            time.sleep(max(0.0, start - time.time()))
            train(tiny(epochs=1, lr=rate), data, out, accelerator="cpu", devices=1, say=lambda line: None)
            said.write_text("trained")
        except BcosError as error:
            said.write_text(str(error))
        except BaseException as error:
            said.write_text(f"traceback: {error!r}")
        os._exit(0)
    return child


def once(data: Path, out: Path) -> tuple[list[str], bool]:
    """How two trainings that begin together end, and whether the folder is of one of them."""
    with tempfile.TemporaryDirectory() as place:
        said = [Path(place, str(k)) for k in range(2)]
        start = time.time() + 0.3
        for child in [begin(data, out, rate, start, file) for rate, file in zip(RATES, said, strict=True)]:
            os.waitpid(child, 0)
        ends = [file.read_text() for file in said]
    rates = {RATES[k] for k, end in enumerate(ends) if end == "trained"}
    kept = read_recipe(out / "recipe.toml")[0].lr
    cards = [json.loads((out / name).read_text())["recipe"]["lr"] for name in ("card.json", "model/card.json")]
    return ends, {kept, *cards} == rates


def main() -> None:
    data, out, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    print(json.dumps([once(data, out / str(k)) for k in range(times)]))


if __name__ == "__main__":
    main()
