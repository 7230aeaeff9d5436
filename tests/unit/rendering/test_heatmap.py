from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import rendering as slow
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering import heat_limit, heatmap, over, overlay, photo, slice_indices, telling_slices


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 8),
    st.integers(1, 8),
    st.sampled_from([10.0, 50.0, 99.5, 100.0]),
    st.sampled_from([0.0, 0.9, 1.0]),
    st.sampled_from([1e-44, 1e-20, 1.0, 1e30]),
    st.integers(0, 999),
)
def test_equals_the_slow_twin(h: int, w: int, percentile: float, zeros: float, scale: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    c = torch.randn(h, w, generator=g) * (torch.rand(h, w, generator=g) >= zeros) * scale
    got = heatmap(c, percentile=percentile)
    assert got.shape == (h, w, 3) and got.dtype == np.float32 and got.min() >= 0 and got.max() <= 1
    np.testing.assert_allclose(got, slow.heatmap(c.double().numpy(), percentile), atol=3e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999))
def test_the_other_sign_swaps_red_and_blue(seed: int) -> None:
    c = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_array_equal(heatmap(-c), heatmap(c)[..., ::-1])


def test_nothing_is_white() -> None:
    assert (heatmap(torch.zeros(3, 4)) == 1).all()
    assert heat_limit(torch.zeros(3, 4)) == 0


def test_a_map_of_mostly_zeros_uses_its_maximum() -> None:
    c = torch.zeros(40, 40)
    c[3, 4] = -2
    assert heat_limit(c) == 2
    assert heatmap(c)[3, 4].tolist() == [0, 0, 1]


def test_half_precision() -> None:
    c = torch.tensor([[60000.0, -30000.0]]).half()
    want = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 1.0]])
    np.testing.assert_allclose(heatmap(c, percentile=100)[0], want, atol=1e-3)


def test_a_signal_is_a_strip() -> None:
    strip = heatmap(torch.tensor([-1.0, 0.0, 1.0]), percentile=100)
    assert strip.shape == (64, 258, 3)
    assert strip[:, 0].tolist() == [[0, 0, 1]] * 64 and strip[0, 86].tolist() == [1, 1, 1]
    assert strip[5, -1].tolist() == [1, 0, 0]


def test_a_long_signal_is_summed_in_groups() -> None:
    signal = torch.zeros(5000)
    signal[:2], signal[2500] = 1.0, -2.0
    strip = heatmap(signal, percentile=100)
    assert strip.shape == (64, 1667, 3)
    assert strip[0, 0].tolist() == [1, 0, 0] and strip[0, 833].tolist() == [0, 0, 1]
    assert heat_limit(signal, percentile=100) == 2


def test_a_volume_is_a_grid_in_reading_order_with_one_range() -> None:
    volume = torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1).expand(3, 5, 7)
    grid = heatmap(volume, percentile=100)
    assert grid.shape == (5 + 2 + 5, 7 + 2 + 7, 3)
    assert [grid[y, x, 1] for y, x in ((0, 0), (0, 9), (7, 0))] == [0.75, 0.5, 0]
    assert (grid[5:7] == 0.75).all() and (grid[7:, 9:] == 0.75).all()  # lines, and the place left over


@pytest.mark.parametrize("depth", [1, 2, 15, 16, 17, 100])
def test_slices_are_spread_and_hold_both_ends(depth: int) -> None:
    shown = slice_indices(depth)
    assert shown[0] == 0 and shown[-1] == depth - 1 and len(shown) == min(depth, 16)
    assert list(shown) == sorted(set(shown))
    assert heatmap(torch.rand(depth, 2, 3)).shape[0] >= 2


@pytest.mark.parametrize(
    ("c", "kind", "message"),
    [
        (torch.tensor([[1.0, float("nan")]]), InputError, "contributions holds NaN or infinity"),
        (torch.tensor([[1.0, float("inf")]]), InputError, "contributions holds NaN or infinity"),
        (torch.rand(1, 1, 2, 2), InputError, r"expected \(L,\), \(H, W\) or \(D, H, W\), got \(1, 1, 2, 2\)"),
        (torch.tensor(1.0), InputError, r"got \(\)"),
        (torch.rand(0, 3), InputError, "contributions has no pixels"),
        (np.ones((2, 2)), ArgumentTypeError, "contributions must be a torch.Tensor, got ndarray"),
    ],
)
def test_errors(c: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        heatmap(c)
    with pytest.raises(kind, match=message):
        heat_limit(c)


def test_over_white() -> None:
    np.testing.assert_allclose(over(np.array([[[0.2, 0.4, 0.6, 0.5]]])), np.array([[[0.6, 0.7, 0.8]]]), atol=1e-6)


def test_overlay_of_nothing_is_the_pale_grey_photo() -> None:
    image = torch.rand(3, 4, 5)
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    pale = (1 - 0.45 * (1 - grey)).numpy()[..., None].repeat(3, -1)
    np.testing.assert_allclose(overlay(image, np.zeros((4, 5, 4), np.float32)), pale, atol=1e-6)
    np.testing.assert_allclose(overlay(image, np.ones((4, 5, 3), np.float32)), pale, atol=1e-6)


def test_overlay_shows_full_evidence_in_full_colour() -> None:
    image = torch.rand(3, 1, 2)
    red_blue = heatmap(torch.tensor([[1.0, -1.0]]), percentile=100)
    np.testing.assert_allclose(overlay(image, red_blue), red_blue, atol=1e-6)
    opaque = np.concatenate([red_blue, np.ones((1, 2, 1), np.float32)], -1)
    np.testing.assert_allclose(overlay(image, opaque), red_blue, atol=1e-6)


@pytest.mark.parametrize(
    ("explanation", "options", "kind", "message"),
    [
        (np.ones((4, 6, 3)), {}, InputError, r"must be \(4, 5, 3 or 4\) as the photo, got \(4, 6, 3\)"),
        (np.ones((4, 5, 2)), {}, InputError, r"got \(4, 5, 2\)"),
        (np.ones((4, 5)), {}, InputError, r"got \(4, 5\)"),
        (torch.ones(4, 5, 3), {}, ArgumentTypeError, "explanation must be an array, got Tensor"),
        (np.ones((4, 5, 3)), {"strength": 2}, InputError, r"strength must lie in \[0, 1\], got 2"),
    ],
)
def test_overlay_errors(explanation: Any, options: dict[str, float], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        overlay(torch.rand(3, 4, 5), explanation, **options)


def test_a_photo_may_be_bytes_or_floats_tensor_or_array() -> None:
    array = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for image in (array, array / 255, array[:, ::-1][:, ::-1], tensor, tensor / 255):
        np.testing.assert_allclose(photo(image), array / np.float32(255), atol=1e-6)


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (torch.rand(6, 4, 4), InputError, r"image must be a \(3, H, W\) tensor or an \(H, W, 3\) array"),
        (np.ones((4, 4)), InputError, r"image must be a \(3, H, W\) tensor"),
        (np.ones((4, 4, 3), np.int32), InputError, r"image must be float in \[0, 1\] or uint8, got torch.int32"),
        (np.full((4, 4, 3), np.nan), InputError, "image holds NaN"),
        ("photo.jpg", ArgumentTypeError, "image must be a torch.Tensor, got str"),
    ],
)
def test_photo_errors(image: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        photo(image)


@given(st.integers(1, 40), st.integers(0, 2), st.integers(0, 99))
def test_the_slices_that_carry_most(depth: int, axis: int, seed: int) -> None:
    volume = torch.randn(depth, 3, 2, generator=torch.Generator().manual_seed(seed)).movedim(0, axis)
    shown = telling_slices(volume, axis=axis)
    sizes = volume.abs().movedim(axis, 0).flatten(1).sum(1)
    assert list(shown) == sorted(set(shown)) and len(shown) == min(depth, 16)
    left = [float(sizes[i]) for i in range(depth) if i not in shown]
    assert not left or max(left) <= float(sizes[list(shown)].min())


def test_equal_slices_are_spread() -> None:
    assert telling_slices(torch.ones(31, 2, 2)) == slice_indices(31)
    volume = torch.ones(64, 2, 2)
    volume[5], volume[60] = 3, -2
    assert {0, 5, 60, 63} <= set(telling_slices(volume))


def test_slices_and_axis_of_ones_own() -> None:
    volume = torch.arange(4.0).reshape(4, 1, 1).expand(4, 5, 7)
    grid = heatmap(volume, percentile=100, slices=[3, -4])
    assert grid.shape == (5, 7 + 2 + 7, 3) and grid[0, 0, 1] == 0 and grid[0, 9, 1] == 1
    assert heatmap(volume, slices=[6], axis=2).shape == (4, 5, 3)
    assert heatmap(volume, slices=slice_indices(4)).shape == heatmap(volume).shape
    for slices, axis, message in (
        ([4], 0, "from 0 to 3, of axis 0"),
        ([], 0, "got none"),
        ([1.5], 0, "got 1.5"),
        (None, 3, "axis must be"),
    ):
        with pytest.raises(InputError, match=message):
            heatmap(volume, slices=slices, axis=axis)  # type: ignore[arg-type]
