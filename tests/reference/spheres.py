"""Slow twins of spheres of triangles and of the surface transformer, from geometry and the papers, not from our code.

The mesh: an icosahedron, each triangle divided into four by the middles of its edges, pushed out to the sphere. Patches are found
by geometry alone: the vertices of a finer mesh that lie in a large triangle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference.networks import Dual, Network, attend


def on_sphere(corners: Tensor, level: int) -> Tensor:
    """The points (M, 3) of a triangle with these corners (3, 3) divided so often, in any order, without twice the same."""
    if level == 0:
        return corners
    a, b, c = corners
    ab, bc, ca = ((x + y) / (x + y).norm() for x, y in ((a, b), (b, c), (c, a)))
    parts = [on_sphere(torch.stack(part), level - 1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return torch.unique((torch.cat(parts) * 1e9).round(), dim=0) / 1e9


def counts(level: int, coarse: int) -> tuple[int, int, int]:
    """Vertices of a mesh, patches, and vertices of a patch: Euler's formula and triangular numbers."""
    faces = 20 * 4**level
    side = 2 ** (level - coarse)
    return faces // 2 + 2, 20 * 4**coarse, (side + 1) * (side + 2) // 2


def averaged(x: Tensor, vertices: Tensor, count: int) -> Tensor:
    """(N, C, count): each of the first vertices a quarter of itself and three quarters of the mean of its nearest five or six."""
    out = torch.zeros(*x.shape[:2], count, dtype=x.dtype)
    for v in range(count):
        apart = (vertices - vertices[v]).norm(dim=1)
        near = apart.argsort()[1:7]
        near = near[apart[near] < 1.5 * apart[near[0]]]  # five around the corners of the icosahedron
        out[:, :, v] = 0.25 * x[:, :, v] + 0.75 * x[:, :, near].mean(2)
    return out


def surface_transformer(
    depth: int, heads: int, table: Tensor, classes: int, per_class: int, pooled: tuple[Tensor, ...] = ()
) -> Network:  # fmt: skip
    """The surface transformer on x (1, 2F, V): patches, encoders over places that are there, prototypes of each place.

    `pooled`: the vertices of each mesh that is averaged away.
    """

    def run(d: Dual, x: Tensor) -> Tensor:
        n, channels, _ = x.shape
        there = d.factor(lambda: (x[:, : channels // 2] != 0).any(1).to(x.dtype))  # (1, V)
        mean = d.state["centring.mean"]
        u, inverse = x[:, : channels // 2] * there[:, None], x[:, channels // 2 :] * there[:, None]
        z = u * (1 - mean) - inverse * mean
        x, seen = torch.cat([z, -z], 1), there[:, None]
        for vertices in pooled:
            count = (len(vertices) - 2) // 4 + 2
            x, seen = averaged(x, vertices, count), averaged(seen, vertices, count)
        there = seen[:, 0]
        tokens = torch.stack([x[:, :, place].transpose(1, 2).reshape(n, -1) for place in table], 1)
        tokens = d.spread_norm("embedding.norm", d.linear("embedding.linear", tokens), (-1,), centered=True, weight_dim=-1)
        share = torch.stack([there[:, place].mean(1) for place in table], 1)  # (1, P)
        hidden = torch.where(share > 0, 0.0, -math.inf)[0].expand(heads, len(table), len(table))
        for i in range(depth):
            tokens = tokens + attend(d, f"transformer.encoder_{i}.attn", tokens, heads, "linear", hidden)
            name = f"transformer.encoder_{i}.ff.net"
            y = d.spread_norm(name + ".norm", tokens, (-1,), centered=True, weight_dim=-1)
            tokens = tokens + d.linear(name + ".linear2", d.linear(name + ".linear1", y))
        tokens = d.spread_norm("norm", tokens, (-1,), centered=True, weight_dim=-1) * share[:, :, None]
        scores = torch.zeros(n, classes, dtype=x.dtype)
        for place in range(len(table)):
            vectors = d.state["classifier.similarity.weight"][place]
            z = tokens[:, place]
            along = z @ (vectors / vectors.norm(dim=1, keepdim=True)).t()
            length = z.norm(dim=1, keepdim=True) + 1e-12
            cosine = d.factor(lambda along=along, length=length: along.abs() / length)  # type: ignore[misc]
            scores = scores + (along * cosine).reshape(n, classes, per_class).sum(2) / len(table)
        return scores

    return run
