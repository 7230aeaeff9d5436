"""What the library sees of a tensor's memory, without being seen."""

from __future__ import annotations

import torch
from torch import nn

import torchbcos
from torchbcos._core.identity import is_looking


def test_what_the_library_looks_at_itself_is_handed_to_nobody() -> None:
    """An explanation that is made inside another's leaves no doubt about the network's weights."""
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Identity(), nn.Flatten(), nn.Linear(72, 2))
    x, runs = torch.rand(1, 3, 8, 8), []

    def again(*_: object) -> None:
        runs.append(1)
        if len(runs) == 1:
            torchbcos.explain(net, x, 0)

    net[1].register_forward_hook(again)
    torchbcos.explain(net, x, 1)
    assert len(runs) == 2 and not is_looking()  # a third run would be another input, to see whether weights move

    def hand_out(*_: object) -> None:
        runs.append(net[0].weight.untyped_storage().data_ptr())

    net[1].register_forward_hook(hand_out)
    before = len(runs)
    torchbcos.explain(net, x, 1)
    assert len(runs) == before + 4  # what a stranger takes is doubted: all runs twice
