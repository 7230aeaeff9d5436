"""Predicting a labelled split, batch by batch: the same loop for measuring, for training and for official weights."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos._core.names import hint
from torchbcos._core.numbers import positive_integer
from torchbcos.data.loading import Examples, check_batch, one_thread, whole_batches
from torchbcos.judging.outputs import Outputs as Outputs
from torchbcos.judging.saved import SavedOutputs

__all__ = ["SAVE_EVERY", "Outputs", "ProgressBar", "predict_split"]

_T = TypeVar("_T")
SAVE_EVERY = 20  # batches
_ON_ERROR = ("stop", "skip")


class ProgressBar(Protocol):  # such as the command line's; the engine itself draws nothing
    """Shows how far a walk over batches is: takes the batches and how many there are, and hands them on one by one."""

    def __call__(self, batches: Iterable[_T], count: int, /) -> Iterable[_T]:
        """Wrap the batches."""


def predict_split(
    network: nn.Module | Callable[[Tensor], Tensor],
    examples: Examples,
    *,
    batch_size: int = 64,
    workers: int = 2,
    on_error: str = "stop",
    rank: int = 0,
    world: int = 1,
    progress: ProgressBar | None = None,
    saved: SavedOutputs | None = None,
) -> Outputs:
    """Logits of a network for every example of a split that can be read.

    A module predicts in eval mode, on its own device and in its own dtype; afterwards its mode is as before.

    Args:
        network: takes encoded examples (N, C, *S) and gives logits (N, classes).
        examples: a split, encoded and not augmented.
        batch_size: examples at a time.
        workers: processes that read examples.
        on_error: "stop" at the first example that cannot be read, or "skip" and name all of them.
        rank, world: this process and how many there are: each takes every `world`-th example (see `Outputs.join`).
        progress: wraps the batches, to show how far they are.
        saved: what an interrupted walk left is not predicted again; what is predicted is written there now and then.

    Returns:
        The logits, targets and places of the examples of this process.

    Raises:
        InputError: an example cannot be read (on_error="stop"), or examples of one batch differ in shape.
        StateError: `saved` cannot be written, or a process that reads examples died.
    """
    size = positive_integer(batch_size)
    if size is None:
        raise InputError(f"batch_size must be a positive integer, not {batch_size!r}.")
    if on_error not in _ON_ERROR:
        raise InputError(f"on_error is 'stop' or 'skip', not {on_error!r}.{hint(str(on_error), _ON_ERROR)}")
    mine = range(len(examples))[rank::world]
    parts = _earlier(saved, set(mine), on_error)
    known = {row for part in parts for row in (*part.rows, *part.unreadable)}
    rest = [row for row in mine if row not in known]
    batches = [[rest[i] for i in places] for places in whole_batches(len(rest), size)]
    with torch.no_grad(), _evaluating(network), _reading():
        walk: Iterable[_Batch] = _loader(examples, batches, workers)
        for number, batch in enumerate(progress(walk, len(batches)) if progress else walk, 1):
            parts.append(_predict(network, examples, batch, on_error))
            if saved is not None and number % SAVE_EVERY == 0:
                parts = [Outputs.join(parts)]
                saved.write(parts[0])
    return Outputs.join(parts)


@dataclass(frozen=True)
class _Batch:
    """Examples of one batch that could be read, stacked (None: there are none), and those that could not."""

    x: Tensor | None
    rows: tuple[int, ...]
    unreadable: tuple[int, ...]
    failures: tuple[str, ...]
    shapes: list[tuple[int, ...]]
    firsts: tuple[int, ...] = ()  # an example of each shape


class _Readable(Dataset[tuple[int, Tensor | str]]):
    """Examples that are not replaced where they cannot be read, as they are for training: they would be counted twice."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitem__(self, row: int) -> tuple[int, Tensor | str]:
        try:
            return row, self.examples.encoded(row, 0, 0)[0]
        except BcosError as error:
            text, name = str(error), self.examples.split.names[row]
            return row, text if name in text else f"{name}: {text}"


def _collate(items: Sequence[tuple[int, Tensor | str]]) -> _Batch:
    good = [(row, x) for row, x in items if isinstance(x, Tensor)]
    lost = [(row, text) for row, text in items if isinstance(text, str)]
    shapes = sorted({tuple(x.shape) for _, x in good})
    x = torch.stack([x for _, x in good]) if len(shapes) == 1 else None
    rows, unreadable = tuple(row for row, _ in good), tuple(row for row, _ in lost)
    first = {tuple(x.shape): row for row, x in reversed(good)}
    firsts = tuple(first[shape] for shape in shapes)
    return _Batch(x, rows, unreadable, tuple(text for _, text in lost), shapes, firsts)


def _loader(examples: Examples, batches: list[list[int]], workers: int) -> DataLoader[Any]:
    return DataLoader(
        _Readable(examples), batch_sampler=batches, num_workers=workers, collate_fn=_collate,
        worker_init_fn=one_thread if workers else None, prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # else the loader draws from the generator of the caller
    )  # fmt: skip


def _predict(network: Any, examples: Examples, batch: _Batch, on_error: str) -> Outputs:
    failures = list(batch.failures)
    if (failures and on_error == "stop") or len(batch.shapes) > 1:
        failed, names = failures if on_error == "stop" else [], [examples.split.names[row] for row in batch.firsts]
        check_batch({"x": None, "failed": failed, "shapes": batch.shapes, "firsts": names}, on_error)
    targets = examples.split.targets[list(batch.rows)]
    logits = network(_placed(batch.x, network)).float().cpu() if batch.x is not None else torch.empty(0, 0)
    return Outputs(logits, targets, batch.rows, batch.unreadable, batch.failures)


def _placed(x: Tensor, network: Any) -> Tensor:
    """A batch on the network's device, in its dtype and in the order of axes that convolutions are fastest in."""
    if isinstance(network, nn.Module):
        numbers = itertools.chain(network.parameters(), network.buffers())
        like = next((t for t in numbers if t.is_floating_point()), x)
        x = x.to(like.device, like.dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _earlier(saved: SavedOutputs | None, mine: set[int], on_error: str) -> list[Outputs]:
    """What an interrupted walk left, if it is about these examples."""
    found = saved.read() if saved is not None else None
    if found is None or not mine.issuperset((*found.rows, *found.unreadable)):
        return []
    if found.failures and on_error == "stop":
        check_batch({"x": None, "failed": list(found.failures), "shapes": []}, on_error)
    return [found]


@contextmanager
def _evaluating(network: object) -> Iterator[None]:
    """Eval mode for the length of a block; afterwards every module has the mode that it had."""
    if not isinstance(network, nn.Module):
        yield
        return
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        network.train(before[0][1])  # first by the method: layers forget then what they computed once for eval mode
        for module, mode in before:
            module.training = mode


@contextmanager
def _reading() -> Iterator[None]:
    """One sentence where a process that reads examples dies; torch names its number only.

    Nothing is said of more such processes than processors: they may wait for a disk.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            yield
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, BcosError) or "DataLoader worker" not in text:
            raise
        raise StateError(
            f"A process that reads pictures died ({text.splitlines()[0][:120]}): it ran out of memory, or a file crashed it. "
            "With workers=0 the same happens here, and shows the file."
        ) from None
