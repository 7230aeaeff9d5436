"""Spheres of triangles: their counts, their order, and patches with one order of vertices for all."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.reference import spheres as slow
from torchbcos import functional
from torchbcos._core.errors import InputError

LEVELS = [(level, coarse) for level in range(7) for coarse in range(level + 1)]


@pytest.mark.parametrize("level", range(7))
def test_a_mesh_is_a_sphere_whose_triangles_have_one_size(level: int) -> None:
    vertices, faces = functional.icosphere(level)
    assert len(vertices) == slow.counts(level, 0)[0] and len(faces) == 20 * 4**level
    torch.testing.assert_close(vertices.norm(dim=1), torch.ones(len(vertices), dtype=torch.float64))
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    once = torch.unique(edges.sort(1).values, dim=0)
    assert len(vertices) - len(once) + len(faces) == 2  # Euler: a sphere
    assert set(torch.bincount(once.flatten()).tolist()) <= {5, 6}
    lengths = (vertices[once[:, 0]] - vertices[once[:, 1]]).norm(dim=1)
    assert float(lengths.max() / lengths.min()) < 1.25
    a, b, c = vertices[faces].unbind(1)
    outward = (torch.linalg.cross(b - a, c - a) * a).sum(1)
    assert bool((outward > 0).all()) or bool((outward < 0).all())  # all triangles turn the same way


@pytest.mark.parametrize("level", range(1, 7))
def test_coarser_vertices_come_first(level: int) -> None:
    assert torch.equal(functional.icosphere(level)[0][: slow.counts(level - 1, 0)[0]], functional.icosphere(level - 1)[0])


@pytest.mark.parametrize(("level", "coarse"), LEVELS)
def test_patches_have_the_counts_of_geometry(level: int, coarse: int) -> None:
    table = functional.sphere_patches(level, coarse)
    vertices, patches, length = slow.counts(level, coarse)
    assert table.shape == (patches, length) and set(table.flatten().tolist()) == set(range(vertices))


@pytest.mark.parametrize(("level", "coarse", "times"), [
    (5, 2, {1: 6720, 2: 3360, 5: 12, 6: 150}), (6, 2, {1: 33600, 2: 7200, 5: 12, 6: 150}),
])  # fmt: skip
def test_vertices_lie_in_as_many_patches_as_published(level: int, coarse: int, times: dict[int, int]) -> None:
    assert Counter(torch.bincount(functional.sphere_patches(level, coarse).flatten()).tolist()) == times


@pytest.mark.parametrize(("level", "coarse"), [(3, 1), (4, 2), (5, 1), (4, 4)])
def test_all_patches_have_one_order_of_neighbours(level: int, coarse: int) -> None:
    table, faces = functional.sphere_patches(level, coarse), functional.icosphere(level)[1].tolist()
    edges = {(min(a, b), max(a, b)) for face in faces for a, b in zip(face, [*face[1:], face[0]], strict=True)}
    patterns = set()
    for row in table.tolist():
        place = {v: i for i, v in enumerate(row)}
        patterns.add(frozenset(
            (min(place[a], place[b]), max(place[a], place[b])) for a, b in edges if a in place and b in place
        ))  # fmt: skip
    assert len(patterns) == 1


@pytest.mark.parametrize(("level", "coarse"), [(3, 1), (4, 2)])
def test_patches_hold_the_points_of_their_triangle(level: int, coarse: int) -> None:
    vertices = functional.icosphere(level)[0]
    side = 2 ** (level - coarse)
    for row in functional.sphere_patches(level, coarse)[::7]:
        corners = vertices[row[[0, len(row) - side - 1, len(row) - 1]]]
        points = slow.on_sphere(corners, level - coarse)
        assert float(torch.cdist(points, vertices[row]).amin(1).max()) < 1e-6 and len(points) == len(row)


def test_levels_out_of_range_are_refused() -> None:
    for level in (-1, 8, 2.0, True):
        with pytest.raises(InputError, match="level from 0 to 7"):
            functional.icosphere(level)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="from 0 to that of the mesh, 2, not 3"):
        functional.sphere_patches(2, 3)
