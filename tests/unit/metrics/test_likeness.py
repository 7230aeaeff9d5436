"""Agreement of maps, sensitivity to the class, methods that are one: twins, closed forms, laws, what they refuse."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchbcos
from tests.reference import likeness as twin
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.attribution import IntegratedGradients
from torchbcos.metrics import agreement, label_sensitivity, residual, same_maps
from torchbcos.metrics.likeness import KINDS

PHOTOS = Path(__file__).parents[3] / "docs" / "photos"
CORRELATIONS = ("spearman", "pearson")
# few different numbers, so that ties are common
NUMBERS = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]]]:
    """Two maps of one image."""
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    row = st.lists(NUMBERS, min_size=width, max_size=width)
    return tuple(draw(st.lists(row, min_size=height, max_size=height)) for _ in range(2))  # type: ignore[return-value]


@given(pair=pairs(), kind=st.sampled_from(KINDS), top=st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_pixels_have_their_twins_numbers(pair: tuple[list[list[float]], ...], kind: str, top: float) -> None:
    a, b = ([v for row in rows for v in row] for rows in pair)
    count = max(1, round(top * len(a)))
    expected = {"pearson": twin.pearson, "spearman": twin.spearman}.get(kind, lambda x, y: twin.shared(x, y, kind, count))(a, b)
    one, other = (torch.tensor([rows], dtype=torch.float64) for rows in pair)
    assert float(agreement(one, other, kind, pool=None, top=top)) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    if kind == "spearman":
        assert float(label_sensitivity(one, other, pool=None)) == pytest.approx(expected, abs=1e-9, nan_ok=True)


@given(seed=st.integers(0, 10_000), cells=st.integers(1, 4), size=st.tuples(st.integers(2, 9), st.integers(2, 9)))
def test_cells_have_their_twins_numbers(seed: int, cells: int, size: tuple[int, int]) -> None:
    maps = torch.randn(2, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a, b = (twin.pooled(rows, cells) for rows in maps.tolist())
    for kind, slow in (("pearson", twin.pearson), ("spearman", twin.spearman)):
        expected = slow(a, b)
        assert float(agreement(maps[:1], maps[1:], kind, pool=cells)) == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    ("a", "b", "kind", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 1000], "spearman", 1.0),
        ([1, 2, 3, 4], [1, 2, 4, 3], "spearman", 0.8),  # 1 - 6·2 / (4·15)
        ([1, 2, 3, 4], [4, 3, 2, 1], "pearson", -1.0),
        ([1, 0, 0, 0], [0, 1, 0, 0], "pearson", -1 / 3),
        ([4, 3, 0, 0], [3, 0, 4, 0], "top_k", 0.5),
        ([4, 3, 0, 0], [3, 4, 0, 0], "top_k", 1.0),
        ([4, 3, 0, 0], [3, 4, 0, 0], "rank", 0.0),
        ([4, 3, 0, 0], [4, -3, 0, 0], "sign", 0.5),
        ([4, 3, 0, 0], [-3, 4, 0, 0], "signed_rank", 0.0),
        ([1, 0, 0, 0], [1, 0, 0, 0], "top_k", 1.0),  # one place is left for three
        ([2, 1, 1, 0], [2, 0, 1, 1], "top_k", 0.75),  # the second place is shared by two, of whom one is common
    ],
)
def test_closed_forms(a: list[float], b: list[float], kind: str, expected: float) -> None:
    one, other = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    for x, y in ((one, other), (other, one)):
        assert float(agreement(x, y, kind, pool=None, top=0.5)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_laws(kind: str) -> None:
    a, b = torch.randn(2, 3, 33, 47)
    assert torch.equal(agreement(a, b, kind), agreement(b, a, kind))
    torch.testing.assert_close(agreement(a, a, kind), torch.ones(3))
    torch.testing.assert_close(agreement(3 * a, b / 7, kind), agreement(a, b, kind))
    alone = torch.cat([agreement(x[None], y[None], kind) for x, y in zip(a, b, strict=True)])
    assert torch.equal(alone, agreement(a, b, kind))
    if kind in CORRELATIONS:
        torch.testing.assert_close(agreement(-a, b, kind), -agreement(a, b, kind))


def test_fine_noise_decides_about_pixels_and_not_about_cells() -> None:
    place = torch.zeros(2, 1, 112, 112)
    place[..., :56, :56] = 1
    a, b = place + 2 * torch.randn(2, 1, 112, 112)
    assert float(agreement(a, b, pool=None)) < 0.2 < 0.4 < float(agreement(a, b))


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_without_differences_is_undefined_and_only_that_one(kind: str) -> None:
    for level in (0.0, 0.1, 1e30):
        flat = torch.full((2, 33, 33), level, dtype=torch.float64)
        flat[1] = torch.randn(33, 33)
        assert agreement(flat, torch.randn(2, 33, 33), kind).isnan().tolist() == [True, False]
        assert agreement(torch.randn(2, 33, 33), flat, kind).isnan().tolist() == [True, False]


def test_every_number_of_axes_and_dtype() -> None:
    for shape in ((30,), (9, 5), (6, 5, 4)):
        maps = torch.randn(2, *shape)
        torch.testing.assert_close(agreement(maps, maps, pool=3), torch.ones(2))
    deep = torch.randn(2, 2, 2, 2, 2)
    torch.testing.assert_close(agreement(deep, deep, pool=None), torch.ones(2))
    with pytest.raises(InputError, match="pixel by pixel only: pool=None"):
        agreement(deep, deep)
    half = (torch.randn(1, 20, 20) * 60_000).clamp(-65_000, 65_000).half()
    torch.testing.assert_close(agreement(half, half.double().float()), torch.ones(1))
    huge = torch.randn(1, 20, 20).double() * 1e300
    torch.testing.assert_close(agreement(huge, huge, "pearson"), torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (dict(kind="spearmen"), r"kind is one of spearman, .* not 'spearmen'. Did you mean 'spearman'"),
        (dict(pool=0), "pool is a number of cells an axis, or None for pixels, not 0"),
        (dict(top=0.0), "top is a part of the cells, above 0 and at most 1, not 0.0"),
        (dict(top=True), "not True"),
    ],
)
def test_what_cannot_be_asked(words: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        agreement(torch.randn(1, 4, 4), torch.randn(1, 4, 4), **words)  # type: ignore[arg-type]


def test_maps_that_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"\(1, 4, 4\) \(a\) and \(1, 4, 5\) \(b\) cannot be compared"):
        agreement(torch.randn(1, 4, 4), torch.randn(1, 4, 5))
    with pytest.raises(InputError, match="map of image 0 has numbers that are not finite"):
        agreement(torch.randn(1, 4, 4), torch.full((1, 4, 4), math.nan))
    with pytest.raises(InputError, match=r"\(rise\) cannot be compared"):
        same_maps({"lime": torch.randn(1, 4, 4), "rise": torch.randn(2, 4, 4)})
    with pytest.raises(ArgumentTypeError, match="a mapping from names"):
        same_maps([torch.randn(1, 4, 4)])  # type: ignore[arg-type]


# -- the same maps ----------------------------------------------------------------------------------------------------


def test_one_method_under_many_names_is_found() -> None:
    a, b = torch.randn(2, 3, 8, 8)
    noise = a + 1e-3 * torch.randn(3, 8, 8)
    maps = {"ixg": a, "rise": b, "ig": 2 * a + 1, "deep_lift": noise, "minus": -a, "again": b}
    assert same_maps(maps) == [("ixg", "ig", "deep_lift"), ("rise", "again")]
    assert same_maps({"ixg": a, "rise": b}) == []


def test_one_image_that_differs_is_enough() -> None:
    a = torch.randn(3, 8, 8)
    other = a.clone()
    other[2] = torch.randn(8, 8)
    assert same_maps({"a": a, "b": other}) == [] and same_maps({"a": a[:2], "b": other[:2]}) == [("a", "b")]


def test_the_threshold_is_a_correlation_of_whole_maps() -> None:
    a, noise = torch.randn(2, 1, 40, 40, dtype=torch.float64)
    other = a + 0.02 * noise
    rho = twin.pearson(a.flatten().tolist(), other.flatten().tolist())
    maps = {"a": a, "b": other}
    assert same_maps(maps, threshold=rho - 1e-9) == [("a", "b")] and same_maps(maps, threshold=rho + 1e-9) == []


def test_in_a_group_each_is_the_same_as_each() -> None:
    """Three maps in a row, of which the outer two are too far from each other: no chain joins them."""
    turn = torch.tensor([0.0, 0.01, 0.02], dtype=torch.float64)[:, None]
    plane = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]], dtype=torch.float64)
    a, b, c = (turn.cos() * plane[0] + turn.sin() * plane[1])[:, None]
    assert same_maps({"a": a, "b": b, "c": c}, threshold=0.9999) == [("a", "b")]


def test_maps_without_differences_are_the_same_and_no_other_is() -> None:
    flat, full = torch.zeros(2, 3, 3), torch.randn(2, 3, 3)
    assert same_maps({"zero": flat, "one": flat + 1, "map": full}) == [("zero", "one")]
    mixed = torch.stack([flat[0], full[1]])
    assert same_maps({"a": mixed, "b": mixed * 2, "map": full}) == [("a", "b")]


def test_the_twin_sees_a_wrong_metric() -> None:
    a, b = [3.0, 1.0, 1.0, 0.0], [3.0, 0.0, 1.0, 1.0]
    by_position = twin.pearson([3, 1, 2, 0], [3, 0, 1, 2])  # ties ranked by their place
    assert abs(twin.spearman(a, b) - by_position) > 0.05
    assert twin.shared(a, b, "top_k", 2) == 0.75  # by place it would be 1/2: 0, 1 against 0, 2
    assert twin.pearson(a, b) != pytest.approx(twin.spearman(a, b), abs=0.01)
    assert twin.pooled([[1.0, 2.0, 3.0]], 2) == [1.5, 2.5]  # a middle pixel is in both cells


def test_scipy_agrees() -> None:
    stats = pytest.importorskip("scipy.stats")
    maps = torch.randint(0, 6, (2, 5, 40)).double()
    found = agreement(maps[0], maps[1], pool=None)
    assert found.tolist() == pytest.approx([stats.spearmanr(a, b)[0] for a, b in zip(*maps.numpy(), strict=True)])


def test_of_a_bcos_network_gradients_are_one_method_and_its_own_explanation_is_another() -> None:
    """Sums cannot tell them apart: a table that ranks by completeness would call all three the same."""
    clf = torchbcos.load("imagenette")
    x = clf.preprocess([PHOTOS / "umbrella.jpg", PHOTOS / "dalmatian.jpg"])
    e = torchbcos.explain(clf.model, x)
    target, constants = e.targets[:, 0], {name: values[:, 0] for name, values in e.constants.items()}
    path = IntegratedGradients(steps=4)
    maps = {
        "inherent": e.contributions[:, 0],
        "input_x_gradient": torchbcos.attribute(clf.model, x, target, method="input_x_gradient").maps[:, 0],
        "integrated_gradients": torchbcos.attribute(clf.model, x, target, method=path, baseline="zero6").maps[:, 0],
    }
    assert same_maps(maps) == [("input_x_gradient", "integrated_gradients")]
    assert all((residual(one, constants, e.values[:, 0]) < 2e-3).all() for one in maps.values())
    assert (agreement(maps["inherent"], maps["input_x_gradient"], "pearson", pool=None) < 0.9).all()


@pytest.mark.parametrize("size", [(33, 47), (160, 160), (320, 320), (7, 1000)])
@pytest.mark.parametrize("level", [0.1, 0.3, -1 / 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_of_one_number_are_tied_whatever_their_means_round_to(
    size: tuple[int, int], level: float, dtype: torch.dtype
) -> None:
    # constant segments and borders: their means differ in the last bits, in the same places of every map
    a, b, signs = (torch.ones(1, *size, dtype=dtype) for _ in range(3))
    a[0, :5, :9], b[0, -5:, -9:], signs[..., : size[1] // 2] = 4, 3, -1
    for kind in KINDS:
        for one, other in ((a, b), (a, b * signs), (a * signs, b)):  # sums of whole numbers are exact
            expected = float(agreement(one, other, kind))
            assert float(agreement(level * one, level * other, kind)) == pytest.approx(expected, abs=1e-9), kind


def test_what_cancels_within_a_cell_has_no_sign() -> None:
    maps = torch.zeros(1, 3, 6, dtype=torch.float64)
    maps[0, :, :3] = torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
    maps[0, :, 3:] = 1.0
    other = torch.where(maps == 1, maps, 0.0)
    assert float(agreement(maps, other, "signed_rank", pool=2, top=1.0)) == 1.0
