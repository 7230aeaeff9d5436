"""Volumes: the same numbered slices of input, map and overlay."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.rendering.test_panel import drawn, words
from torchbcos._core.errors import InputError
from torchbcos.rendering import heatmap, overlay, panel, telling_slices
from torchbcos.rendering.canvas import Letters

caption = dataclasses.replace(words, parts="voxels")
DEPTH, HEIGHT, WIDTH = 12, 20, 16


def planted() -> tuple[torch.Tensor, torch.Tensor]:
    """Voxel (7, 5, 4) and its neighbours speak for the class."""
    contributions = torch.zeros(DEPTH, HEIGHT, WIDTH)
    contributions[6:9, 4:7, 3:6] = 1.0
    return torch.full((1, DEPTH, HEIGHT, WIDTH), 0.5), contributions


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_planted_contribution_is_red_at_its_place_along_each_axis(axis: int) -> None:
    scan, contributions = planted()
    place = (7, 5, 4)
    picture = np.asarray(panel(caption, contributions, image=scan, slices=[place[axis]], axis=axis)).astype(int)
    rest = [i for i in range(3) if i != axis]
    height, width = (contributions.shape[i] for i in rest)
    scale = min(434 // height, 434 // width)
    y, x = (round((place[i] + 0.5) * scale) for i in rest)
    tiles = [36 + i * (max(width * scale, 200) + 24) for i in range(3)]
    assert picture[142 + y, tiles[0] + x].tolist() == [128, 128, 128]
    for left in tiles[1:]:
        assert picture[142 + y, left + x].tolist() == [255, 0, 0]
    assert picture[142 + height * scale - 2, tiles[1] + width * scale - 2].tolist() == [255, 255, 255]
    grey = picture[142 + height * scale - 2, tiles[2] + width * scale - 2]
    assert len(set(grey.tolist())) == 1 and 150 < grey[0] < 200


def test_rows_of_slices_stand_below_each_other() -> None:
    scan, contributions = planted()
    picture = np.asarray(panel(caption, contributions, image=scan)).astype(int)
    assert picture.shape[1] == 9 * (8 * WIDTH + 7 * 2) + 72  # eight slices, 9 times as large, with 2 pixels between them
    shown = telling_slices(contributions, most=8)
    assert len(shown) == 8 and {6, 7, 8} <= set(shown)
    tops = [142, 142 + 180 + 86, 142 + 2 * 180 + 2 * 86]  # each row has words below it
    for row, top in enumerate(tops):
        for column, number in enumerate(shown):
            red = picture[top + 5 * 9 + 4, 36 + 9 * (column * (WIDTH + 2) + 4) + 4].tolist() == [255, 0, 0]
            assert red == (row > 0 and number in (6, 7, 8))


@pytest.mark.parametrize(("spacing", "size"), [((1, 1, 1), (420, 336)), ((3, 1, 1), (420, 336)), ((1, 2, 1), (434, 174)),
                                               ((1, 1, 2), (271, 434))])  # fmt: skip
def test_voxels_have_their_shape(spacing: tuple[float, float, float], size: tuple[int, int]) -> None:
    """One slice, HEIGHT by WIDTH: the frame around the input tells its size."""
    scan, contributions = planted()
    picture = np.asarray(panel(caption, contributions, image=scan, slices=[2], spacing=spacing))
    tile = (picture[142:, 36 : 36 + 434] == 128).all(-1)
    assert (int(tile[:, 100].sum()), int(tile[3].sum())) == size
    assert (np.asarray(panel(caption, contributions, image=scan, slices=[2], facts={"spacing": list(spacing)})) == picture).all()


def test_sides_and_numbers_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    scan, contributions = planted()
    said: list[str] = []
    write = Letters.write

    def spy(self: Letters, x: float, y: float, text: str, anchor: str | None = None) -> None:
        said.append(text)
        write(self, x, y, text, anchor)

    monkeypatch.setattr(Letters, "write", spy)
    facts = {"orientation": "SPL", "window": [-160, 240], "unit": "HU"}
    found = drawn(monkeypatch, dataclasses.replace(caption, note="window -160 to 240 HU"), contributions, image=scan, facts=facts,
                  slices=[7, 2])  # fmt: skip
    assert said == ["7", "R", "L", "A", "P", "2", "R", "L", "A", "P", "7", "2", "7", "2"]
    note = " ".join(one for one in found if one.startswith(("2 of 12", "with", "window")))
    assert note == "2 of 12 slices of axis 0, from feet to head, with 33 % of all contributions, window -160 to 240 HU"
    said.clear()
    panel(caption, contributions, image=scan, facts=facts, slices=[7, 2], axis=1)
    assert said[:5] == ["7", "R", "L", "S", "I"]  # the head is above, though the rows run to it


LETTERS = ("RL", "AP", "SI")
ORIENTATIONS = [
    "".join(LETTERS[axis][end] for axis, end in zip(axes, ends, strict=True))
    for axes in itertools.permutations(range(3)) for ends in itertools.product((0, 1), repeat=3)
]  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_orientation_is_seen_as_radiologists_see_it(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head above, else the front; the patient's right at the left, else the front; input, map and letters alike."""
    tiles: list[Any] = []
    monkeypatch.setattr(
        "torchbcos.rendering.volume.fit", lambda picture, *_: tiles.append(picture) or Image.new("RGB", (400, 400))
    )
    monkeypatch.setattr(Letters, "sides", lambda self, box, ends: tiles.append(ends))
    rest = [i for i in range(3) if i != axis]
    assert len(set(ORIENTATIONS)) == 48
    for orientation in ORIENTATIONS:
        volume = torch.zeros(1, 8, 8, 8)
        index: list[Any] = [0, slice(None), slice(None), slice(None)]
        for i in rest:  # white lies in the corner of the head (front) and of the right (front)
            opposite = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
            wanted = next(
                letter for letter in ("SAR" if i == rest[0] else "RAS") if letter in (orientation[i], opposite[orientation[i]])
            )
            index[1 + i] = slice(4, 8) if orientation[i] == wanted else slice(0, 4)
        volume[tuple(index)] = 1.0
        tiles.clear()
        panel(caption, volume[0] + 1e-3, image=volume, facts={"orientation": orientation}, slices=[3], axis=axis)
        (above, below), (before, after) = tiles[1]
        scan, heat = tiles[0], tiles[2]
        assert {above, below, before, after} == {
            s for i in rest for s in next(pair for pair in LETTERS if orientation[i] in pair)
        }
        assert above in "SAR" or (above, below) == ("L", "R")  # which side lies above is nobody's custom
        assert before in "RA" or {before, after} == {"S", "I"}
        if {above, below} != {"R", "L"} and {before, after} != {"S", "I"}:
            assert scan[0, 0, 0] == 1 and scan[-1, -1, 0] == 0, orientation
            assert heat[0, 0].tolist() == [1, 0, 0] and heat[-1, -1].min() > 0.9, orientation
    tiles.clear()
    panel(caption, volume[0], image=volume, slices=[3], axis=axis)
    stored = volume[0].movedim(axis, 0)[3].numpy()
    assert np.array_equal(tiles[0][..., 0], stored)  # nothing is known: as stored


def test_slices_that_carry_most_and_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    scan, contributions = planted()
    found = drawn(monkeypatch, caption, contributions, image=scan)
    assert "8 of 12 slices of axis 0, with 100 % of all contributions" in found
    two = drawn(monkeypatch, caption, contributions, image=scan.expand(2, -1, -1, -1))
    assert "Input: mean of 2 channels" in two


def test_the_overlay_of_a_volume_has_the_slices_of_its_heat_map() -> None:
    scan, contributions = planted()
    scan[0, 3] = 0.0
    laid: np.ndarray[Any, Any] = overlay(scan, heatmap(contributions, slices=[7, 3]), slices=[7, 3])
    assert laid.shape == (HEIGHT, 2 * WIDTH + 2, 3)
    assert laid[5, 4].tolist() == [1, 0, 0] and laid[5, WIDTH + 2 + 4].tolist() == pytest.approx([0.55] * 3)
    for options, message in (({}, "overlay of a volume needs slices"), ({"slices": [7]}, "explanation must be")):
        with pytest.raises(InputError, match=message):
            overlay(scan, heatmap(contributions, slices=[7, 3]), **options)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (torch.rand(DEPTH, HEIGHT, WIDTH), {}, r"image needs contributions of shape \(H, W\), got \(12, 20, 16\)"),
        (torch.rand(1, DEPTH, HEIGHT, 5), {}, "one size, got"),
        (torch.rand(1, DEPTH, HEIGHT, WIDTH), {"slices": [12]}, "from 0 to 11, of axis 0"),
        (torch.rand(1, DEPTH, HEIGHT, WIDTH), {"axis": 3}, "axis must be 0, 1 or 2"),
        (torch.rand(1, DEPTH, HEIGHT, WIDTH), {"spacing": [1, 1]}, "spacing must be 3 numbers"),
        (torch.rand(1, DEPTH, HEIGHT, WIDTH), {"slices": [0] * 400, "scale": 8}, "ask for fewer slices or a smaller scale"),
    ],
)
def test_errors(image: torch.Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        panel(caption, torch.rand(DEPTH, HEIGHT, WIDTH), image=image, **options)
