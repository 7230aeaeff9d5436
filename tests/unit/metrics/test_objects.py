"""Maps against objects: the float64 twins, closed forms, laws; wrong rules are seen, wrong input has its sentence."""

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
from torchbcos.metrics import area_lift, by_size, energy_pointing, map_iou, mask_fraction, masks_of_boxes, pointing_hit
from torchbcos.metrics import objects as module


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Maps of few values (ties, zeros, all negative) and masks, some of them empty or full."""
    n, h, w = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    low, high = draw(st.sampled_from([(-3, 0), (-2, 3), (0, 2), (2, 3), (1, 9)]))
    maps = torch.randint(low, high, (n, h, w), generator=g).double() / 4
    masks = torch.rand(n, h, w, generator=g) < draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    return maps, masks


def rows(maps: Tensor, masks: Tensor) -> list[tuple[Any, Any]]:
    return list(zip(maps.tolist(), masks.tolist(), strict=True))


def compare(maps: Tensor, masks: Tensor, threshold: float | None, tolerance: float) -> None:
    close: dict[str, Any] = {"abs": 1e-12, "nan_ok": True}
    assert energy_pointing(maps, masks).tolist() == pytest.approx([twin.energy(a, m) for a, m in rows(maps, masks)], **close)
    found = map_iou(maps, masks, threshold=threshold).tolist()
    assert found == pytest.approx([twin.iou(a, m, threshold) for a, m in rows(maps, masks)], **close)
    found = pointing_hit(maps, masks, tolerance=tolerance).tolist()
    assert found == pytest.approx([twin.hit(a, m, tolerance) for a, m in rows(maps, masks)], **close)


@settings(max_examples=50)
@given(picture=pictures(), threshold=st.sampled_from([None, 0.0, 0.5, 0.91]), tolerance=st.sampled_from([0, 1, 1.5, 2, 5]))
def test_equal_their_slow_twins(picture: tuple[Tensor, Tensor], threshold: float | None, tolerance: float) -> None:
    compare(*picture, threshold, tolerance)


@given(picture=pictures(), factor=st.sampled_from([0.25, 2.0**-99, 2.0**99]))  # exact: a pixel at the threshold stays there
def test_laws(picture: tuple[Tensor, Tensor], factor: float) -> None:
    """In [0, 1]; no scale, no mirror and no neighbour changes a number; a mask and the rest share the evidence."""
    maps, masks = picture
    for function in (energy_pointing, map_iou, pointing_hit, lambda a, m: map_iou(a, m, threshold=None)):
        found = function(maps, masks)
        defined = found[~found.isnan()]
        assert bool(((defined >= 0) & (defined <= 1)).all())
        for changed in (function(maps * factor, masks), function(maps.flip(2), masks.flip(2))):
            torch.testing.assert_close(changed, found, equal_nan=True)
        alone = torch.cat([function(maps[i : i + 1], masks[i : i + 1]) for i in range(len(maps))])
        torch.testing.assert_close(alone, found, rtol=1e-12, atol=0, equal_nan=True)
    for function in (energy_pointing, pointing_hit):
        both = function(maps, masks) + function(maps, ~masks)
        assert both[~both.isnan()].tolist() == pytest.approx([1.0] * int((~both.isnan()).sum()))


def test_even_and_perfect_maps() -> None:
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 4:36, 8:24] = True  # 32 x 16
    even, perfect = torch.ones(1, 64, 64), masks.float()
    assert energy_pointing(even, masks).item() == 0.125 == mask_fraction(masks).item()
    assert energy_pointing(perfect, masks).item() == energy_pointing(perfect * 3 - 1, masks).item() == 1
    assert area_lift(energy_pointing(even, masks), masks).item() == 1
    assert area_lift(energy_pointing(perfect, masks), masks).item() == 8
    for threshold in (0.0, 0.5, None):
        assert map_iou(perfect, masks, threshold=threshold).item() == 1
        assert map_iou(1 - perfect, masks, threshold=threshold).item() == 0
        assert map_iou(even, masks, threshold=threshold).item() == 0.125
    assert pointing_hit(even, masks).item() == 0.125
    assert pointing_hit(perfect, masks).item() == 1


def test_boxes_overlap_once_and_end_before_their_far_edge() -> None:
    masks = masks_of_boxes([[(0, 0, 4, 4), (2, 2, 6, 6)], [(3, 1, 5, 2)]], (8, 8))
    assert masks.sum((1, 2)).tolist() == [16 + 16 - 4, 2]
    a = torch.zeros(2, 8, 8)
    a[0, 3, 6] = a[1, 1, 5] = 1  # on the edge xmax
    assert pointing_hit(a, masks).tolist() == [0, 0]
    a = torch.zeros(2, 8, 8)
    a[0, 3, 5] = a[1, 1, 4] = 1
    assert pointing_hit(a, masks).tolist() == [1, 1]
    assert energy_pointing(torch.ones(2, 8, 8), masks).tolist() == [28 / 64, 2 / 64]


def test_boxes_of_many_forms() -> None:
    one = masks_of_boxes([[(1, 0, 3, 2)]], (2, 4))
    for boxes in (torch.tensor([[1, 0, 3, 2]]), torch.tensor([[[1.0, 0, 3, 2]]]), [torch.tensor([1, 0, 3, 2])], [[1, 0, 3, 2]]):
        assert torch.equal(masks_of_boxes(boxes, (2, 4)), one)
    assert torch.equal(masks_of_boxes([[(0.6, -7, 3.4, 99)]], (2, 4)), one)  # middles of pixels; cut at the picture
    assert masks_of_boxes([[], torch.zeros(0, 4)], (2, 4)).sum() == 0
    assert masks_of_boxes([[(1, 1, 1, 2)]], (2, 4)).sum() == 0


def test_a_tolerance_is_a_disc() -> None:
    """The published circle: nearer than 15 pixels."""
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[:, 20, 20] = True
    a = torch.zeros(3, 64, 64)
    a[0, 20, 34] = a[1, 20, 35] = a[2, 30, 31] = 1  # 14, 15 and √221 pixels away
    assert pointing_hit(a, masks, tolerance=15).tolist() == [1, 0, 1]
    assert pointing_hit(a, masks, tolerance=14.5).tolist() == [1, 0, 0]
    assert pointing_hit(a, masks).tolist() == [0, 0, 0]
    for far in (1000, 1e300, np.float32(99), torch.tensor(99)):
        assert pointing_hit(a, masks, tolerance=far).tolist() == [1, 1, 1]  # type: ignore[arg-type]


def test_undefined_is_nan() -> None:
    masks, none = torch.ones(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)
    negative, good = -torch.ones(1, 4, 4), torch.rand(1, 4, 4) + 1
    for function in (energy_pointing, map_iou):
        assert math.isnan(function(negative, masks).item())
    for function in (energy_pointing, map_iou, pointing_hit):
        assert math.isnan(function(good, none).item())
    assert pointing_hit(negative, masks).item() == 1
    assert math.isnan(area_lift(torch.tensor([math.nan]), masks).item())


def test_other_numbers_of_axes() -> None:
    signal, volume = torch.tensor([[3.0, 1.0, 0.0]]), torch.ones(1, 2, 2, 2)
    assert energy_pointing(signal, torch.tensor([[True, False, False]])).item() == 0.75
    half = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    half[:, 0] = True
    assert map_iou(volume, half).item() == energy_pointing(volume, half).item() == pointing_hit(volume, half).item() == 0.5


def test_bins_of_size() -> None:
    masks = torch.zeros(5, 40, 40, dtype=torch.bool)
    for i, side in enumerate((4, 32, 31, 40, 0)):
        masks[i, :side, :side] = True
    values = torch.tensor([0.1, 0.2, math.nan, 0.4, 0.5])
    small, medium, large = by_size(values, masks, (0, 32**2, 96**2, math.inf))
    assert (small.images.tolist(), small.undefined, small.mean) == ([0, 2], 1, pytest.approx(0.1))
    assert (medium.images.tolist(), medium.mean) == ([1, 3], pytest.approx(0.3))
    assert (large.low, large.high, len(large.values)) == (96**2, math.inf, 0)
    assert math.isnan(large.mean)
    again = by_size(values, torch.tensor([16, 1024, 961, 1600, 0]), (0, 32**2, 96**2, math.inf))
    assert [b.images.tolist() for b in again] == [[0, 2], [1, 3], []]


GOOD, MASK = torch.rand(2, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)


@pytest.mark.parametrize("function", [energy_pointing, map_iou, pointing_hit])
@pytest.mark.parametrize(
    ("maps", "masks", "text"),
    [
        (GOOD, MASK[:, :2], r"masks of shape \(2, 2, 4\) do not fit maps of shape \(2, 4, 4\)"),
        (GOOD, MASK[:1], "do not fit"),
        (GOOD, MASK * 0.5, "True and False"),
        (GOOD / 0, MASK, "not finite"),
        (GOOD[:0], MASK[:0], "one map an image"),
    ],
)
def test_bad_input_has_one_sentence(function: Any, maps: Tensor, masks: Tensor, text: str) -> None:
    with pytest.raises(InputError, match=text):
        function(maps, masks)


def test_bad_options_have_one_sentence() -> None:
    for threshold in (1, -0.1, math.nan, "half", True):
        with pytest.raises(InputError, match="threshold is a number in"):
            map_iou(GOOD, MASK, threshold=threshold)  # type: ignore[arg-type]
    for tolerance in (-1, math.inf, math.nan, "far", True):
        with pytest.raises(InputError, match="tolerance is a distance"):
            pointing_hit(GOOD, MASK, tolerance=tolerance)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="A tolerance needs maps"):
        pointing_hit(GOOD[0], MASK[0], tolerance=2)
    for edges in ((0,), (3, 2), (0, math.nan), None, ("a", "b"), (0, True)):
        with pytest.raises(InputError, match="increasing sizes"):
            by_size(torch.rand(2), MASK, edges)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="A size is NaN"):
        by_size(torch.rand(2), torch.tensor([1.0, math.nan]), (0, 9))
    for function in (area_lift, lambda values, masks: by_size(values, masks, (0, 9))):
        with pytest.raises(ArgumentTypeError, match="values are a tensor"):
            function([0.5, 0.5], MASK)
    with pytest.raises(InputError, match="one value an image"):
        by_size(torch.rand(3), MASK, (0, 9))
    with pytest.raises(InputError, match="values for 2 masks"):
        area_lift(torch.rand(3), MASK)
    for boxes, text in (
        ([[(0, 0, 1)]], "four numbers each"), ([[(3, 0, 1, 1)]], "ends before it begins"), 
        ([["car"]], "no lists of four numbers"),
        ([[(0, 0, math.nan, 1)]], "not finite"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=text):
            masks_of_boxes(boxes, (4, 4))
    for size in ((4, 0), 4, (4, 4, 4), (10**7, 10**7)):
        with pytest.raises(InputError, match=r"size is \(H, W\)"):
            masks_of_boxes([], size)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"image 0 has \(\)"):
        masks_of_boxes([3], (4, 4))
    with pytest.raises(ArgumentTypeError, match="boxes are a list of boxes"):
        masks_of_boxes(None, (4, 4))  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="masks must be a tensor"):
        mask_fraction([[True]])  # type: ignore[arg-type]


FAULTS: dict[str, dict[str, Any]] = {
    "negative evidence counts": {"positive": lambda maps: maps.abs()},
    "the first maximum alone": {
        "_highest": lambda maps: (
            torch.zeros_like(maps).flatten(1).scatter(1, maps.flatten(1).argmax(1)[:, None], 1.0).view_as(maps)
        )
    },
    "pixels at the threshold are high": {"_stretched": lambda a, stretched=module._stretched: stretched(a) + 1e-9},
    "zeros for undefined": {"math": SimpleNamespace(**{**vars(math), "nan": 0.0})},
    "a square instead of a disc": {"math": SimpleNamespace(**{**vars(math), "isqrt": lambda value: 1})},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_rule_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.tensor(
        [[[0.0, 1, 2], [0, -3, 0], [2, 0, 0]], [[4, 0, 0], [0, 0, 0], [0, 0, 0]], [[1, 1, 1], [0, 0, 0], [0, 0, 0]]]
    )
    maps, masks = maps.double(), torch.zeros(3, 3, 3, dtype=torch.bool)
    masks[0, 2, 0:2] = masks[1, 1, 1] = True
    compare(maps, masks, 0.5, 1.2)
    for name, value in FAULTS[fault].items():
        monkeypatch.setattr(module, name, value)
    with pytest.raises(AssertionError):
        compare(maps, masks, 0.5, 1.2)


def test_a_pixel_at_the_threshold_is_not_above_it() -> None:
    maps, masks = torch.tensor([[1.5, 1.0, 1.25]]), torch.tensor([[True, False, True]])
    for factor in (1.0, 3.0, 2.0**-40, 1e5):
        assert map_iou(maps.double() * factor, masks).item() == 0.5
