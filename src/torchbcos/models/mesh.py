"""What surface transformers are made of: patches of a mesh, its low-pass, centring, and what is not there.

Shapes: N subjects, C channels, V vertices, P places, D of the tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.frozen import add_constant, current, hold, parameter
from torchbcos.functional.icosphere import sphere_neighbours, sphere_patches
from torchbcos.nn.layer import run_layer

__all__ = ["MeshLowPass", "PlacePosition", "Present", "SurfacePatches", "Template"]


class SurfacePatches(bnn.Layer):
    """Gather the vertices of every triangle: (N, C, V) to (N, P, M · C), channels fastest.

    A vertex on a border belongs to all triangles around it.

    Args:
        level, coarse: of the mesh and of its patches, as in `torchbcos.functional.sphere_patches`.
    """

    channel_dim = -1
    table: Tensor

    def __init__(self, level: int, coarse: int) -> None:
        super().__init__()
        self.level, self.coarse = level, coarse
        self.register_buffer("table", sphere_patches(level, coarse), persistent=False)

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, C, V) to tokens."""
        patches = x[:, :, self.table.flatten()].reshape(*x.shape[:2], *self.table.shape)
        out: Tensor = patches.permute(0, 2, 3, 1).flatten(2)
        return out

    def seen(self, there: Tensor) -> Tensor:
        """(N, P): the share of the vertices of every place that is there, of (N, V)."""
        shares: Tensor = there[:, self.table.flatten()].reshape(-1, *self.table.shape).mean(2)
        return shares

    def extra_repr(self) -> str:
        """The levels."""
        return f"level={self.level}, coarse={self.coarse}"


class Template(bnn.Layer):
    """[u, 1 - u] less the mean of each vertex over training subjects: `(1 - m) u - m (1 - u)`, and the negative.

    Where u + (1 - u) is 1 that is u - m. It is linear and leaves no constant, as `torchbcos.nn.NormalizeEncoded`; a vertex that
    is not there stays 0. In training mode the mean follows the batches.

    Args:
        features, vertices: F and V.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, features: int, vertices: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((features, vertices), 0.5))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """No subject was seen."""
        self.mean.fill_(0.5)
        self.count.zero_()

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, 2F, V) to the same shape."""
        u, inverse = x.chunk(2, 1)
        if self.training and current() is None:
            self._learn(u.detach())
        z = u * (1 - self.mean) - inverse * self.mean
        return torch.cat([z, -z], 1)

    @torch.no_grad()
    def _learn(self, u: Tensor) -> None:
        """Add the subjects of a batch to the mean."""
        self.count += len(u)
        self.mean += (u - self.mean).sum(0) / self.count


class MeshLowPass(bnn.Layer):
    """A mesh of one level less, each vertex a quarter of itself and three quarters of the mean of its neighbours.

    What is finer than the coarser mesh is averaged away, as a low-pass does before a stride. It is linear.

    Args:
        level: of the mesh that comes in, from 1.
    """

    neighbours: Tensor
    five: Tensor

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level
        found = sphere_neighbours(level)[: 10 * 4 ** (level - 1) + 2]
        self.register_buffer("neighbours", found, persistent=False)
        # of five neighbours the first stands twice
        self.register_buffer("five", (found == found[:, :1]).sum(1) == 2, persistent=False)

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, C, V) to (N, C, about V / 4)."""
        around = x[:, :, self.neighbours.flatten()].reshape(*x.shape[:2], *self.neighbours.shape)
        five = self.five.to(x.dtype)
        return 0.25 * x[:, :, : len(five)] + 0.75 * (around.sum(-1) - five * around[..., 0]) / (6 - five)

    def extra_repr(self) -> str:
        """The level."""
        return f"level={self.level}"


class PlacePosition(bnn.Layer):
    """Add a learned vector to the token of every place; a named constant of explanations.

    Args:
        places, dim: P and D.
    """

    channel_dim = -1

    def __init__(self, places: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(places, dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh vectors, a tenth as long as a token behind a norm."""
        nn.init.normal_(self.weight, std=0.1)

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, P, D) to (N, P, D)."""
        return add_constant(x, parameter(self.weight).to(x.dtype), "position")


class Present(bnn.Layer):
    """Each token times the share of its vertices that is there."""

    channel_dim = -1

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:  # type: ignore[override]
        """Map (N, P, D) to (N, P, D); seen: (N, P), held."""
        return run_layer(self, x, seen)

    def compute(self, x: Tensor, seen: Tensor) -> Tensor:  # type: ignore[override]
        """Scale."""
        return x * hold(seen).unsqueeze(-1)


torch.fx.wrap("run_layer")
