"""Numbers that do not fit are refused: a W of zeros that adds up is never handed out for them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.laws.test_networks import FAMILIES, make
from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos.explanation import engine
from torchbcos.explanation.finite import check_signal
from torchbcos.explanation.layer import contribution_maps
from torchbcos.kernels import patches


def encoded(side: int, n: int = 1) -> Tensor:
    return torch.rand(n, 6, side, side, generator=torch.Generator().manual_seed(0))


def small(*middle: nn.Module, b: float = 2.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        bnn.BcosConv2d(6, 4, 3, b=b), *middle, bnn.BcosConv2d(4, 3, 1, b=b), bnn.GlobalAveragePool(), bnn.Logits(-1.0)
    ).eval()


def off(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


# -- large ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_whose_squares_overflow_are_refused_in_every_family(family: str) -> None:
    model, x = make(family, 3, 2.0, 1).float(), encoded(FAMILIES[family][5])
    for network in (model, torchbcos.deploy(model)):
        with pytest.raises(StateError, match=r"hold NaN or infinity.* the input reaches 1e\+20"):
            torchbcos.explain(network, x * 1e20, 1)


@pytest.mark.parametrize("b", [1.5, 2.0, 3.0, 2])
@pytest.mark.parametrize("norm", ["BatchNorm", "LayerNorm", "PositionNorm", "InstanceNorm", "AllNorm", "GroupNorm"])
def test_a_variance_that_overflows_on_the_way_is_refused(norm: str, b: float) -> None:
    class Louder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1e25

    layer = bnn.GroupNorm(2, 4) if norm == "GroupNorm" else getattr(bnn, norm)(4)
    model, x = small(Louder(), layer, b=b), encoded(8)
    for training in (False, True):
        with pytest.raises(StateError, match="NaN or infinity"):
            torchbcos.explain(model.train(training), x, 0)


def broken_weights() -> dict[str, tuple[Callable[[nn.Module], object], str]]:
    def fill(name: str, value: float) -> Callable[[nn.Module], object]:
        return lambda model: model.state_dict()[name].fill_(value)

    return {
        "filters": (fill("0.weight", 1e20), "come out of '0'"),
        "filters to the last": (fill("2.weight", 3e38), "come out of '2'"),
        "a variance": (fill("1.running_var", math.inf), "'1.running_var' holds such numbers itself"),
        "NaN": (fill("2.weight", math.nan), "'2.weight' holds such numbers itself"),
    }


@settings(max_examples=30, deadline=None)
@given(power=st.floats(-30, 30), learning=st.booleans())
def test_whatever_their_size_filters_give_the_same_w_or_are_refused(power: float, learning: bool) -> None:
    model = small().requires_grad_(learning)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(10.0**power)
    exact = torchbcos.explain(copy.deepcopy(model).double(), encoded(8).double(), 1)
    try:
        found = torchbcos.explain(model, encoded(8), 1)
    except (InputError, StateError):
        assert not -17 < power < 17
        return
    assert off(found.weights, exact.weights) < 1e-3


@pytest.mark.parametrize("case", broken_weights())
def test_weights_that_overflow_are_refused_and_named(case: str) -> None:
    change, text = broken_weights()[case]
    model = small(bnn.BatchNorm(4, centered=False))
    change(model)
    for network in (model, copy.deepcopy(model).requires_grad_(False)):
        with pytest.raises(StateError, match=text):
            torchbcos.explain(network, encoded(8), 0)


def test_every_start_refuses() -> None:
    model, x = small(bnn.BatchNorm(4)), encoded(8) * 1e20
    torchbcos.explain(model, x / 1e20)
    starts: dict[str, Callable[[], object]] = {
        "explain": lambda: torchbcos.explain(model, x),
        "batches": lambda: torchbcos.explain(model, torch.cat([x / 1e20, x]), batch_size=1),
        "with a graph": lambda: torchbcos.explain(model, x, create_graph=True),
        "truncated": lambda: torchbcos.explain(model, x, create_graph="truncated"),
        "at": lambda: torchbcos.explain(model, x, 0, at="0", position=(0, 0)),
        "maps": lambda: contribution_maps(model, x, torch.tensor([0])),
        "maps of a layer": lambda: contribution_maps(model, x, torch.tensor([0]), wrt="1"),
        "graph": lambda: torchbcos.explanation_graph(model, x),
        "laws": lambda: torchbcos.testing.check_model(model, x),
    }
    for start in starts.values():
        with pytest.raises(BcosError, match="NaN or infinity"):
            start()


@pytest.mark.newest
def test_compiled_and_recorded_networks_say_so_too() -> None:
    model, x = small(bnn.BatchNorm(4)), encoded(8)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    with pytest.raises(StateError, match="NaN or infinity"):
        torchbcos.explain(compiled, x * 1e20)
    assert not bool(compiled(x * 1e20).isfinite().any())  # the plain equations, too
    usual, portable = torchbcos.explanation_graph(model, x), torchbcos.explanation_graph(model, x, portable=True)
    for run in (usual, portable, torch.export.export(usual, (x,)).module()):
        assert bool(run(x)[2].isfinite().all())
        assert not bool(run(x * 1e20)[2].isfinite().any())  # a graph cannot refuse


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_overflows_into_an_error(dtype: torch.dtype) -> None:
    model, x = small(bnn.PositionNorm(4)).to(dtype), encoded(8).to(dtype)
    torchbcos.explain(model, x, 0)
    with torch.no_grad():
        model[0].weight.fill_(1.0)  # type: ignore[union-attr, operator]
    top = 6e4 if dtype == torch.float16 else 3e38
    with pytest.raises(StateError, match=str(dtype).removeprefix("torch.")):
        torchbcos.explain(model, torch.full_like(x, top), 0)


# -- every size ----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(power=st.floats(-44, 38), deep=st.booleans(), seed=st.integers(0, 99))
def test_whatever_its_size_an_input_is_explained_rightly_or_refused(power: float, deep: bool, seed: int) -> None:
    middle = [bnn.BcosConv2d(4, 4, 3, padding=1) for _ in range(3)] if deep else [bnn.BatchNorm(4, centered=False)]
    model = small(*middle)
    x = (torch.rand(1, 6, 8, 8, generator=torch.Generator().manual_seed(seed)).double() * 10.0**power).float()
    exact = torchbcos.explain(copy.deepcopy(model).double(), x.double(), 1)
    try:
        found = torchbcos.explain(model, x, 1)
    except (InputError, StateError):
        assert not -3 < power < 17  # what any picture, and any unit, may be
        return
    if bool(exact.weights.any()):
        assert off(found.weights, exact.weights) < 2e-2


@settings(max_examples=15, deadline=None)
@given(factor=st.floats(0.1, 1e14), seed=st.integers(0, 99))
def test_without_norms_and_constants_the_scale_of_the_input_does_not_move_w(factor: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(bnn.BcosConv2d(6, 8, 3), bnn.BcosConv2d(8, 3, 1), bnn.GlobalAveragePool())
    x = encoded(8) + 0.1
    found = torchbcos.explain(model, x * factor, 0)
    assert off(found.weights, torchbcos.explain(model, x, 0).weights.double()) < 2e-2  # there is an epsilon under the root


# -- small ---------------------------------------------------------------------------------------------------------


def test_a_signal_that_died_on_the_way_is_refused() -> None:
    model, x = small(*(bnn.BcosConv2d(4, 4, 1) for _ in range(4))), encoded(8, 2)
    x[0] *= 1e-8
    for targets in (1, None, [[0, 1], [1, 2]]):
        with pytest.raises(
            InputError, match=r"Image 0, target 0: W is too small for float32; .* in float64 .* input reaches 1\.0e"
        ):
            torchbcos.explain(model, x, targets)
    with pytest.raises(InputError, match="too small"):
        torchbcos.explain(model, x, 1, contrast=0, batch_size=1)
    assert len(torchbcos.explain(model, x[1:], 1)) == 1
    assert float(torchbcos.explain(copy.deepcopy(model).double(), x.double(), 1).weights[0].abs().max()) > 0


def test_a_w_that_is_zero_by_right_is_no_error() -> None:
    model, x = small(), encoded(8)
    with torch.no_grad():
        model[1].weight.zero_()  # type: ignore[union-attr, operator]
    assert not bool(torchbcos.explain(model, x, 0).weights.any())
    assert not bool(torchbcos.explain(small(), x * 0, 0).weights.any())
    assert not bool(torchbcos.explain(small(), x, 0, contrast=0).weights.any())


def test_the_second_look_in_float64_leaves_nothing_behind() -> None:
    model, x = small(nn.Dropout(0.5), *(bnn.BcosConv2d(4, 4, 1) for _ in range(4))).train(), encoded(8) * 1e-8
    before, state = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    calls: list[torch.dtype] = []

    def again(twin: nn.Module, wide: Tensor, _: Tensor) -> Tensor:
        calls.append(wide.dtype)
        torch.rand(3)
        return torch.zeros(1, 1)

    check_signal(model, x, torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), again)
    assert calls == [torch.float64] and torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    check_signal(model, x, torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64), again)
    assert len(calls) == 1  # an ordinary W is not looked at twice


def test_without_the_guards_a_w_of_zeros_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "check_finite", lambda *_: None)
    monkeypatch.setattr(engine, "check_signal", lambda *_: None)
    dead = torchbcos.explain(small(*(bnn.BcosConv2d(4, 4, 1) for _ in range(4))), encoded(8) * 1e-8, 1)
    assert not bool(dead.weights.any()) and float(dead.residual.abs().max()) == 0
    assert bool(torchbcos.explain(small(), encoded(8) * 1e20, 1).weights.isnan().any())
    monkeypatch.setattr(patches, "over_channels", lambda inverse, _: inverse.nan_to_num(0.0))
    zeroed = torchbcos.explain(small(), encoded(8) * 1e20, 1)
    assert not bool(zeroed.weights.any()) and float(zeroed.residual.abs().max()) == 0
