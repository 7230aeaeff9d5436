"""Kill a training process at random moments and resume it, many times over: DATA OUT KILLS SEED.

Prints a list of [largest difference from the uninterrupted run, kills].
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from safetensors.torch import load_file

from tests.unit.training.data import tiny
from torchbcos.training import train

torch.set_num_threads(1)
RECIPE = tiny(epochs=4, checkpoint_steps=2, mixup=0.2, cutmix=1.0)


def begin(data: Path, out: Path) -> int:
    """Train in a process of its own (forked: nothing is imported anew); its number."""
    child = os.fork()
    if child == 0:
        try:
            train(RECIPE, data, out, accelerator="cpu", devices=1, say=lambda line: print(line, file=sys.stderr))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def end(child: int) -> None:
    """Wait for a process, which must end well."""
    _, status = os.waitpid(child, 0)
    assert status == 0, status


def main() -> None:
    data, out, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    generator, found = random.Random(seed), []
    began = time.time()
    end(begin(data, out / "whole"))
    length = time.time() - began
    expected = load_file(out / "whole" / "model" / "model.safetensors")
    for k in range(kills):
        place, killed = out / f"killed-{k}", 0
        for _ in range(3):
            child = begin(data, place)
            time.sleep(generator.uniform(0, length))
            os.kill(child, signal.SIGKILL)
            killed += os.waitpid(child, 0)[1] != 0
        end(begin(data, place))
        weights = load_file(place / "model" / "model.safetensors")
        worst = max(float((weights[key].double() - value.double()).abs().max()) for key, value in expected.items())
        found.append([worst, killed])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
