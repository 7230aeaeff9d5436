"""Grid pointing against its float64 twin, closed forms and laws; wrong rules are seen, wrong input has its sentence."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import places as twin
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics import grid_lift, grid_lines, grid_pointing
from torchbcos.metrics import pointing as module


@st.composite
def games(draw: st.DrawFn) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Maps of few values (ties, zeros, all negative), own cells, and options."""
    n, h, w = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    count = draw(st.integers(1, 3))
    seed, low = draw(st.integers(0, 2**16)), draw(st.sampled_from([-2.0, -0.5]))
    g = torch.Generator().manual_seed(seed)
    maps = (low + torch.rand(count, n * h, n * w, generator=g, dtype=torch.float64) * 3).round(decimals=1)
    options = {
        "smooth": draw(st.sampled_from([1, 3, 5])), "inside": draw(st.booleans()),
        "kernel": draw(st.sampled_from(["average", "gaussian"])),
    }  # fmt: skip
    return maps, torch.randint(n * n, (count,), generator=g), {"n": n, **options}


def compare(maps: Tensor, cells: Tensor, *, n: int, smooth: int, inside: bool, kernel: str) -> None:
    found = grid_pointing(maps, cells, n=n, smooth=smooth, inside=inside, kernel=kernel)
    rows = zip(maps.tolist(), cells.tolist(), strict=True)
    slow = [twin.grid_pointing(a, cell, n, k=smooth, inside=inside, kernel=kernel) for a, cell in rows]
    assert found.tolist() == pytest.approx(slow, abs=1e-12, nan_ok=True)


@settings(max_examples=50)
@given(game=games())
def test_equals_the_slow_twin(game: tuple[Tensor, Tensor, dict[str, Any]]) -> None:
    maps, cells, options = game
    compare(maps, cells, **options)


@pytest.mark.parametrize("factor", [1e-30, 0.37, 1.0, 3.0, 7.0, 1e30])
@pytest.mark.parametrize("row", [[-1, -0.3, 0.1, 0.2, -1], [-1, 0.2, 0.1, -0.3, -1], [-1, 0.7, -0.8, 0.1, -1]])
def test_what_cancels_under_a_kernel_is_no_evidence(row: list[float], factor: float) -> None:
    # the three in the middle have a mean of 0, which rounds to either side of it; no other mean is positive
    maps = torch.tensor([[row]], dtype=torch.float64) * factor
    assert grid_pointing(maps, torch.tensor([0]), n=1, smooth=3).isnan().all()
    assert math.isnan(twin.grid_pointing(maps[0].tolist(), 0, 1, k=3))


@given(game=games(), factor=st.sampled_from([1e-30, 0.37, 8.0, 1e30]))
def test_laws(game: tuple[Tensor, Tensor, dict[str, Any]], factor: float) -> None:
    maps, cells, options = game
    found = grid_pointing(maps, cells, **options)
    defined = found[~found.isnan()]
    assert bool(((defined >= 0) & (defined <= 1)).all())
    torch.testing.assert_close(grid_pointing(maps * factor, cells, **options), found, equal_nan=True)
    for i in range(len(maps)):  # no neighbour changes a score
        alone = grid_pointing(maps[i : i + 1], cells[i : i + 1], **options)
        torch.testing.assert_close(alone, found[i : i + 1], rtol=1e-12, atol=0, equal_nan=True)
    n = options["n"]
    shares = torch.stack([grid_pointing(maps, torch.full_like(cells, cell), **options) for cell in range(n * n)])
    torch.testing.assert_close(shares.sum(0), torch.where(found.isnan(), math.nan, 1.0).double(), equal_nan=True)


def test_closed_forms() -> None:
    """Oracle, even, empty, negative, uneven and signed maps."""
    own, even = torch.zeros(1, 4, 4), torch.ones(1, 6, 6)
    own[0, :2, 2:] = 1
    assert grid_pointing(own, torch.tensor([1]), n=2).item() == 1
    assert grid_pointing(even, torch.tensor([3]), n=2).item() == 0.25
    assert grid_pointing(even, torch.tensor([8]), n=3).item() == pytest.approx(1 / 9)
    for nothing in (torch.zeros(1, 4, 4), -torch.ones(1, 4, 4)):
        assert math.isnan(grid_pointing(nothing, torch.tensor([0]), n=2).item())
    uneven = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]])
    assert grid_pointing(uneven, torch.tensor([0]), n=2).item() == 0.75
    signed = torch.tensor([[[2.0, -5.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]])
    assert grid_pointing(signed, torch.tensor([0]), n=2).item() == 0.5


def test_cells_and_labels_may_change_places_together() -> None:
    maps = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))[:, 0]
    cells = torch.tensor([0, 1, 2, 3])
    mirrored = maps.flip(2)  # the columns of cells are exchanged
    assert torch.equal(grid_pointing(mirrored, torch.tensor([1, 0, 3, 2]), n=2), grid_pointing(maps, cells, n=2))


@pytest.mark.parametrize(
    ("n", "size", "cell", "expected"),
    [(2, 224, 0, 0.98326), (2, 112, 3, 0.96639), (2, 64, 1, 0.94082), (3, 224, 4, 0.96694), (3, 112, 4, 0.93444)],
)
def test_smoothing_leaks_as_much_as_computed_by_hand(n: int, size: int, cell: int, expected: float) -> None:
    """A border between cells leaks 28/15 of a row, an outer border loses as much."""
    lost = 28 / 15
    axis = (size - 2 * lost) / (size - lost) if n == 2 else (size - 2 * lost) / size
    found = grid_lines(n, size, smooth=15).even_oracle[cell].item()
    assert found == pytest.approx(axis**2, rel=1e-9)
    assert found == pytest.approx(expected, abs=5e-6)


def test_a_gaussian_leaks_as_much_as_measured_elsewhere() -> None:
    assert grid_lines(2, 224, smooth=129, kernel="gaussian").even_oracle[0].item() == pytest.approx(0.8932, abs=5e-5)
    assert grid_lines(3, 224, smooth=129, kernel="gaussian").even_oracle[4].item() == pytest.approx(0.8027, abs=5e-5)


@pytest.mark.parametrize("kernel", ["average", "gaussian"])
def test_nothing_leaks_inside_a_cell(kernel: str) -> None:
    lines = grid_lines(3, 20, smooth=15, inside=True, kernel=kernel)
    assert (lines.oracle, lines.uniform) == (1.0, 1 / 9)
    assert torch.equal(lines.even_oracle, torch.ones(9, dtype=torch.float64))
    even = grid_pointing(torch.ones(9, 60, 60), torch.arange(9), n=3, smooth=15, inside=True, kernel=kernel)
    torch.testing.assert_close(even, torch.full((9,), 1 / 9))


def test_smoothing_comes_before_the_cut() -> None:
    """As published: a negative pixel beside a positive one takes from it."""
    a = torch.zeros(1, 6, 6)
    a[0, 1, 1], a[0, 1, 2], a[0, 4, 4] = 1, -1, 1
    assert grid_pointing(a, torch.tensor([0]), n=2, smooth=3, inside=True).item() == pytest.approx(3 / (3 + 9))
    assert grid_pointing(a, torch.tensor([0]), n=2).item() == 0.5


def test_lift() -> None:
    torch.testing.assert_close(grid_lift(torch.tensor([1.0, 1 / 9, 0.0]), 3), torch.tensor([1.0, 0.0, -1 / 8]))
    with pytest.raises(InputError, match="n is at least 2"):
        grid_lift(torch.ones(1), 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    """Half precision holds no sum of 10,000 pixels; extreme numbers overflow in none."""
    found = grid_pointing(torch.ones(1, 300, 300, dtype=dtype), torch.tensor([0]), n=3)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.item() == pytest.approx(1 / 9)
    top = torch.finfo(dtype).max
    assert grid_pointing(torch.full((1, 8, 8), top, dtype=dtype), torch.tensor([0]), n=2).item() == 0.25


@pytest.mark.parametrize(
    ("maps", "cells", "options", "text"),
    [
        (torch.full((2, 4, 4), math.nan), [0, 0], {}, "map of image 0 has numbers that are not finite"),
        (torch.ones(2, 4, 5), [0, 0], {}, "4 x 5 pixels cannot be cut into 2 x 2 equal cells"),
        (torch.ones(2, 4, 4), [0, 4], {}, "A cell is 4, and a grid of 2 x 2 has the cells 0 to 3"),
        (torch.ones(2, 4, 4), [-1, 0], {}, "A cell is -1"),
        (torch.ones(2, 4, 4), [0], {}, r"cells must be \(2,\), one own cell a map, not \(1,\)"),
        (torch.ones(2, 4, 4), [0.0, 1.0], {}, "use cells.long"),
        (torch.ones(2, 3, 4, 4), [0, 0], {}, r"Maps of grids are \(N, H, W\), not \(2, 3, 4, 4\)"),
        (torch.ones(2, 4, 4), [0, 0], {"smooth": 2}, "odd number of pixels, 1 for none, not 2"),
        (torch.ones(2, 4, 4), [0, 0], {"smooth": 0}, "odd number of pixels, 1 for none, not 0"),
        (torch.ones(2, 4, 4), [0, 0], {"smooth": True}, "not True"),
        (torch.ones(2, 4, 4), [0, 0], {"kernel": "gauss"}, "'average' or 'gaussian', not 'gauss'. Did you mean 'gaussian'"),
        (torch.ones(2, 4, 4), [0, 0], {"smooth": 3.0}, "not 3.0"),
        (torch.ones(2, 4, 4), [0, 0], {"inside": "no"}, "inside is True .* or False, not 'no'"),
        (torch.ones(2, 4, 4), [0, 0], {"n": 0}, "a positive integer, not 0"),
        (torch.ones(2, 4, 4), [0, 0], {"n": 2.0}, "a positive integer, not 2.0"),
    ],
)
def test_bad_input_has_one_sentence(maps: Tensor, cells: list[Any], options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        grid_pointing(maps, torch.tensor(cells), **{"n": 2, **options})


def test_bad_types() -> None:
    with pytest.raises(ArgumentTypeError, match="cells must be a tensor"):
        grid_pointing(torch.ones(1, 4, 4), [0], n=2)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="maps must be a tensor"):
        grid_pointing(np.ones((1, 4, 4)), torch.tensor([0]), n=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="side of one cell in pixels"):
        grid_lines(2, 0)
    with pytest.raises(InputError, match="larger than any picture"):
        grid_lines(2, 10**9)
    with pytest.raises(ArgumentTypeError, match="values are a tensor of scores, not list"):
        grid_lift([1.0], 2)  # type: ignore[arg-type]


@given(n=st.integers(1, 3), size=st.integers(1, 7), smooth=st.sampled_from([1, 3, 9]), kernel=st.sampled_from(module.KERNELS))
def test_lines_are_the_scores_of_maps(n: int, size: int, smooth: int, kernel: str) -> None:
    """The product of two axes is what the game says of whole maps."""
    even = torch.eye(n * n).view(n * n, n, n).repeat_interleave(size, 1).repeat_interleave(size, 2)
    for inside in (True, False):
        options: dict[str, Any] = {"smooth": smooth, "inside": inside, "kernel": kernel}
        found = grid_pointing(even.double(), torch.arange(n * n), n=n, **options)
        torch.testing.assert_close(grid_lines(n, size, **options).even_oracle, found)


def test_input_of_any_kind() -> None:
    """Numbers of NumPy, small integers, truth values, maps with a history or of inference mode."""
    maps, cells = torch.rand(2, 4, 4), torch.tensor([0, 3])
    expected = grid_pointing(maps, cells, n=2, smooth=3)
    assert torch.equal(grid_pointing(maps, cells.byte(), n=np.int64(2), smooth=np.int64(3)), expected)  # type: ignore[arg-type]
    found = grid_pointing(maps.clone().requires_grad_(), cells, n=2, smooth=3)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    with torch.inference_mode():
        assert torch.equal(grid_pointing(maps.clone(), cells, n=2, smooth=3), expected)
    turned = maps.transpose(1, 2)
    assert torch.equal(grid_pointing(turned, cells, n=2), grid_pointing(turned.contiguous(), cells, n=2))
    assert grid_pointing(maps > 2, cells, n=2).isnan().all()


FAULTS: dict[str, dict[str, Any]] = {
    "cells column by column": {
        "_cut": lambda maps, n, size, cut=module._cut: cut(maps, n, size).unflatten(1, (n, n)).transpose(1, 2).flatten(1, 2)
    },
    "cut before smoothing": {
        "_smoothed": lambda maps, k, kernel, smoothed=module._smoothed: smoothed(maps.clamp_min(0), k, kernel)
    },
    "the negative part counts": {"scaled": lambda maps: maps.abs()},
    "zeros for undefined": {"math": SimpleNamespace(nan=0.0)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_rule_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps[3] = -maps[3].abs()
    options: dict[str, Any] = {"n": 2, "smooth": 3, "inside": False, "kernel": "average"}
    compare(maps, torch.tensor([0, 1, 2, 3]), **options)
    for name, value in FAULTS[fault].items():
        monkeypatch.setattr(module, name, value)
    with pytest.raises(AssertionError):
        compare(maps, torch.tensor([0, 1, 2, 3]), **options)
