"""Grids of a step's own pictures: the share of a cell against a plain twin, its derivative, and what training makes of it."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.explanation.layer import contribution_maps
from torchbcos.functional import add_inverse
from torchbcos.training import find_recipe
from torchbcos.training.mosaic import Mosaic, net_share


def slow_share(grid: list[list[float]], cell: int, smooth: int) -> float:
    """By loops over pixels."""
    height, width, half = len(grid), len(grid[0]), smooth // 2

    def even(row: int, column: int) -> float:
        seen = [
            grid[i][j]
            for i in range(max(0, row - half), min(height, row + half + 1))
            for j in range(max(0, column - half), min(width, column + half + 1))
        ]
        return math.fsum(seen) / len(seen)

    smoothed = [[even(i, j) for j in range(width)] for i in range(height)]
    rows = range(height // 2) if cell < 2 else range(height // 2, height)
    columns = range(width // 2) if cell % 2 == 0 else range(width // 2, width)
    inside = math.fsum(smoothed[i][j] for i in rows for j in columns)
    return inside / math.fsum(abs(value) for line in smoothed for value in line)


@given(
    height=st.integers(1, 4), width=st.integers(1, 4), cell=st.integers(0, 3), smooth=st.sampled_from([1, 3, 5, 7]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_share_of_a_cell_is_that_of_the_twin(height: int, width: int, cell: int, smooth: int, seed: int) -> None:
    torch.manual_seed(seed)
    maps = torch.randn(2, 2 * height, 2 * width, dtype=torch.float64)
    found = net_share(maps, torch.tensor([cell, 3 - cell]), smooth)
    wanted = [slow_share(maps[i].tolist(), c, smooth) for i, c in enumerate((cell, 3 - cell))]
    assert found.tolist() == pytest.approx(wanted, abs=1e-12)
    assert float(found.abs().max()) <= 1 + 1e-12
    torch.testing.assert_close(net_share(maps * 7, torch.tensor([cell, 3 - cell]), smooth), found)  # of any size of the logit


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        bnn.BcosConv2d(6, 8, 3, padding=1, b=1.5), bnn.BcosConv2d(8, 4, 1, b=1.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).double()


def answer_to(network: nn.Module, x: Tensor, y: Tensor) -> Any:
    return SimpleNamespace(network=network, batch=SimpleNamespace(x=x), classes=y)


@pytest.mark.parametrize(("count", "share", "grids"), [(16, 0.25, 1), (16, 1.0, 4), (4, 0.01, 1), (9, 1.0, 2), (3, 1.0, 0)])
def test_how_many_grids_are_explained(monkeypatch: pytest.MonkeyPatch, count: int, share: float, grids: int) -> None:
    seen = []

    def maps(network: nn.Module, x: Tensor, classes: Tensor, wrt: None, create_graph: Any) -> Tensor:
        seen.append((x, classes))
        return torch.ones(len(x), *x.shape[2:])

    monkeypatch.setattr("torchbcos.training.mosaic.contribution_maps", maps)
    x, y = torch.arange(count).view(-1, 1, 1, 1) * torch.ones(count, 6, 2, 2), torch.arange(count)
    loss = Mosaic(1.0, share).term(answer_to(small(), x, y))
    if not grids:
        assert float(loss) == 0 and not seen
        return
    drawn, classes = seen[0]
    assert drawn.shape == (grids, 6, 4, 4) and float(loss) == pytest.approx(-math.log((1 + 0.25) / 2), rel=1e-6)
    for i in range(grids):  # the class is of a picture that is in the grid
        assert sorted(set(drawn[i, 0].flatten().tolist())) == list(range(4 * i, 4 * i + 4))
        assert int(classes[i]) // 4 == i


def test_the_derivative_is_that_of_differences() -> None:
    network, x, y = small(), add_inverse(torch.rand(4, 3, 5, 5, dtype=torch.float64)), torch.arange(4)
    weight: Any = network[0].weight  # type: ignore[index]

    def loss() -> Tensor:
        torch.manual_seed(3)
        return Mosaic(1.0, 1.0, 3, "", True).term(answer_to(network, x, y))

    (slope,) = torch.autograd.grad(loss(), weight)
    towards = torch.randn_like(weight)
    with torch.no_grad():
        weight += 1e-7 * towards
        ahead = float(loss())
        weight -= 2e-7 * towards
        behind = float(loss())
    assert (ahead - behind) / 2e-7 == pytest.approx(float((slope * towards).sum()), rel=1e-5)


def test_evidence_moves_to_its_cell() -> None:
    network = small()
    torch.manual_seed(0)
    x, y = add_inverse(torch.rand(4, 3, 6, 6, dtype=torch.float64)), torch.arange(4)
    optimizer, term, found = torch.optim.Adam(network.parameters(), lr=0.02), Mosaic(1.0, 1.0, 1), []
    for _ in range(300):
        loss = term.term(answer_to(network, x, y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(2 * math.exp(-float(loss.detach())) - 1)  # the share
    assert sum(found[-20:]) > 1.4 * sum(found[:20]), (sum(found[:20]), sum(found[-20:]))


def test_inner_layers_count_where_they_are_asked_for() -> None:
    network, x, y = small(), add_inverse(torch.rand(4, 3, 5, 5, dtype=torch.float64)), torch.arange(4)
    for at in ("", "0", "1"):
        torch.manual_seed(3)
        found = Mosaic(1.0, 1.0, 1, at).term(answer_to(network, x, y))
        torch.manual_seed(3)
        cell = torch.randint(4, (1,))
        grid = torchbcos.metrics.compose_grids(x[None], 2)
        share = float(net_share(contribution_maps(network, grid, y[cell], wrt=at or None), cell))
        assert float(found.detach()) == pytest.approx(-math.log((1 + share) / 2))
    odd = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]])
    assert float(net_share(odd, torch.tensor([0]))) == pytest.approx((1 + 2 / 2 + 4 / 2 + 5 / 4) / 45)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="odd number of pixels, not 6"):
        replace(find_recipe("align"), mosaic_smooth=6)
    with pytest.raises(InputError, match="four pictures of a step: set batch_size above 3"):
        replace(find_recipe("align"), mosaic=1.0, batch_size=3)
    with pytest.raises(InputError, match="mosaic is for pictures, not for examples of 1 axes"):
        Mosaic(1.0).term(answer_to(small(), torch.rand(4, 6, 8), torch.arange(4)))
    assert torchbcos.training.Recipe().mosaic == 0
