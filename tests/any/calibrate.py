"""A random network in which everything counts: otherwise a comparison of explanations compares zeros.

Fresh networks hide their faults: biases and tokens are 0, layer scales 1e-6, branches end in a zero, norms believe in a mean of 0
and a variance of 1, and after fifty layers the classes differ in the last digit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.any.networks import CLASSES

__all__ = ["calibrate", "pictures", "scores"]

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = nn.modules.batchnorm._BatchNorm
_WORDS = ("token", "pos_emb", "position", "latent", "probe", "prompt")
_RANGE, _LEAST = 10.0, 1e-3  # of the outputs over the classes: what we aim at, what must be there


def pictures(size: int, count: int = 2, seed: int = 1) -> Tensor:
    """(count, 3, size, size): smooth noise of several scales, about as large as normalised photos."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(count, 3, size, size)
    for cells in (2, 5, 11, size):
        grid = torch.randn(count, 3, cells, cells, generator=generator)
        x += functional.interpolate(grid, size=(size, size), mode="bicubic", align_corners=False) * (1 if cells < size else 0.3)
    return x / x.std((1, 2, 3), keepdim=True)


def scores(outputs: object, output: str | None) -> Tensor:
    """The (N, classes) among what a network gives."""
    found = outputs if output is None else getattr(outputs, output)
    assert isinstance(found, Tensor) and found.dim() == 2, "no scores (N, classes)"
    return found


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    return torch.empty_like(like).uniform_(low, high)


def _redraw(module: nn.Module, name: str, p: Tensor) -> Tensor:
    """A draw of one parameter that lets it count."""
    if name == "weight" and isinstance(module, _WEIGHTED):
        gain = 1.0 if isinstance(module, nn.Linear) else 2.0
        return torch.randn_like(p) * math.sqrt(gain / p[0].numel())
    if p.numel() == 1:
        return _uniform(p, 0.3, 0.7) if not p.any() else p * _uniform(p, 0.8, 1.25)
    if any(word in name for word in _WORDS):
        return torch.randn_like(p) * 0.3
    first = float(p.flatten()[0])
    if bool((p == first).all()):  # as its builder set it: an affine part, a layer scale, a token
        if first == 0:
            return torch.randn_like(p) * 0.2
        return _uniform(p, 0.5, 1.5) * (first if abs(first) > 0.05 else 1.0)
    return torch.randn_like(p) * 0.1 if p.dim() == 1 else p


def _heads(model: nn.Module) -> list[nn.Module]:
    """The layers that give the classes' scores."""
    return [m for m in model.modules() if isinstance(m, _WEIGHTED) and m.weight.shape[0] == CLASSES]


@torch.no_grad()
def calibrate(model: nn.Module, size: int, output: str | None = None, seed: int = 0) -> float:
    """Draw parameters, take the norms' statistics from one batch, scale the head; returns the least range of the outputs.

    Raises:
        AssertionError: the outputs are not finite, or the classes do not differ.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in model.modules():
            for name, p in module.named_parameters(recurse=False):
                p.copy_(_redraw(module, name, p))
    norms = [m for m in model.modules() if isinstance(m, _NORMS)]
    before = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the mean of all batches, of which there is one
        m.train()
    if norms:
        model(pictures(size, 4, seed=seed + 1000))
    for m, momentum in zip(norms, before, strict=True):
        m.momentum = momentum
        m.eval()
    spread = _range(model, size, output, seed)
    for head in _heads(model):
        for p in head.parameters():
            p.mul_(_RANGE / spread)
    return _range(model, size, output, seed)


def _range(model: nn.Module, size: int, output: str | None, seed: int) -> float:
    """The least range of the outputs over the classes."""
    y = scores(model(pictures(size, seed=seed + 1)), output)
    least = float((y.amax(1) - y.amin(1)).min())
    assert bool(y.isfinite().all()), "outputs are not finite"
    assert least >= 1e-12, f"the classes do not differ: {least:.1e}"
    return least
