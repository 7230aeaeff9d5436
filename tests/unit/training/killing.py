"""Kill training processes and go on with them, many times over: MODE DATA OUT KILLS SEED.

Modes:
    random: one process, at random moments, three times before it may end.
    writing: one process, while it writes a checkpoint: the new file is half there, or the old one is away already.
    several: two processes, the first or the second, at random moments.
    train: no kill; trains in OUT on two processes, for the mode above.

Prints a list of [largest difference from the uninterrupted run, what was killed when].
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from safetensors.torch import load_file

from tests.unit.training.data import tiny
from torchbcos.training import train

torch.set_num_threads(1)
RECIPE = tiny(epochs=4, checkpoint_steps=2, mixup=0.2, cutmix=1.0)
PAUSE = 0.05  # seconds before each renaming of a file, where a run is to be killed in between
ALONE = 30  # seconds after which the others of a killed process must have ended
USUAL = os.replace


def slowly(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """`os.replace`, after a while."""
    time.sleep(PAUSE)
    USUAL(source, target)


def begin(data: Path, out: Path, *, slow: bool = False) -> int:
    """Train in a process of its own (forked: nothing is imported anew); its number."""
    child = os.fork()
    if child == 0:
        try:
            os.replace = slowly if slow else USUAL
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


def ended(child: int) -> bool:
    """Whether a process has ended by itself, well."""
    found, status = os.waitpid(child, os.WNOHANG)
    assert not found or status == 0, status
    return bool(found)


def half_written(folder: Path) -> bool:
    """The new checkpoint is on its way, and the old one still in its place."""
    return bool(list(folder.glob(".*.part"))) and (folder / "last.ckpt").exists()


def between(folder: Path) -> bool:
    """The old checkpoint was moved away, and the new one is not in its place yet."""
    return bool(list(folder.glob(".*.part"))) and (folder / "previous.ckpt").exists() and not (folder / "last.ckpt").exists()


def killed_at_random(data: Path, place: Path, generator: random.Random, length: float) -> list[str]:
    """Three kills at any moment, and the way to the end."""
    killed = []
    for _ in range(3):
        child, moment = begin(data, place), generator.uniform(0, length)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] != 0:
            killed.append(f"{moment:.2f} s")
    end(begin(data, place))
    return killed


def killed_while_writing(data: Path, place: Path, generator: random.Random, length: float) -> list[str]:
    """One kill while a checkpoint is written, at any of the checkpoints, and the way to the end."""
    folder, name = place / "checkpoints", generator.choice(["half written", "between"])
    moment: Callable[[Path], bool] = half_written if name == "half written" else between
    child, wait = begin(data, place, slow=True), generator.randrange(3)
    while not ended(child):
        if moment(folder):
            if wait:
                wait -= 1
                while moment(folder):
                    time.sleep(0.001)
                continue
            time.sleep(generator.uniform(0, PAUSE / 2))
            there = moment(folder)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            end(begin(data, place))
            return [name] if there else []
        time.sleep(0.001)
    return []


def command(data: Path, place: Path) -> subprocess.Popen[bytes]:
    """The same run on two processes, in a group of their own."""
    words = [sys.executable, __file__, "train", str(data), str(place), "0", "0"]
    return subprocess.Popen(words, start_new_session=True, stdout=sys.stderr, env={**os.environ, "OMP_NUM_THREADS": "1"})


def members(group: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, own = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        found += [int(stat.parent.name)] if int(own) == group and state != "Z" else []
    return sorted(found)


def killed_among_several(data: Path, place: Path, generator: random.Random, length: float) -> list[str]:
    """One kill of the first or the second process; the other ends by itself, and the same command goes on."""
    run, starting = command(data, place), generator.random() < 0.3
    moment = generator.uniform(0, length if starting else 3)
    since = (place / "checkpoints" / "last.ckpt").exists if not starting else lambda: bool(members(run.pid)[1:])
    while run.poll() is None and not since():
        time.sleep(0.05)
    time.sleep(moment)
    alive = members(run.pid)
    which = generator.randrange(2)
    if run.poll() is None and len(alive) > which:
        os.kill(alive[which], signal.SIGKILL)
    run.wait(ALONE)
    began = time.time()
    while members(run.pid):
        assert time.time() - began < ALONE, "the other process has not ended"
        time.sleep(0.1)
    killed = (
        [f"process {which}, {moment:.2f} s {'into the start' if starting else 'after a checkpoint'}"] if run.returncode else []
    )
    again = command(data, place)
    assert again.wait(300) == 0, again.returncode
    return killed


MODES = {"random": killed_at_random, "writing": killed_while_writing, "several": killed_among_several}


def main() -> None:
    mode, data, out, kills, seed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    if mode == "train":
        train(RECIPE, data, out, accelerator="cpu", devices=2, strategy="ddp", say=print)
        return
    generator, found = random.Random(seed), []
    began = time.time()
    if mode == "several":
        assert command(data, out / "whole").wait(300) == 0
    else:
        end(begin(data, out / "whole"))
    length = time.time() - began
    expected = load_file(out / "whole" / "model" / "model.safetensors")
    for k in range(kills):
        killed = MODES[mode](data, out / f"killed-{k}", generator, length)
        weights = load_file(out / f"killed-{k}" / "model" / "model.safetensors")
        worst = max(float((weights[key].double() - value.double()).abs().max()) for key, value in expected.items())
        found.append([worst, killed])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
