"""Splits, and reading single examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.make import classes_in
from torchbcos._core.errors import InputError
from torchbcos.data.labelled import Split, split_rows
from torchbcos.data.sources import open_labelled


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=5), share=st.floats(0.01, 0.5), seed=st.integers(0, 9))
def test_splits_are_disjoint_complete_and_stratified(counts: list[int], share: float, seed: int) -> None:
    targets = torch.tensor([c for c, n in enumerate(counts) for _ in range(n)])
    rest, held = split_rows(targets, share, seed)
    assert sorted(rest + held) == list(range(len(targets)))
    assert split_rows(targets, share, seed) == (rest, held)
    for c, n in enumerate(counts):
        found = sum(int(targets[i]) == c for i in held)
        assert found == (0 if n == 1 else min(max(1, round(share * n)), n - 1))


@given(
    sets=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=12),
    share=st.floats(0.01, 0.6), seed=st.integers(0, 9), wide=st.booleans(),
)  # fmt: skip
def test_copies_stay_on_one_side(sets: list[tuple[int, int]], share: float, seed: int, wide: bool) -> None:
    classes = [c for c, n in sets for _ in range(n)]
    twins = [k for k, (_, n) in enumerate(sets) for _ in range(n)]
    targets = torch.nn.functional.one_hot(torch.tensor(classes)).float() if wide else torch.tensor(classes)
    rest, held = split_rows(targets, share, seed, twins)
    assert sorted(rest + held) == list(range(len(classes)))
    for group in {0} if wide else set(classes):
        mine = {twins[i] for i in range(len(twins)) if wide or classes[i] == group}
        if len(mine) > 1:  # a class of copies alone is divided: there would be nothing to hold out
            assert not mine & {twins[i] for i in rest} & {twins[i] for i in held}
            assert mine & {twins[i] for i in rest} and mine & {twins[i] for i in held}
    alone = list(range(len(classes)))
    assert split_rows(targets, share, seed, alone) == split_rows(targets, share, seed)


def test_fingerprints_notice_files_and_targets(tmp_path: Path) -> None:
    split = open_labelled(classes_in(tmp_path)).train
    assert split.fingerprint() == open_labelled(tmp_path).train.fingerprint()
    other = Split(split.names, split.targets.flip(0), split.reader, split.rows)
    assert len({split.fingerprint(), other.fingerprint(), split.take([0, 1, 2, 3, 4]).fingerprint()}) == 3


def test_arrays(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "volume.npy", np.full((2, 3, 4, 5), 255, np.uint8))
    found = open_labelled(tmp_path)
    tensor = found.train.read(0)
    assert tensor.shape == (2, 3, 4, 5)
    assert float(tensor.max()) == 1
    np.save(tmp_path / "a" / "volume.npy", np.array([1.0, np.nan]))
    with pytest.raises(InputError, match="NaN or infinity"):
        found.train.read(0)
    np.save(tmp_path / "a" / "volume.npy", np.array(["x"]))
    with pytest.raises(InputError, match="numbers of shape"):
        found.train.read(0)
    np.save(tmp_path / "a" / "volume.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"no .npy file that can be read: it holds Python objects"):
        found.train.read(0)
