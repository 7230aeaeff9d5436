"""The laws that every layer and network of this library keeps, as functions anyone can call.

Complete, frozen changes no output, nothing left behind, batch = one by one; for single B-cos
layers also homogeneous of degree one and bounded by the patch norm.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError
from torchbcos._core.frozen import frozen
from torchbcos._core.torch_private import hook_counts, version
from torchbcos.explanation import Explanation, explain

BCOS = (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d, bnn.BcosLinear)


class LawBroken(BcosError, AssertionError):
    """A law does not hold; the message says which one, and by how much."""


def check_model(model: nn.Module, x: Tensor, *, tolerance: float | None = None) -> None:
    """Check the laws of a network: complete, frozen, nothing left behind, batch = one by one.

    Args:
        model: a network of torchbcos layers; (N, C, *S) to (N, classes).
        x: encoded input of at least one image.
        tolerance: of the completeness law, in units of `max(1, |value|, 0.1·(Σ|contributions| +
            Σ|constants|))`; default 1e-9 in float64, 1e-4 in float32, 5e-2 below.

    Raises:
        LawBroken: a law does not hold.

    >>> model = nn.Sequential(bnn.BcosConv2d(6, 3, 3), bnn.GlobalAveragePool())
    >>> check_model(model, torch.rand(2, 6, 8, 8))
    """
    bound = tolerance if tolerance is not None else default_tolerance(x.dtype)
    before = snapshot(model)
    rng = torch.get_rng_state()
    e = explain(model, x)
    check_complete(e, bound)
    if not torch.equal(rng, torch.get_rng_state()):
        raise LawBroken("Nothing left behind: explain moved the random number generator.")
    if x.grad is not None or snapshot(model) != before:
        raise LawBroken("Nothing left behind: explain changed a gradient, a mode, a hook or a buffer.")
    if not model.training:
        check_frozen(model, x, bound)
        check_batch(model, x, e, bound)


def check_layer(layer: nn.Module, x: Tensor, *, tolerance: float | None = None) -> None:
    """Check the laws of one layer: frozen changes no output; its output is linear in the input once
    its factors are held; a B-cos layer is homogeneous and, with unit-norm weights, bounded.

    Args:
        layer: a layer; any input it accepts.
        x: its input, not dim (entries well above 1e-3).
        tolerance: relative; default 1e-9 in float64, 1e-4 in float32, 5e-2 below.

    Raises:
        LawBroken: a law does not hold.

    >>> check_layer(bnn.BcosLinear(4, 3), torch.randn(2, 4))
    """
    bound = tolerance if tolerance is not None else default_tolerance(x.dtype)
    check_frozen(layer, x, bound)
    if isinstance(layer, BCOS):
        check_linear(layer, x, bound)
        check_homogeneous(layer, x, max(bound, 1e-4))
        if layer.unit_norm and getattr(layer, "scale", None) is None:
            check_bounded(layer, x, bound)


def check_complete(e: Explanation, bound: float) -> None:
    """Contributions and constants add up to the value."""
    size = e.contributions.abs().flatten(2).sum(2)
    for constant in e.constants.values():
        size = size + constant.abs()
    scale = torch.maximum(e.values.abs().clamp_min(1), 0.1 * size)
    worst = float((e.residual.abs() / scale).max())
    if not worst <= bound:
        raise LawBroken(f"Complete: contributions and constants miss the value by {worst:.1e} (at most {bound:.0e}).")


def check_frozen(module: nn.Module, x: Tensor, bound: float) -> None:
    """Frozen mode changes no output."""
    if module.training:
        module = copy.deepcopy(module).eval()
    with torch.no_grad():
        outside = module(x)
        with frozen():
            inside = module(x)
    worst = relative(inside, outside)
    if not worst <= bound:
        raise LawBroken(f"Frozen changes no output: outputs differ by {worst:.1e} (at most {bound:.0e}).")


def check_batch(model: nn.Module, x: Tensor, e: Explanation, bound: float) -> None:
    """The explanation of an image does not depend on the others."""
    for i in range(min(len(x), 4)):
        one = explain(model, x[i : i + 1], e.targets[i : i + 1])
        worst = relative(one.weights[0], e.weights[i])
        if not worst <= max(bound, 1e-7):
            raise LawBroken(f"Batch = one by one: W of image {i} differs by {worst:.1e} when it is alone.")


def check_linear(layer: nn.Module, x: Tensor, bound: float) -> None:
    """With its factors held, the layer's output is its gradient times the input."""
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad(), frozen():
        out = layer(leaf)
        (gradient,) = torch.autograd.grad(out.sum(), leaf)
    out = out.detach()
    worst = abs(float((gradient * leaf.detach()).sum() - out.sum())) / max(1.0, float(out.abs().sum()))
    if not worst <= bound:
        raise LawBroken(f"Linear once held: W·x misses the output by {worst:.1e} (at most {bound:.0e}).")


def check_homogeneous(layer: nn.Module, x: Tensor, bound: float) -> None:
    """f(a·x) = a·f(x) for a > 0, away from epsilon."""
    with torch.no_grad():
        worst = relative(layer(x * 4) / 4, layer(x))
    if not worst <= bound:
        raise LawBroken(f"Homogeneous: f(4x) / 4 differs from f(x) by {worst:.1e} (at most {bound:.0e}).")


def check_bounded(layer: nn.Module, x: Tensor, bound: float) -> None:
    """No output exceeds the norm of the whole input of its example (and so of any patch with zero padding)."""
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        return
    with torch.no_grad():
        out = layer(x)
    dims = tuple(range(1, x.dim())) if not isinstance(layer, bnn.BcosLinear) else (-1,)
    norm = x.float().pow(2).sum(dims, keepdim=True).sqrt()
    excess = float((out.abs().float() / norm.clamp_min(1e-12)).max())
    if not excess <= 1 + max(bound, 1e-5):
        raise LawBroken(f"Bounded: an output is {excess:.3f} times the norm of its input.")


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest entry."""
    scale = float(b.abs().max().clamp_min(torch.finfo(b.dtype).tiny))
    return float((a - b).abs().max()) / scale


def default_tolerance(dtype: torch.dtype) -> float:
    """The bound of the laws for a dtype."""
    return {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 5e-2)


def snapshot(model: nn.Module) -> list[object]:
    """What must not change: modes, hooks, gradients, versions of parameters and buffers."""
    state: list[object] = [(m.training, hook_counts(m)) for m in model.modules()]
    state += [(version(p), p.requires_grad, None if p.grad is None else version(p.grad)) for p in model.parameters()]
    state += [version(b) for b in model.buffers()]
    return state
