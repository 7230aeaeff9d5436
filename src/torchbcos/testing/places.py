"""Where a network does what its explanation does not know: the innermost modules that break a law when they run alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos._core.errors import shorten
from torchbcos._core.frozen import Session
from torchbcos.explanation.verify import dice, drawn, unheld
from torchbcos.kinds import Kind, Watch

__all__ = ["places_of"]

_MOST = 3  # that are named


def places_of(model: nn.Module, x: Tensor, bound: float, products: str | None = None) -> str:
    """The modules that miss, in words, with their classes: each is run alone, watched, on the input that it had.

    Args:
        model: whose explanation of `x` breaks a law.
        x: its input.
        bound: a module misses where W·x and named constants are further from its output than this part of it, or where its W
            depends on its input by more than this part of W.
        products: as in `explain`.

    >>> class Slips(torch.nn.Module):  # an edit that torch cannot see
    ...     def forward(self, x):
    ...         y = x * 1.0
    ...         torch.from_dlpack(y.detach()).add_(1)
    ...         return y
    >>> layers = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), Slips())
    >>> places_of(layers, torch.rand(1, 3, 2, 2), 1e-4)
    "'2' (Slips)"
    """
    try:  # a copy only where running a part changes it: what hangs on a module may be known as itself (an operation of a rule)
        trains = any(module.training for module in model.modules())
        found = _innermost(copy.deepcopy(model) if trains else model, x, bound, products)
    except Exception:  # whatever a foreign network does when its parts run alone: the sentence is then shorter
        found = []
    if not found:
        return f"the forward of {type(model).__name__} itself, outside of its modules"
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return shorten(", ".join(f"{name!r} ({kind})" for name, kind in found[:_MOST]), 150) + more


def _innermost(model: nn.Module, x: Tensor, bound: float, products: str | None) -> list[tuple[str, str]]:
    """Names and classes of the modules that miss, without those around them."""
    inputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, given: tuple[Any, ...]) -> None:
            if len(given) == 1 and isinstance(given[0], Tensor) and given[0].is_floating_point():
                inputs[name] = given[0].detach().clone()

        return hook

    named = {name: module for name, module in model.named_modules() if name}
    handles = [module.register_forward_pre_hook(keep(name)) for name, module in named.items()]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(x.detach().clone())
    finally:
        for handle in handles:
            handle.remove()
    wrong = [name for name, given in inputs.items() if _misses(named[name], given, bound, products)]
    inner = [name for name in wrong if not any(other.startswith(f"{name}.") for other in wrong)]
    return [(name, type(named[name]).__name__) for name in named if name in inner]


def _misses(module: nn.Module, x: Tensor, bound: float, products: str | None) -> bool:
    """Whether one module, watched alone, is said to be linear and is not: its sum does not add up, or its W depends on x."""
    with torch.random.fork_rng(devices=[]), sdpa_kernel(SDPBackend.MATH), Session.of(module, x, "truncated") as state:
        state.batched = False
        with (watch := Watch(state, products=products)):
            out = module(state.inputs)
        if not isinstance(out, Tensor) or watch.known(out).kind is not Kind.LINEAR:
            return False
        direction = drawn(out, dice())
        leaves = [state.inputs, *state.probes.values()]
        total = (out * direction).sum()
        found = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
        law = unheld(out, leaves, bound, "module")
    factors = [state.inputs.detach(), *(torch.ones_like(p) for p in state.probes.values())]
    known = sum(float((g * f).sum()) for g, f in zip(found, factors, strict=True) if g is not None)
    size = max(float((out * direction).detach().abs().sum()), torch.finfo(out.dtype).tiny)
    return law is not None or not abs(float(total.detach()) - known) <= bound * size
