"""A cortex from several sides: what is near hides what is far, sides are the right ones, colours are the heat map's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from torchbcos import functional
from torchbcos._core.errors import InputError
from torchbcos.rendering.cortex import SIDES, cortex_picture, cortex_view

POINTS, FACES = functional.icosphere(3)
# which half of the sphere is seen from a side, of a left hemisphere: an axis and its sign
SEEN = {"lateral": (0, -1), "medial": (0, 1), "dorsal": (2, 1), "ventral": (2, -1), "anterior": (1, 1), "posterior": (1, -1)}


def centre(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture)[picture.height // 2, picture.width // 2]


@pytest.mark.parametrize("side", SEEN)
@pytest.mark.parametrize("hemisphere", ["left", "right"])
def test_each_side_shows_its_half(side: str, hemisphere: str) -> None:
    axis, sign = SEEN[side]
    sign = -sign if hemisphere == "right" and axis == 0 else sign
    values = torch.where(POINTS[:, axis] * sign > 0, 1.0, -1.0)
    red, green, blue = (int(c) for c in centre(cortex_view(POINTS, FACES, values, side=side, hemisphere=hemisphere, width=60)))
    assert red > 200 and green < 60 and blue < 60
    red, green, blue = (int(c) for c in centre(cortex_view(POINTS, FACES, -values, side=side, hemisphere=hemisphere, width=60)))
    assert blue > 200 and green < 60 and red < 60


@pytest.mark.parametrize(("side", "hemisphere", "axis", "sign"), [
    ("lateral", "left", 1, -1), ("medial", "left", 1, 1), ("lateral", "right", 1, 1), ("dorsal", "left", 0, 1),
    ("ventral", "left", 0, -1), ("anterior", "left", 0, -1), ("posterior", "left", 0, 1),
])  # fmt: skip
def test_what_is_on_the_right_of_a_picture(side: str, hemisphere: str, axis: int, sign: int) -> None:
    values = torch.where(POINTS[:, axis] * sign > 0, 1.0, 0.0)  # red on the right half
    picture = np.asarray(cortex_view(POINTS, FACES, values, side=side, hemisphere=hemisphere, width=60)).astype(int)
    redness = picture[..., 0] - picture[..., 1]
    assert redness[:, 40:].mean() > 5 * max(1e-9, redness[:, :20].mean())


def test_up_is_up() -> None:
    values = torch.where(POINTS[:, 2] > 0, 1.0, 0.0)
    picture = np.asarray(cortex_view(POINTS, FACES, values, width=60)).astype(int)
    redness = picture[..., 0] - picture[..., 1]
    assert redness[:25].mean() > 5 * max(1e-9, redness[35:].mean())


def test_what_is_no_cortex_has_no_colour_and_sulci_are_darker() -> None:
    values, wall = torch.ones(len(POINTS)), POINTS[:, 0] > -0.5
    assert int(centre(cortex_view(POINTS, FACES, values, mask=wall, width=60)).min()) > 200
    deep = cortex_view(POINTS, FACES, sulc=torch.ones(len(POINTS)), width=60)
    high = cortex_view(POINTS, FACES, sulc=-torch.ones(len(POINTS)), width=60)
    assert int(centre(deep)[0]) < int(centre(high)[0]) - 20


def test_rows_have_titles_limits_and_a_flat_map() -> None:
    flat = torch.cat([POINTS[:, :2], torch.zeros(len(POINTS), 1, dtype=torch.float64)], 1)
    surfaces = {"inflated": POINTS, "flat": flat}
    values = torch.randn(len(POINTS), generator=torch.Generator().manual_seed(0))
    one = cortex_picture(surfaces, FACES, [("a", values)], width=50)
    two = cortex_picture(surfaces, FACES, [("a", values), ("b", -values)], width=50, limit=1.0)
    assert one.width == two.width == 3 * 62 + 12 and two.height == 2 * one.height
    assert cortex_picture({"pial": POINTS}, FACES, [("a", values)], width=50).width == 2 * 62 + 12
    with pytest.raises(InputError, match="at least one row"):
        cortex_picture(surfaces, FACES, [])


def test_errors_say_what_is_expected() -> None:
    with pytest.raises(InputError, match=f"side must be one of {', '.join(SIDES)}, not 'latreal'. Did you mean 'lateral'"):
        cortex_view(POINTS, FACES, side="latreal")
    with pytest.raises(InputError, match="'left' or 'right', not 'lh'"):
        cortex_view(POINTS, FACES, hemisphere="lh")
    with pytest.raises(InputError, match="Expected 642 numbers, one a vertex"):
        cortex_view(POINTS, FACES, torch.zeros(5))
    with pytest.raises(InputError, match=r"vertices \(V, 3\)"):
        cortex_view(POINTS[:, :2], FACES)
