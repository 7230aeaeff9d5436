"""Randomisation tests: twins, closed forms, methods that ignore the network, what they refuse."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import sanity as twin
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.functional import add_inverse
from torchbcos.metrics import (
    LayerSimilarity,
    entropy_rise,
    histogram_entropy,
    mean_of_noisy,
    randomisation,
    unit_moment,
)

NUMBERS = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 2.0])


@given(data=st.data(), layers=st.integers(1, 3), cells=st.integers(1, 3))
def test_every_layer_has_its_twins_similarity(data: st.DataObject, layers: int, cells: int) -> None:
    image = st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=3, max_size=3)
    trained, *others = (data.draw(image) for _ in range(layers + 1))
    maps = {f"layer{i}": torch.tensor([rows], dtype=torch.float64) for i, rows in enumerate(others)}
    found = randomisation(torch.tensor([trained], dtype=torch.float64), maps, pool=cells)
    expected, mean = twin.randomisation(trained, others, cells)
    assert found.similarity.flatten().tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert found.mean.tolist() == pytest.approx([mean], abs=1e-9, nan_ok=True)
    assert found.undefined.tolist() == [sum(map(math.isnan, expected))] and found.names == tuple(maps)


def test_the_trained_network_is_a_row_of_one_and_not_in_the_mean() -> None:
    maps = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 2)
    found = randomisation(maps, {"fc": maps.flip(1), "conv": -maps})
    assert found.rows() == [("as trained", 1.0), ("fc", -1.0), ("conv", -1.0)]
    assert found.mean.tolist() == [-1.0, -1.0]  # with the first row it would be -1/3
    assert not found.ignores_model and found.floor is None


def test_a_method_that_ignores_the_network_is_flagged() -> None:
    edges = torch.randn(3, 20, 20)
    found = randomisation(edges, {"fc": edges, "conv": edges * 2})
    torch.testing.assert_close(found.similarity, torch.ones(2, 3))
    assert found.ignores_model
    once = edges.clone()
    once[1] = torch.randn(20, 20)
    assert not randomisation(edges, {"fc": edges, "conv": once}).ignores_model
    nothing = randomisation(edges, {"fc": torch.zeros(3, 20, 20)})
    assert not nothing.ignores_model and nothing.mean.isnan().all() and nothing.undefined.tolist() == [1, 1, 1]
    assert LayerSimilarity(("a", "b"), torch.tensor([[1.0], [math.nan]])).ignores_model


def test_the_floor_is_what_two_random_networks_have_in_common() -> None:
    x = torch.rand(4, 14, 14).repeat_interleave(2, 1).repeat_interleave(2, 2)
    a, b = torch.randn(2, 4, 28, 28) + 1
    found = randomisation(x, {"all": a * x}, independent=(a * x, b * x))
    assert found.floor is not None and found.floor.min() > 0.3  # the picture is a factor of both
    bare = randomisation(x, {"all": a}, independent=(a, b)).floor
    assert bare is not None and bare.abs().max() < 0.3


def test_signs_count_unless_magnitudes_are_compared() -> None:
    maps = torch.randn(2, 14, 14)
    assert randomisation(maps, {"fc": -maps}).mean.tolist() == pytest.approx([-1.0, -1.0])
    assert randomisation(maps, {"fc": -maps}, magnitudes=True).mean.tolist() == pytest.approx([1.0, 1.0])
    floor = randomisation(maps, {"fc": maps}, magnitudes=True, independent=(maps, -maps)).floor
    assert floor is not None and floor.tolist() == pytest.approx([1.0, 1.0])


def test_layers_come_one_by_one() -> None:
    maps, alive = torch.randn(2, 14, 14), []

    def layers() -> Iterator[tuple[str, Tensor]]:
        for name in "abc":
            alive.append(name)
            yield name, maps + torch.randn(2, 14, 14)

    found = randomisation(maps, layers(), kind="pearson", pool=None)
    assert found.names == ("a", "b", "c") and alive == ["a", "b", "c"]
    assert 0.4 < float(found.mean.mean()) < 0.9


def test_what_does_not_fit() -> None:
    maps = torch.randn(2, 4, 4)
    with pytest.raises(InputError, match="no layer that began again"):
        randomisation(maps, {})
    with pytest.raises(InputError, match="cannot be compared"):
        randomisation(maps, {"fc": maps[:1]})
    with pytest.raises(InputError, match="There are 1 independent maps for 2 images"):
        randomisation(maps, {"fc": maps}, independent=(maps[:1], maps[:1]))
    with pytest.raises(ArgumentTypeError, match="maps of 'fc' must be a tensor"):
        randomisation(maps, {"fc": [1.0]})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="map of image 1 has numbers that are not finite"):
        randomisation(maps, {"fc": torch.stack([maps[0], maps[1] / 0])})


# -- the mean of noisy maps -------------------------------------------------------------------------------------------


def test_the_mean_of_noisy_maps_is_its_twins() -> None:
    x, seen = torch.rand(2, 3, 4, 4, dtype=torch.float64), []

    def explain(pictures: Tensor) -> Tensor:
        seen.append(pictures.clone())
        return pictures.square().sum(1)

    found = mean_of_noisy(explain, x, samples=6)
    assert len(seen) == 6 and torch.equal(seen[-1], x)
    for i in range(2):
        expected = twin.mean_of_noisy([one[i].square().sum(0).flatten().tolist() for one in seen])
        assert found[i].flatten().tolist() == pytest.approx(expected, rel=1e-12)
    spans = [float(one.max() - one.min()) for one in x]
    drawn = torch.stack([torch.stack([(one[i] - x[i]) / spans[i] for one in seen[:-1]]) for i in range(2)])
    torch.testing.assert_close(drawn[0], drawn[1])  # the same noise, in units of each picture's range
    assert float(drawn.std()) == pytest.approx(0.1, rel=0.2)


def test_noise_is_ours_alone_and_the_same_in_every_batch() -> None:
    x = add_inverse(torch.rand(3, 3, 6, 6))
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    found = mean_of_noisy(_checked, x, samples=4)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (random.getstate(), str(np.random.get_state())) == before[1:]
    torch.testing.assert_close(torch.cat([mean_of_noisy(_checked, one[None], samples=4) for one in x]), found)
    other = mean_of_noisy(_checked, x, samples=4, generator=torch.Generator().manual_seed(7))
    assert not torch.equal(other, found)
    assert torch.equal(mean_of_noisy(_checked, x, samples=1), _checked(x))
    torch.testing.assert_close(mean_of_noisy(_checked, x, samples=3, noise=0), _checked(x))


def _checked(pictures: Tensor) -> Tensor:
    """A map of pictures that are encoded."""
    torch.testing.assert_close(pictures[:, :3] + pictures[:, 3:], torch.ones_like(pictures[:, :3]))
    return pictures[:, 0] * pictures[:, 1]


@pytest.mark.parametrize(
    ("words", "said"), [(dict(samples=0), "samples must be 1 or more"), (dict(noise=-0.1), "0 or more, not -0.1")]
)
def test_what_cannot_be_asked(words: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        mean_of_noisy(lambda x: x[:, 0], torch.rand(1, 3, 4, 4), **words)  # type: ignore[arg-type]


def test_an_explanation_that_is_no_map_is_refused() -> None:
    with pytest.raises(InputError, match="There are 1 maps for 2 images"):
        mean_of_noisy(lambda x: x[:1, 0], torch.rand(2, 3, 4, 4), samples=2)


# -- moments and entropies --------------------------------------------------------------------------------------------


def test_the_mean_square_is_one() -> None:
    maps = torch.randn(3, 5, 5, dtype=torch.float64) * torch.tensor([1e-200, 1.0, 1e200], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(unit_moment(maps).square().mean((1, 2)), torch.ones(3, dtype=torch.float64))
    assert torch.equal(unit_moment(torch.zeros(1, 5)), torch.zeros(1, 5))
    torch.testing.assert_close(unit_moment(torch.tensor([[1.0, 7.0]])), torch.tensor([[0.2, 1.4]]))  # √25


@given(rows=st.lists(st.lists(st.floats(-5, 5), min_size=6, max_size=6), min_size=1, max_size=3), bins=st.integers(1, 12))
def test_every_histogram_has_its_twins_entropy(rows: list[list[float]], bins: int) -> None:
    maps = torch.tensor(rows, dtype=torch.float64)
    expected = [twin.histogram_entropy([v / 2 for v in row], bins) for row in rows]  # halves are exact: the same bins
    assert histogram_entropy(maps, bins=bins).tolist() == pytest.approx(expected, abs=1e-9)


def test_closed_forms_of_entropies() -> None:
    maps = torch.arange(100.0)[None]
    assert float(histogram_entropy(maps)) == pytest.approx(math.log(100), rel=1e-6)
    assert float(histogram_entropy(maps, bins=4)) == pytest.approx(math.log(4), rel=1e-6)
    spike = torch.zeros(1, 100)
    spike[0, 3] = 1
    assert float(histogram_entropy(spike)) == pytest.approx(-(0.99 * math.log(0.99) + 0.01 * math.log(0.01)), rel=1e-5)
    assert float(histogram_entropy(torch.full((1, 9), 1e308, dtype=torch.float64))) == 0.0
    assert float(histogram_entropy(torch.tensor([[-1.7e308, 1.7e308]], dtype=torch.float64))) == pytest.approx(math.log(2))
    half = torch.cat([torch.zeros(1, 50), torch.ones(1, 50)], 1)
    assert float(entropy_rise(half, maps)) == pytest.approx((math.log(100) - math.log(2)) / math.log(2), rel=1e-5)
    assert float(entropy_rise(maps, half)) == pytest.approx(math.log(2) / math.log(100) - 1, rel=1e-5)
    assert entropy_rise(torch.ones(1, 100), maps).isnan().all()
    with pytest.raises(InputError, match="cannot be compared"):
        entropy_rise(half, maps[:, :3])


def test_the_twin_sees_a_wrong_metric() -> None:
    trained = [[1.0, 2.0], [3.0, 4.0]]
    flipped = [[4.0, 3.0], [2.0, 1.0]]
    similar, mean = twin.randomisation(trained, [flipped, [[0.0, 0.0], [0.0, 0.0]]], 2)
    assert (similar[0], mean) == (-1.0, -1.0) and math.isnan(similar[1])  # not 0 for the undefined layer: -0.5
    assert twin.histogram_entropy([0.0, 1.0, 2.0, 3.0], 2) == pytest.approx(math.log(2))  # 2 with the last bin open: other


@pytest.mark.parity
def test_quantus_agrees() -> None:
    pytest.importorskip("quantus", exc_type=ImportError)
    from quantus.functions import complexity_func, normalise_func

    maps = torch.rand(3, 1, 9, 9, dtype=torch.float64)
    theirs = [complexity_func.discrete_entropy(a=one, x=one) for one in maps.numpy()]
    assert histogram_entropy(maps[:, 0]).tolist() == pytest.approx(theirs, abs=1e-9)
    for one in maps:
        scaled = normalise_func.normalise_by_average_second_moment_estimate(one.numpy().copy())
        torch.testing.assert_close(unit_moment(one), torch.from_numpy(scaled))
