"""Occlusion and RISE: twins, closed forms, Captum, any batch, any number of targets, and what they refuse."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import attribution_perturbation as twin
from torchbcos._core.errors import InputError, StateError
from torchbcos.attribution import METHODS, Explainer, Occlusion, Rise

SPACES = st.lists(st.integers(1, 6), min_size=1, max_size=3)


def bent(x: Tensor) -> Tensor:
    """A function of pictures with every kind of interaction, (N, 2)."""
    flat = x.flatten(1)
    at = torch.arange(1, flat.shape[1] + 1, dtype=x.dtype)
    one = (flat * at.sin()).sum(1)
    return torch.stack([one + one.square() + flat.prod(1), (flat * at.cos()).sum(1).exp()], 1)


def slowly(picture: twin.Picture) -> float:
    """`bent`, output 0, of a picture of the twin."""
    return float(bent(torch.tensor([[picture[place] for place in sorted(picture)]], dtype=torch.float64))[0, 0])


def as_picture(x: Tensor) -> twin.Picture:
    return {place: float(x[place]) for place in itertools.product(*map(range, x.shape))}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain() -> nn.Module:
    """A small ordinary network in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(net, nn.Linear(6, 4)).double().eval()


def same(found: Tensor, wanted: twin.Picture) -> None:
    for place, number in wanted.items():
        assert float(found[place]) == pytest.approx(number, rel=1e-9, abs=1e-9)


# -- occlusion ---------------------------------------------------------------------------------------------------------


@given(space=SPACES, pick=st.randoms(use_true_random=False), spread=st.booleans())
def test_occlusion_has_its_twins_map(space: list[int], pick: random.Random, spread: bool) -> None:
    window = [pick.randint(1, size) for size in space]
    stride = [pick.randint(1, w) for w in window]
    x, base = drawn(1, 1, *space), drawn(1, 1, *space, seed=1)
    a = torchbcos.attribute(bent, x, 0, method=Occlusion(window=window, stride=stride, spread=spread), baseline=base)
    same(a.maps[0, 0], twin.occlusion(slowly, as_picture(x[0, 0]), as_picture(base[0, 0]), window, stride, spread))
    assert a.passes == 1 + len(
        list(itertools.product(*({*range(0, s - w, t), s - w} for s, w, t in zip(space, window, stride, strict=True))))
    )


@pytest.mark.parametrize("window", [1, 3, 5, 9])
def test_an_odd_window_covers_all_its_pixels_of_any_picture(window: int) -> None:
    """The official code covers (k - 1)² pixels of an odd window, and fails on pictures that are not square."""
    x, covered = torch.rand(1, 6, 9, 22), []

    def net(points: Tensor) -> Tensor:
        covered.extend((point == 7).sum().item() for point in points)
        return points.flatten(1).sum(1, keepdim=True)

    a = torchbcos.attribute(net, x, 0, method=Occlusion(window=window, stride=2 if window > 1 else 1), baseline=7.0)
    assert covered[0] == 0 and set(covered[1:]) == {6 * window**2} and bool(a.maps.isfinite().all())


def test_occlusion_of_a_sum() -> None:
    """Windows beside each other: the drop is the sum over the window; shared out, the map adds up to all of it."""
    x = drawn(2, 3, 4, 6)
    sums = (x.sum(1) - 3 * 0.25).unfold(1, 2, 2).unfold(2, 3, 3).sum((-1, -2))
    net = lambda x: x.flatten(1).sum(1, keepdim=True)
    wide = sums.repeat_interleave(2, 1).repeat_interleave(3, 2)
    for spread, scale in ((False, 1), (True, 6)):
        method = Occlusion(window=(2, 3), stride=(2, 3), spread=spread)
        found = torchbcos.attribute(net, x, 0, method=method, baseline=0.25).maps[:, 0]
        assert torch.allclose(found, wide / scale, atol=1e-12)
    assert torch.allclose(found.flatten(1).sum(1), (x - 0.25).flatten(1).sum(1), atol=1e-12)


def test_captum_gives_the_same_occlusion() -> None:
    """Where windows fit evenly: elsewhere Captum cuts the last one, and it is moved here."""
    net, x, t = plain(), drawn(2, 3, 9, 12), torch.tensor([1, 3])
    theirs = captum.attr.Occlusion(net).attribute(x, (3, 3, 4), (3, 2, 2), 0.5, t)  # in float32
    ours = Occlusion(net, window=(3, 4), stride=2).attribute(x, t)
    scale = float(theirs.abs().max())
    assert torch.allclose(ours.float().expand_as(theirs) / scale, theirs / scale, atol=1e-6)


# -- RISE --------------------------------------------------------------------------------------------------------------


def rise_masks(count: int, cells: Sequence[int], space: Sequence[int], probability: float, seed: int) -> list[twin.Picture]:
    """Masks of the twin from the same random numbers."""
    draws = torch.Generator().manual_seed(seed)
    grids = torch.rand(count, *cells, generator=draws) < probability
    shifts = [torch.randint(-(-s // c), (count,), generator=draws).tolist() for s, c in zip(space, cells, strict=True)]
    return [twin.rise_mask(as_picture(grids[j]), cells, space, [moved[j] for moved in shifts]) for j in range(count)]


@given(space=SPACES, pick=st.randoms(use_true_random=False), centred=st.booleans())
def test_rise_has_its_twins_map(space: list[int], pick: random.Random, centred: bool) -> None:
    cells = [pick.randint(1, size) for size in space]
    share, seed = pick.choice([0.1, 0.5, 0.8]), pick.randint(0, 99)
    x, base = drawn(1, 1, *space), drawn(1, 1, *space, seed=1)
    a = torchbcos.attribute(
        bent, x, 0, method=Rise(masks=5, cells=cells, probability=share, centred=centred), baseline=base,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    masks = rise_masks(5, cells, space, share, seed)
    same(a.maps[0, 0], twin.rise(slowly, as_picture(x[0, 0]), as_picture(base[0, 0]), masks, share, centred))
    assert a.passes == 6


def test_masks_are_those_of_torch_and_of_the_paper() -> None:
    """A network that is its input shows the masks: enlarged by torch, cut at the shift."""
    seen: list[Tensor] = []

    def net(points: Tensor) -> Tensor:
        seen.append(points[:, 0].clone())
        return points.flatten(1).sum(1, keepdim=True)

    x = torch.ones(1, 1, 13, 22)
    torchbcos.attribute(net, x, 0, method=Rise(masks=40, cells=(4, 5)), baseline=0.0)
    draws = torch.Generator().manual_seed(0)
    grids = (torch.rand(40, 4, 5, generator=draws) < 0.5).float()
    down, right = (torch.randint(high, (40,), generator=draws) for high in (4, 5))
    large = F.interpolate(grids[:, None], size=(5 * 4, 6 * 5), mode="bilinear")[:, 0]
    wanted = torch.stack([large[j, down[j] : down[j] + 13, right[j] : right[j] + 22] for j in range(40)])
    assert torch.allclose(torch.cat(seen)[:40], wanted, atol=1e-6)
    assert {int(d) for d in down} == set(range(4)) and {int(r) for r in right} == set(range(5))


def test_rise_of_a_constant_and_of_one_pixel() -> None:
    x = drawn(1, 3, 12, 10)
    constant = torchbcos.attribute(lambda x: x.new_full((len(x), 1), 7.5), x, 0, method="rise", samples=50)
    assert float(constant.maps.abs().max()) < 1e-12
    flat = torchbcos.attribute(lambda x: x.new_full((len(x), 1), 7.5), x, 0, method=Rise(masks=50, centred=False))
    assert float(flat.maps.std()) > 0.1  # as in the paper: 7.5 times the mean mask, noise of the drawing and nothing else
    one = torchbcos.attribute(lambda x: x[:, :, 4, 3].sum(1, keepdim=True), x, 0, method="rise", baseline="black", samples=400)
    assert int(one.maps[0, 0].argmax()) == 4 * 10 + 3


def test_rise_of_many_masks_keeps_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks are added up in parts of bounded size: the map is the same for any size of them."""
    x = drawn(2, 3, 9, 12)
    whole = torchbcos.attribute(plain(), x, [[0, 1], [2, 3]], method="rise", samples=30)
    monkeypatch.setattr("torchbcos.attribution.perturbation._PIXELS", 9 * 12 * 7)
    stacked: list[int] = []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda t, *rest: stacked.append(len(t)) or stack(t, *rest))
    parts = torchbcos.attribute(plain(), x, [[0, 1], [2, 3]], method="rise", samples=30)
    assert torch.allclose(parts.maps, whole.maps, atol=1e-12) and max(stacked) == 7


# -- planted faults ----------------------------------------------------------------------------------------------------


def half_a_pixel_off(cells: int, size: int) -> Tensor:
    at = torch.linspace(0, cells - 1, size, dtype=torch.float64)
    return (1 - (at[:, None] - torch.arange(cells, dtype=torch.float64)).abs()).clamp(min=0)


FAULTS: dict[str, tuple[str, object, Explainer]] = {
    "the last window is left out": (
        "_starts",
        lambda size, w, step: list(range(0, size - w + 1, step)),
        Occlusion(window=3, stride=2),
    ),
    "windows begin one pixel late": (
        "_starts",
        lambda size, w, step: [*range(1, size - w, step), size - w],
        Occlusion(window=3, stride=2),
    ),
    "a mask's corners are its cells'": ("_enlarging", half_a_pixel_off, Rise(masks=9, cells=3)),
    "the picture is covered where it should show": ("mixed", lambda b, x, m: torch.lerp(x, b, m), Rise(masks=9, cells=3)),
    "black is not the baseline": ("mixed", lambda b, x, m: x * m, Rise(masks=9, cells=3)),
}


def against_its_twin(method: Explainer) -> None:
    x, base = drawn(1, 1, 6, 8), drawn(1, 1, 6, 8, seed=1)
    found = torchbcos.attribute(bent, x, 0, method=method, baseline=base).maps[0, 0]
    given_ = (slowly, as_picture(x[0, 0]), as_picture(base[0, 0]))
    if isinstance(method, Rise):
        return same(found, twin.rise(*given_, rise_masks(9, (3, 3), (6, 8), 0.5, 0), 0.5, True))
    return same(found, twin.occlusion(*given_, (3, 3), (2, 2), False))


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, fault, method = FAULTS[name]
    against_its_twin(method)
    monkeypatch.setattr(f"torchbcos.attribution.perturbation.{where}", fault)
    with pytest.raises((AssertionError, StateError)):  # a pixel that no window covers has no number
        against_its_twin(method)


# -- both --------------------------------------------------------------------------------------------------------------

ALL = [Occlusion(window=4), Rise(masks=20)]
BOTH = pytest.mark.parametrize("method", ALL, ids=lambda method: str(method.name))


@BOTH
def test_one_image_or_many_one_target_or_ten(method: Explainer) -> None:
    net, x = plain(), drawn(3, 3, 9, 11)
    targets = torch.tensor([[0, 1, 3, 2, 2, 1, 0, 0, 1, 3], [3, 2, 1, 0, 1, 2, 3, 3, 3, 3], [0, 0, 2, 1, 3, 2, 1, 0, 1, 2]])
    calls: list[int] = []
    net.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    whole = torchbcos.attribute(net, x, targets, method=method)
    assert whole.passes == sum(calls) / 3
    for k in (0, 4, 9):
        calls.clear()
        one = torchbcos.attribute(net, x, targets[:, k], method=method)
        assert torch.equal(one.maps[:, 0], whole.maps[:, k]) and one.passes == whole.passes == sum(calls) / 3
    for size in (1, 2, 16):
        again = torchbcos.attribute(net, x, targets, method=method, batch_size=size)
        assert torch.allclose(again.maps, whole.maps, atol=1e-12) and again.passes == whole.passes
    for i in range(3):
        alone = torchbcos.attribute(net, x[i : i + 1], targets[i : i + 1], method=method)
        assert torch.allclose(alone.maps[0], whole.maps[i], atol=1e-12)


@BOTH
@pytest.mark.parametrize("space", [(7,), (5, 8), (3, 4, 5)])
def test_signals_pictures_volumes_and_functions(method: Explainer, space: tuple[int, ...]) -> None:
    x = drawn(2, 2, *space).float()
    settings = Occlusion(window=2) if isinstance(method, Occlusion) else method
    a = torchbcos.attribute(lambda x: x.flatten(1), x, [[0, 1], [2, 0]], method=settings)
    assert a.maps.shape == (2, 2, *space) and a.maps.dtype == torch.float32 and bool(a.maps.isfinite().all())
    assert (a.values, a.delta) == (None, None)


@BOTH
@pytest.mark.parametrize("baseline", ["grey", "mean", "black", "blur"])
def test_encoded_pictures_stay_encoded(method: Explainer, baseline: str) -> None:
    x, seen = drawn(2, 3, 9, 11).float(), []
    x = torch.cat([x, 1 - x], 1)

    def net(points: Tensor) -> Tensor:
        seen.append(float((points[:, :3] + points[:, 3:] - 1).abs().max()))
        return points.flatten(1)

    torchbcos.attribute(net, x, 0, method=method, baseline=baseline)
    assert len(seen) > 1 and max(seen) < 1e-6


@BOTH
def test_the_usual_settings_cost_what_the_record_says(method: Explainer) -> None:
    record = METHODS[method.name]
    for shape in ((1, 3, 14, 21), (2, 1, 3, 2), (1, 2, 9)):
        a = torchbcos.attribute(lambda x: x.flatten(1), torch.rand(shape), [[0, 1]] * shape[0], method=method.name)
        assert a.passes == record.passes(shape, 2)


@BOTH
def test_outputs_that_are_not_finite(method: Explainer) -> None:
    with pytest.raises(StateError, match=r"not finite .* where parts of the picture are covered: try another baseline"):
        torchbcos.attribute(lambda x: 1 / (x.flatten(1) - 0.5), torch.zeros(1, 1, 5, 5), 0, method=method)


REFUSED: list[tuple[Explainer, str]] = [
    (Occlusion(window=9), r"A window of 9 x 9 is larger than the picture of 8 x 12\."),
    (Occlusion(window=(3, 13)), r"A window of 3 x 13 is larger than the picture of 8 x 12\."),
    (Occlusion(window=0), "window must be a positive integer, or one an axis, not 0"),
    (Occlusion(window=(3, 2.5)), r"window must be a positive integer, or one an axis, not \(3, 2.5\)"),  # type: ignore[arg-type]
    (Occlusion(window=(3, 3, 3)), r"window=\(3, 3, 3\) has 3 numbers, and the picture 2 axes"),
    (Occlusion(window=3, stride=0), "stride must be a positive integer, or one an axis, not 0"),
    (Occlusion(window=3, stride=(3, 4)), "A stride of 3 x 4 leaves pixels out that no window of 3 x 3 covers"),
    (Rise(masks=0), "masks must be a positive integer, not 0"),
    (Rise(masks=True), "masks must be a positive integer, not True"),
    (Rise(cells=0), "cells must be a positive integer, or one an axis, not 0"),
    (Rise(cells="88"), "cells must be a positive integer, or one an axis, not '88'"),  # type: ignore[arg-type]
    (Rise(probability=0), "probability must be a number between 0 and 1, both excluded, not 0"),
    (Rise(probability=1.0), "probability must be a number between 0 and 1, both excluded, not 1.0"),
    (Rise(probability=float("nan")), "probability must be a number between 0 and 1, both excluded, not nan"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "words"), REFUSED)
def test_what_they_refuse(method: Explainer, words: str) -> None:
    with pytest.raises(InputError, match=words):
        torchbcos.attribute(lambda x: x.flatten(1), torch.rand(1, 1, 8, 12), 0, method=method)


@BOTH
def test_inputs_without_places(method: Explainer) -> None:
    with pytest.raises(InputError, match=r"\(N, C\) inputs have none: give \(N, C, \*S\)"):
        torchbcos.attribute(lambda x: x, torch.rand(1, 5), 0, method=method)


@pytest.mark.parametrize("method", ["rise", "occlusion", "lime", "kernel_shap"])
def test_in_mixed_precision_masks_keep_their_numbers(method: str) -> None:
    def net(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]

    x = torch.rand(2, 3, 9, 9)
    usual = torchbcos.attribute(net, x, 1, method=method, samples=24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(torchbcos.attribute(net, x, 1, method=method, samples=24).maps, usual.maps)
