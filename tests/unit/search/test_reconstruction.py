"""Layers that are fitted: what they read and gave, the twin of least squares, its laws, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.reference import pruning as slow
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.functional import unit_norm_weight
from torchbcos.search.reconstruction import Samples, fit, record

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's, of its own layer
MODES = st.sampled_from(["zeros", "reflect", "replicate", "circular"])
EXPONENTS = st.sampled_from([1.0, 1.5, 2.0, 2.5])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, dict[str, Any]]:
    """A small convolution of either kind, and the geometry that the twin needs."""
    torch.manual_seed(draw(st.integers(0, 10_000)))
    kernel = draw(st.sampled_from([(1, 1), (3, 2), (2, 3)]))
    padding = draw(st.sampled_from([0, 1, "same", "valid"]))
    given_: dict[str, Any] = {"padding": padding, "dilation": draw(st.integers(1, 2)), "padding_mode": draw(MODES)}
    given_["stride"] = 1 if padding == "same" else draw(st.integers(1, 2))
    if draw(st.booleans()):
        layer: nn.Module = nn.Conv2d(3, 4, kernel, bias=draw(st.booleans()), **given_)
    else:
        options = {"b": draw(EXPONENTS), "max_out": draw(st.integers(1, 2)), "unit_norm": draw(st.booleans())}
        layer = bnn.BcosConv2d(3, 4, kernel, **given_, **options)
    mode = given_.pop("padding_mode")
    return layer.eval(), {"kernel": kernel, "mode": mode, **given_}


@st.composite
def linears(draw: st.DrawFn) -> nn.Module:
    """A small linear layer of either kind."""
    torch.manual_seed(draw(st.integers(0, 10_000)))
    if draw(st.booleans()):
        return nn.Linear(5, 4, bias=draw(st.booleans())).eval()
    return bnn.BcosLinear(5, 4, b=draw(EXPONENTS), max_out=draw(st.integers(1, 2)), unit_norm=draw(st.booleans())).eval()


def taken(layer: nn.Module, x: Tensor, places: int = 12) -> Samples:
    """Samples of a layer that stands alone."""
    return record(nn.Sequential(layer), ["0"], x, places=places)["0"]


def used(layer: Any) -> list[list[float]]:
    """Filters as the layer uses them, in float64."""
    rows = layer.weight.detach().double().flatten(1).tolist()
    return [slow.unit(row) for row in rows] if getattr(layer, "unit_norm", False) else rows


def as_it_is(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A copy with other filters, which are used as they are."""
    other: Any = copy.deepcopy(layer)
    other.weight = nn.Parameter(weight)
    if bias is not None:
        other.bias = nn.Parameter(bias)
    if hasattr(other, "unit_norm"):
        other.unit_norm = False
    return other.eval()


# -- what layers read and give -------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(drawn=convolutions())
def test_samples_are_patches_of_the_input_and_what_the_filters_gave_there(drawn: tuple[nn.Module, dict[str, Any]]) -> None:
    layer, geometry = drawn
    x = torch.randn(2, 3, 6, 7)
    samples = taken(layer, x)
    patches = slow.patches(x, **geometry)
    arms, bias = int(getattr(layer, "max_out", 1)), getattr(layer, "bias", None)
    with torch.no_grad():
        out = layer(x) if bias is None else layer(x) - bias[:, None, None]
    assert len(samples.x) == 2 * 12
    for number, (row, given_) in enumerate(zip(samples.x.double(), samples.y, strict=True)):
        places = [at for at, patch in patches.items() if torch.equal(patch, row) and at[0] == number // 12]
        assert places  # the places that it may be are in the same picture
        largest = given_.reshape(-1, arms).amax(1)
        apart = [float((out[at[0], :, at[1], at[2]] - largest).abs().max()) for at in places]
        assert min(apart) < 1e-4 * (1 + float(out.abs().max()))


@given(layer=linears(), tokens=st.booleans())
def test_samples_of_linear_layers_are_tokens(layer: nn.Module, tokens: bool) -> None:
    x = torch.randn(3, 2, 4, 5) if tokens else torch.randn(6, 5)
    samples = taken(layer, x)
    for number, (row, given_) in enumerate(zip(samples.x[:, :, 0], samples.y, strict=True)):
        own = x[number // 12].reshape(-1, 5)
        assert row.tolist() in own.tolist()
        length = getattr(layer, "b", None)
        filters, plain = used(layer), row.tolist()
        twin = slow.plain_output(plain, filters, None) if length is None else [slow.bcos_arm(plain, f, length) for f in filters]
        torch.testing.assert_close(given_.double(), torch.tensor(twin, dtype=torch.float64), rtol=1e-4, atol=1e-5)


def test_sums_and_activity_are_of_the_samples() -> None:
    samples = taken(nn.Conv2d(3, 4, 2), torch.randn(4, 3, 5, 5))
    flat = samples.x.flatten(1).double()
    torch.testing.assert_close(samples.gram.double(), flat.t() @ flat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(samples.activity, samples.x.abs().mean((0, 2)))


def test_all_places_are_looked_at_and_the_same_seed_draws_the_same() -> None:
    network, x = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), torch.arange(12.0).reshape(1, 6, 2)
    drawn = [record(network, ["0", "1"], x, places=100, seed=seed)["0"].x for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert {tuple(row) for row in drawn[0][:, :, 0].tolist()} == {tuple(row) for row in x[0].tolist()}
    corners = taken(nn.Conv2d(1, 1, 1), torch.arange(20.0).reshape(1, 1, 4, 5), places=400).x
    assert set(corners.flatten().tolist()) == set(range(20))


def test_what_is_recorded_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9), nn.Linear(4, 2)).train()
    network[0].eval()
    samples = record(network, ["2"], torch.randn(50, 4))["2"]
    assert not bool((samples.x == 0).any())  # nothing is dropped while it is looked at
    assert [module.training for module in network.modules()] == [True, False, True, True]
    with pytest.raises(RuntimeError):
        record(network, ["2"], torch.randn(5, 3))
    assert [len(module._forward_pre_hooks) for module in network.modules()] == [0, 0, 0, 0]
    assert [module.training for module in network.modules()] == [True, False, True, True]


OTHERS = [nn.Conv1d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2), bnn.BcosConv2d(4, 4, 1, groups=4), nn.ReLU()]


@pytest.mark.parametrize("layer", OTHERS)
def test_other_layers_are_refused(layer: nn.Module) -> None:
    with pytest.raises(InputError, match=rf"'0', a {type(layer).__name__}, cannot be fitted: "):
        record(nn.Sequential(layer), ["0"], torch.randn(1, 4, 4))


# -- least squares -------------------------------------------------------------------------------------------------------------


def check_twin(layer: nn.Module, samples: Samples, kept: list[int]) -> None:
    """The fit is its twin, and so is what the layer then gives."""
    weight, bias = fit(layer, samples, kept)
    rows = slow.columns(samples.x, kept)[:5]
    b, arms = getattr(layer, "b", None), int(getattr(layer, "max_out", 1))
    given_bias = getattr(layer, "bias", None)
    if b is None:
        numbers = None if given_bias is None else given_bias.double().tolist()
        found, constant = slow.plain_fit(samples.x, used(layer), numbers, kept)
        outputs = [slow.plain_output(row, found.tolist(), None if constant is None else constant.tolist()) for row in rows]
    else:
        found, constant = slow.bcos_fit(samples.x, used(layer), b, kept), None
        outputs = [slow.bcos_output(row, found.tolist(), b, arms) for row in rows]
    assert weight.shape == (found.shape[0], len(kept), *layer.weight.shape[2:]) and weight.dtype == layer.weight.dtype  # type: ignore
    torch.testing.assert_close(weight.flatten(1).double(), found, rtol=2e-3, atol=2e-3 * float(found.abs().max()))
    assert (bias is None) == (constant is None)
    if bias is not None and constant is not None:
        torch.testing.assert_close(bias.double(), constant, rtol=2e-3, atol=2e-3 * float(constant.abs().max()))
    x = samples.x[:5, kept]
    other = as_it_is(layer, weight, bias)
    if isinstance(layer, nn.Conv2d | bnn.BcosConv2d):
        other.stride, other.dilation, other.padding, other.padding_mode = (1, 1), (1, 1), (0, 0), "zeros"  # type: ignore[assignment]
        out = other(x.reshape(*x.shape[:2], *layer.weight.shape[2:])).flatten(1)
    else:
        out = other(x[:, :, 0])
    twin = torch.tensor(outputs, dtype=torch.float64)
    torch.testing.assert_close(out.detach().double(), twin, rtol=1e-2, atol=4e-3 * float(twin.abs().max()))


@settings(max_examples=20)
@given(drawn=convolutions(), kept=st.sets(st.integers(0, 2), min_size=1))
def test_the_fit_of_a_convolution_is_its_twin(drawn: tuple[nn.Module, dict[str, Any]], kept: set[int]) -> None:
    layer, _ = drawn
    mixed = torch.randn(3, 3) + 0.3
    x = torch.einsum("nchw,dc->ndhw", torch.randn(3, 3, 6, 7), mixed) + torch.tensor([0.5, -1, 0])[:, None, None]
    check_twin(layer, taken(layer, x), sorted(kept))


@settings(max_examples=20)
@given(layer=linears(), kept=st.sets(st.integers(0, 4), min_size=1))
def test_the_fit_of_a_linear_layer_is_its_twin(layer: nn.Module, kept: set[int]) -> None:
    x = torch.randn(4, 9, 5) @ torch.randn(5, 5) + 0.5 * torch.randn(5)
    check_twin(layer, taken(layer, x), sorted(kept))


@given(drawn=st.one_of(convolutions().map(lambda drawn: drawn[0]), linears()))
def test_where_nothing_is_cut_outputs_come_back(drawn: nn.Module) -> None:
    linear = isinstance(drawn, nn.Linear | bnn.BcosLinear)
    samples = taken(drawn, torch.randn(8, 9, 5) if linear else torch.randn(8, 3, 6, 7))
    old = torch.tensor(used(drawn), dtype=torch.float64)
    weight, bias = fit(drawn, samples, range(samples.x.shape[1]))
    # the ridge alone moves them: ‖X(w' - w)‖² ≤ λ ‖w‖² / 4 of each filter, which is linear in the B-cos layer's target, too
    rows = samples.x.flatten(1).double()
    rows = rows - rows.mean(0) if bias is not None else rows
    ridge = slow.RIDGE * float(rows.square().sum()) / rows.shape[1]
    moved = (rows @ (weight.double().flatten(1) - old).t()).square().sum(0)
    assert bool((moved <= 1.05 * ridge * old.square().sum(1) / 4).all())


@given(layer=linears(), kept=st.sets(st.integers(0, 4), min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_no_other_weights_come_nearer(layer: nn.Module, kept: set[int], seed: int) -> None:
    x = torch.randn(5, 9, 5) @ torch.randn(5, 5)
    samples, index = taken(layer, x), sorted(kept)
    rows = samples.x[:, index, 0].double()
    y = samples.y.double()
    if (b := getattr(layer, "b", None)) is not None:
        y = y.sign() * (y.abs() * rows.norm(dim=1, keepdim=True) ** (b - 1)) ** (1 / b)
    weight, bias = fit(layer, samples, index)
    if bias is not None:  # which takes the means up
        rows, y = rows - rows.mean(0), y - y.mean(0)
    ridge = slow.RIDGE * float(rows.square().sum()) / rows.shape[1]

    def away(w: Tensor) -> Tensor:
        return (rows @ w.t() - y).square().sum(0) + ridge * w.square().sum(1)

    generator = torch.Generator().manual_seed(seed)
    best, best_at = away(weight.double()), weight.double()
    for size in (1e-1, 1.0):
        other = best_at + size * torch.randn(best_at.shape, generator=generator, dtype=torch.float64)
        assert bool((away(other) > best).all())
    assert bool((away(torch.tensor(used(layer), dtype=torch.float64)[:, index]) >= best * (1 - 1e-6)).all())


def test_silent_channels_get_no_weight_and_constant_ones_go_into_the_bias() -> None:
    layer = nn.Linear(3, 2)
    x = torch.randn(40, 3)
    x[:, 1] = 0
    weight, _ = fit(layer, taken(layer, x), [0, 1])
    assert bool((weight[:, 1].abs() < 1e-6).all()) and bool(weight[:, 0].abs().min() > 0.01)
    x[:, 2] = 3
    weight, bias = fit(layer, taken(layer, x), [0, 1])
    assert bias is not None and weight.isfinite().all()
    torch.testing.assert_close(bias, layer.bias.detach() + 3 * layer.weight[:, 2].detach(), rtol=1e-2, atol=1e-2)
    nothing, _ = fit(bnn.BcosLinear(3, 2), taken(bnn.BcosLinear(3, 2), torch.zeros(4, 3)), [0, 1, 2])
    assert bool((nothing == 0).all())


def test_means_that_are_large_beside_the_spread_do_not_spoil_a_fit() -> None:
    layer = nn.Linear(4, 3)
    x = torch.randn(100, 4) + torch.tensor([300.0, 0, -200, 100])
    weight, bias = fit(layer, taken(layer, x), [0, 1, 2, 3])
    assert bias is not None
    torch.testing.assert_close(x @ weight.t() + bias, layer(x).detach(), rtol=0, atol=0.02)


@pytest.mark.parametrize("learned", [1.7, 0.6])
def test_a_learned_exponent_is_the_one_that_the_layer_uses(learned: float) -> None:
    layer = bnn.BcosLinear(5, 4, learnable_b=True).eval()
    fixed = bnn.BcosLinear(5, 4, b=max(1.0, learned)).eval()  # below 1 it counts as 1
    with torch.no_grad():
        layer.b.fill_(learned)  # type: ignore[operator, union-attr]
        fixed.weight.copy_(layer.weight)
    x = torch.randn(60, 5)
    torch.testing.assert_close(layer(x), fixed(x))
    (given_, _), (twin, _) = (fit(one, taken(one, x), [0, 1, 3]) for one in (layer, fixed))
    torch.testing.assert_close(given_, twin)


def test_filters_of_unit_norm_and_as_they_are_differ() -> None:
    layer = bnn.BcosLinear(5, 4).eval()
    with torch.no_grad():
        layer.weight.mul_(3)
    x = torch.randn(60, 5)
    torch.testing.assert_close(taken(layer, x).y, taken(as_it_is(layer, unit_norm_weight(layer.weight.detach()), None), x).y)
    assert not torch.allclose(taken(layer, x).y, taken(as_it_is(layer, layer.weight.detach(), None), x).y)
