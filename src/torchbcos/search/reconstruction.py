"""Least squares: the weights with which a layer that reads fewer channels comes nearest to what it gave before.

A plain layer, Y = X Wᵀ + c: of the kept columns S, `W'ᵀ = (X_SᵀX_S + λI)⁻¹ X_SᵀY` (He et al. 2017, arXiv 1707.06168, eq. 3;
with the means taken off where there is a bias).

A B-cos layer gives `y = ‖x‖ |cos(x, ŵ)|^B sgn`, which is not linear. (Ours:) with the kept inputs x_S and `t = sgn(y)
(|y| ‖x_S‖^(B-1))^(1/B)` we look for `w = argmin Σ (w·x_S - t)² + λ‖w‖²`: one system for all filters. `‖w‖^B` is then the gain
of the filter, `w / ‖w‖` its direction. Where a batch norm follows, the gain is the norm's; elsewhere the layer uses its filters
as they are. With MaxOut each arm is fitted to what it gives by itself.

Shapes: M samples, C channels, k numbers a channel (of the kernel), O outputs, A arms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.functional import bcos_transform, unit_norm_weight
from torchbcos.search.watching import listening

__all__ = ["RIDGE", "Samples", "fit", "record"]

RIDGE = 1e-3  # λ, in units of the mean of the diagonal of XᵀX
_CHUNK = 32


@dataclass(frozen=True)
class Samples:
    """What a layer read at some places, and what its filters gave.

    Attributes:
        x: (M, C, k) inputs.
        gram: (C k, C k) XᵀX.
        y: (M, O A) what each filter gave there: of a plain layer without its bias, of a B-cos layer with the cosine.
        activity: (C,) mean |x| of the channels that were read.
    """

    x: Tensor
    gram: Tensor
    y: Tensor
    activity: Tensor


@torch.no_grad()
def record(
    network: nn.Module, names: Sequence[str], x: Tensor, *, places: int = 16, seed: int = 0
) -> dict[str, Samples]:  # fmt: skip
    """What layers read and give, by name; nothing of those that do not run.

    Args:
        network: in eval mode while this runs.
        names: convolutions in two dimensions and linear layers.
        x: (N, C, *S) encoded inputs.
        places: positions of each input, drawn.
        seed: of what is drawn.

    Raises:
        InputError: a layer is of another kind.
    """
    taken: dict[str, list[Tensor]] = {name: [] for name in names}
    generator = torch.Generator().manual_seed(seed)
    layers = {name: network.get_submodule(name) for name in names}

    def take(name: str) -> Callable[[Any, Tensor, Tensor], None]:
        return lambda layer, read, _: taken[name].append(_rows(layer, read, places, generator).cpu())

    for name, layer in layers.items():
        if _kind(layer) is None:
            raise InputError(f"{name!r}, a {type(layer).__name__}, cannot be fitted: linear layers and convolutions in 2D can.")
    with listening(network, {name: take(name) for name in layers}):
        for part in torch.split(x, _CHUNK):
            network(part)
    return {name: _sampled(layers[name], torch.cat(rows)) for name, rows in taken.items() if rows}


def fit(layer: Any, samples: Samples, kept: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Weights for the kept input channels: (O A, S, *kernel) filters that are used as they are, and a plain layer's bias.

    Args:
        layer: as it was, before its inputs were cut.
        samples: of it.
        kept: the channels that stay, rising.
    """
    k = samples.x.shape[2]
    index = torch.tensor(list(kept))
    x = samples.x[:, index].flatten(1)
    weight, bias = _weight(layer), getattr(layer, "bias", None)
    y = samples.y
    if _kind(layer) == "bcos":
        length = x.square().sum(1, keepdim=True)
        b = _exponent(layer)
        if b != 1:
            y = y.sign() * (y.abs() * length ** ((b - 1) / 2)) ** (1 / b)
    found = None
    if bias is not None:
        means = x.double().mean(0).to(x.dtype), y.double().mean(0).to(y.dtype)
        apart = x - means[0]  # not from the Gram matrix: means that are large beside the spread would leave rounding
        solution = _solve(apart.t() @ apart, apart.t() @ (y - means[1]))
        found = bias.detach().cpu() + means[1] - means[0] @ solution
    else:
        columns = (index[:, None] * k + torch.arange(k)).flatten()
        solution = _solve(samples.gram[columns][:, columns], x.t() @ y)
    return solution.t().reshape(len(weight), len(index), *weight.shape[2:]).to(weight.dtype), found


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """(XᵀX + λI)⁻¹ of the right side, in float64 where a factor in float32 fails."""
    ridge = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    for dtype in (torch.float32, torch.float64):
        matrix = gram.to(dtype, copy=True)
        matrix.diagonal().add_(ridge.to(dtype))
        factor, info = torch.linalg.cholesky_ex(matrix)
        if not int(info):
            return torch.cholesky_solve(right.to(dtype), factor).to(right.dtype)
    matrix.diagonal().add_(100 * ridge.double())
    found: Tensor = torch.linalg.solve(matrix, right.double()).to(right.dtype)
    return found


def _kind(layer: Any) -> str | None:
    """ "plain", "bcos", or None: it cannot be fitted."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return "plain" if getattr(layer, "groups", 1) == 1 else None
    if type(layer) in (bnn.BcosConv2d, bnn.BcosLinear):
        return "bcos" if getattr(layer, "groups", 1) == 1 else None
    return None


def _exponent(layer: Any) -> float:
    """B as the layer uses it: one that is learned counts as 1 below 1."""
    return max(1.0, float(layer.b.detach() if isinstance(layer.b, Tensor) else layer.b))


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _rows(layer: Any, x: Tensor, places: int, generator: torch.Generator) -> Tensor:
    """(N · places, C, k): what the layer reads at places that are drawn."""
    if x.dim() == 2 or isinstance(layer, nn.Linear | bnn.BcosLinear):
        tokens = x.reshape(len(x), -1, x.shape[-1])
        chosen = torch.randint(tokens.shape[1], (len(x), places), generator=generator).to(x.device)
        return tokens.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1])).flatten(0, 1).unsqueeze(2)
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    widths = _padding(layer)
    padded = F.pad(x, widths, mode={"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode))
    sides = [(padded.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    top, left = (torch.randint(side, (len(x), places), generator=generator) * stride[i] for i, side in enumerate(sides))
    down = (torch.arange(kernel[0]) * dilation[0])[:, None].expand(kernel[0], kernel[1]).flatten()
    across = (torch.arange(kernel[1]) * dilation[1])[None].expand(kernel[0], kernel[1]).flatten()
    rows, columns = top[..., None] + down, left[..., None] + across
    batch = torch.arange(len(x))[:, None, None]
    places_of = (batch.to(x.device), rows.to(x.device), columns.to(x.device))
    found: Tensor = padded.movedim(1, -1)[places_of]  # (N, places, k, C)
    return found.flatten(0, 1).transpose(1, 2)


def _padding(layer: Any) -> list[int]:
    """Left, right, top and bottom."""
    padding = layer.padding
    if isinstance(padding, str):
        wide = [0, 0] if padding == "valid" else [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        both = [(one // 2, one - one // 2) for one in wide]
    else:
        both = [(int(one), int(one)) for one in padding]
    return [*both[1], *both[0]]


def _sampled(layer: Any, x: Tensor) -> Samples:
    """Samples of a layer that read x (M, C, k)."""
    flat = x.flatten(1).float()
    weight = _weight(layer).float().cpu()
    if _kind(layer) == "bcos" and layer.unit_norm:
        weight = unit_norm_weight(weight)
    y = flat @ weight.flatten(1).t()
    if _kind(layer) == "bcos" and (b := _exponent(layer)) != 1:
        y = bcos_transform(y, flat.square().sum(1, keepdim=True), b, eps=0.0)
    return Samples(flat.reshape(x.shape), flat.t() @ flat, y, x.abs().float().mean((0, 2)))
