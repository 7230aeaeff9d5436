"""Where an explanation came from, without keeping the network alive."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

import torchbcos
from torchbcos._core.errors import StateError
from torchbcos._core.fingerprint import fingerprint
from torchbcos.explanation.origin import Origin


def test_weights_are_those_that_explained() -> None:
    net = nn.Linear(3, 2)
    origin = Origin(net, {"products": None, "output": None})
    assert origin.weights() == (fingerprint(net), 8) and origin.with_card("card").card == "card" and origin.card is None
    assert origin.with_card("card").weights() == origin.weights() and copy.deepcopy(origin) is origin
    with torch.no_grad():
        net.weight.add_(1)
    with pytest.raises(StateError, match="changed since"):
        origin.weights()


def test_an_explanation_keeps_no_network_alive() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    e, seen = torchbcos.explain(net, torch.rand(2, 3, 8, 8)), weakref.ref(net)
    assert e.origin is not None and e[0].origin is e.origin is e.detach().origin
    del net
    gc.collect()
    assert seen() is None and pickle.loads(pickle.dumps(e)).origin is None and copy.deepcopy(e).origin is e.origin
    with pytest.raises(StateError, match="is gone"):
        e.origin.weights()


def test_how_it_was_asked_is_kept() -> None:
    class Gate(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": (x * x.roll(1, 1)).flatten(1)[:, :3]}

    e = torchbcos.explain(Gate(), torch.rand(1, 3, 4, 4), 1, products="half", output="logits")
    assert e.origin is not None and e.origin.options == {"products": "half", "output": "logits"}
