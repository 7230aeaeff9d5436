"""What of a forward pass must be linear: what is explained, and nothing behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import StateError
from torchbcos.explanation.layer import contribution_maps


class Ends(nn.Module):
    """Four layers, the last one linear, and what follows them."""

    def __init__(self, tail: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.tail = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)), tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.body(x))


class Remembers(nn.Module):
    """An LSTM over the entries of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lstm(x.unsqueeze(-1))[0][:, -1]
        return out


TAILS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": nn.Softmax(1), "log_softmax": nn.LogSoftmax(1), "lstm": Remembers(), "exp": torch.exp, "sigmoid": torch.sigmoid,
}  # fmt: skip


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("verify", [False, True])
def test_what_follows_an_explained_module_may_bend(name: str, verify: bool) -> None:
    network, x = Ends(TAILS[name]).double().eval(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    e = torchbcos.explain(network, x, [1, 3], at="body.3", contrast=0, verify=verify)
    want = torchbcos.explain(network.body, x, [1, 3], contrast=0)
    assert torch.allclose(e.weights, want.weights, atol=1e-12) and torch.allclose(e.values, want.values, atol=1e-12)
    assert torch.equal(e.outputs, network(x)) and float(e.residual.abs().max()) < 1e-12
    assert [key.removeprefix("body.") for key in e.constants] == list(want.constants)
    with pytest.raises(StateError, match="cannot be explained"):
        torchbcos.explain(network, x, 1)
    with pytest.raises(StateError, match="cannot be explained"):  # there the value is an output
        contribution_maps(network, x, torch.tensor([1, 3]), wrt="body.0")


def test_what_is_explained_must_be_linear() -> None:
    body = Ends(torch.exp).body
    network = nn.Sequential(body, nn.Softmax(1), nn.Linear(5, 2))
    for at in ("1", "2"):
        with pytest.raises(StateError):
            torchbcos.explain(network, torch.rand(1, 3, 8, 8), 1, at=at)


class Averaged(nn.Module):
    """What the refusal of an answer at every place advises."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x).mean((2, 3))
        return out


def test_an_answer_at_every_place_is_averaged_or_one_place_is_explained() -> None:
    dense, x = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1)).double(), torch.rand(1, 3, 8, 8).double()
    advice = r"\(1, classes\), got \(1, 4, 6, 6\). Average over space .*mean\(\(2, 3\)\).*position=\(row, column\)"
    with pytest.raises(StateError, match=advice):
        torchbcos.explain(dense, x, 1)
    e = torchbcos.explain(Averaged(dense), x, 2, at="network", position=(1, 4))
    assert torch.allclose(e.values, dense(x)[:, 2:3, 1, 4]) and float(e.residual.abs().max()) < 1e-12
    assert torch.allclose(torchbcos.explain(Averaged(dense), x, 2).values, dense(x)[:, 2:3].mean((2, 3)))
    with pytest.raises(StateError, match=r"mean\(\(2,\)\)"):
        torchbcos.explain(nn.Sequential(nn.Flatten(2), nn.Linear(64, 3)), torch.rand(1, 3, 8, 8), 1)
