"""Maps without a network: twins, SciPy, closed forms of what metrics say of them, and lines that are known beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from tests.reference import comparing as twin
from torchbcos import metrics
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.evaluation.dumb import DUMB, brightness, centre, edges, lines, random, uniform
from torchbcos.functional.encode import add_inverse
from torchbcos.metrics import METRICS

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))  # cells, and the sides of one


def pictures(channels: int, height: int, width: int, count: int = 2) -> Tensor:
    return torch.rand(
        count, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(height + 7 * width)
    )


@given(size=SIZES, channels=st.sampled_from([1, 3, 4]))
def test_edges_and_centres_are_their_twins(size: tuple[int, int, int], channels: int) -> None:
    cells, h, w = size
    x = pictures(channels, cells * h, cells * w)
    grey = brightness(x)
    for i, one in enumerate(edges(x, cells=cells)):
        assert one.tolist() == pytest.approx(np.array(twin.edges(grey[i].tolist(), cells)), abs=1e-12)
    assert centre(x, cells=cells)[1].tolist() == pytest.approx(np.array(twin.centre(cells * h, cells * w, cells)), abs=1e-12)


@pytest.mark.parametrize("name", sorted(DUMB))
@pytest.mark.parametrize(("height", "width", "cells"), [(33, 47, 1), (24, 12, 3), (1, 1, 1), (6, 6, 6)])
def test_a_map_a_picture(name: str, height: int, width: int, cells: int) -> None:
    function = DUMB[name].function
    for channels in (1, 3, 6):
        x = pictures(channels, height, width, 3).float()
        before, state = x.clone(), torch.get_rng_state()
        found = function(x, cells=cells, seed=4)
        assert found.shape == (3, height, width) and found.dtype == torch.float32 and (found >= 0).all()
        assert torch.equal(found[1:2], function(x[1:2], cells=cells, seed=4))  # no picture sees another
        assert torch.equal(x, before) and torch.equal(state, torch.get_rng_state())
        found += 1  # a map of its own, which may be changed
        assert torch.equal(function(x, cells=cells, seed=4) + 1, found)


def test_names_are_those_of_the_table() -> None:
    assert list(DUMB) == ["uniform", "random", "centre", "edges", "brightness"]
    assert all(name == one.name and one.summary.endswith(".") for name, one in DUMB.items())


def test_edges_are_scipys() -> None:
    x = pictures(3, 20, 31)
    grey = brightness(x).numpy()
    for picture, found in zip(grey, edges(x), strict=True):
        expected = np.hypot(*(ndimage.sobel(picture, axis, mode="nearest") for axis in (0, 1)))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_border_between_two_pictures_is_no_edge() -> None:
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 1
    assert edges(x)[0].amax() == 4 and edges(x, cells=2).amax() == 0
    step = torch.zeros(1, 1, 6, 6)
    step[..., 3:, :] = 1
    assert edges(step)[0, :, 0].tolist() == [0, 0, 4, 4, 0, 0]  # and the frame is none


@given(shift=st.floats(-0.5, 0.5), factor=st.floats(0.1, 3))
def test_edges_do_not_see_light_and_grow_with_contrast(shift: float, factor: float) -> None:
    x = pictures(3, 9, 7)
    torch.testing.assert_close(edges(factor * x + shift), factor * edges(x))
    torch.testing.assert_close(edges(x.flip(3)), edges(x).flip(2))
    torch.testing.assert_close(edges(x.mT), edges(x).mT)


def test_brightness_of_any_channels() -> None:
    x = pictures(3, 4, 5)
    assert brightness(x)[0, 0, 0] == pytest.approx(float(0.299 * x[0, 0, 0, 0] + 0.587 * x[0, 1, 0, 0] + 0.114 * x[0, 2, 0, 0]))
    torch.testing.assert_close(brightness(add_inverse(x)), brightness(x))
    torch.testing.assert_close(edges(add_inverse(x)), edges(x))
    six = pictures(6, 4, 5)
    assert torch.equal(brightness(six), six.mean(1)) and torch.equal(brightness(x[:, :1]), x[:, 0])
    assert brightness((255 * x).to(torch.uint8)).dtype == torch.float32
    assert brightness(torch.ones(1, 3, 2, 2, dtype=torch.float16)).dtype == torch.float32


def test_noise_is_fixed_and_of_its_seed() -> None:
    first = random(pictures(3, 8, 8))
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0].float(), random(pictures(1, 8, 8, 1).float())[0])  # the same noise in another dtype
    assert not torch.equal(first, random(pictures(3, 8, 8), seed=1))
    assert random(pictures(3, 64, 64)).mean() == pytest.approx(0.5, abs=0.02)


def test_each_cell_has_its_own_middle() -> None:
    found = centre(torch.zeros(1, 3, 10, 20), cells=2)[0]
    assert torch.equal(found[:5, :10], found[5:, 10:]) and torch.equal(found, found.flip(0))
    whole = centre(torch.zeros(1, 3, 9, 9))[0]
    assert whole[4, 4] == 1 and whole[4, 4 + 2] == pytest.approx(math.exp(-(2**2) / (2 * 2.25**2)))
    mass = metrics.grid_pointing(centre(torch.zeros(1, 3, 12, 12), cells=2).expand(4, -1, -1), torch.arange(4), n=2)
    assert mass.tolist() == pytest.approx([0.25] * 4)


GAMES: list[tuple[str, dict[str, Any]]] = [
    ("grid-pointing", {"n": 2}), ("grid-pointing", {"n": 3, "smooth": 5}), ("dipart", {"n": 3, "smooth": 5, "inside": True}),
    ("difull", {"n": 2, "smooth": 5, "kernel": "gaussian"}),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "settings"), GAMES)
def test_lines_of_grids_are_what_the_metric_says(metric: str, settings: dict[str, Any]) -> None:
    n, cell = settings["n"], 9
    found = lines(metric, settings, cell=cell)
    count = n * n
    own = torch.arange(count)
    area = metrics.cells.cell_numbers((n * cell, n * cell), n)
    filled = (area == own[:, None, None]).double()
    even = metrics.grid_pointing(filled, own, **settings)
    middle = torch.zeros_like(filled)
    middle.view(count, n, cell, n, cell)[own, own // n, cell // 2, own % n, cell // 2] = 1
    assert found["oracle"] == pytest.approx(float(metrics.grid_pointing(middle, own, **settings).mean())) == 1
    smoothed = settings.get("smooth", 1) > 1 and not settings.get("inside")
    assert found.get("even oracle", 1.0) == pytest.approx(float(even.mean())) and ("even oracle" in found) == smoothed
    flat = uniform(torch.zeros(count, 1, n * cell, n * cell))
    assert found["uniform"] == pytest.approx(float(metrics.grid_pointing(flat, own, **settings).mean()), abs=1e-6)
    noise = torch.stack([random(torch.zeros(1, 1, n * cell, n * cell), seed=seed)[0] for seed in range(count)])
    assert found["random"] == pytest.approx(float(metrics.grid_pointing(noise, own, **settings).mean()), abs=0.02)
    assert ("any gradient" in found) == (metric == "difull")
    assert "even oracle" not in lines(metric, settings)


@pytest.mark.parametrize(
    ("metric", "settings"),
    [
        ("energy-pointing", {}),
        ("map-iou", {}),
        ("map-iou", {"threshold": None}),
        ("map-iou", {"threshold": 0.2}),
        ("pointing-hit", {}),
    ],
)
def test_lines_of_objects_are_what_the_metric_says(metric: str, settings: dict[str, Any]) -> None:
    masks = torch.zeros(2, 20, 20, dtype=torch.bool)
    masks[0, 3:9, 4:16], masks[1, :10] = True, True
    area = float(metrics.mask_fraction(masks).mean())
    function, found = METRICS[metric].function, lines(metric, settings, area=area)
    assert function is not None
    assert found["uniform"] == pytest.approx(
        float(function(uniform(torch.zeros(2, 1, 20, 20)), masks, **settings).mean()), abs=1e-6
    )
    if settings.get("threshold", 0.5) is not None:  # of all thresholds only one is the object's
        assert float(function(masks.float(), masks, **settings).mean()) == found["oracle"] == 1
    if "random" in found:
        noise = torch.cat([random(torch.zeros(2, 1, 20, 20), seed=seed) for seed in range(200)])
        many = torch.cat([function(one, masks, **settings) for one in noise.view(200, 2, 20, 20)])
        assert float(many.mean()) == pytest.approx(found["random"], abs=0.06)
    assert lines(metric, settings) == {"oracle": 1.0}
    assert lines("pointing-hit", {"tolerance": 15}, area=area) == {"oracle": 1.0}  # more than the object counts as hit


def test_lines_of_other_metrics() -> None:
    flat, one = torch.ones(1, 20), torch.eye(20)[:1]
    assert lines("gini", pixels=20) == {
        "uniform": float(metrics.gini(flat)),
        "one pixel": pytest.approx(float(metrics.gini(one))),
    }
    expected = {"one pixel": float(metrics.entropy(one)), "uniform": pytest.approx(float(metrics.entropy(flat)))}
    assert lines("entropy", pixels=20) == expected
    assert lines("accuracy", classes=10) == {"oracle": 100.0, "by chance": 10.0}
    assert lines("deletion") == lines("insertion") == {}
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = metrics.single_deletion(lambda x: x.sum((1, 2, 3)), x, x[:, 0], cells=2, replace=0.0)
    assert lines("single-deletion")["oracle"] == lines("idsds")["oracle"] == float(found.min()) == 1
    assert lines("agreement")["the same maps"] == pytest.approx(float(metrics.agreement(x, x).min()))
    assert all(isinstance(lines(name), dict) for name in METRICS) and sum(bool(lines(name)) for name in METRICS) == 20
    lines("road")["random"] = 7.0
    assert lines("road") == {"random": 0.0}  # the table stays


def test_what_does_not_fit() -> None:
    with pytest.raises(ArgumentTypeError, match=r"pixels must be a tensor \(N, C, H, W\), not list"):
        uniform([1.0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"pictures \(N, C, H, W\) of real numbers, not \(3, 4, 4\)"):
        edges(torch.zeros(3, 4, 4))
    with pytest.raises(InputError, match="9 x 8 pixels cannot be cut into 2 x 2 equal cells"):
        centre(torch.zeros(1, 3, 9, 8), cells=2)
    with pytest.raises(InputError, match="cells must be a positive integer, not 0"):
        edges(torch.zeros(1, 3, 8, 8), cells=0)
    with pytest.raises(InputError, match="Picture 1 has numbers that are not finite"):
        brightness(torch.tensor([0.0, math.nan]).view(2, 1, 1, 1))
    with pytest.raises(InputError, match=r"seed is a whole number, not 0\.5"):
        random(torch.zeros(1, 3, 8, 8), seed=0.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"There is no metric 'grid-pointin'.*grid-pointing"):
        lines("grid-pointin")
    with pytest.raises(InputError, match="area is the share of a picture, from 0 to 1, not 3"):
        lines("map-iou", area=3)
    with pytest.raises(InputError, match="pixels must be a positive integer, not 0"):
        lines("gini", pixels=0)


def test_the_twin_sees_a_wrong_edge() -> None:
    grey = pictures(1, 6, 6, 1)[:, 0]
    wrong = ndimage.sobel(grey[0].numpy(), 0, mode="constant")  # zeros around the picture: its frame becomes an edge
    assert (
        np.abs(
            np.hypot(wrong, ndimage.sobel(grey[0].numpy(), 1, mode="constant")) - np.array(twin.edges(grey[0].tolist(), 1))
        ).max()
        > 0.5
    )
    assert twin.edges(grey[0].tolist(), 1) != twin.edges(grey[0].tolist(), 2)
