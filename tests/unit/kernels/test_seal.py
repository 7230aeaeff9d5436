"""A seal knows its weight from every other, and from itself after a write."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbcos.kernels.seal import Seal, sealable


@given(o=st.integers(1, 2200), c=st.integers(1, 2200), k=st.sampled_from([1, 2, 3, 5]), last=st.booleans(), data=st.data())
def test_a_filter_or_a_channel_written_without_a_word_is_seen(o: int, c: int, k: int, last: bool, data: st.DataObject) -> None:
    c = min(c, 200_000 // (o * k * k) + 1)
    weight = torch.zeros(o, c, k, k)
    weight = weight.contiguous(memory_format=torch.channels_last) if last else weight
    seal = Seal(weight)
    assert seal.holds(weight) and seal.holds(weight.detach())
    weight.data[data.draw(st.integers(0, o - 1))] = 1
    assert not seal.holds(weight)
    if last:  # elsewhere the sample meets most channels, not all
        seal = Seal(weight.zero_())
        weight.data[:, data.draw(st.integers(0, c - 1))] = 1
        assert not seal.holds(weight)


def test_one_number_is_seen_where_torch_counts_and_may_be_missed_elsewhere() -> None:
    weight = torch.zeros(512, 512, 1, 1)
    seal, missed = Seal(weight), 0
    for place in range(1, 200):
        weight.data.view(-1)[place] = 1
        missed += seal.holds(weight)
    assert missed > 0  # what the documentation warns of
    weight[0, 1] = 2
    assert not seal.holds(weight)


def test_memory_that_is_used_again_is_another_storage() -> None:
    weight = torch.zeros(256, 256)
    seal = Seal(weight)
    for _ in range(50):  # the allocator gives some of them the same address
        del weight
        weight = torch.zeros(256, 256)
        assert not seal.holds(weight)


def test_a_seal_keeps_nothing_alive() -> None:
    weight = torch.zeros(256, 256)
    seal, storage = Seal(weight), weakref.ref(weight.untyped_storage())
    other = torch.ones(256, 256)
    torch.utils.swap_tensors(weight, other)
    assert not seal.holds(weight) and seal.holds(other)
    del other
    gc.collect()
    assert storage() is None


@pytest.mark.parametrize(
    "weight", [torch.zeros(4, 8).t(), torch.zeros(1).expand(4, 4), torch.zeros(0, 4)], ids=["turned", "expanded", "empty"]
)
def test_weights_of_other_forms_are_not_sealed(weight: torch.Tensor) -> None:
    assert not sealable(weight)
    with torch.inference_mode():
        assert not sealable(torch.zeros(4, 4))
