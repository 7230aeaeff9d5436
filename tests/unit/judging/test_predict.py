"""The engine that predicts a split: every readable example once, in any number of parts, and the network left as it was."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError, StateError
from torchbcos.data import Split
from torchbcos.data.loading import Examples
from torchbcos.judging import Outputs, SavedOutputs, predict, predict_split
from torchbcos.pictures import Preprocess


class Numbers:
    """Example i is a picture of the number i / 100; some cannot be read, some have a shape of their own."""

    def __init__(self, *broken: int, wide: int = -1) -> None:
        self.broken, self.wide, self.reads = broken, wide, [0] * 40

    def __call__(self, i: int) -> Tensor:
        self.reads[i] += 1
        if i in self.broken:
            raise InputError(f"picture {i} is broken")
        return torch.full((1, 2, 3 if i == self.wide else 2), i / 100)


def examples(reader: Any, count: int = 10, targets: Tensor | None = None) -> Examples:
    targets = torch.arange(count) % 2 if targets is None else targets
    split = Split([f"picture {i}" for i in range(count)], targets, reader, tuple(range(count)))
    return Examples(split, Preprocess(resize=None, crop=None))


class Means(nn.Module):
    """Logits (mean, 1 - mean) of an encoded picture; notes the batches that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.drop, self.frozen = nn.Dropout(0.5), nn.Dropout(0.5)
        self.frozen.eval()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training and not self.drop.training and not torch.is_grad_enabled()
        self.seen.append(x)
        return self.drop(x.mean((2, 3)) * self.scale)


def means(outputs: Outputs) -> list[int]:
    return [round(100 * float(value)) for value in outputs.logits[:, 0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_example_once_in_order(workers: int) -> None:
    network = Means()
    outputs = predict_split(network, examples(Numbers()), batch_size=4, workers=workers)
    assert means(outputs) == list(range(10)) == list(outputs.rows) and outputs.logits.dtype == torch.float32
    assert outputs.targets.tolist() == [0, 1] * 5 and outputs.unreadable == outputs.failures == ()
    assert [len(x) for x in network.seen] == [4, 4, 2]
    assert network.training and network.drop.training and not network.frozen.training


def test_examples_that_cannot_be_read_are_named_and_not_replaced() -> None:
    reader, network = Numbers(0, 1, 4, 5, 6, 7), Means()
    outputs = predict_split(network, examples(reader), batch_size=2, workers=0, on_error="skip")
    assert means(outputs) == [2, 3, 8, 9] == list(outputs.rows) and outputs.unreadable == (0, 1, 4, 5, 6, 7)
    assert outputs.failures == tuple(f"picture {i} is broken" for i in outputs.unreadable)
    assert outputs.targets.tolist() == [0, 1, 0, 1]
    assert reader.reads[:10] == [1] * 10 and sum(len(x) for x in network.seen) == 4  # nothing is computed in their place
    none = predict_split(network, examples(Numbers(*range(10))), workers=0, on_error="skip")
    assert none.rows == () and none.unreadable == tuple(range(10)) and len(none.logits) == 0
    with pytest.raises(InputError, match=r"picture 4 is broken .*--on-error skip"):
        predict_split(network, examples(Numbers(4)), batch_size=2, workers=0)
    assert network.training and network.drop.training and not network.frozen.training  # after an error, too


def test_shapes_of_one_batch() -> None:
    with pytest.raises(InputError, match=r"need one shape, but there are \(2, 2, 2\) and \(2, 2, 3\)"):
        predict_split(Means(), examples(Numbers(1, wide=2)), workers=0, on_error="skip")


@pytest.mark.parametrize("size", [0, -1, True, 2.0])
def test_batch_sizes(size: Any) -> None:
    with pytest.raises(InputError, match="batch_size must be a positive integer"):
        predict_split(Means(), examples(Numbers()), batch_size=size, workers=0)


def test_what_to_do_at_errors_is_one_of_two_words() -> None:
    with pytest.raises(InputError, match=r"on_error is 'stop' or 'skip', not 'skpi'\. Did you mean 'skip'"):
        predict_split(Means(), examples(Numbers(1)), workers=0, on_error="skpi")


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("labels", [0, 3])
def test_processes_share_a_split(count: int, labels: int) -> None:
    """Together they say what one says, also where there are more of them than examples."""
    targets = torch.randint(2, (count, labels)).float() if labels else None
    whole = predict_split(Means(), examples(Numbers(1), count, targets), workers=0, on_error="skip")
    parts = [
        predict_split(Means(), examples(Numbers(1), count, targets), batch_size=2, workers=0, on_error="skip", rank=rank, world=3)
        for rank in range(3)
    ]
    joined = Outputs.join(parts[::-1])
    assert torch.equal(joined.logits, whole.logits) and torch.equal(joined.targets, whole.targets)
    assert (joined.rows, joined.unreadable, joined.failures) == (whole.rows, whole.unreadable, whole.failures)


def test_dtype_and_order_of_axes_are_the_networks() -> None:
    network = Means().double()
    predict_split(network, examples(Numbers()), workers=0)
    [x] = network.seen
    assert x.dtype == torch.float64 and x.is_contiguous(memory_format=torch.channels_last)
    assert means(predict_split(lambda x: x.mean((2, 3)), examples(Numbers()), workers=0)) == list(range(10))  # any function


def test_the_callers_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    predict_split(Means(), examples(Numbers()), workers=0)
    assert torch.equal(before, torch.get_rng_state())


class Deadly(Numbers):
    def __call__(self, i: int) -> Tensor:
        if i == 7:
            os._exit(1)
        return super().__call__(i)


def test_a_reading_process_that_dies_is_one_sentence() -> None:
    network = Means()
    with pytest.raises(StateError, match=r"A process that reads pictures died \(.*workers=0"):
        predict_split(network, examples(Deadly()), batch_size=2, workers=1)
    assert network.training

    def fails(x: Tensor) -> Tensor:
        raise RuntimeError("of the network's own")

    with pytest.raises(RuntimeError, match="of the network's own"):
        predict_split(fails, examples(Numbers()), workers=0)


def interrupt(after: int) -> Any:
    def progress(batches: Iterable[Any], count: int) -> Iterable[Any]:
        for number, batch in enumerate(batches):
            if number == after:
                raise KeyboardInterrupt
            yield batch

    return progress


def test_an_interrupted_walk_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "SAVE_EVERY", 1)
    saved, reader = SavedOutputs(tmp_path / "a.json", ["model", 1]), Numbers(1)
    options = {"batch_size": 2, "workers": 0, "on_error": "skip"}
    whole = predict_split(Means(), examples(Numbers(1)), **options)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        predict_split(Means(), examples(reader), saved=saved, progress=interrupt(3), **options)  # type: ignore[arg-type]
    network = Means()
    again = predict_split(network, examples(reader), saved=saved, **options)  # type: ignore[arg-type]
    assert sum(len(x) for x in network.seen) == 4 and torch.equal(again.logits, whole.logits)
    assert (again.rows, again.unreadable, again.failures) == (whole.rows, whole.unreadable, whole.failures)
    with pytest.raises(InputError, match="picture 1 is broken"):  # what was skipped then is not allowed now
        predict_split(Means(), examples(reader), saved=saved, batch_size=2, workers=0)
    other = predict_split(Means(), examples(Numbers(), 4), saved=saved, batch_size=2, workers=0)
    assert other.rows == (0, 1, 2, 3)  # the file is about more examples than there are


def test_nothing_is_said_of_many_workers(recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    predict_split(Means(), examples(Numbers(), 4), workers=2)
    assert [str(w.message) for w in recwarn if "worker" in str(w.message)] == []
