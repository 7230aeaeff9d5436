from __future__ import annotations

import math

import pytest
import torch

from tests.reference.averages import average_maps as slow
from torchbcos._core.errors import InputError
from torchbcos.evaluation.cases import PERCENTS, average_maps


@pytest.mark.parametrize("n", [1, 2, 7, 100, 133])
@pytest.mark.parametrize("low", [False, True])
def test_averages_equal_their_twin(n: int, low: bool) -> None:
    generator = torch.Generator().manual_seed(n)
    maps = torch.randn(n, 3, 4, generator=generator)
    scores = (torch.rand(n, generator=generator) * 8).round()  # many are equal
    mass = torch.rand(n, generator=generator)
    scores[: n // 5] = math.nan
    found = average_maps(maps, scores, mass=mass, low=low)
    wanted = slow(maps.tolist(), scores.tolist(), mass.tolist(), low, PERCENTS)
    assert [(one.first, one.last, one.count) for one in found] == [one[:3] for one in wanted]
    assert all(
        torch.allclose(one.map, torch.tensor(w[3], dtype=torch.float64), atol=1e-12) for one, w in zip(found, wanted, strict=True)
    )
    assert sum(one.count for one in found) == n


def test_no_map_outweighs_the_others() -> None:
    maps = torch.tensor([[[1.0, 0.0]], [[0.0, 1e6]]])
    (one,) = average_maps(maps, torch.tensor([1.0, 0.5]), percents=(0, 100))
    assert one.map.tolist() == [[0.5, 0.5]] and (one.low, one.high) == (0.5, 1.0)


def test_empty_maps_and_scores_that_are_undefined() -> None:
    one, two = average_maps(torch.zeros(2, 1, 2), torch.tensor([math.nan, 0.5]), percents=(0, 50, 100))
    assert one.map.tolist() == [[0.0, 0.0]] and one.high == 0.5 and math.isnan(two.low)
    assert average_maps(torch.zeros(0, 1, 2), torch.zeros(0)) == []


def test_what_does_not_fit_is_refused() -> None:
    maps, scores = torch.zeros(2, 3, 3), torch.zeros(2)
    with pytest.raises(InputError, match="one score a map"):
        average_maps(maps, scores[:1])
    with pytest.raises(InputError, match="percents must rise"):
        average_maps(maps, scores, percents=(0, 60, 50, 100))
    with pytest.raises(InputError, match="percents must rise"):
        average_maps(maps, scores, percents=(5, 100))
