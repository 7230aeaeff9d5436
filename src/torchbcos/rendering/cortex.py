"""A cortex from several sides, and flat, with a number at each vertex in colour.

Shapes: V vertices, T triangles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.names import hint
from torchbcos.rendering.fonts import load_font
from torchbcos.rendering.heatmap import heat_colours, heat_limit

__all__ = ["SIDES", "cortex_picture", "cortex_view"]

SIDES = ("lateral", "medial", "dorsal", "ventral", "anterior", "posterior", "flat")
_FINE = 2  # drawn so many times larger, and made smaller again
_LIGHT, _DARK, _AMBIENT = 0.82, 0.62, 0.45  # gyri, sulci; the part of light that falls everywhere
_OFF = 0.94  # what is no cortex
_GAP, _TITLE = 12, 22
_Array = NDArray[Any]


def cortex_view(
    coordinates: Tensor, faces: Tensor, values: Tensor | None = None, *, side: str = "lateral", hemisphere: str = "left",
    sulc: Tensor | None = None, mask: Tensor | None = None, limit: float | None = None, width: int = 420,
) -> Image.Image:  # fmt: skip
    """One hemisphere from one side; red (positive) and blue (negative) over grey.

    Args:
        coordinates: (V, 3) in mm; x to the right, y to the front, z up, as FreeSurfer has it. Of "flat": its first two.
        faces: (T, 3).
        values: (V,), or None.
        side: one of `SIDES`.
        hemisphere: "left" or "right": which side is the outer one.
        sulc: (V,) sulcal depth: what is deep is darker.
        mask: (V,) True where there is cortex; elsewhere nothing is coloured.
        limit: the number that is drawn in full colour; None: the 99.5th percentile of magnitudes.
        width: of the picture in pixels.

    Raises:
        InputError: there is no such side or hemisphere, or shapes do not fit.
    """
    _check(coordinates, faces, values, side, hemisphere)
    points, triangles = coordinates.detach().double().numpy(), faces.numpy()
    flat, depth = _turned(points, side, hemisphere)
    colours = _colours(len(points), values, sulc, mask, limit)
    shade = np.ones(len(triangles)) if side == "flat" else _shading(points, triangles, side, hemisphere)
    wide = width * _FINE
    low, high = flat.min(0), flat.max(0)
    scale = (wide - 4 * _FINE) / (high - low)[0]
    at = (flat - low) * scale + 2 * _FINE
    tall = int((high - low)[1] * scale) + 4 * _FINE
    at[:, 1] = tall - at[:, 1]
    picture = Image.new("RGB", (wide, tall), "white")
    draw = ImageDraw.Draw(picture)
    paint = (255 * (colours[triangles].mean(1) * shade[:, None]).clip(0, 1)).astype(np.uint8)
    corners = at[triangles].reshape(len(triangles), 6)
    for i in np.argsort(depth[triangles].mean(1)):
        draw.polygon(corners[i].tolist(), fill=tuple(int(c) for c in paint[i]))
    return picture.resize((width, max(1, round(tall / _FINE))), Image.Resampling.LANCZOS)


def cortex_picture(
    surfaces: Mapping[str, Tensor], faces: Tensor, rows: Sequence[tuple[str, Tensor]], *, hemisphere: str = "left",
    sulc: Tensor | None = None, mask: Tensor | None = None, limit: float | None = None, width: int = 360,
) -> Image.Image:  # fmt: skip
    """Maps of the same cortex below each other, each from outside and inside, inflated, and flat where there is such a surface.

    Args:
        surfaces: coordinates by name: "inflated", or else "pial", and "flat".
        faces: (T, 3).
        rows: a title and (V,) numbers each. All share one limit, unless each is to have its own.
        hemisphere, sulc, mask: as in `cortex_view`.
        limit: as in `cortex_view`; None: each row has its own, which its title says.
        width: of one view in pixels.

    Raises:
        InputError: as in `cortex_view`; or there is nothing to draw.
    """
    body = surfaces.get("inflated", surfaces.get("pial"))
    if body is None or not rows:
        raise InputError("A picture of a cortex needs an 'inflated' or a 'pial' surface, and at least one row.")
    lines = []
    for title, values in rows:
        top = limit if limit is not None else _limit(values, mask)
        views = [
            cortex_view(body, faces, values, side=side, hemisphere=hemisphere, sulc=sulc, mask=mask, limit=top, width=width)
            for side in ("lateral", "medial")
        ]
        if "flat" in surfaces:
            inside = _within(surfaces["flat"], faces, mask)
            views.append(
                cortex_view(
                    surfaces["flat"], inside, values, side="flat", hemisphere=hemisphere, sulc=sulc, mask=mask, limit=top,
                    width=width,
                )
            )  # fmt: skip
        lines.append((f"{title}   (full colour: ±{top:.3g})", views))
    return _stacked(lines)


def _stacked(lines: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    wide = max(sum(v.width + _GAP for v in views) + _GAP for _, views in lines)
    heights = [max(v.height for v in views) + _TITLE + 2 * _GAP for _, views in lines]
    whole = Image.new("RGB", (wide, sum(heights)), "white")
    draw, font, y = ImageDraw.Draw(whole), load_font("", 14), 0
    for (title, views), height in zip(lines, heights, strict=True):
        draw.text((_GAP, y + _GAP // 2), title, fill=(40, 40, 40), font=font)
        x = _GAP
        for view in views:
            whole.paste(view, (x, y + _TITLE + _GAP + (height - _TITLE - 2 * _GAP - view.height) // 2))
            x += view.width + _GAP
        y += height
    return whole


def _limit(values: Tensor, mask: Tensor | None) -> float:
    chosen = values if mask is None else values[mask]
    return heat_limit(chosen.reshape(1, -1))


def _within(flat: Tensor, faces: Tensor, mask: Tensor | None) -> Tensor:
    """Triangles of a flat map that are in it: those of the wall, and those that its cuts tear apart, are left out."""
    kept = faces if mask is None else faces[mask[faces].all(1)]
    corners = flat[kept].double()
    longest = (corners - corners.roll(1, 1)).norm(dim=2).amax(1)
    return kept[longest < 6 * longest.median()]


def _turned(points: _Array, side: str, hemisphere: str) -> tuple[_Array, _Array]:
    """Where each vertex is drawn (V, 2), up is up, and how near it is (V,)."""
    x, y, z = points.T
    outside = -1 if hemisphere == "left" else 1  # where the outer side looks, along x
    along = {"lateral": outside, "medial": -outside}.get(side, 0)
    if along:
        return np.stack([along * y, z], 1), along * x
    return {
        "flat": (np.stack([x, y], 1), np.zeros_like(x)), "dorsal": (np.stack([x, y], 1), z),
        "ventral": (np.stack([-x, y], 1), -z), "anterior": (np.stack([-x, z], 1), y), "posterior": (np.stack([x, z], 1), -y),
    }[side]  # fmt: skip


def _shading(points: _Array, triangles: _Array, side: str, hemisphere: str) -> _Array:
    """Light from where one looks: (T,) 1 for a triangle that faces it."""
    a, b, c = (points[triangles[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    facing = np.abs(_turned(normal, side, hemisphere)[1])
    shaded: _Array = _AMBIENT + (1 - _AMBIENT) * facing
    return shaded


def _colours(count: int, values: Tensor | None, sulc: Tensor | None, mask: Tensor | None, limit: float | None) -> _Array:
    """(V, 3) in [0, 1]."""
    grey = np.full(count, _LIGHT) if sulc is None else np.where(sulc.numpy() > 0, _DARK, _LIGHT)
    base = np.repeat(grey[:, None], 3, 1)
    if values is not None:
        numbers = values.detach().double().numpy()
        top = limit if limit is not None else _limit(values, mask)
        strength = np.minimum(1, np.abs(numbers) / max(top, 1e-300))[:, None]
        base = base * (1 - strength) + heat_colours(numbers, top) * strength
    if mask is not None:
        base[~mask.numpy()] = _OFF
    return base


def _check(coordinates: Tensor, faces: Tensor, values: Tensor | None, side: str, hemisphere: str) -> None:
    if side not in SIDES:
        raise InputError(f"side must be one of {', '.join(SIDES)}, not {side!r}.{hint(str(side), SIDES)}")
    if hemisphere not in ("left", "right"):
        raise InputError(f"A hemisphere is 'left' or 'right', not {hemisphere!r}.")
    if coordinates.dim() != 2 or coordinates.shape[1] != 3 or faces.dim() != 2 or faces.shape[1] != 3:
        raise InputError(f"Expected vertices (V, 3) and triangles (T, 3), got {tuple(coordinates.shape)}, {tuple(faces.shape)}.")
    if values is not None and values.shape != coordinates.shape[:1]:
        raise InputError(f"Expected {len(coordinates)} numbers, one a vertex, got shape {tuple(values.shape)}.")
