"""Norms that fold exactly into the B-cos convolution before them.

With b = 2 a convolution gives `y |y| / ‖patch‖`, of degree 2 in its filter. An uncentred batch norm
without bias multiplies by `s = weight / sqrt(running_var + eps)` in eval mode, so the filter
`sign(s) sqrt|s| · ŵ` gives the same, for negative s too. With MaxOut the largest of M linear outputs
counts, which a negative s would turn into the smallest: such a norm stays where it is.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Container
from typing import TypeGuard

import torch
from torch import nn

from torchbcos import nn as bnn
from torchbcos._core.errors import StateError
from torchbcos.functional.transform import unit_norm_weight
from torchbcos.kernels.unitnorm import filter_norms
from torchbcos.nn.bcosified import Biased
from torchbcos.nn.filters import FilterLayer

__all__ = ["fold_checked_", "fold_norms_", "fold_pair_", "fold_unit_norms_", "not_of_unit_norm", "pairs_of"]

_TOLERANCE = 1e-4  # of the largest output; in half precision, eight units of its last place
_UNIT = 0.02  # how far the norm of a filter that was stored in half precision may lie from one


def fold_norms_(model: nn.Module, *, check: bool = True, keep: Container[str] = ()) -> dict[str, str]:
    """Fold every batch norm that can be folded; return {norm: convolution} by name.

    Each folded pair is checked on a random input, unless `check` is false. Norms whose names are in `keep` stay, where it
    depends on the weights whether they can be folded: after MaxOut.

    Raises:
        StateError: a folded pair does not give what the two layers gave.
    """
    folded = {}
    for conv_name, norm_name in pairs_of(model):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        if _is_convolution(conv) and isinstance(norm, bnn.BatchNorm) and not (conv.max_out > 1 and norm_name in keep):
            if not check:
                fold_pair_(conv, norm)
            elif not fold_checked_(conv, norm):
                raise StateError(f"Folding {norm_name!r} into {conv_name!r} changed its output: deploy cannot use this network.")
            parent, _, name = norm_name.rpartition(".")
            setattr(model.get_submodule(parent), name, bnn.Folded(conv_name).train(norm.training))
            folded[norm_name] = conv_name
    return folded


@torch.no_grad()
def fold_unit_norms_(model: nn.Module) -> None:
    """Bring the filters of every layer that divides by their norm to that norm once and for all."""
    for layer in model.modules():
        if isinstance(layer, FilterLayer) and layer.unit_norm:
            layer.weight = nn.Parameter(unit_norm_weight(layer.weight), requires_grad=layer.weight.requires_grad)
            layer.unit_norm, layer.deployed = False, True


@torch.no_grad()
def not_of_unit_norm(twin: nn.Module) -> str | None:
    """The first layer of a deployed twin whose filters should have unit norm (or be zero) and do not; None if all have it.

    A twin no longer divides by the norms of its filters: with weights of a network that is none, it would give other numbers.
    """
    folded = {module.into for module in twin.modules() if isinstance(module, bnn.Folded)}
    for name, layer in twin.named_modules():
        if isinstance(layer, FilterLayer) and layer.deployed and name not in folded:
            norms = filter_norms(layer.weight.float())
            if bool((((norms - 1).abs() > _UNIT) & (norms > 0)).any()):
                return str(name)
    return None


def pairs_of(model: nn.Module, fits: Callable[[nn.Module, nn.Module], bool] | None = None) -> list[tuple[str, str]]:
    """Names of two layers of which the second alone reads the first's output, where `fits` (a norm that can be folded).

    They are neighbours in an `nn.Sequential`, or children that the class of their module lists in
    `adjacent = (("conv1", "bn1"), ...)`. (Tracing would find more, but `torch.fx` replaces the call
    of every module in the process while it traces, in other threads too.)
    """
    fits = _foldable if fits is None else fits
    modules = dict(model.named_modules(remove_duplicate=False))
    places = Counter(id(module) for module in modules.values())
    found = []
    for path, module in modules.items():
        for first, second in _neighbours(module):
            names = [_last_of(modules, f"{path}.{first}" if path else first), f"{path}.{second}" if path else second]
            if all(name in modules and places[id(modules[name])] == 1 for name in names) and fits(*(modules[n] for n in names)):
                found.append((names[0], names[1]))
    return found


def _neighbours(module: nn.Module) -> list[tuple[str, str]]:
    """Names of children of which the second alone reads the first's output."""
    if type(module) is nn.Sequential:
        names = [name for name, _ in module.named_children()]
        return list(itertools.pairwise(names))
    declared: tuple[tuple[str, str], ...] = vars(type(module)).get("adjacent", ())
    return list(declared)


def _last_of(modules: dict[str, nn.Module], name: str) -> str:
    """The layer that makes the output of the module of this name: the last one of an `nn.Sequential`."""
    while name in modules and type(module := modules[name]) is nn.Sequential and len(module):
        # a layer that stands twice counts twice here: `named_children` would leave the second out
        children = [key for key, _ in module.named_modules(remove_duplicate=False) if key and "." not in key]
        name = f"{name}.{children[-1]}"
    return name


_Convolution = bnn.BcosConv1d | bnn.BcosConv2d | bnn.BcosConv3d


def _is_convolution(module: nn.Module) -> TypeGuard[_Convolution]:
    """Whether `module` is a B-cos convolution."""
    return isinstance(module, _Convolution)


def _foldable(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether the norm is a factor for every filter of a convolution of degree 2."""
    return (
        _is_convolution(conv)
        and not isinstance(conv, Biased)  # whose bias the factor would miss
        and type(norm) is bnn.BatchNorm
        and not isinstance(conv.b, nn.Parameter)
        and conv.b == 2
        and not norm.centered
        and norm.bias is None
        and (conv.max_out == 1 or norm.weight is None or norm.weight.is_meta or bool((norm.weight >= 0).all()))
    )


@torch.no_grad()
def fold_checked_(conv: _Convolution, norm: bnn.BatchNorm) -> bool:
    """Fold a pair; whether it then gives what the two layers gave, on a random input."""
    x = _sample(conv)
    before = norm(conv(x))
    fold_pair_(conv, norm)
    tolerance = max(_TOLERANCE, 8 * torch.finfo(before.dtype).eps)
    after, largest = conv(x).float(), float(before.float().abs().max().clamp_min(1e-30))
    return torch.allclose(before.float(), after, rtol=0, atol=tolerance * largest)


@torch.no_grad()
def fold_pair_(conv: _Convolution, norm: bnn.BatchNorm) -> None:
    """Move the factor of the norm into the filters: one pass over them, for loading a network waits for it."""
    weight = conv.weight.to(torch.promote_types(conv.weight.dtype, torch.float32))
    scale = norm.running_scale().double()
    factor = (scale.sign() * scale.abs().sqrt()).repeat_interleave(conv.max_out)
    factor = factor.reshape(-1, *[1] * (weight.dim() - 1))
    if conv.unit_norm:
        factor = factor / filter_norms(weight).double()
    folded = (weight * factor.to(weight.dtype)).to(conv.weight.dtype)
    conv.weight = nn.Parameter(folded, requires_grad=conv.weight.requires_grad)
    conv.unit_norm, conv.deployed = False, True


def _sample(conv: _Convolution) -> torch.Tensor:
    """A small random input for a convolution, the same every time."""
    space = [d * (k - 1) + 2 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, conv.in_channels, *space, generator=generator)
    return x.to(conv.weight)
