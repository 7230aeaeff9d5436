"""What a network raises while it is watched: its own errors are its own, ours are one sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import StateError


class Net(nn.Module):
    """A signal is changed by a function, and classified."""

    def __init__(self, use: Callable[[Tensor], Tensor] = F.silu) -> None:
        super().__init__()
        self.conv, self.head, self.use = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), use

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.use(self.conv(x)).mean((-2, -1)))
        return scores


class Own(Exception):
    """An error of the network's author."""


def raising(error: Exception, *, watched: bool) -> Net:
    """A network that raises: always, or while it is watched."""

    runs: list[Tensor] = []

    def use(x: Tensor) -> Tensor:
        runs.append(x)
        if not watched or len(runs) == 1:  # the first run is the watched one
            raise error
        return x

    return Net(use).eval()


@pytest.mark.parametrize("error", [TypeError("a"), ValueError("b"), IndexError("c"), KeyError("d"), RuntimeError("e"), Own("f")])
def test_an_error_that_the_watch_brings_is_ours(error: Exception) -> None:
    with pytest.raises(StateError, match=f"runs, but not while its operations are watched.*{error.args[0]}") as caught:
        torchbcos.explain(raising(error, watched=True), torch.rand(1, 3, 6, 6))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [TypeError("a"), ValueError("b"), IndexError("c"), KeyError("d"), RuntimeError("e"), Own("f")])
def test_an_error_of_the_network_is_its_own(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        torchbcos.explain(raising(error, watched=False), torch.rand(1, 3, 6, 6))
    assert caught.value is error


def test_a_network_that_runs_without_gradients_only() -> None:
    with pytest.raises(StateError, match=r"runs without gradients only.*requires grad"):
        torchbcos.explain(Net(lambda x: x + x.new_tensor(x.numpy().mean())).eval(), torch.rand(1, 3, 6, 6))


@pytest.mark.parametrize("training", [False, True])
def test_a_single_picture_is_told_apart_from_a_batch(training: bool) -> None:
    with pytest.raises(StateError, match=r"One image \(C, H, W\) is explained as x\[None\]"):
        torchbcos.explain(Net().train(training), torch.rand(3, 6, 6))


def test_a_number_around_a_signal_is_named_in_every_spelling() -> None:
    x = torch.rand(1, 3, 6, 6)
    for use in (
        lambda y: F.pad(y, (1, 1), value=0.5),
        lambda y: torch.constant_pad_nd(y, (1, 1), 0.5),
        lambda y: torch.constant_pad_nd(y, pad=(1, 1), value=0.5),
    ):
        e = torchbcos.explain(Net(use).eval(), x)
        assert float(e.constants["padding"].abs().max()) > 0 and bool(e.complete.all())
