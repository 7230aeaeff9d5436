"""Reads spoiled files one after the other, and prints a line of JSON about each: taken or refused, and the faults in that."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch

import torchbcos
from tests.fuzz.scans import read_slices, read_volume
from tests.fuzz.seeds import FOREIGN, NETWORK, OPTIONS, prepare, proved, seeds_of, spoiled
from tests.reference import proofs as slow
from torchbcos.data import open_labelled
from torchbcos.pictures import Preprocess
from torchbcos.training.distillation import Teacher
from torchbcos.training.network import build_network
from torchbcos.training.recipe import read_recipe
from torchbcos.zoo import official_cards

LONGEST = 10  # seconds a file
MOST = 2048  # MiB a process

_RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn", "socket.connect", 
         "socket.getaddrinfo", "pickle.find_class", "ctypes.dlopen"}  # fmt: skip
_WRITES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "shutil.rmtree"}
_FOREIGN = {"evil", "antigravity", "this"}


class _Watch:
    """An audit hook: what a file made the interpreter do. Hooks cannot be taken away, so this one is switched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on, self.seen = str(folder.resolve()), False, list[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _RUNS or (event == "import" and arguments[0] in _FOREIGN):
            self.seen.append(f"{event} {str(arguments)[:100]}")
        elif event in _WRITES or (event == "open" and self._writes(arguments)):
            place = (
                os.path.realpath(os.fspath(arguments[0])) if isinstance(arguments[0], str | os.PathLike) else str(arguments[0])
            )
            if not place.startswith((self.folder + os.sep, "/dev/null", "/proc/self")) and "__pycache__" not in place:
                self.seen.append(f"{event} outside: {place[:100]}")

    @staticmethod
    def _writes(arguments: tuple[Any, ...]) -> bool:
        return isinstance(arguments[0], str) and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def _read_card(file: Path) -> None:
    clf = torchbcos.load(file.parent, device="cpu")
    clf.predict(torch.rand(3, 32, 32) if clf.model.in_channels == 6 else torch.rand(clf.model.in_channels, 32, 32))


def _read_recipe(file: Path) -> None:
    recipe, _ = read_recipe(file)
    if any(name.startswith("hf-hub:") or name in {"official", *official_cards()} for name in (recipe.pretrained, recipe.teacher)):
        return  # it asks for weights from the network, which SECURITY.md says it may
    build_network(recipe, 3, 6)
    if recipe.teacher:
        Teacher(recipe, Preprocess(resize=32, crop=32))


def _read_labelled(file: Path) -> None:
    labelled = open_labelled(file)
    for split in (labelled.train, labelled.report):
        for i in range(min(len(split), 20) if split is not None else 0):
            split.read(i)


def _read_weights(file: Path) -> None:
    torchbcos.create_model(NETWORK, weights=file, **OPTIONS)


def _read_proof(file: Path) -> None:
    """A proof is verified; one that was changed and whose checksum does not fit must never be taken."""
    network, x = proved()
    str(torchbcos.verify(file, network, input=x))
    slow.read(file.read_bytes())


_READERS: dict[str, Callable[[Path], None]] = {
    "card": _read_card,
    "recipe": _read_recipe,
    "shard": lambda file: _read_labelled(file.parent),
    "table": _read_labelled,
    "npy": lambda file: _read_labelled(file.parents[1]),
    "pth": _read_weights,
    "dicom": read_slices,
    "nifti": read_volume,
    "proof": _read_proof,
}


def _faults_of(message: str) -> list[str]:
    """What is wrong with a sentence."""
    odd = [c for c in message if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]
    return [
        *([f"message of {len(message)} characters"] if len(message) > 500 else []),
        *([f"control characters {odd[:3]!r} in: {message[:200]!r}"] if odd else []),
        *([f"inner words in: {message[:200]!r}"] if "Traceback" in message or "site-packages" in message else []),
    ]


def _read(kind: str, file: Path, watch: _Watch) -> tuple[str, list[str]]:
    """Whether one file was taken or refused, and the faults in that."""
    try:
        watch.on = True
        _READERS[kind](file)
        outcome, faults = "taken", list[str]()
    except torchbcos.BcosError as error:
        outcome, faults = "refused", _faults_of(str(error))
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "torchbcos" in f.filename][-1:]
        at = f"{Path(ours[0].filename).name}:{ours[0].lineno}" if ours else f"{last.filename}:{last.lineno}"
        outcome, faults = "traceback", [f"{type(error).__name__} at {at}: {str(error)[:200]!r}"]
    finally:
        watch.on = False
    return outcome, faults


def _forget_memory() -> None:
    """Begin anew to measure the most memory: to spoil a file may have taken more than to read it."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def _most_memory() -> int:
    """MiB that this process had at most; `ru_maxrss` is no less than what its parent had."""
    peak = next(line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) // 1024


def _files(kind: str, folder: Path, watch: _Watch, seed: int, numbers: range, out: TextIO) -> None:
    """Read the files of a kind with these numbers."""
    file = prepare(kind, folder / kind)
    os.chdir(folder / kind)
    there = set((folder / kind).rglob("*"))
    for i, sound in enumerate(seeds_of(kind)):  # what is imported late, is imported now; and what is sound must be taken
        if i not in FOREIGN.get(kind, ()):
            file.write_bytes(sound)
            outcome, faults = _read(kind, file, watch)
            if outcome != "taken":
                raise SystemExit(f"the sound {kind} {i} was {outcome}: {faults}")
    watch.seen.clear()
    for number in numbers:
        file.write_bytes(spoiled(kind, number, seed))
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        _forget_memory()
        begun = time.monotonic()
        outcome, faults = _read(kind, file, watch)
        seconds = time.monotonic() - begun
        faulthandler.cancel_dump_traceback_later()
        memory = _most_memory()
        if memory > MOST:
            faults.append(f"memory: {memory} MiB")
        faults += [f"watched: {one}" for one in dict.fromkeys(watch.seen)]
        watch.seen.clear()
        for one in set((folder / kind).rglob("*")) - there - {file}:
            if one.name == "executed":
                faults.append("executed: the payload ran")
            if one.is_file():
                one.unlink()
        for name in _FOREIGN:
            sys.modules.pop(name, None)
        record = {"kind": kind, "number": number, "outcome": outcome, "faults": faults, "memory": memory, "seconds": seconds}
        print(json.dumps(record), file=out, flush=True)


def main() -> None:
    kinds, folder, seed, first, last = sys.argv[1].split(","), Path(sys.argv[2]).resolve(), *(int(text) for text in sys.argv[3:])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    out, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # what the library prints is no report
    watch = _Watch(folder)
    for kind in kinds:
        _files(kind, folder, watch, seed, range(first, last), out)


if __name__ == "__main__":
    main()
