"""Fingerprints of weights, and stamps that change with them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from torchbcos._core.fingerprint import fingerprint, hash_of, stamp_of


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8]
)
def test_hashes_are_of_numbers_and_not_of_memory(dtype: torch.dtype) -> None:
    x = torch.arange(24).reshape(4, 6).to(dtype)
    assert hash_of(x) == hash_of(x.t().contiguous().t()) == hash_of(x.clone())
    assert hash_of(x) != hash_of(x.reshape(6, 4)) and hash_of(x) != hash_of(x.flip(0))
    assert len({hash_of(x), hash_of(x.to(torch.float64)), hash_of(x.to(torch.complex64))}) >= 2


def test_every_number_counts() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    same, seen = copy.deepcopy(net), {fingerprint(net)}
    assert fingerprint(same) in seen
    for tensor in (*same.parameters(), *same.buffers()):
        with torch.no_grad():
            tensor.view(-1)[-1:] += 1
        seen.add(fingerprint(same))
    assert len(seen) == 1 + len([*net.parameters(), *net.buffers()])
    assert fingerprint(nn.Sequential(net)) != fingerprint(net)  # other names


def test_a_stamp_sees_whatever_writes() -> None:
    net = nn.Linear(2, 2)
    first = stamp_of(net)
    net(torch.ones(1, 2)).sum().backward()
    assert stamp_of(net) == first  # gradients are no weights
    torch.optim.SGD(net.parameters(), 0.1).step()
    second = stamp_of(net)
    net.weight.data = torch.ones(2, 2)
    third = stamp_of(net)
    net.bias = nn.Parameter(torch.ones(2))
    assert len({first, second, third, stamp_of(net)}) == 4


def test_tensors_of_inference_mode_have_a_stamp() -> None:
    with torch.inference_mode():
        net = nn.Linear(2, 2)
    assert stamp_of(net) == stamp_of(net) and fingerprint(net)
