"""What a person looks at while a network trains: explanations of fixed pictures, their sums, and the alignment of layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError
from torchbcos.explanation import explain
from torchbcos.functional.conv import pad, pad_widths, patch_squared_norm
from torchbcos.metrics import compose_grids, grid_pointing
from torchbcos.rendering import rgba

__all__ = ["PICTURES", "alignment", "log_explanations"]

PICTURES = 8


def alignment(network: nn.Module, x: Tensor) -> dict[str, float]:
    """Mean |cos| between the inputs of every B-cos layer and its filters (arXiv 2306.10898, section 3.1).

    With unit filters a layer gives `|cos|^B · ‖x‖`, so `|cos| = (|output| / ‖x‖)^(1/B)`: read off inputs and outputs,
    for the filter that won where there are several (MaxOut). Positions where the input is zero do not count.

    Args:
        network: in any mode; it runs in eval mode, without gradients.
        x: (N, C, *S) encoded.

    Returns:
        Layer name -> mean in [0, 1].
    """
    found: dict[str, float] = {}
    mode = network.training
    with _watching(network, found), torch.no_grad():
        network.eval()
        network(x)
    network.train(mode)
    return found


@contextmanager
def _watching(network: nn.Module, found: dict[str, float]) -> Iterator[None]:
    """Hooks on every B-cos layer with unit filters and a fixed B, for the length of a block."""
    handles = []
    for name, module in network.named_modules():
        if getattr(module, "unit_norm", False) and not isinstance(getattr(module, "b", None), nn.Parameter):
            handles.append(module.register_forward_hook(_recorder(name, found)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _recorder(name: str, found: dict[str, float]) -> Any:
    """A hook that notes a layer's mean |cos|."""

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        layer: Any = module
        x = args[0]
        norm = x.norm(dim=-1, keepdim=True) if isinstance(module, bnn.BcosLinear) else _patch_norm(layer, x)
        size = output.abs() * (layer.scale if getattr(layer, "scale", None) is not None else 1.0)
        cosine = (size / norm.clamp_min(1e-12)).clamp(0, 1) ** (1 / layer.b)
        used = (norm > 1e-6).expand_as(cosine)
        found[name] = float(cosine[used].mean()) if bool(used.any()) else 0.0

    return note


def _patch_norm(layer: Any, x: Tensor) -> Tensor:
    """The norm of the patch behind every output of a convolution."""
    kernel = tuple(layer.weight.shape[2:])
    pads = pad_widths(layer.padding, kernel, tuple(layer.dilation))
    x, widths = pad(x, pads, layer.padding_mode), [0] * len(kernel)
    squares = patch_squared_norm(x, kernel, tuple(layer.stride), widths, tuple(layer.dilation), layer.groups)
    outputs = layer.weight.shape[0] // layer.max_out
    return squares.clamp_min(0).sqrt().repeat_interleave(outputs // squares.shape[1], dim=1)


def log_explanations(logger: Any, network: nn.Module, x: Tensor, y: Tensor, step: int) -> dict[str, float]:
    """Explanations of fixed pictures to TensorBoard; residual, share, probability and alignment as numbers.

    Args:
        logger: TensorBoard's SummaryWriter, or None.
        x: (N, 6, H, W) encoded pictures; others get numbers only.
        y: (N,) their classes.

    Returns:
        The numbers; none where the network cannot be explained at this step.
    """
    mode = network.training
    network.eval()
    try:
        e = explain(network, x, y)
    except BcosError:  # a signal that is dead, or numbers that are none: training says so by its loss, not here
        return {}
    finally:
        network.train(mode)
    numbers = {
        "watch/residual": float(e.residual.abs().max()), "watch/share": float(e.share.nanmean()),
        "watch/probability": float(e.values.sigmoid().mean()), "watch/magnitude": _magnitude(e.contributions, e.values),
    }  # fmt: skip
    found = _localisation(network, x, y)
    numbers |= {} if found is None else {"watch/localisation": found}
    layers = alignment(network, x)
    if layers:
        numbers["watch/alignment"] = sum(layers.values()) / len(layers)
        numbers |= {f"alignment/{name}": value for name, value in layers.items()}
    if logger is not None:
        for name, value in numbers.items():
            if math.isfinite(value):
                logger.add_scalar(name, value, step)
        if x.dim() == 4 and x.shape[1] == 6:
            logger.add_image("watch/explanations", _strip(e.weights[:, 0].cpu(), x.cpu()), step)
    return numbers


def _magnitude(contributions: Tensor, values: Tensor) -> float:
    """Σ|contributions| over |logit|, the median of pictures: 1 where all evidence has one sign, much where it cancels."""
    sums = contributions.abs().flatten(2).sum(2) if contributions.dim() > 2 else contributions.abs()
    return float((sums / values.abs().clamp_min(1e-12)).median())


def _localisation(network: nn.Module, x: Tensor, y: Tensor) -> float | None:
    """2×2 grid pointing (`torchbcos.metrics.grid_pointing`, smoothed) of these pictures, four a grid; None of fewer than four."""
    if x.dim() != 4 or len(x) < 4 or y.dim() != 1:
        return None
    mode, scores = network.training, []
    network.eval()
    try:
        for k in range(0, len(x) - 3, 4):
            own = slice(k, k + 4)
            grid = compose_grids(x[own][None], 2)
            maps = explain(network, grid.expand(4, *grid.shape[1:]), y[own]).contributions[:, 0]
            scores.append(grid_pointing(maps.detach(), torch.arange(4), n=2, smooth=_smoothing(x)))
    except BcosError:  # a network of one size
        return None
    finally:
        network.train(mode)
    return float(torch.cat(scores).nanmean())


def _smoothing(x: Tensor) -> int:
    """An odd number of pixels, as in published pictures: 15 of 224."""
    return max(1, x.shape[-1] // 15 | 1)


def _strip(weights: Tensor, x: Tensor) -> Tensor:
    """Photos above, what the network saw in them below, on white: (3, 2 H, N W)."""
    columns = []
    for w, picture in zip(weights, x, strict=True):
        drawn = np.asarray(rgba(w, picture, smooth=_smoothing(x)))
        seen = drawn[..., :3] * drawn[..., 3:] + 1 - drawn[..., 3:]
        columns.append(torch.cat([picture[:3], torch.from_numpy(seen).permute(2, 0, 1).float()], 1))
    return torch.cat(columns, 2)
