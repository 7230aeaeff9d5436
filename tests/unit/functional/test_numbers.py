"""Numbers with a range: refused outside it, when a layer is made and when it runs; a learnable B stays at 1 or more."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import functional
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.functional.conv import patch_squared_norm
from torchbcos.functional.numbers import at_least_one

X = torch.rand(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
TOKENS = X.movedim(1, -1)
NAN, INF = math.nan, math.inf

# the layer, its input, the attribute, values out of range
CASES: list[tuple[Callable[..., nn.Module], Tensor, str, tuple[object, ...]]] = [
    (lambda **o: bnn.BcosConv2d(4, 3, 3, **o), X, "b", (0.5, 0, -1.0, NAN, INF, True, "2")),
    (lambda **o: bnn.BcosConv2d(4, 3, 3, **o), X, "scale", (0, -1.0, NAN, INF, True)),
    (lambda **o: bnn.BcosConv2d(4, 3, 3, **o), X, "eps", (-1e-6, NAN, INF, None)),
    (lambda **o: bnn.BcosConv2d(4, 3, 3, b=1.5, **o), X, "eps", (-1e-6, NAN, INF)),
    (lambda **o: bnn.BcosLinear(4, 3, **o), TOKENS, "b", (0.5, NAN, INF)),
    (lambda **o: bnn.BcosLinear(4, 3, **o), TOKENS, "norm_eps", (-1.0, NAN, INF)),
    (lambda **o: bnn.BatchNorm(4, **o), X, "eps", (-1e-5, NAN, INF)),
    (lambda **o: bnn.BatchNorm(4, centered=False, **o), X, "eps", (-1e-5, NAN, INF)),
    (lambda **o: bnn.BatchNorm(4, **o), X, "momentum", (-0.1, 1.5, NAN, INF, True)),
    (lambda **o: bnn.AllNorm(4, **o), X, "momentum", (2, NAN)),
    (lambda **o: bnn.LayerNorm(4, **o), X, "eps", (-1e-5, NAN, INF)),
    (lambda **o: bnn.InstanceNorm(4, **o), X, "eps", (-1e-5, NAN, INF)),
    (lambda **o: bnn.PositionNorm(4, **o), X, "eps", (-1e-5, NAN, INF)),
    (lambda **o: bnn.GroupNorm(2, 4, **o), X, "eps", (-1e-5, NAN, INF)),
    (lambda **o: bnn.TokenNorm(4, **o), TOKENS, "eps", (-1e-5, NAN, INF)),
    (lambda **o: bnn.Logits(**o), X, "temperature", (0, -1.0, NAN, INF, True)),
    (lambda **o: bnn.Logits(**o), X, "bias", (NAN, INF, "auto")),
    (lambda **o: bnn.SinCosPosition2d(4, **o), TOKENS, "temperature", (0, -1.0, NAN, INF)),
    (lambda **o: bnn.LowPass(**o), X, "stride", (0, -1, 1.5)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "x", "name", "values"), CASES)
def test_out_of_range_is_refused_when_made_and_when_set(
    make: Callable[..., nn.Module], x: Tensor, name: str, values: tuple[object, ...]
) -> None:
    for value in values:
        with pytest.raises(InputError, match=name):
            make(**{name: value})
        layer = make()
        assert layer(x).isfinite().all()
        setattr(layer, name, value)
        for training in (True, False):
            with pytest.raises(InputError, match=name):
                layer.train(training)(x)


@pytest.mark.parametrize("value", [-1e-6, NAN, INF])
def test_equations_refuse_them_too(value: float) -> None:
    ones = torch.ones(2)
    for call in (
        lambda: functional.bcos_transform(ones, ones, eps=value),
        lambda: functional.bcos_transform(ones, ones, norm_eps=value),
        lambda: functional.bcos_conv(X, torch.ones(2, 4, 3, 3), eps=value),
        lambda: functional.bcos_linear(TOKENS, torch.ones(2, 4), eps=value),
        lambda: functional.layer_norm(X, eps=value),
        lambda: functional.sin_cos_2d(2, 2, 4, temperature=value),
    ):
        with pytest.raises(InputError, match=r"eps|temperature"):
            call()


def learning(b: float) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(bnn.BcosConv2d(4, 3, 3, learnable_b=True), bnn.GlobalAveragePool()).eval()
    model[0].b.data.fill_(b)
    return model


@settings(deadline=None)
@given(b=st.one_of(st.floats(-50, 50, width=32), st.sampled_from([0.999, 0.5, 0.0, -1.0, 1.0])))
def test_a_learnable_exponent_below_one_counts_as_one(b: float) -> None:
    model, used = learning(b), max(b, 1.0)
    expected = nn.Sequential(bnn.BcosConv2d(4, 3, 3, b=used), bnn.GlobalAveragePool()).eval()
    expected[0].load_state_dict({"weight": model[0].weight})
    torch.testing.assert_close(model(X), expected(X), rtol=1e-4, atol=1e-6)
    e, wanted = torchbcos.explain(model, X, 1), torchbcos.explain(expected, X, 1)
    torch.testing.assert_close(e.weights, wanted.weights, rtol=1e-3, atol=1e-5)
    assert f"b={used:g}" in repr(model[0])
    lengths = patch_squared_norm(X, (3, 3), (1, 1), (0, 0), (1, 1), 1).sqrt()
    assert bool((model[0](X).abs() <= lengths * 1.0001).all())


@pytest.mark.parametrize("b", [NAN, INF, -INF])
def test_one_that_is_no_number_is_refused(b: float) -> None:
    model = learning(b)
    for call in (lambda: model(X), lambda: model.train()(X), lambda: torchbcos.explain(model.eval(), X, 0)):
        with pytest.raises(InputError, match=r"learnable b is .*must be finite"):
            call()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_an_exponent_that_went_too_far_stays_finite_and_comes_back(kind: type[torch.optim.Optimizer]) -> None:
    model = learning(1.01)
    steps = kind(model.parameters(), lr=10.0)  # type: ignore[call-arg]
    for turn in range(60):
        steps.zero_grad()
        (model(X).abs().sum() * (-1 if turn < 30 else 1)).backward()  # larger outputs want a smaller exponent
        steps.step()
        if turn == 29:
            assert float(model[0].b.detach()) < 1.01 and torchbcos.explain(model, X, 0).residual.abs().max() < 1e-4
    assert 1 < float(model[0].b.detach()) < INF


def test_the_gradient_below_one_points_back_only() -> None:
    for b, upstream, expected in ((0.5, 1.0, 0.0), (0.5, -1.0, -1.0), (1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (3.0, -1.0, -1.0)):
        leaf = torch.tensor(b, requires_grad=True)
        (found,) = torch.autograd.grad(at_least_one(leaf), leaf, torch.tensor(upstream))
        assert float(found) == expected
    live = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda b: at_least_one(b) ** 3, live)


def test_under_transforms_too() -> None:
    b = torch.tensor([0.5, 2.0])
    assert torch.equal(torch.func.vmap(at_least_one)(b), torch.tensor([1.0, 2.0]))
    assert float(torch.func.grad(lambda b: at_least_one(b) * 2)(torch.tensor(2.0))) == 2.0
