"""Tiny pictures, and scores of them, for the metrics that remove something: as tensors, and as the lists of the slow twins."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference.removal import Picture


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def encoded(seed: int, *shape: int) -> Tensor:
    """Pictures [c, 1 - c]; shape without the inverse channels."""
    x = drawn(seed, *shape)
    return torch.cat([x, 1 - x], 1)


def curved(x: Tensor) -> Tensor:
    """A score that is not additive, and in which every pixel and channel counts."""
    flat = x.flatten(2).transpose(1, 2).flatten(1).double()
    weights = torch.cos(torch.arange(flat.shape[1], dtype=torch.float64) * 1.7)
    total = flat @ weights.to(x.device)
    return (total + 0.3 * torch.sin(3 * total) + 0.1 * flat[:, 0] * flat[:, -1]).to(x.dtype)


def curved_twin(x: Picture) -> float:
    flat = [value for pixel in x for value in pixel]
    total = sum(v * math.cos(i * 1.7) for i, v in enumerate(flat))
    return total + 0.3 * math.sin(3 * total) + 0.1 * flat[0] * flat[-1]


def pixels(x: Tensor) -> Picture:
    """One picture (C, H, W) as a list of pixels."""
    return x.flatten(1).T.double().tolist()
