"""From labelled data to batches: order and loading, each a function of the seed, the epoch and the place.

No state of a random generator is carried from one picture to the next, so a run that is resumed, or distributed over
more processes, sees the very same pictures.
"""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.names import quote
from torchbcos.data.labelled import Split
from torchbcos.pictures.preprocess import Preprocess
from torchbcos.pictures.samples import heard
from torchbcos.pictures.scan import Scan

__all__ = [
    "Examples",
    "Order",
    "check_batch",
    "collate",
    "loader",
    "one_thread",
    "read_example",
    "seed_generator",
    "seed_of",
    "whole_batches",
]

# Examples that are tried in place of an unreadable one. A single damaged file must not stop a run of days; ten in a row are
# no accident but a missing disk, and then it is better to stop than to train on the few that are left.
_SPARE = 10
_GRACE = 30  # seconds for which a worker outlives SIGTERM: as long as SLURM waits before it kills
_Key = tuple[int, int, int]  # example, epoch, copy


def seed_of(*numbers: int) -> int:
    """One seed of several numbers; close numbers give unrelated seeds.

    >>> seed_of(0, 1) == seed_of(1, 0)
    False
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def seed_generator(seed: int, device: torch.device | None = None) -> None:
    """Seed the processor's generator, and the one of an accelerator.

    `torch.manual_seed` would, where CUDA was installed and never used, write down the whole call stack for later each
    time: 0.7 ms a picture, and memory that only grows.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@dataclass
class Examples(Dataset[dict[str, Any]]):
    """One split as encoded examples, augmented or whole; an unreadable one is replaced by the next, and named.

    Args:
        split: the examples.
        prepare: resizes, crops and encodes; it alone decides how examples are encoded, where `augment` is None or the example
            has not two space axes.
        augment: for training, (example, mask, epoch) -> (encoded, mask).
        seed: of the augmentation.
        masks: of guided examples.
    """

    split: Split
    prepare: Preprocess
    augment: Callable[[Any, Tensor | None, int], tuple[Tensor, Tensor | None]] | None = None
    seed: int = 0
    masks: Any = None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: _Key | int) -> dict[str, Any]:
        began = time.perf_counter()
        index, epoch, copy = key if isinstance(key, tuple) else (key, 0, 0)
        failed: list[str] = []
        for step in range(_SPARE):
            i = (index + step) % len(self.split)
            try:
                x, mask = self.encoded(i, epoch, copy)
            except BcosError as error:
                text, name = str(error), self.split.names[i]
                failed.append(text if name in text else f"{name}: {text}")
                continue
            found = {
                "x": x, "y": self.split.targets[i], "row": i, "failed": failed, "seconds": time.perf_counter() - began,
                "name": self.split.names[i],
            }  # fmt: skip
            return found if mask is None else found | {"mask": mask}
        return {"x": None, "failed": failed}

    def encoded(self, i: int, epoch: int, copy: int) -> tuple[Tensor, Tensor | None]:
        """Example i as a network takes it, and its mask."""
        example = read_example(self.split, i, self.prepare)
        if self.augment is None or (isinstance(example, Tensor) and example.dim() != 3):
            return self.prepare.encode(self.prepare.place(example)), None
        mask = self.masks(i, _size_of(example)) if self.masks is not None else None
        with torch.random.fork_rng(devices=[]):
            seed_generator(seed_of(self.seed, epoch, copy, i))
            return self.augment(example, mask, epoch)


def read_example(split: Split, i: int, prepare: Preprocess) -> Image.Image | Tensor:
    """Example i as `prepare` takes it: a picture, RGB or grey, or numbers (C, *S) in [0, 1].

    Raises:
        InputError, MissingFileError: it cannot be read, or has another form; the message names it.
    """
    name, item = split.item(i, prepare.value_range)
    if isinstance(item, Tensor):  # of a reader of the caller's own, which says that it is ready
        return item
    if isinstance(item, Image.Image) and prepare.value_range is not None:  # it was decoded within the range
        prepare = replace(prepare, value_range=None)
    limits = None if isinstance(item, Image.Image) else split.value_range
    with heard():  # `Split.remarks` has it, once and for all
        read = prepare.read(item, name, value_range=limits)
    return read.pixels if isinstance(read, Scan) else read


def _size_of(example: Any) -> tuple[int, int]:
    """(height, width) of a picture or a tensor."""
    height, width = example.shape[-2:] if isinstance(example, Tensor) else (example.height, example.width)
    return int(height), int(width)


class Order(Sampler[list[_Key]]):
    """Which examples each step takes: a seeded permutation an epoch, cut into batches, spread over processes.

    Args:
        count: examples.
        batch: of one step and all processes; fewer where there are fewer examples.
        epochs: how many.
        seed: of the permutations.
        repeats: copies of each example in a row, which differ in augmentation (repeated augmentation, arXiv 1901.09335); the
            epoch keeps its length, so it sees 1/repeats of the examples.
        rank, world: the number of this process, and how many processes there are.
        start: batches that are already done.

    Attributes:
        stop: batches after which to end, of all epochs together; 0: at the end of the last epoch.

    >>> [len(keys) for keys in Order(10, 4, epochs=1)]
    [4, 4]
    """

    def __init__(self, count: int, batch: int, *, epochs: int = 1, seed: int = 0, repeats: int = 1, rank: int = 0, world: int = 1,
                 start: int = 0) -> None:  # fmt: skip
        if batch % world:
            raise InputError(f"A batch of {batch} cannot be divided over {world} processes: choose a multiple as batch_size.")
        self.batch = batch if batch <= count else max(world, count - count % world)
        self.count, self.epochs, self.seed, self.repeats = count, epochs, seed, repeats
        self.rank, self.world, self.start = rank, world, start
        self.per_epoch = max(1, count // self.batch)
        self.stop = 0

    def __len__(self) -> int:
        every = self.per_epoch * self.epochs
        return max(0, min(self.stop or every, every) - self.start)

    def __iter__(self) -> Iterator[list[_Key]]:
        return itertools.islice(self.batches(), len(self))

    def batches(self) -> Iterator[list[_Key]]:
        """This process's part of every batch from `start` on."""
        for epoch in range(self.start // self.per_epoch, self.epochs):
            keys = self.keys(epoch)
            first = self.start - epoch * self.per_epoch if epoch == self.start // self.per_epoch else 0
            for b in range(first, self.per_epoch):
                yield keys[b * self.batch : (b + 1) * self.batch][self.rank :: self.world]

    def keys(self, epoch: int) -> list[_Key]:
        """The examples of an epoch in order."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
        order = torch.randperm(self.count, generator=generator).tolist()
        length = max(self.per_epoch * self.batch, 1)
        return [(i, epoch, copy) for i in order for copy in range(self.repeats)][:length]


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch: tensors stacked, failures gathered.

    Raises:
        InputError: in the process that trains, by `check_batch`: examples of different shapes, or none could be read.
    """
    failed = [text for item in items for text in item["failed"]]
    good = [item for item in items if item["x"] is not None]
    shapes = sorted({tuple(item["x"].shape) for item in good})
    if len(shapes) != 1 or len(good) < len(items):
        firsts = {tuple(item["x"].shape): item["name"] for item in reversed(good)}
        return {"x": None, "failed": failed, "shapes": shapes, "firsts": [firsts[shape] for shape in shapes]}
    batch = {
        "x": torch.stack([item["x"] for item in good]), "y": torch.stack([item["y"] for item in good]), "failed": failed,
        "rows": torch.tensor([item["row"] for item in good]), "seconds": sum(item["seconds"] for item in good),
    }  # fmt: skip
    return batch | ({"mask": torch.stack([item["mask"] for item in good])} if "mask" in good[0] else {})


def check_batch(batch: dict[str, Any], on_error: str) -> list[str]:
    """What could not be read of a batch.

    Raises:
        InputError: something could not, and the recipe does not skip; or nothing could; or shapes differ.
    """
    failed: list[str] = batch["failed"]
    if failed and (on_error == "stop" or batch["x"] is None):
        if on_error == "skip":
            raise InputError(f"{_SPARE} examples in a row cannot be read, the first of them: {failed[0]}")
        raise InputError(f"{failed[0]} (--on-error skip leaves such files out.)")
    if batch["x"] is None:
        a, b = batch["shapes"][:2]
        names = batch.get("firsts", [])
        which = f" ({quote(names[0])} and {quote(names[1])})" if names[1:] else ""
        raise InputError(f"Examples of one batch need one shape, but there are {a} and {b}{which}: arrays are not cut to size.")
    return failed


def loader(examples: Examples, order: Sampler[Any], workers: int, *, pin: bool = False) -> DataLoader[dict[str, Any]]:
    """Batches in an order, read by worker processes."""
    return DataLoader(
        examples, batch_sampler=order, num_workers=workers, collate_fn=collate, pin_memory=pin,
        worker_init_fn=one_thread if workers else None, prefetch_factor=4 if workers else None,
    )  # fmt: skip


def one_thread(_: int) -> None:
    """Workers share the processor with the training: one thread each; signals are the training's to answer.

    Ctrl-C is ignored. SIGTERM, which SLURM sends to every process of a job, ends a worker some time later: the training needs
    its pictures to finish the step.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))


def whole_batches(count: int, batch: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    """All examples once, in order, in batches, every process its part."""
    mine = list(range(count))[rank::world]
    return [mine[i : i + batch] for i in range(0, len(mine), batch)]
