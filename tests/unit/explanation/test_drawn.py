"""What panels show of explanations, and how their files are called."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import torchbcos
from tests.reference import rendering as slow
from tests.unit.explanation.test_result import explanation, tile
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, StateError
from torchbcos.explanation import Explanation, drawn
from torchbcos.pictures import Seen
from torchbcos.rendering import panel


def of_space(*space: int, raw: int = 1, seed: int = 0, paired: bool = True) -> Explanation:
    """An explanation of encoded numbers of any axes."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(2, raw, *space, generator=g)
    inputs = torch.cat([x, 1 - x], 1) if paired else x
    return explanation(2, inputs=inputs, weights=torch.randn(2, 2, inputs.shape[1], *space, generator=g))


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `rendering.panel` is called with."""
    found: list[dict[str, Any]] = []

    def spy(*arguments: Any, **more: Any) -> Image.Image:
        found.append(more)
        return panel(*arguments, **more)

    monkeypatch.setattr(drawn, "panel", spy)
    return found


def test_grey_pictures_have_four_tiles_of_one_size() -> None:
    """The network saw x and 1 - x: its input, tones, map and overlay, and the overlay is in colour over the grey scan."""
    x = torch.full((2, 2, 16, 16), 0.75)
    x[:, 1] = 0.25
    weights = torch.zeros(2, 2, 2, 16, 16)
    weights[0, 0, 0, :, 8:], weights[0, 0, 0, :, :2] = (
        1.0,
        -1.0,
    )  # bright speaks for the class on the right, against it on the left
    e = explanation(2, inputs=x, weights=weights)
    picture = e.panel()
    assert picture.width == explanation().panel().width
    tiles = [tile(picture, i) for i in range(4)]
    assert all(one.shape == (320, 320, 3) for one in tiles) and (tiles[0] == 191).all()
    left, middle, right = ([one[160, column * 20 + 10].tolist() for one in tiles] for column in (0, 5, 15))
    assert right[1:] == [[255, 255, 255], [255, 0, 0], [255, 0, 0]]  # the tone is white: bright is what it looks for
    assert left[1:] == [[250, 237, 194], [0, 0, 255], [0, 0, 255]]
    assert middle[2] == [255, 255, 255] and middle[3][0] == middle[3][1] == middle[3][2] == 210  # the scan alone, paler


def test_what_is_shown_of_other_inputs(options: list[dict[str, Any]]) -> None:
    for e, shape in (
        (of_space(8, 8), (1, 8, 8)), (of_space(8, 8, paired=False), (1, 8, 8)), (of_space(8, 8, raw=2), (2, 8, 8)),
        (of_space(8, 8, raw=5, paired=False), None), (of_space(9), (1, 9)), (of_space(9, raw=4), (4, 9)),
        (of_space(9, raw=4, paired=False), (4, 9)), (of_space(4, 5, 6), (1, 4, 5, 6)), (of_space(4, 5, 6, raw=3), (3, 4, 5, 6)),
        (of_space(4, 5, 6, raw=2, paired=False), None),
    ):  # fmt: skip
        e.panel(1)
        image = options[-1]["image"]
        assert (None if image is None else tuple(image.shape)) == shape
        assert image is None or torch.equal(image, e.inputs[1, : len(image)])
        assert (options[-1]["picture"] is not None) == (e.inputs.shape[1:] == (2, 8, 8) and drawn._paired(e.inputs[1]))


def test_pixels_of_an_ordinary_network_are_their_own_photo(options: list[dict[str, Any]]) -> None:
    """Three channels in [0, 1]: photo, signed map, and the map over the photo; normalised ones are no photo, nor is a volume."""
    e = of_space(8, 8, raw=3, paired=False)
    picture = e.panel(1)
    assert torch.equal(options[-1]["image"], e.inputs[1]) and options[-1]["picture"] is None
    photo, contributions, overlay = (tile(picture, i) for i in range(3))
    assert np.array_equal(photo[::40, ::40], (e.inputs[1].movedim(0, -1).numpy() * 255).round().astype(np.uint8))
    assert np.array_equal(contributions[::40, ::40], (e.heatmap(1) * 255).round().astype(np.uint8))
    assert not np.array_equal(overlay, contributions)
    for other in (2 * e.inputs - 1, e.inputs + 0.2, e.inputs - 0.2):
        dataclasses.replace(e, inputs=other).panel(1)
        assert options[-1]["image"] is None
    of_space(4, 5, 6, raw=3, paired=False).panel(1)
    assert options[-1]["image"] is None
    with pytest.raises(InputError, match=r"ordinary network's pixels, say no colour: use heatmap.*e\.panel\(\)"):
        e.rgba(1)


def test_the_caption_knows_how_far_contributions_cancel() -> None:
    e = of_space(8, 8, raw=3, paired=False)
    words = drawn.caption_of(e, 1, 1)
    parts = (e.weights[1, 1].double() * e.inputs[1].double()).sum(0)
    assert words.size == pytest.approx(float(parts.abs().sum()), rel=1e-5)
    assert words.contribution == pytest.approx(float(parts.sum()), rel=1e-4)


@pytest.mark.parametrize(("space", "channels"), [((8, 8), 1), ((8, 8), 4), ((9,), 2), ((4, 5, 6), 1)])
def test_photos_of_any_channels_and_axes(options: list[dict[str, Any]], space: tuple[int, ...], channels: int) -> None:
    """What a classifier decoded of an input that was normalised, say."""
    e = of_space(*space, raw=channels, paired=False)
    photos = torch.rand(2, channels, *space)
    shown = e.shown_with(photos=photos)
    shown.panel(1)
    assert torch.equal(options[-1]["image"], photos[1])
    last = [np.moveaxis(p.numpy(), 0, -1) for p in photos]
    for form in (list(photos), last, *([[p[..., 0] for p in last]] if channels == 1 else [])):
        assert torch.equal(e.shown_with(photos=form).photos, photos)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="of the explained size, " + " x ".join(map(str, space))):
        e.shown_with(photos=torch.rand(2, channels, *space[:-1], 3))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 99))
def test_a_channel_and_its_inverse_contribute_together(raw: int, length: int, seed: int) -> None:
    e = of_space(length, raw=raw, seed=seed)
    found = drawn._by_channel(e, 1, 0, drawn._input_of(e, 1))
    want = slow.folded(e.weights[1, 0].double().numpy(), e.inputs[1].double().numpy())
    assert found is not None and found.shape == (raw, length)
    np.testing.assert_allclose(found.numpy(), want, atol=1e-5)
    np.testing.assert_allclose(found.sum(0).numpy(), e.contributions[1, 0].numpy(), atol=1e-5)


def test_a_trained_kind_of_network_end_to_end() -> None:
    """A detector of one place in a signal: its bars are red there."""
    net = torch.nn.Sequential(bnn.BcosConv1d(2, 1, 5, padding=2), bnn.GlobalAveragePool()).eval()
    x = torch.full((1, 1, 60), 0.5)
    x[..., 30:35] = 1.0
    with torch.no_grad():
        next(net.parameters())[:] = torch.tensor([1.0, -1.0])[None, :, None]
    e = torchbcos.explain(net, torch.cat([x, 1 - x], 1), 0)
    assert e.contributions[0, 0].argmax() in range(30, 35) and e.panel().width == 1424


def test_facts_of_the_file_reach_the_panel(options: list[dict[str, Any]]) -> None:
    facts = {"spacing": [3.0, 1.0, 1.0], "window": [-160, 240], "unit": "HU"}
    e = of_space(4, 5, 6).shown_with(seen=[Seen(fit="crop", share=1.0, box=(0, 0, 6, 5), scan=facts)] * 2)
    e.panel(axis=1, slices=[2], spacing=[1, 1, 1])
    assert options[-1]["facts"] is facts and options[-1]["axis"] == 1 and options[-1]["spacing"] == [1, 1, 1]
    assert drawn.caption_of(e, 0, 0).note == "window -160 to 240 HU" and drawn.caption_of(e, 0, 0).parts == "voxels"


# -- originals -----------------------------------------------------------------------------------------------------


def test_the_whole_picture_with_a_frame_around_what_was_seen(tmp_path: Path) -> None:
    Image.new("RGB", (640, 320), "#00ff00").save(tmp_path / "a.png")
    seen = [Seen(fit="crop", share=0.5, box=(160, 0, 480, 320))] * 3
    e = explanation().shown_with(seen=seen)
    shown = e.shown_with(originals=[tmp_path / "a.png"] * 3)
    first = tile(shown.panel(), 0)
    assert first[80, 40].tolist() == [0, 255, 0] == first[80, 160].tolist()  # outside and inside of the frame
    assert (
        first[80, 80].tolist() == [255] * 3
        and first[80, 81].tolist() == [0x2B, 0x2F, 0x36]
        and first[200, 80].tolist() == [255] * 3
    )
    assert (tile(shown.panel(), 1) == tile(e.panel(), 1)).all() and shown.panel().size == e.panel().size
    assert shown[1:].originals == shown.originals[1:] and Explanation.join([e, shown]).originals == ()
    bare = shown.shown_with(originals=[])
    assert (np.asarray(bare.panel()) == np.asarray(e.panel())).all()
    whole = explanation().shown_with(originals=[Image.new("L", (9, 9))] * 3)  # nobody said what was seen: no frame
    assert (tile(whole.panel(), 0) == 0).all()


def test_originals_that_do_not_fit_are_refused() -> None:
    seen = [Seen(fit="crop", share=0.5, box=(160, 0, 480, 320))] * 3
    with pytest.raises(InputError, match="does not lie in the original of 100 x 100 pixels: is it the same picture"):
        explanation().shown_with(seen=seen, originals=[Image.new("RGB", (100, 100))] * 3)
    with pytest.raises(InputError, match="originals: give one for each of the 3"):
        explanation().shown_with(originals=["a.png"])


# -- files ---------------------------------------------------------------------------------------------------------


def test_all_panels_have_names_of_their_own(tmp_path: Path) -> None:
    names = ["tench", "and/or", "and or", "A", "a"]
    e = explanation(class_names=names, targets=torch.tensor([[0, 1], [2, 3], [4, 4]])).shown_with(
        titles=["x/../a.jpg", "x/../a.jpg", "\x1b[2Jb" + "é" * 300]
    )
    found = e.save_all(tmp_path / "new" / "folder")
    assert len(found) == 6 == len({path.name.casefold() for path in found}) and all(path.is_file() for path in found)
    assert all(path.parent == tmp_path / "new" / "folder" and len(path.name.encode()) <= 255 for path in found)
    assert all(path.name.isprintable() for path in found) and found[0].name.endswith(".tench.png")
    assert (np.asarray(Image.open(found[3])) == np.asarray(e.panel(1, 1))).all()
    plain = explanation(2).save_all(tmp_path, suffix=".webp")
    assert [path.name for path in plain[::2]] == ["picture-0.class-0.webp", "picture-1.class-0.webp"]
    other = explanation(1, class_names=names, contrast=torch.tensor([[1, 3]])).save_all(tmp_path)
    assert [path.name for path in other] == ["picture-0.tench-not-and-or-1.png", "picture-0.tench-not-A-3.png"]


def test_dots_in_names_make_no_two_files_one(tmp_path: Path) -> None:
    """The picture "a" of class "b.c" is called like the picture "a.b" of class "c"."""
    e = explanation(2, class_names=["b.c", "c", "x", "y", "z"], targets=torch.tensor([[0, 2], [1, 2]])).shown_with(
        titles=["a", "a.b"]
    )
    assert len({path.name for path in e.save_all(tmp_path)}) == 4


def test_errors_of_folders_and_suffixes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="Could not make the folder"):
        explanation(1).save_all(tmp_path / "file" / "below")
    with pytest.raises(InputError, match=r"suffix must be one of \.png, \.jpg"):
        explanation(1).save_all(tmp_path / "other", suffix=".gif")
    assert not (tmp_path / "other").exists()


def test_print_is_sharp_and_knows_its_size(tmp_path: Path) -> None:
    e, one = explanation(1), explanation(1).panel().size
    for name, options, times in (("a.png", {}, 1), ("b.png", {"dpi": 300}, 2), ("c.png", {"dpi": 96}, 1),
                                 ("d.jpg", {"dpi": 300, "scale": 3}, 3)):  # fmt: skip
        with Image.open(e.save(tmp_path / name, **options)) as saved:  # type: ignore[arg-type]
            assert saved.size == (one[0] * times, one[1] * times)
            dpi = options.get("dpi")
            assert ("dpi" in saved.info) == (dpi is not None) and (dpi is None or round(saved.info["dpi"][0]) == dpi)
    data = e.save(tmp_path / "why.pdf").read_bytes()
    assert data.startswith(b"%PDF-") and f"/Width {2 * one[0]}".encode() in data
    box = [float(v) for v in data.split(b"/MediaBox [ ")[1].split(b"]")[0].split()]
    assert box[2] == pytest.approx(2 * one[0] * 72 / 300, abs=0.1)
    assert data == e.save(tmp_path / "again.pdf").read_bytes()  # no date in it


def test_a_larger_scale_draws_the_same_panel() -> None:
    for e in (explanation(1), of_space(40, raw=2), of_space(4, 5, 6)):
        small, large = e.panel(), e.panel(scale=2)
        assert large.size == (2 * small.width, 2 * small.height)
        again = np.asarray(large.resize(small.size, Image.Resampling.BOX)).astype(float)
        assert np.abs(again - np.asarray(small)).mean() < 6
    for wrong in (0, 100, math.nan, "2", True):
        with pytest.raises((InputError, TypeError), match="scale must"):
            explanation(1).panel(scale=wrong)  # type: ignore[arg-type]


# -- one line ------------------------------------------------------------------------------------------------------


def test_the_representation_is_one_line() -> None:
    bias = {"a.bias": torch.zeros(2, 2)}
    x = torch.ones(2, 6, 4, 4)
    e = explanation(2, inputs=x, weights=torch.ones(2, 2, 6, 4, 4), values=torch.full((2, 2), 96.5), constants=bias)
    assert repr(e) == "Explanation of 2 pictures (6 x 4 x 4), 2 targets each, largest residual 5e-01"
    assert repr(e[0]) == "Explanation of 1 picture (6 x 4 x 4), 2 targets, largest residual 5e-01"
    assert repr(of_space(30)).startswith("Explanation of 2 signals (2 x 30), 2 targets each, largest residual ")
    assert repr(of_space(3, 4, 5)[1]).startswith("Explanation of 1 volume (2 x 3 x 4 x 5), 2 targets, ")
    assert repr(dataclasses.replace(e, at="layer1")).endswith("2 targets each, of the output of 'layer1', largest residual 5e-01")
    for odd in (e[0:0], e.to("meta"), dataclasses.replace(e, values=torch.full((2, 2), math.nan)),
                dataclasses.replace(e, weights=e.weights.requires_grad_())):  # fmt: skip
        assert repr(odd).startswith("Explanation of ") and "\n" not in repr(odd) and len(repr(odd)) < 120
    assert e[0:0]._repr_png_() is None
