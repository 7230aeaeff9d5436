"""Where a network does what its explanation does not know: the innermost modules whose own sum does not add up."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import shorten
from torchbcos._core.frozen import Session

__all__ = ["places_of"]

_MOST = 3  # that are named


def places_of(model: nn.Module, x: Tensor, bound: float) -> str:
    """The modules that miss, in words, with their classes: of a copy each is run alone, on the input that it had.

    Args:
        model: whose explanation of `x` is not complete.
        x: its input.
        bound: a module misses where W·x and named constants are further from its output than this part of it.

    >>> layers = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 2))
    >>> places_of(layers, torch.rand(1, 3, 2, 2), 1e-4)
    "'2' (Linear)"
    """
    try:
        found = _innermost(copy.deepcopy(model), x, bound)
    except Exception:  # whatever a foreign network does when its parts run alone: the sentence is then shorter
        found = []
    if not found:
        return f"the forward of {type(model).__name__} itself, outside of its modules"
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return shorten(", ".join(f"{name!r} ({kind})" for name, kind in found[:_MOST]), 150) + more


def _innermost(model: nn.Module, x: Tensor, bound: float) -> list[tuple[str, str]]:
    """Names and classes of the modules that miss, without those around them."""
    inputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            if len(given) == 1 and all(isinstance(t, Tensor) and t.is_floating_point() for t in (given[0], output)):
                inputs[name] = given[0].detach().clone()

        return hook

    named = {name: module for name, module in model.named_modules() if name}
    handles = [module.register_forward_hook(keep(name)) for name, module in named.items()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model(x.detach().clone())
    for handle in handles:
        handle.remove()
    wrong = [name for name, given in inputs.items() if _missed(named[name], given) > bound]
    inner = [name for name in wrong if not any(other.startswith(f"{name}.") for other in wrong)]
    return [(name, type(named[name]).__name__) for name in named if name in inner]


def _missed(module: nn.Module, x: Tensor) -> float:
    """How far W·x and the named constants of one module are from a random mixture of its outputs, as a part of it."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), Session.of(module, x) as state:
        state.batched = False
        out = module(state.inputs)
        torch.manual_seed(0)
        direction = torch.randn(out.shape, dtype=torch.float64).to(out)
        leaves = [state.inputs, *state.probes.values()]
        total = (out * direction).sum()
        found = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(leaves)
    factors = [state.inputs.detach(), *(torch.ones_like(p) for p in state.probes.values())]
    known = sum(float((g * f).sum()) for g, f in zip(found, factors, strict=True) if g is not None)
    return abs(float(total.detach()) - known) / max(float((out * direction).detach().abs().sum()), torch.finfo(out.dtype).tiny)
