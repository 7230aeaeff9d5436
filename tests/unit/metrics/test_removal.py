"""Removal curves: against a slow twin, in closed form, and where the tie rule or the batch could decide."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import removal as twin
from tests.unit.metrics.pictures import curved, curved_twin, drawn, encoded, pixels
from torchbcos import BcosError
from torchbcos.functional.replace import replacement
from torchbcos.metrics import Curve, area, gap, removal_curve, removal_order

FEW = settings(max_examples=40, derandomize=True, deadline=None)
SEEDS = st.integers(0, 10_000)
FOUR = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64).view(1, 1, 2, 2)


def total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


# -- the order -------------------------------------------------------------------------------------------------------


@FEW
@given(
    seed=SEEDS, h=st.integers(1, 4), w=st.integers(1, 4), most=st.booleans(),
    sign=st.sampled_from(["signed", "positive", "absolute"]), ties=st.sampled_from(["random", "raster", "reversed"]),
)  # fmt: skip
def test_order_is_that_of_the_slow_twin(seed: int, h: int, w: int, most: bool, sign: str, ties: str) -> None:
    maps = (drawn(seed, 2, h, w) * 4 - 2).round()  # -2 to 2: many ties
    found = removal_order(
        maps, first="most" if most else "least", ties=ties, sign=sign, generator=torch.Generator().manual_seed(seed)
    )
    n = h * w
    tied = {
        "random": torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist(),
        "raster": list(range(n)),
        "reversed": list(range(n))[::-1],
    }
    change = {"signed": float, "positive": lambda v: max(v, 0.0), "absolute": abs}[sign]
    for row, values in zip(found.tolist(), maps.flatten(1).tolist(), strict=True):
        assert row == twin.order([change(v) for v in values], most, tied[ties])


def test_ties_are_drawn_once_for_all_images_and_each_alone_is_the_same() -> None:
    maps = drawn(0, 5, 6, 6).mul(3).round()
    whole = removal_order(maps)
    assert torch.equal(whole, torch.cat([removal_order(m[None]) for m in maps]))
    assert torch.equal(whole[[3, 1]], removal_order(maps[[3, 1]]))
    assert not torch.equal(whole, removal_order(maps, generator=torch.Generator().manual_seed(1)))


def test_a_constant_map_gets_the_mean_area_and_not_that_of_the_raster() -> None:
    """4, 3, 2, 1 in raster order: raster ties give the best area of all, reversed ones the worst."""
    flat = torch.ones(1, 2, 2)
    areas = {t: float(area(removal_curve(total, FOUR, removal_order(flat, ties=t), replace=0.0, fractions=4)))
             for t in ("raster", "reversed")}  # fmt: skip
    assert areas == {"raster": 3.75, "reversed": 6.25}
    generator = torch.Generator().manual_seed(0)
    drawn_areas = [
        float(area(removal_curve(total, x, removal_order(flat, generator=generator), replace=0.0, fractions=4)))
        for _ in range(400)
        for x in (FOUR, FOUR.flip(-1))
    ]
    assert sum(drawn_areas) / len(drawn_areas) == pytest.approx(5.0, abs=0.1)
    assert len(set(drawn_areas)) > 2


def test_negative_zero_is_zero() -> None:
    assert removal_order(torch.tensor([[[0.0, -0.0, 1.0]]]), ties="raster", first="least").tolist() == [[0, 1, 2]]
    assert removal_order(torch.tensor([[[-0.0, 0.0, -1.0]]]), ties="raster", sign="positive").tolist() == [[0, 1, 2]]


# -- curves ----------------------------------------------------------------------------------------------------------


@FEW
@given(
    seed=SEEDS, n=st.integers(1, 3), h=st.integers(1, 4), w=st.integers(1, 4), most=st.booleans(), keep=st.booleans(),
    batch_size=st.integers(1, 9), steps=st.one_of(st.integers(1, 7), st.lists(
        st.floats(0, 1), min_size=1, max_size=6, unique=True).map(sorted)),
)  # fmt: skip
def test_curve_is_that_of_the_slow_twin(
    seed: int, n: int, h: int, w: int, most: bool, keep: bool, batch_size: int, steps: Any
) -> None:
    x, base = encoded(seed, n, 1, h, w), drawn(seed + 1, n, 2, h, w)
    maps = drawn(seed + 2, n, h, w)
    order = removal_order(maps, first="most" if most else "least")
    found = removal_curve(curved, x, order, replace=base, fractions=steps, keep=keep, batch_size=batch_size)
    wanted = [i / steps for i in range(steps + 1)] if isinstance(steps, int) else steps
    counts = [math.floor(f * h * w + 0.5) for f in wanted]
    assert found.fractions.tolist() == [c / (h * w) for c in counts]
    assert found.keep == keep
    for i in range(n):
        goes = twin.order(maps[i].flatten().tolist(), most, range(h * w))
        values = twin.curve(curved_twin, pixels(x[i]), pixels(base[i]), goes, counts, keep)
        assert found.values[i].tolist() == pytest.approx(values, abs=1e-9)
        if len(values) > 1:
            assert float(area(found)[i]) == pytest.approx(twin.area(found.fractions.tolist(), values), abs=1e-9)


@FEW
@given(seed=SEEDS, n=st.integers(1, 5), batch_size=st.integers(1, 13))
def test_neither_batch_nor_batch_size_counts(seed: int, n: int, batch_size: int) -> None:
    x, maps = encoded(seed, n, 3, 3, 4), drawn(seed, n, 3, 4).mul(4).round()
    whole = removal_curve(curved, x, removal_order(maps), fractions=5).values
    parts = removal_curve(curved, x, removal_order(maps), fractions=5, batch_size=batch_size).values
    alone = [removal_curve(curved, x[i : i + 1], removal_order(maps[i : i + 1]), fractions=5).values for i in range(n)]
    assert torch.allclose(parts, whole, atol=1e-12) and torch.allclose(torch.cat(alone), whole, atol=1e-12)


@pytest.mark.parametrize("replace", ["grey", "mean", "blur", "black", "white", "zero6", 0.25, lambda x: x.flip(-1)])
def test_ends_are_the_picture_and_its_replacement_bit_for_bit_and_colours_stay_colours(replace: Any) -> None:
    x = encoded(3, 2, 3, 8, 8).float()
    seen = []

    def predict(batch: Tensor) -> Tensor:
        seen.append(batch)
        return batch.flatten(1).sum(1)

    for keep in (False, True):
        seen.clear()
        removal_curve(predict, x, removal_order(drawn(1, 2, 8, 8)), replace=replace, fractions=4, keep=keep, batch_size=2)
        first, *between, last = reversed(seen) if keep else seen
        assert torch.equal(first, x) and torch.equal(last, replacement(x, replace))
        assert len(between) == 3
        if replace not in ("zero6", 0.25):
            assert all(float((b[:, :3] + b[:, 3:] - 1).abs().max()) <= 1e-6 for b in seen)
    if replace == "zero6":
        assert float((seen[1][:, :3] + seen[1][:, 3:]).min()) == 0


def test_closed_form_of_an_additive_model() -> None:
    most, least = removal_order(FOUR[:, 0]), removal_order(FOUR[:, 0], first="least")
    curves = {
        "most": removal_curve(total, FOUR, most, replace=0.0, fractions=4),
        "least": removal_curve(total, FOUR, least, replace=0.0, fractions=4),
        "insertion": removal_curve(total, FOUR, most, replace=0.0, fractions=4, keep=True),
    }
    assert {k: area(c).tolist() for k, c in curves.items()} == {"most": [3.75], "least": [6.25], "insertion": [6.25]}
    assert curves["most"].values.tolist() == [[10, 6, 3, 1, 0]] and curves["insertion"].values.tolist() == [[0, 4, 7, 9, 10]]
    assert gap(curves["most"], curves["least"]).tolist() == [2.5]
    assert gap(curves["most"], curves["least"], normalised=True).tolist() == [0.25]
    assert area(curves["insertion"], normalised=True).tolist() == [0.625]
    assert area(Curve(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[1.0, 0.5, 0.0]]))).tolist() == [0.5]
    uneven = Curve(torch.tensor([0, 0.1, 1], dtype=torch.float64), torch.tensor([[1.0, 0, 0]], dtype=torch.float64))
    assert float(area(uneven)) == pytest.approx(0.05, abs=1e-15)


@FEW
@given(seed=SEEDS, h=st.integers(1, 5), w=st.integers(2, 5))
def test_additive_areas_sum_to_both_ends_and_insertion_is_the_least_first_read_backwards(seed: int, h: int, w: int) -> None:
    x, base = drawn(seed, 2, 2, h, w), drawn(seed + 1, 2, 2, h, w)
    maps = drawn(seed + 2, 2, h, w)
    order, back = removal_order(maps), removal_order(maps, first="least")
    curves = [removal_curve(total, x, o, replace=base, fractions=h * w) for o in (order, back)]
    assert torch.allclose(area(curves[0]) + area(curves[1]), total(x) + total(base), atol=1e-9)
    insertion = removal_curve(curved, x, order, replace=base, fractions=h * w, keep=True)
    deletion = removal_curve(curved, x, back, replace=base, fractions=h * w)
    assert torch.allclose(insertion.values, deletion.values.flip(1), atol=1e-9)
    assert torch.allclose(area(insertion), area(deletion), atol=1e-9)
    # of the same numbers, gap has the same sign whether pixels are removed or kept
    other = removal_curve(curved, x, back, replace=base, fractions=h * w, keep=True)
    assert torch.allclose(gap(insertion, other), gap(removal_curve(curved, x, order, replace=base, fractions=h * w), deletion),
                          atol=1e-9)  # fmt: skip


def test_fractions_are_those_of_whole_pixels() -> None:
    x = drawn(0, 1, 1, 1, 3)
    calls = []

    def predict(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return total(batch)

    curve = removal_curve(predict, x, removal_order(x[:, 0]), replace=0.0, fractions=9)
    assert torch.allclose(curve.fractions, torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 3, 3], dtype=torch.float64) / 3)
    assert sum(calls) == 4  # no pass twice
    rise = removal_curve(total, x.expand(1, 1, 224, 3), removal_order(drawn(0, 1, 224, 3)), fractions=[i / 3 for i in range(4)])
    assert (rise.fractions * 672).tolist() == [0, 224, 448, 672]


def test_one_class_a_picture() -> None:
    x, targets = encoded(1, 3, 3, 4, 4), torch.tensor([2, 0, 1])

    def classes(batch: Tensor) -> Tensor:
        return torch.stack([curved(batch), total(batch), curved(batch.flip(1))], 1)

    order = removal_order(drawn(2, 3, 4, 4))
    found = removal_curve(classes, x, order, fractions=6, targets=targets, batch_size=4)
    for i, t in enumerate(targets.tolist()):
        alone = removal_curve(lambda b, t=t: classes(b)[:, t], x[i : i + 1], order[i : i + 1], fractions=6)
        assert torch.allclose(found.values[i], alone.values[0], atol=1e-12)
    # a function that holds one class a picture: right, or refused; never another picture's class
    for batch_size in range(1, 25):
        try:
            held = removal_curve(
                lambda b: classes(b)[torch.arange(3), targets[: len(b)]], x, order, fractions=6, batch_size=batch_size
            )
        except (BcosError, IndexError):
            continue
        assert batch_size % 3 == 0 and torch.allclose(held.values, found.values, atol=1e-12)


def test_any_number_of_space_axes_and_float16() -> None:
    x = drawn(1, 2, 2, 6)
    assert removal_curve(total, x, removal_order(drawn(2, 2, 6)), replace=0.0, fractions=3).values.shape == (2, 4)
    cube = drawn(1, 2, 1, 2, 3, 2).half()
    curve = removal_curve(total, cube, removal_order(drawn(2, 2, 2, 3, 2)), fractions=3)
    assert curve.values.dtype == torch.float32 and curve.values.shape == (2, 4)


def test_nothing_is_left_behind() -> None:
    x = encoded(0, 2, 3, 4, 4).requires_grad_()
    held = x.detach().clone()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    order = removal_order(drawn(0, 2, 4, 4))
    curve = removal_curve(curved, x, order, fractions=3)
    area(curve)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    assert x.grad is None and not curve.values.requires_grad and torch.equal(x.detach(), held)
    assert curve.values.tolist() == removal_curve(curved, x, removal_order(drawn(0, 2, 4, 4)), fractions=3).values.tolist()


def test_a_network_that_works_in_place_changes_nothing() -> None:
    x, order = encoded(0, 2, 3, 4, 4), removal_order(drawn(0, 2, 4, 4))
    held = x.clone()

    def predict(batch: Tensor) -> Tensor:
        found = curved(batch)
        batch.fill_(7)
        return found

    for replace in ("grey", "mean", held.flip(0), "linear"):
        kind: dict[str, Any] = {"replace": replace, "fractions": [0, 0.3, 0.9], "batch_size": 2}
        assert torch.equal(removal_curve(predict, x, order, **kind).values, removal_curve(curved, x, order, **kind).values)
    assert torch.equal(x, held)


def test_normalised_areas_that_are_not_defined() -> None:
    flat = Curve(torch.tensor([0.0, 1.0]), torch.tensor([[2.0, 2.0], [2.0, 1.0]]))
    assert area(flat, normalised=True).isnan().tolist() == [True, False]
    assert area(flat).tolist() == [2.0, 1.5]


# -- what users get wrong --------------------------------------------------------------------------------------------

X = drawn(0, 2, 3, 4, 4)
ORDER = removal_order(drawn(0, 2, 4, 4))
REPEATED = ORDER.clone()
REPEATED[1, 0] = REPEATED[1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": REPEATED}, "order is no permutation: each row must hold every pixel, 0 to 15, once"),
        ({"order": ORDER + 1}, "order is no permutation"),
        ({"order": ORDER[:, :-1]}, r"order must be \(2, 16\) whole numbers, .* not \(2, 15\)"),
        ({"order": ORDER.float()}, "torch.float32"),
        ({"order": [0, 1]}, "order must be a tensor"),
        ({"x": X[0, 0]}, "Pictures must be"),
        ({"x": X.long()}, "of floating point"),
        ({"x": X.numpy()}, "Pictures must be a tensor"),
        ({"x": X / 0}, "Picture 0 has numbers that are not finite"),
        ({"fractions": [0, 0.5, 0.5]}, "must increase"),
        ({"fractions": [0, 1.5]}, r"numbers in \[0, 1\]"),
        ({"fractions": [0, math.nan]}, r"numbers in \[0, 1\]"),
        ({"fractions": []}, r"numbers in \[0, 1\]"),
        ({"fractions": 0}, "must be 1 or more, not 0"),
        ({"fractions": "all"}, "fractions must be a number of steps or the fractions"),
        ({"fractions": 0.5}, "fractions must be a number of steps or the fractions"),
        ({"predict": lambda x: x.flatten(1)}, r"predict gave \(10, 48\) for 10 pictures, .* lambda x: model\(x\)\[:, 0\]"),
        ({"predict": lambda x: 1.0}, "predict gave a float"),
        ({"predict": lambda x: x.sum((1, 2, 3)) * 1j}, "predict gave torch.complex(64|128), and one real number"),
        ({"predict": 3}, "predict must be a function"),
        ({"predict": total, "targets": torch.zeros(2).long()}, r"with targets= it gives all classes"),
        ({"targets": torch.zeros(3).long()}, "targets must be 2 whole numbers"),
        ({"targets": torch.tensor([0, -1])}, "A target is -1"),
        ({"predict": lambda x: x.flatten(1), "targets": torch.tensor([0, 48])}, "A target is 48, and .* classes 0 to 47"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"replace": "gray"}, "Unknown replacement 'gray'"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_curve(change: dict[str, Any], message: str) -> None:
    given = {"predict": total, "x": X, "order": ORDER, "fractions": 4, **change}
    with pytest.raises(BcosError, match=message) as caught:
        removal_curve(given.pop("predict"), given.pop("x"), given.pop("order"), **given)
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": "best"}, "first must be one of 'most', 'least', not 'best'"),
        ({"ties": None}, "ties must be one of"),
        ({"sign": "neg"}, "sign must be one of"),
        ({"maps": torch.tensor([[math.nan]])}, "The map of image 0 has numbers that are not finite"),
        ({"generator": 3}, "generator must be a torch.Generator or None, not int"),
    ],
)
def test_what_is_no_order(change: dict[str, Any], message: str) -> None:
    given = {"maps": drawn(0, 1, 2, 2), **change}
    with pytest.raises(BcosError, match=message):
        removal_order(given.pop("maps"), **given)


def test_what_has_no_area() -> None:
    short = Curve(torch.tensor([0.0, 0.25]), torch.tensor([[1.0, 0.5]]))
    assert area(short).tolist() == [0.1875]
    with pytest.raises(BcosError, match=r"this one goes from 0 to 0\.25"):
        area(short, normalised=True)
    with pytest.raises(BcosError, match="two points or more"):
        area(Curve(torch.tensor([0.0]), torch.tensor([[1.0]])))
    with pytest.raises(BcosError, match="not Tensor"):
        area(short.values)
    with pytest.raises(BcosError, match="of the same images, the same fractions"):
        gap(short, Curve(torch.tensor([0.0, 0.5]), short.values))
