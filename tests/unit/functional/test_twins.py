"""Every kernel gives what its equation gives: values, derivatives, and W while the factors are held."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.function import Function

import torchbcos.kernels
from torchbcos._core.frozen import CONSTANT, Session, session
from torchbcos.functional.twins import TWINS, Twin
from torchbcos.kernels import batchnorm, lengths, unitnorm
from torchbcos.kernels.conv import conv

TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-4}
Run = Callable[..., Tensor]


def derivatives(run: Run, tensors: tuple[Tensor, ...], options: dict[str, Any], orders: int, seed: int) -> list[Tensor]:
    """The value, and by all tensors the first two derivatives of random sums."""
    generator = torch.Generator().manual_seed(seed)
    leaves = [t.detach().clone().requires_grad_(orders > 0) for t in tensors]
    level = [run(*leaves, **options)]
    found = list(level)
    for _ in range(orders):
        weights = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in level]
        total = torch.stack([(t * w).sum() for t, w in zip(level, weights, strict=True)]).sum()
        if total.requires_grad:
            rows = torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
        else:
            rows = (None,) * len(leaves)  # the derivative before was constant
        level = [torch.zeros_like(t) if row is None else row for row, t in zip(rows, leaves, strict=True)]
        found += level
    return [t.detach() for t in found]


def plain_derivatives(run: Run, tensors: tuple[Tensor, ...], options: dict[str, Any], seed: int) -> list[Tensor]:
    """The gradients of a training step, which no graph is made of."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    out = run(*leaves, **options)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=out.dtype)
    return [t.detach() for t in torch.autograd.grad((out * weights).sum(), leaves)]


def held(run: Run, tensors: tuple[Tensor, ...], options: dict[str, Any], seed: int) -> list[Tensor]:
    """The value while factors are held, and a row of W."""
    x = tensors[0].detach().clone().requires_grad_()
    with session(Session(CONSTANT, {}, len(x), x)):
        out = run(x, *tensors[1:], **options)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=out.dtype)
        (row,) = torch.autograd.grad((out * weights).sum(), x)
    return [out.detach(), row]


def compare(twin: Twin, seed: int) -> None:
    """Raise where kernel and equation differ."""
    tensors, options = twin.draw(torch.Generator().manual_seed(seed))
    ways: list[Callable[[Run], list[Tensor]]] = []
    if twin.free:
        ways.append(lambda run: derivatives(run, tensors, options, twin.orders, seed))
        ways.append(lambda run: [run(*tensors, **options).detach()])
    if twin.free and twin.orders:
        ways.append(lambda run: plain_derivatives(run, tensors, options, seed))
    if twin.held and twin.orders:
        ways.append(lambda run: held(run, tensors, options, seed))
    for way in ways:
        found, expected = way(twin.kernel), way(twin.equation)
        scale = max(1.0, *(float(t.abs().max()) for t in expected))
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=TOLERANCES[b.dtype] * scale)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
@given(seed=st.integers(0, 2**31))
def test_kernels_give_what_their_equations_give(twin: Twin, seed: int) -> None:
    compare(twin, seed)


BY_NAME = {twin.name: twin for twin in TWINS}


class WrongSecond(Function):
    """Right values and first derivative, and a second derivative that is none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, geometry: Any, eps: float) -> Tensor:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (x, w)]
            ctx.leaves, ctx.out = leaves, conv(*leaves, geometry, eps)
        out: Tensor = ctx.out.detach().clone()
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gx, gw = torch.autograd.grad(ctx.out, ctx.leaves, g, retain_graph=True)
        return gx.detach() + 0 * g.sum(), gw.detach() + 0 * g.sum(), None, None


CONVOLUTION = BY_NAME["B-cos convolution, b = 2"]
WRONG: dict[str, Twin] = {
    "value": dataclasses.replace(CONVOLUTION, kernel=lambda *a, **k: conv(*a, **k) * (1 + 1e-6)),
    "eps": dataclasses.replace(CONVOLUTION, kernel=lambda x, w, geometry, eps: conv(x, w, geometry, eps + 1e-5)),
    "first derivative": dataclasses.replace(CONVOLUTION, kernel=lambda x, *a, **k: conv(x.detach(), *a, **k) + 0 * x.sum()),
    "second derivative": dataclasses.replace(CONVOLUTION, kernel=lambda *a, **k: WrongSecond.apply(*a, *k.values()), held=False),
    "W": dataclasses.replace(
        BY_NAME["layer norm, held"], kernel=lambda x, w, eps: torch.nn.functional.layer_norm(x, x.shape[-1:], w, None, eps)
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_kernel_is_seen(fault: str) -> None:
    with pytest.raises(AssertionError):
        compare(WRONG[fault], 4)


def steps() -> set[type]:
    """Every step of autograd that a kernel defines."""
    modules = [importlib.import_module(f"torchbcos.kernels.{m.name}") for m in pkgutil.iter_modules(torchbcos.kernels.__path__)]
    found = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    return {thing for thing in found if issubclass(thing, Function) and thing.__module__.startswith("torchbcos.kernels")}


def test_no_step_is_without_its_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: set[type] = set()
    for step in steps():

        def forward(ctx: Any, *arguments: Any, step: Any = step, real: Any = step.forward) -> Any:  # type: ignore[attr-defined]
            ran.add(step)
            return real(ctx, *arguments)

        monkeypatch.setattr(step, "forward", staticmethod(forward))
    for twin in TWINS:
        compare(twin, 3)
    assert len(ran) >= 6
    assert steps() - ran == set()


def test_lengths_are_never_zero() -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(2, 3, dtype=dtype)
        assert float(lengths.never_zero(x).sqrt().min()) == float(lengths.length(x).min()) > 0
    assert torch.equal(lengths.never_zero(torch.tensor([4.0])), torch.tensor([4.0]))
    assert float(lengths.length(torch.tensor([[3.0, 4.0]]))) == 5
    assert batchnorm.per_channel(unitnorm.filter_norms(torch.zeros(2, 3)).flatten(), 3).tolist() == [[[1.0], [1.0]]]
