"""AggAtt: twin, ties, bins of few maps, what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import comparing as twin
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.evaluation import aggregate as module
from torchbcos.evaluation.aggregate import EDGES, aggregate


@given(data=st.data(), count=st.integers(1, 45), signed=st.booleans(), edges=st.sampled_from([EDGES, (0, 100), (0, 29, 58, 100)]))
def test_bins_are_their_twins(data: st.DataObject, count: int, signed: bool, edges: tuple[int, ...]) -> None:
    few = st.sampled_from([0.0, 0.5, 1.0, math.nan])  # many ties
    scores = data.draw(st.lists(few, min_size=count, max_size=count))
    generator = torch.Generator().manual_seed(count)
    maps = torch.randint(-2, 3, (count, 2, 3), generator=generator).double()
    inside = torch.randint(2, (count, 2, 3), generator=generator).bool()
    masses = [float((one.clamp_min(0) * mask).sum()) for one, mask in zip(maps, inside, strict=True)]
    found = aggregate(maps, torch.tensor(scores, dtype=torch.float64), inside=inside, signed=signed, edges=edges)
    expected = twin.aggregate(maps.tolist(), scores, masses, edges, signed)
    assert [one.items.tolist() for one in found] == [items for items, _ in expected]
    assert sum(len(one.items) for one in found) == count
    for one, (items, mean) in zip(found, expected, strict=True):
        assert (one.map is None) == (mean is None) == (not items)
        if one.map is not None and mean is not None:
            assert one.map.tolist() == pytest.approx(np.array(mean), abs=1e-12)
            assert [one.best, one.worst] == pytest.approx([scores[items[0]], scores[items[-1]]], nan_ok=True)


def test_a_hundred_maps_fill_the_published_bins() -> None:
    scores = torch.arange(100.0).flip(0)
    found = aggregate(torch.rand(100, 2, 2, generator=torch.Generator().manual_seed(0)), scores)
    assert [one.name for one in found] == ["0–2 %", "2–5 %", "5–50 %", "50–95 %", "95–98 %", "98–100 %"]
    assert [len(one.items) for one in found] == [2, 3, 45, 45, 3, 2]
    assert [(one.best, one.worst) for one in found[:2]] == [(99, 98), (97, 95)] and found[-1].worst == 0
    assert [one.note for one in found[:3]] == [
        "0–2 % holds 2 maps: its mean shows single maps.", "2–5 % holds 3 maps: its mean shows single maps.", "",
    ]  # fmt: skip


def test_few_maps_leave_bins_empty() -> None:
    found = aggregate(torch.ones(20, 2, 2), torch.rand(20, generator=torch.Generator().manual_seed(0)))
    assert [len(one.items) for one in found] == [0, 1, 9, 9, 0, 1]
    assert found[0].map is None and math.isnan(found[0].best) and math.isnan(found[0].worst)
    assert found[0].note == "0–2 % holds no map: there are too few for this bin."
    assert found[1].note == "2–5 % holds 1 map: its mean shows single maps."


def test_edges_are_not_moved_by_rounding() -> None:
    found = aggregate(torch.ones(500, 1, 1), torch.arange(500.0), edges=(0, 64.6, 100))  # 500 * 64.6 / 100 < 323 in float64
    assert [len(one.items) for one in found] == [323, 177]


def test_each_map_has_the_same_say() -> None:
    maps = torch.tensor([[[1.0, 0.0]], [[0.0, 1000.0]], [[-5.0, -1.0]]])
    [one] = aggregate(maps, torch.zeros(3), edges=(0, 100))
    assert one.map is not None and one.map.tolist() == pytest.approx(np.array([[1 / 3, 1 / 3]]))
    [signed] = aggregate(maps, torch.zeros(3), edges=(0, 100), signed=True)
    assert signed.map is not None and signed.map.tolist() == pytest.approx(np.array([[0.0, 0.8 / 3]]))
    [scaled] = aggregate(maps * torch.tensor([3.0, 1e-20, 7.0])[:, None, None], torch.zeros(3), edges=(0, 100))
    torch.testing.assert_close(scaled.map, one.map)


def test_maps_are_added_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, scores = torch.rand(30, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30.0)
    whole = aggregate(maps, scores)
    monkeypatch.setattr(module, "_PART", 40)
    for one, other in zip(aggregate(maps, scores), whole, strict=True):
        torch.testing.assert_close(one.map, other.map)


def test_what_does_not_fit() -> None:
    maps = torch.ones(3, 2, 2)
    with pytest.raises(ArgumentTypeError, match=r"scores must be a tensor \(N,\), not list"):
        aggregate(maps, [1.0, 2.0, 3.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"scores must be \(3,\), one real number a map, not \(2,\)"):
        aggregate(maps, torch.zeros(2))
    with pytest.raises(InputError, match=r"maps must be \(N, H, W\), not \(3, 4\)"):
        aggregate(torch.ones(3, 4), torch.zeros(3))
    with pytest.raises(InputError, match=r"inside of shape \(1, 2, 2\) do not fit maps"):
        aggregate(maps, torch.zeros(3), inside=torch.ones(1, 2, 2, dtype=torch.bool))
    for edges in ((0, 50), (0, 60, 50, 100), (100,), ("0", 100), "0–100"):
        with pytest.raises(InputError, match="percentages that rise from 0 to 100"):
            aggregate(maps, torch.zeros(3), edges=edges)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="The map of image 1 has numbers that are not finite"):
        aggregate(torch.tensor([0.0, math.nan]).view(2, 1, 1), torch.zeros(2))


def test_the_twin_sees_a_wrong_order() -> None:
    maps, scores = [[[1.0]], [[1.0]], [[1.0]]], [0.5, math.nan, 0.5]
    assert [items for items, _ in twin.aggregate(maps, scores, [1.0, 9.0, 2.0], (0, 50, 100), False)] == [[2], [0, 1]]
    assert [items for items, _ in twin.aggregate(maps, scores, [1.0, 9.0, 1.0], (0, 50, 100), False)] == [[0], [2, 1]]
