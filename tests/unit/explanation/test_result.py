"""Explanations as values: joined, cut, moved, shown; what is computed once."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import torchbcos
from torchbcos._core.errors import InputError
from torchbcos.explanation import Explanation
from torchbcos.rendering.panel import MARGIN


def explanation(n: int = 3, channels: int = 6, side: int = 16, **changes: object) -> Explanation:
    g = torch.Generator().manual_seed(0)
    e = Explanation(
        inputs=torch.rand(n, channels, side, side, generator=g), outputs=torch.randn(n, 5, generator=g),
        targets=torch.zeros(n, 2, dtype=torch.long), values=torch.randn(n, 2, generator=g),
        weights=torch.randn(n, 2, channels, side, side, generator=g), constants={"a.bias": torch.ones(n, 2)},
    )  # fmt: skip
    return dataclasses.replace(e, **changes)  # type: ignore[arg-type]


# -- photos and titles ---------------------------------------------------------------------------------------------


def tile(picture: Image.Image, index: int) -> np.ndarray:
    left = MARGIN + index * 344
    return np.asarray(picture)[142 : 142 + 320, left : left + 320]


def title(picture: Image.Image) -> np.ndarray:
    """The top right corner, where the name of the file stands."""
    return np.asarray(picture)[70:100, picture.width - 300 :]


@pytest.mark.parametrize("channels", [3, 4])
def test_a_panel_shows_the_photo_whatever_the_network_saw(channels: int) -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(3, 3, 16, 16)
    e = explanation(channels=channels)
    bare, shown = e.panel(1), e.shown_with(photos=red).panel(1)
    assert shown.width > bare.width
    assert (tile(shown, 0) == [255, 0, 0]).all()
    assert tile(shown, 1).std() > 10 and tile(shown, 2).std() > 10  # contributions, and the overlay


def test_a_photo_goes_before_the_encoded_input() -> None:
    blue = [Image.new("RGB", (16, 16), "#0000ff")] * 3
    e = explanation()
    assert not (tile(e.panel(), 0) == [0, 0, 255]).all()
    assert (tile(e.shown_with(photos=blue).panel(), 0) == [0, 0, 255]).all()


def test_a_title_is_written_in_the_corner() -> None:
    e = explanation()
    assert (title(e.panel()) == 255).all()
    named = e.shown_with(titles=["a.jpg", "another.jpg", ""])
    assert (title(named.panel(0)) != 255).any() and (title(named.panel(2)) == 255).all()
    assert (title(named.panel(0)) != title(named.panel(1))).any()


def test_photos_and_titles_go_where_their_images_go() -> None:
    photos = torch.rand(3, 3, 16, 16)
    e = explanation().shown_with(photos=photos, titles=["a", "b", "c"])
    parts = [e[i] for i in range(3)]
    assert [p.titles for p in parts] == [("a",), ("b",), ("c",)]
    joined = Explanation.join(parts[::-1])
    assert joined.titles == ("c", "b", "a")
    assert joined.photos is not None and torch.equal(joined.photos, photos.flip(0))
    moved = e.to("meta")
    assert moved.photos is not None and moved.photos.device.type == "meta" and moved.titles == e.titles
    assert pickle.loads(pickle.dumps(e)).titles == e.titles
    half = Explanation.join([e[0], explanation(1)])  # one part has neither: no image gets another's
    assert half.photos is None and half.titles == ()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"titles": ["a"]}, "titles: give one for each of the 3 explained images, not 1"),
        ({"titles": "abc"}, "titles: give one for each"),
        ({"photos": torch.rand(2, 3, 16, 16)}, "photos: give one for each of the 3"),
        ({"photos": torch.rand(3, 3, 8, 16)}, "of the explained size, 16 x 16"),
        ({"photos": torch.zeros(3, 3, 16, 16, dtype=torch.uint8)}, "must be floats"),
        ({"photos": [Image.new("RGB", (16, 16)), Image.new("RGB", (8, 8)), Image.new("L", (8, 8))]}, "one size"),
    ],
)
def test_photos_and_titles_that_do_not_fit_are_refused(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        explanation().shown_with(**arguments)  # type: ignore[arg-type]


# -- joined --------------------------------------------------------------------------------------------------------


def test_join_keeps_the_fixed_constants_of_every_part() -> None:
    """A network may add a fixed bias for some pictures only."""
    bias = {"logits.bias": torch.full((3, 2), -2.0)}
    parts = [explanation(), explanation(constants=bias, fixed=("logits.bias",))]
    joined = Explanation.join(parts)
    assert joined.fixed == ("logits.bias",)
    torch.testing.assert_close(joined.share, torch.cat([p.share for p in parts]))


# -- computed once -------------------------------------------------------------------------------------------------


def test_sums_are_computed_once_where_no_graph_needs_them() -> None:
    e = explanation()
    for name in ("contributions", "total", "residual"):
        assert getattr(e, name) is getattr(e, name)
    torch.testing.assert_close(e.residual, e.values - e.contributions.flatten(2).sum(2) - 1)
    changed = dataclasses.replace(e, weights=e.weights * 2)
    torch.testing.assert_close(changed.contributions, 2 * e.contributions)
    assert torch.equal(pickle.loads(pickle.dumps(e)).contributions, e.contributions)


def test_sums_with_a_graph_are_made_anew() -> None:
    model = torch.nn.Sequential(torchbcos.nn.BcosConv2d(6, 3, 3), torchbcos.nn.GlobalAveragePool())
    e = torchbcos.explain(model, torch.rand(1, 6, 8, 8), 1, create_graph=True)
    with torch.no_grad():
        assert not e.contributions.requires_grad
    for name in ("contributions", "total", "residual"):
        getattr(e, name).sum().backward(retain_graph=True)
        getattr(e, name).sum().backward(retain_graph=True)


def test_sums_first_read_in_inference_mode_serve_everybody() -> None:
    e = explanation()
    with torch.inference_mode():
        first = e.contributions
    assert not first.is_inference()
    (e.contributions * torch.ones((), requires_grad=True)).sum().backward()
