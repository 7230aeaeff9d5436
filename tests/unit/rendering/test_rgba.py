from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import rendering as slow
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering import rgba
from torchbcos.rendering._checks import quantile

percentiles = st.sampled_from([1.0, 50.0, 90.0, 99.5, 100.0])


def draw(height: int, width: int, seed: int, *, zeros: float = 0.0) -> tuple[Tensor, Tensor]:
    """Weights and inputs in eighths: their products are exact, so that the sign of the evidence is no accident."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.randint(-16, 17, (6, height, width), generator=g) / 8
    weights = weights * (torch.rand(height, width, generator=g) >= zeros)
    colours = torch.randint(0, 9, (3, height, width), generator=g) / 8
    return weights, torch.cat([colours, 1 - colours])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 20),
    percentiles,
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.integers(0, 999),
)
def test_equals_the_slow_twin(h: int, w: int, smooth: int, percentile: float, zeros: float, seed: int) -> None:
    weights, inputs = draw(h, w, seed, zeros=zeros)
    got = rgba(weights, inputs, smooth=smooth, percentile=percentile)
    want = slow.rgba(weights.double().numpy(), inputs.double().numpy(), smooth, percentile)
    assert got.shape == (h, w, 4) and got.dtype == np.float32 and got.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(got, want, atol=3e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(-120, 120), st.integers(0, 99))
def test_a_positive_factor_of_the_weights_changes_nothing(power: int, seed: int) -> None:
    weights, inputs = draw(6, 7, seed)
    np.testing.assert_array_equal(rgba(weights * 2.0**power, inputs, smooth=3), rgba(weights, inputs, smooth=3))


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e30, 3e38])
def test_extreme_weights_are_drawn(scale: float) -> None:
    picture = rgba(torch.full((6, 4, 4), scale), torch.ones(6, 4, 4))
    np.testing.assert_allclose(picture[..., 3], 1, atol=1e-6)
    np.testing.assert_allclose(picture[..., :3], 0.5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_drawn_as_float32(dtype: torch.dtype) -> None:
    weights, inputs = draw(8, 8, 3)
    np.testing.assert_allclose(rgba(weights.to(dtype), inputs.to(dtype), smooth=3), rgba(weights, inputs, smooth=3), atol=1e-6)


def test_neither_tensor_nor_graph_is_touched() -> None:
    weights, inputs = draw(5, 5, 1)
    weights.requires_grad_()
    before = weights.detach().clone(), inputs.clone()
    rgba(weights, inputs)
    assert torch.equal(weights, before[0]) and torch.equal(inputs, before[1]) and weights.grad is None


@pytest.mark.parametrize("smooth", [1, 3, 15])
def test_equals_the_official_picture_where_no_weight_is_near_the_border(smooth: int) -> None:
    official = pytest.importorskip("bcos.common").gradient_to_image
    weights, inputs = draw(64, 48, 5)
    inside = torch.zeros(64, 48)
    inside[smooth:-smooth, smooth:-smooth] = 1
    want = official(inputs, weights * inside, smooth=smooth, alpha_percentile=99.5)
    np.testing.assert_allclose(rgba(weights * inside, inputs, smooth=smooth), want, atol=2e-6)


@pytest.mark.parametrize("smooth", [3, 15])
def test_equals_the_official_picture_inside_up_to_its_quantile(smooth: int) -> None:
    official = pytest.importorskip("bcos.common").gradient_to_image
    weights, inputs = draw(64, 48, 6)
    edge = smooth // 2
    got, want = (
        picture[edge:-edge, edge:-edge]
        for picture in (
            rgba(weights, inputs, smooth=smooth),
            official(inputs, weights, smooth=smooth, alpha_percentile=99.5),
        )
    )
    np.testing.assert_allclose(got[..., :3], want[..., :3], atol=2e-6)
    below = (got[..., 3] < 1) & (want[..., 3] < 1) & (want[..., 3] > 0.01)
    ratio = got[..., 3][below] / want[..., 3][below]
    assert below.mean() > 0.8
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-5)


def test_defect_16_negative_evidence_is_transparent() -> None:
    picture = rgba(-torch.rand(6, 64, 64) - 0.01, torch.rand(6, 64, 64) + 0.01)
    assert (picture[..., 3] == 0).all() and np.isfinite(picture).all()


def test_defect_16_zero_weights_are_transparent() -> None:
    picture = rgba(torch.zeros(6, 64, 64), torch.rand(6, 64, 64))
    assert (picture[..., 3] == 0).all() and np.isfinite(picture).all()


def test_defect_16_one_pixel_among_zeros_is_drawn() -> None:
    weights = torch.zeros(6, 64, 64)
    weights[:, 30, 20] = torch.tensor([1.0, 0, 0, 0, 1, 1])
    picture = rgba(weights, torch.ones(6, 64, 64), smooth=1)
    np.testing.assert_allclose(picture[30, 20], [1, 0, 0, 1], atol=1e-6)
    assert picture[..., 3].sum() == 1


@pytest.mark.parametrize("smooth", [0, 1, 2, 3, 14, 15, 16, 200])
def test_defect_16_a_uniform_map_is_opaque_to_the_border(smooth: int) -> None:
    picture = rgba(torch.full((6, 21, 32), 0.3), torch.ones(6, 21, 32), smooth=smooth)
    assert picture.shape == (21, 32, 4)
    np.testing.assert_allclose(picture[..., 3], 1.0, atol=1e-6)


@pytest.mark.parametrize("smooth", [2, 4, 6])
def test_defect_16_even_smooth_does_not_move_the_picture(smooth: int) -> None:
    weights = torch.zeros(6, 15, 15)
    weights[:, 7, 7] = 1
    alpha = rgba(weights, torch.ones(6, 15, 15), smooth=smooth, percentile=100)[..., 3]
    np.testing.assert_allclose(alpha, alpha[::-1], atol=1e-7)
    np.testing.assert_allclose(alpha, alpha[:, ::-1], atol=1e-7)


def test_smooth_beyond_the_picture_is_its_mean() -> None:
    weights, inputs = draw(5, 9, 2)
    alpha = rgba(weights, inputs, smooth=10**9)[..., 3]
    np.testing.assert_allclose(alpha, alpha[0, 0], rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=40), st.floats(0, 1))
def test_quantile_is_that_of_torch(values: list[float], fraction: float) -> None:
    want = torch.quantile(torch.tensor(values, dtype=torch.float64), fraction).item()
    assert quantile(np.array(values), fraction) == pytest.approx(want, rel=1e-9, abs=1e-9)


def test_quantile_of_more_values_than_float32_can_count() -> None:
    values = np.arange(2**24 + 4, dtype=np.float64)
    assert quantile(values, 1.0) == 2**24 + 3
    assert quantile(values, 0.5) == (2**24 + 3) / 2


good = torch.rand(6, 4, 4)


@pytest.mark.parametrize(
    ("weights", "inputs", "options", "kind", "message"),
    [
        (good, good, {"smooth": -1}, InputError, r"smooth must be 0 or more pixels, got -1"),
        (good, good, {"smooth": 1.5}, ArgumentTypeError, r"smooth must be an int \(pixels\), got float"),
        (good, good, {"smooth": True}, ArgumentTypeError, r"smooth must be an int \(pixels\), got bool"),
        (good, good, {"percentile": 0}, InputError, r"percentile must lie in \(0, 100\], got 0"),
        (good, good, {"percentile": 101}, InputError, r"percentile must lie in \(0, 100\], got 101"),
        (good, good, {"percentile": float("nan")}, InputError, r"percentile must lie in"),
        (good, good, {"percentile": "99"}, ArgumentTypeError, r"percentile must be a number, got str"),
        (good, torch.rand(6, 4, 5), {}, InputError, r"one shape, got \(6, 4, 4\) and \(6, 4, 5\)"),
        (good[None], good[None], {}, InputError, r"expected \(6, H, W\), got \(1, 6, 4, 4\)"),
        (good[:3], good[:3], {}, InputError, r"got 3 channels.*use heatmap"),
        (good[:, :0], good[:, :0], {}, InputError, r"weights has no pixels: its shape is \(6, 0, 4\)"),
        (good * float("nan"), good, {}, InputError, r"weights holds NaN or infinity"),
        (good, good * float("inf"), {}, InputError, r"inputs holds NaN or infinity"),
        (good.numpy(), good, {}, ArgumentTypeError, r"weights must be a torch.Tensor, got ndarray"),
        (good.to(torch.complex64), good, {}, InputError, r"weights must hold real numbers"),
    ],
)
def test_errors(weights: Tensor, inputs: Tensor, options: dict[str, int], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        rgba(weights, inputs, **options)


# -- grey: one pair, (x, 1 - x) ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 7), percentiles, st.integers(0, 999))
def test_a_grey_picture_equals_the_slow_twin(h: int, w: int, smooth: int, percentile: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    weights, x = torch.randint(-16, 17, (2, h, w), generator=g) / 8, torch.randint(0, 9, (1, h, w), generator=g) / 8
    inputs = torch.cat([x, 1 - x])
    want = slow.rgba(weights.double().numpy(), inputs.double().numpy(), smooth, percentile)
    got = rgba(weights, inputs, smooth=smooth, percentile=percentile)
    np.testing.assert_allclose(got, want, atol=3e-6)
    # three equal colours with the same weights have the same tone, and an opacity that differs by a factor, which is divided out
    three = rgba(weights.repeat_interleave(3, 0), inputs.repeat_interleave(3, 0), smooth=smooth, percentile=percentile)
    np.testing.assert_allclose(got, three, atol=3e-6)


def test_the_tone_is_what_the_weights_look_for() -> None:
    weights = torch.tensor([[[1.0, -1.0, 1.0]], [[-1.0, 1.0, 1.0]]])
    picture = rgba(weights, torch.tensor([[[1.0, 0.0, 0.5]], [[0.0, 1.0, 0.5]]]), smooth=1)
    np.testing.assert_allclose(picture[0, :, 0], [1, 0, 0.5], atol=1e-6)
    assert (picture[..., 3] == 1).all()
