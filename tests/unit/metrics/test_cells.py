"""Single deletion: against a slow twin, and in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import removal as twin
from tests.unit.metrics.pictures import curved, curved_twin, drawn, encoded, pixels
from torchbcos import BcosError
from torchbcos.metrics import idsds, single_deletion
from torchbcos.metrics.cells import cell_numbers
from torchbcos.metrics.passes import Predict

FEW = settings(max_examples=40, derandomize=True, deadline=None)


def linear(x: Tensor) -> Tensor:
    weights = torch.sin(torch.arange(x[0].numel(), dtype=torch.float64) * 0.7 + 0.2).to(x.dtype)
    return x.flatten(1) @ weights


def exact(x: Tensor) -> Tensor:
    """Input x gradient of `linear`."""
    weights = torch.sin(torch.arange(x[0].numel(), dtype=torch.float64) * 0.7 + 0.2).to(x.dtype)
    return (x * weights.view(x.shape[1:])).sum(1)


@FEW
@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 3), h=st.integers(2, 7), w=st.integers(2, 7),
    rows=st.integers(1, 2), columns=st.integers(2, 2), batch_size=st.integers(1, 9), coarse=st.booleans(),
)  # fmt: skip
def test_single_deletion_is_that_of_the_slow_twin(
    seed: int, n: int, h: int, w: int, rows: int, columns: int, batch_size: int, coarse: bool
) -> None:
    x, base, maps = encoded(seed, n, 1, h, w), drawn(seed + 1, n, 2, h, w), drawn(seed + 2, n, h, w) - 0.5
    maps = maps.mul(4).round() if coarse else maps  # ties, also between cells
    found = single_deletion(curved, x, maps, cells=(rows, columns), replace=base, batch_size=batch_size)
    # Python rounds halves to even, and edges are rounded up there
    row_edges, column_edges = ([math.floor(i * side / k + 0.5) for i in range(1, k)] for side, k in ((h, rows), (w, columns)))
    cell_of = [sum(r >= e for e in row_edges) * columns + sum(c >= e for e in column_edges) for r in range(h) for c in range(w)]
    assert cell_numbers((h, w), (rows, columns)).flatten().tolist() == cell_of
    for i in range(n):
        expected = twin.single_deletion(curved_twin, pixels(x[i]), pixels(base[i]), maps[i].flatten().tolist(), cell_of)
        assert float(found[i]) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_closed_form_of_a_linear_model() -> None:
    x = drawn(1, 3, 3, 8, 8)
    maps = exact(x)
    assert single_deletion(linear, x, maps, replace=0.0).tolist() == [1.0] * 3
    assert single_deletion(linear, x, -maps, replace=0.0).tolist() == [-1.0] * 3
    assert idsds(linear, x, maps, replace=0.0).tolist() == [1.0] * 3
    maps[1] = 2.5
    found = single_deletion(linear, x, maps, replace=0.0)
    assert found.isnan().tolist() == [False, True, False]
    # the sums of a constant map differ between uneven cells: it still tells nothing
    uneven = single_deletion(linear, x[..., :7], maps[..., :7], cells=3, replace=0.0)
    assert uneven.isnan().tolist() == [False, True, False]


def test_a_score_that_no_cell_changes_has_no_correlation() -> None:
    x, maps = drawn(2, 2, 3, 8, 8).float(), drawn(3, 2, 8, 8)
    generator = torch.Generator().manual_seed(0)

    def almost(batch: Tensor) -> Tensor:
        """What a network that rounds differently in each batch says."""
        return 5 + 1e-7 * torch.rand(len(batch), generator=generator)

    assert single_deletion(almost, x, maps).isnan().all()
    assert not single_deletion(lambda b: almost(b) + b[:, 0, 0, 0], x, maps).isnan().any()


def test_a_network_that_gives_nan_has_none() -> None:
    x, maps = drawn(2, 2, 3, 8, 8), drawn(3, 2, 8, 8)
    assert single_deletion(lambda b: linear(b) + math.nan, x, maps).isnan().all()


def test_passes_and_batches() -> None:
    x, maps, sizes = encoded(0, 3, 3, 9, 9), drawn(1, 3, 9, 9), []

    def counted(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return curved(batch)

    whole = single_deletion(counted, x, maps)
    assert sum(sizes) == 3 * 17 and max(sizes) == 16
    alone = torch.cat([single_deletion(curved, x[i : i + 1], maps[i : i + 1], batch_size=1 + 6 * i) for i in range(3)])
    assert torch.equal(whole, alone)


def test_cells_of_any_number_of_axes() -> None:
    assert cell_numbers((4,), 2).tolist() == [0, 0, 1, 1]
    assert cell_numbers((2, 2, 2), 2).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert cell_numbers((224, 224), 4).flatten().bincount().tolist() == [3136] * 16
    assert cell_numbers((7,), 4).bincount().tolist() == [2, 2, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": 9}, "9 cells do not fit along 8 pixels: choose fewer"),
        ({"cells": 0}, "cells must be 1 or more, not 0"),
        ({"cells": (2, 2, 2)}, "cells must be a whole number, or 2 of them"),
        ({"cells": 2.0}, "cells must be a whole number, or one an axis, not float"),
        ({"cells": True}, "cells must be a whole number, not bool"),
        ({"maps": drawn(0, 2, 4, 4)}, r"Maps of size \(4, 4\) do not fit pictures of size \(8, 8\)"),
        ({"maps": drawn(0, 2, 3, 8, 8)}, "sum their channels"),
        ({"maps": drawn(0, 3, 8, 8)}, "There are 3 maps for 2 images"),
        ({"predict": lambda b: b}, r"predict gave \(16, 3, 8, 8\)"),
    ],
)
def test_what_cannot_be_scored(change: dict[str, Any], message: str) -> None:
    given = {"predict": linear, "x": drawn(0, 2, 3, 8, 8), "maps": drawn(1, 2, 8, 8), **change}
    with pytest.raises(BcosError, match=message):
        single_deletion(given.pop("predict"), given.pop("x"), given.pop("maps"), **given)


def test_a_wrong_sign_and_an_unsigned_sum_are_seen() -> None:
    x = drawn(4, 1, 3, 8, 8)
    maps = exact(x)
    assert float(single_deletion(linear, x, maps.abs(), replace=0.0)) < 0.9
    assert float(single_deletion(lambda b: -linear(b), x, maps, replace=0.0)) == -1.0


def rounding(seed: int) -> Predict:
    """A network that sees the upper half, and rounds differently in each batch: by as much as is said here on every machine."""
    generator = torch.Generator().manual_seed(seed)
    return lambda batch: upper(batch).float() + 5 + 1e-7 * torch.rand(len(batch), generator=generator)


def upper(batch: Tensor) -> Tensor:
    """Of the upper half; in float64, since float32 sums differ by machine and by the size of a batch."""
    return linear(batch[..., :4, :].double())


def test_cells_that_change_nothing_are_tied_whatever_the_score_rounds_to() -> None:
    x, maps = drawn(7, 3, 3, 8, 8).float(), drawn(8, 3, 8, 8)
    found = single_deletion(lambda batch: upper(batch).float().round(decimals=5), x, maps)
    for seed, batch_size in enumerate((1, 2, 5, 48)):
        again = single_deletion(rounding(seed), x, maps, batch_size=batch_size)
        torch.testing.assert_close(again, found, rtol=0, atol=0)
    # sums of the same numbers in another order are tied, too
    turned = torch.cat([maps[..., :4], maps[..., :4].flip(-1)], -1)
    noisy = turned + 1e-15 * drawn(9, 3, 8, 8)
    torch.testing.assert_close(single_deletion(linear, x, noisy, cells=2), single_deletion(linear, x, turned, cells=2))
