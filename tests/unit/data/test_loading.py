"""Order, encoding and batches: functions of seed, epoch and place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.make import classes_in
from torchbcos._core.errors import InputError
from torchbcos.data.labelled import Split
from torchbcos.data.loading import Examples, Order, check_batch, collate, loader, seed_generator, seed_of, whole_batches
from torchbcos.data.sources import open_labelled
from torchbcos.pictures.preprocess import Preprocess


@given(
    count=st.integers(1, 40), batch=st.integers(1, 5), epochs=st.integers(1, 3), world=st.integers(1, 3), seed=st.integers(0, 5),
    repeats=st.integers(1, 4), data=st.data(),
)  # fmt: skip
def test_order_is_the_same_from_any_start_and_over_any_processes(
    count: int, batch: int, epochs: int, world: int, seed: int, repeats: int, data: st.DataObject
) -> None:
    batch *= world
    if count < world:
        return
    whole = list(Order(count, batch, epochs=epochs, seed=seed, repeats=repeats))
    parts = [list(Order(count, batch, epochs=epochs, seed=seed, repeats=repeats, rank=r, world=world)) for r in range(world)]
    if batch <= count:
        for b, keys in enumerate(whole):
            assert sorted(keys) == sorted(key for part in parts for key in part[b])
    start = data.draw(st.integers(0, len(whole)))
    resumed = Order(count, batch, epochs=epochs, seed=seed, repeats=repeats, start=start)
    assert list(resumed) == whole[start:]
    assert len(resumed) == len(whole) - start
    per_epoch = len(whole) // epochs
    for epoch in range(epochs):
        keys = [key for batch_keys in whole[epoch * per_epoch : (epoch + 1) * per_epoch] for key in batch_keys]
        assert len(set(keys)) == len(keys)
        assert {e for _, e, _ in keys} == {epoch}
        if repeats > 1:
            assert all(copy < repeats for _, _, copy in keys)


def test_a_small_set_repeats_too_and_order_differs_by_epoch() -> None:
    keys = [k for b in Order(10, 256, epochs=1, repeats=4) for k in b]  # the official sampler yields nothing below 256
    assert len(keys) == 10
    assert len({i for i, _, _ in keys}) == 3
    first, second = list(Order(50, 50, epochs=2))
    assert [i for i, _, _ in first] != [i for i, _, _ in second]
    with pytest.raises(InputError, match="cannot be divided over 2 processes"):
        Order(10, 3, world=2)


def test_unreadable_examples_are_replaced_named_and_counted(tmp_path: Path) -> None:
    data = open_labelled(classes_in(tmp_path)).train
    (tmp_path / "a" / "1.png").write_bytes(b"broken")
    (tmp_path / "a" / "2.png").unlink()
    examples = Examples(data, Preprocess(resize=8, crop=8))
    batch = collate([examples[(1, 0, 0)], examples[(5, 0, 0)]])
    assert batch["y"].tolist() == [1, 1]
    assert len(batch["failed"]) == 2
    assert "1.png" in batch["failed"][0] and "2.png" in batch["failed"][1]
    assert check_batch(batch, "skip") == batch["failed"]
    with pytest.raises(InputError, match=r"1.png.*--on-error skip"):
        check_batch(batch, "stop")


def test_examples_of_several_shapes_get_one_sentence() -> None:
    split = Split(["x", "y"], torch.tensor([0, 1]), lambda i: torch.zeros(1, 4 + i), (0, 1))
    examples = Examples(split, Preprocess(encoding="none"))
    with pytest.raises(InputError, match=r"one shape, but there are \(1, 4\) and \(1, 5\)"):
        check_batch(collate([examples[0], examples[1]]), "stop")


def test_worker_processes_read_the_same(tmp_path: Path) -> None:
    examples = Examples(open_labelled(classes_in(tmp_path, 5)).train, Preprocess(resize=8, crop=8))
    rows = whole_batches(10, 4)
    alone, others = [[b["x"] for b in loader(examples, rows, n)] for n in (0, 1)]  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(alone, others, strict=True))
    assert sorted(i for r in range(3) for b in whole_batches(10, 4, r, 3) for i in b) == list(range(10))


def test_seeds_of_close_numbers_differ() -> None:
    found = {seed_of(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(found) == 125


def test_seeding_leaves_nothing_behind() -> None:
    # torch.manual_seed queues a call, with the whole stack, for a CUDA that may never come
    waiting = len(torch.cuda._queued_calls)
    drawn = []
    for seed in (1, 2, 1):
        seed_generator(seed)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[2] != drawn[1]
    assert len(torch.cuda._queued_calls) == waiting


def test_arrays_of_two_axes_are_judged_at_the_size_of_pictures() -> None:
    split = Split(["a"], torch.tensor([0]), lambda i: torch.rand(2, 20, 30), (0,))
    prepare = Preprocess(resize=8, crop=8)
    assert Examples(split, prepare)[0]["x"].shape == (4, 8, 8)
    assert Examples(split, Preprocess(resize=8, crop=8, encoding="none"))[0]["x"].shape == (2, 8, 8)
    plain = Preprocess(resize=8, crop=8, encoding="normalize", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    failed = Examples(split, plain)[0]["failed"]  # it was left unnormalised, without a word
    assert "'normalize' has a mean and std for three channels, and here are 2: encoding='none'" in failed[0]
    rgb = Split(["a"], torch.tensor([0]), lambda i: torch.ones(3, 20, 30), (0,))
    assert float((Examples(rgb, plain)[0]["x"] - 1).abs().max()) < 1e-6  # (1 - 0.5) / 0.5
