"""Spheres of triangles, and how their vertices are divided among larger triangles.

A mesh of level k is an icosahedron whose triangles were divided into four k times: 10 · 4^k + 2 vertices, 20 · 4^k triangles.
The order of the vertices is that of FreeSurfer's fsaverage (fsaverage5 is level 5, fsaverage level 7), found from its files, so
that a feature of its vertex i belongs to vertex i here. Vertices of level k come first in every finer mesh. Tables are made on
the CPU, wherever networks are built.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import integer

__all__ = ["MAX_LEVEL", "icosphere", "sphere_neighbours", "sphere_patches"]

MAX_LEVEL = 7
_FACES = (
    (0, 4, 3), (0, 5, 4), (0, 1, 5), (0, 2, 1), (0, 3, 2), (3, 8, 2), (3, 9, 8), (3, 4, 9), (4, 10, 9), (4, 5, 10),
    (5, 6, 10), (5, 1, 6), (1, 7, 6), (1, 2, 7), (2, 8, 7), (8, 9, 11), (9, 10, 11), (10, 6, 11), (6, 7, 11), (7, 8, 11),
)  # fmt: skip
_Face = tuple[int, int, int]


def icosphere(level: int) -> tuple[Tensor, Tensor]:
    """A mesh of the unit sphere, in the order of FreeSurfer's fsaverage.

    Args:
        level: how often the 20 triangles of an icosahedron are divided into four, 0 to 7.

    Returns:
        Vertices (10 · 4^level + 2, 3) float64, and triangles (20 · 4^level, 3) int64, as there.

    Raises:
        InputError: there is no such level.

    >>> vertices, faces = icosphere(2)
    >>> len(vertices), len(faces), round(float(vertices.norm(dim=1).max()), 6)
    (162, 320, 1.0)
    """
    _check_level(level)
    points, faces = _points(level), _levels(level)[level][0]
    return points.clone(), torch.tensor(faces, device="cpu")[:, [0, 2, 1]]


def sphere_patches(level: int, coarse: int) -> Tensor:
    """The vertices of a mesh in each triangle of a coarser one, borders included.

    The vertices of a triangle are in one order for all triangles: rows of its lattice from its first corner to the edge across,
    each row from the side of the second corner to that of the third. So number j is at the same place in every triangle
    (published tables for surface transformers have no such order).

    Args:
        level: of the mesh.
        coarse: of the mesh whose triangles are the patches, at most `level`.

    Returns:
        (20 · 4^coarse, M) int64, M = (s + 1)(s + 2) / 2 with s = 2^(level - coarse).

    Raises:
        InputError: there are no such levels.

    >>> sphere_patches(5, 1).shape, sphere_patches(6, 2).shape
    (torch.Size([80, 153]), torch.Size([320, 153]))
    """
    _check_level(level)
    if integer(coarse) is None or not 0 <= coarse <= level:
        raise InputError(f"Patches are triangles of a level from 0 to that of the mesh, {level}, not {coarse!r}.")
    steps = _levels(level)
    middles = [steps[i + 1][1] for i in range(coarse, level)]
    return torch.tensor([_lattice(face, middles) for face in steps[coarse][0]], device="cpu")


def sphere_neighbours(level: int) -> Tensor:
    """The neighbours of every vertex of a mesh, (V, 6) int64; where there are five, the first stands twice.

    >>> sphere_neighbours(1).shape
    torch.Size([42, 6])
    """
    faces = icosphere(level)[1]
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])  # each edge once in each direction
    order = edges[:, 0].argsort(stable=True)
    counts = torch.bincount(edges[:, 0])
    starts = counts.cumsum(0) - counts
    place = starts[:, None] + torch.arange(6, device="cpu") % counts[:, None]
    return edges[order, 1][place]


def _check_level(level: int) -> None:
    if integer(level) is None or not 0 <= level <= MAX_LEVEL:
        raise InputError(f"A mesh has a level from 0 to {MAX_LEVEL}, not {level!r}.")


@functools.cache
def _levels(level: int) -> tuple[tuple[tuple[_Face, ...], dict[tuple[int, int], int]], ...]:
    """Of every level up to this one: its triangles, and the vertex in the middle of each edge of the level before."""
    if level == 0:
        return ((_FACES, {}),)
    before = _levels(level - 1)
    count = 10 * 4 ** (level - 1) + 2
    middle: dict[tuple[int, int], int] = {}
    corners: list[_Face] = []
    others: list[_Face] = []
    for a, b, c in before[-1][0]:
        ab, bc, ca = (middle.setdefault(_edge(*e), count + len(middle)) for e in ((a, b), (b, c), (c, a)))
        corners.append((a, ab, ca))
        others += [(ab, b, bc), (ca, ab, bc), (ca, bc, c)]
    return (*before, (tuple(corners + others), middle))


def _edge(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


@functools.cache
def _points(level: int) -> Tensor:
    if level == 0:
        ring = torch.arange(5, dtype=torch.float64, device="cpu") * 0.4 * torch.pi
        high, far = 5**-0.5, 2 * 5**-0.5
        upper = torch.stack([far * (ring - 0.4 * torch.pi).cos(), far * (ring - 0.4 * torch.pi).sin(), ring * 0 + high], 1)
        lower = torch.stack([far * (ring - 0.6 * torch.pi).cos(), far * (ring - 0.6 * torch.pi).sin(), ring * 0 - high], 1)
        pole = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64, device="cpu")
        return torch.cat([pole, upper, lower, -pole])
    points = _points(level - 1)
    ends = torch.tensor(list(_levels(level)[level][1]), device="cpu")
    middle = points[ends].sum(1)
    return torch.cat([points, middle / middle.norm(dim=1, keepdim=True)])


def _lattice(face: _Face, middles: list[dict[tuple[int, int], int]]) -> list[int]:
    """The vertices of a triangle, row by row: corners are known, and each division puts one between two."""
    rows = [[face[0]], [face[1], face[2]]]
    for middle in middles:
        finer = []
        for i, row in enumerate(rows):
            finer.append([row[0]] + [v for a, b in itertools.pairwise(row) for v in (middle[_edge(a, b)], b)])
            if i + 1 < len(rows):
                below = rows[i + 1]
                between = [middle[_edge(row[0], below[0])]]
                for j, v in enumerate(row):
                    if j:
                        between += [middle[_edge(v, below[j])]]
                    between += [middle[_edge(v, below[j + 1])]]
                finer.append(between)
        rows = finer
    return [v for row in rows for v in row]
