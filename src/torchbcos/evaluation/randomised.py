"""Networks that lose their training layer by layer: what an explanation of the network should notice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.foreign import foreign
from torchbcos._core.names import hint
from torchbcos.deployment.settle import copy_of
from torchbcos.metrics.passes import own_generator

__all__ = ["ORDERS", "layers_of", "randomised"]

ORDERS = ("bottom_up", "top_down", "independent")
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0}  # of norms, as they are before any batch


def randomised(
    model: nn.Module, *, order: str = "bottom_up", generator: torch.Generator | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Copies of a network with more and more of its layers begun again (Adebayo et al., arXiv 1810.03292).

    A layer is a module with parameters or norm statistics of its own, in the order in which they are registered. It begins
    again by its own `reset_parameters`; what that leaves as it was, and parameters of modules without one (position
    embeddings, say), are drawn from a normal distribution with their own mean and spread. A single number has no spread and
    stays. Each layer has its own seed: layers of one shape get different weights, and once all layers have begun again, the
    copies of "bottom_up" and "top_down" are equal.

    Args:
        model: of any library, in any mode; not touched. Classifiers are not networks: give `clf.model`.
        order: "bottom_up" (from the input on, cumulative), "top_down" (from the logits down, cumulative), or "independent"
            (one layer at a time, the others as trained).
        generator: None: a fresh one with seed 0. The global generators of torch, NumPy and Python are as before.

    Yields:
        The name of the layer that has begun again last, and a copy of the network, in the modes and on the devices of the
        model, without gradients. Each copy is a new one and may be kept.

    Raises:
        ArgumentTypeError: `model` is no `torch.nn.Module`.
        InputError: there is no such order, nothing to begin again, or the network cannot be copied.

    >>> names = [name for name, _ in randomised(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))]
    >>> names
    ['0', '2']
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"randomised needs a torch.nn.Module (of a classifier, clf.model), not {type(model).__name__}.")
    if order not in ORDERS:
        raise InputError(f"order is one of {', '.join(ORDERS)}, not {order!r}.{hint(str(order), ORDERS)}")
    layers = layers_of(model)
    if not layers:
        raise InputError("The network has no parameters and no norm statistics: nothing can begin again.")
    generator = own_generator(generator)
    seeds = torch.randint(2**31, (len(layers),), generator=generator, device=generator.device).tolist()
    return _walk(model, dict(zip(layers, seeds, strict=True)), order)


def _walk(model: nn.Module, seeds: Mapping[str, int], order: str) -> Iterator[tuple[str, nn.Module]]:
    known = _kept_once(model, list(seeds))
    work = _copy(model)
    for name in reversed(list(seeds)) if order == "top_down" else list(seeds):
        if order == "independent":
            work = _copy(model)
        _begin_again_(dict(work.named_modules())[name], known[name], seeds[name])
        yield name or ", ".join(known[name]), _copy(work)


def _copy(model: nn.Module) -> nn.Module:
    with foreign("The network cannot be copied"):
        twin = copy_of(model)
    twin.zero_grad(set_to_none=True)
    return twin


def layers_of(model: nn.Module) -> list[str]:
    """Names of the modules that can begin again."""
    found = []
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        statistics = any(key in _STATISTICS for key, buffer in module.named_buffers(recurse=False) if buffer is not None)
        if any(is_lazy(p) for p in own.values()):
            raise InputError(f"The layer {name!r} has no parameters yet: call the network once, on an input, first.")
        if any(p.is_meta for p in own.values()):
            raise InputError(f"The layer {name!r} has shapes and no numbers (the device is 'meta'): load its weights first.")
        if statistics or any(_drawn(module, parameter) for parameter in own.values()):
            found.append(name)
    return found


def _drawn(module: nn.Module, parameter: Tensor) -> bool:
    return _has_spread(parameter) and (parameter.numel() > 1 or _reset_of(module) is not None)


def _has_spread(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _reset_of(module: nn.Module) -> object | None:
    """A module's own way to begin again; programs and networks as a whole have other ideas of it."""
    return None if isinstance(module, torch.jit.ScriptModule) else getattr(module, "reset_parameters", None)


def _kept_once(model: nn.Module, names: list[str]) -> dict[str, list[str]]:
    """The parameters of each layer that no earlier layer has, too: tied weights begin again once."""
    seen: set[int] = set()
    found = {}
    modules = dict(model.named_modules())
    for name in names:
        own = [(key, p) for key, p in modules[name].named_parameters(recurse=False) if id(p) not in seen]
        seen |= {id(p) for _, p in own}
        found[name] = [key for key, _ in own]
    return found


@torch.no_grad()
def _begin_again_(module: nn.Module, names: list[str], seed: int) -> None:
    """Give one layer fresh parameters and statistics, in place."""
    before = _own(module)
    after = _reset(module, seed)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        old = before[name]
        new = after.get(name, old)
        if _has_spread(new):
            getattr(module, name).copy_(_drawn_like(old, generator) if torch.equal(old, new) else new)
    for name, _ in module.named_buffers(recurse=False):
        if name in after:
            getattr(module, name).copy_(after[name])


def _own(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's own parameters and buffers, on the processor."""
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors}


def _reset(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """What a module's own parameters and buffers are after it began again, on the processor: the same on every device.

    A copy of the module does it: some modules reset what is below them, too.
    """
    fresh = _own(module)
    fresh |= {name: fresh[name].fill_(value) for name, value in _STATISTICS.items() if name in fresh}
    if _reset_of(module) is None:
        return fresh
    try:
        twin = copy_of(module).to("cpu")
        with _seeded(seed):
            twin.reset_parameters()  # type: ignore[operator]
    except Exception:  # of a parametrised layer, or of one that wants arguments: it is drawn instead
        return fresh
    return {**fresh, **_own(twin)}


def _drawn_like(old: Tensor, generator: torch.Generator) -> Tensor:
    """A tensor with the mean and the spread of another, which it does not otherwise resemble."""
    if old.is_complex():
        return torch.view_as_complex(_drawn_like(torch.view_as_real(old), generator).contiguous())
    wide = old.double()
    spread = float(wide.std(correction=0)) if old.numel() else 0.0
    if spread == 0:
        return old
    return (torch.randn(old.shape, generator=generator, dtype=torch.float64) * spread + wide.mean()).to(old.dtype)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators with a seed of ours, for the length of a block; only those of the processor are moved."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
