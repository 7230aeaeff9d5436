"""Explanations as values: joined, cut, moved, shown; what is computed once."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.explanation import Explanation, drawn
from torchbcos.pictures import Seen
from torchbcos.rendering import Caption, sheet
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
    e = dataclasses.replace(e, inputs=(e.inputs - 0.5) / 0.2)  # normalised: its numbers are no shades
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


# -- what panels and notebooks say -------------------------------------------------------------------------------------


def shown_png(e: Explanation) -> Image.Image:
    data = e._repr_png_()
    assert data is not None
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("n", "k", "heading"), [
    (1, 1, None), (2, 2, "All 4 explanations (2 pictures x 2 classes)"), (3, 1, "All 3 explanations (3 pictures)"),
    (10, 2, "The first 6 of 20 explanations (10 pictures x 2 classes)"),
])  # fmt: skip
def test_a_notebook_shows_all_or_says_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch, n: int, k: int, heading: str | None
) -> None:  # fmt: skip
    e = explanation(n)
    e = dataclasses.replace(e, targets=e.targets[:, :k], values=e.values[:, :k], weights=e.weights[:, :k],
                            constants={name: c[:, :k] for name, c in e.constants.items()})  # fmt: skip
    said: list[str] = []
    monkeypatch.setattr(drawn, "sheet", lambda panels, text: said.append(text) or sheet(panels, text))
    shown, one = shown_png(e), e.panel()
    count = min(n * k, 6)
    assert shown.height == (one.height if heading is None else 62 + sum(e.panel(*divmod(i, k)).height for i in range(count)))
    assert [text.partition(":")[0] for text in said] == ([] if heading is None else [heading])


def caption(e: Explanation, i: int = 0, k: int = 0) -> Caption:
    return e._caption(i, k)


def test_the_classes_of_the_question_have_their_probability() -> None:
    outputs = torch.tensor([[4.0, 3.0, 2.0, -1.0, -2.0]])
    e = explanation(
        1, outputs=outputs, targets=torch.tensor([[3, 0]]), contrast=torch.tensor([[4, 4]]), class_names=list("abcde")
    )
    assert [name for name, _ in caption(e).predictions] == ["a", "b", "c", "d", "e"]
    assert dict(caption(e).predictions)["e"] == pytest.approx(float(torch.sigmoid(torch.tensor(-2.0))))
    assert [name for name, _ in caption(e, k=1).predictions] == ["a", "b", "c", "e"]
    channel = dataclasses.replace(e, at="layer1", targets=torch.tensor([[3, 77]]))
    assert caption(channel, k=1).explained == "layer1[77]" and [n for n, _ in caption(channel).predictions] == ["a", "b", "c"]


def test_names_that_no_font_has_are_called_by_their_number() -> None:
    e = explanation(1, class_names=["\ue000\ue001", "\u202e", "c", "d", "e"], contrast=torch.tensor([[1, 1]]))
    found = caption(e)
    assert (found.explained, found.contrast) == ("class 0 (name not drawable)", "class 1 (name not drawable)")
    assert (
        found.question.startswith("Why 'class 0 (name not drawable)' rather than")
        and e.to_dict()["explanations"][0][0]["label"] == "\ue000\ue001"
    )


def test_what_was_seen_goes_where_its_image_goes() -> None:
    seen = [Seen(fit="crop", share=s, box=(0, 0, 1, 1)) for s in (0.3, 0.5, 1.0)]
    e = explanation().shown_with(seen=seen)
    assert [caption(e, i).note for i in range(3)] == ["centre crop, 30 % of the picture", "centre crop, 50 % of the picture", ""]
    assert caption(e[1]).note == caption(e, 1).note and Explanation.join([e[2], e[0]]).seen == (seen[2], seen[0])
    assert Explanation.join([e[0], explanation(1)]).seen == () and caption(explanation()).note == ""
    with pytest.raises(InputError, match="seen: give one for each of the 3"):
        e.shown_with(seen=seen[:1])


def test_a_volume_is_shown_slice_by_slice() -> None:
    g = torch.Generator().manual_seed(0)
    e = explanation(1, inputs=torch.rand(1, 2, 20, 12, 10, generator=g), weights=torch.randn(1, 2, 2, 20, 12, 10, generator=g))
    assert e.heatmap(slices=[7], axis=1).shape == (20, 10, 3) and e.heatmap().shape == (4 * 14 - 2, 4 * 12 - 2, 3)
    assert e.panel(slices=[1, 2], axis=2).size != e.panel().size
    with pytest.raises(InputError, match="from 0 to 11, of axis 1"):
        e.panel(slices=[12], axis=1)


# -- share ---------------------------------------------------------------------------------------------------------


def with_sums(pixels: float, constants: dict[str, float], fixed: tuple[str, ...] = (), value: float | None = None) -> Explanation:
    """One image of one pixel that carries `pixels`, and constants."""
    total = pixels + sum(constants.values())
    return Explanation(
        inputs=torch.ones(1, 1, 1), outputs=torch.zeros(1, 1), targets=torch.zeros(1, 1, dtype=torch.long),
        values=torch.full((1, 1), total if value is None else value), weights=torch.full((1, 1, 1, 1), pixels),
        constants={name: torch.full((1, 1), c) for name, c in constants.items()}, fixed=fixed,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pixels", "constants", "expected"),
    [
        (1e-7, {"logits.bias": -4.6}, 1.0),  # the value is the bias to seven digits: it is not subtracted
        (1e-30, {"logits.bias": 5.0}, 1.0), (-1e-7, {"logits.bias": -4.6}, 1.0), (0.0, {"logits.bias": 1.0}, None),
        (3.0, {"a": 1.0, "logits.bias": -4.6}, 0.75), (3.0, {"a": -2.0}, 3.0), (1.0, {"a": -0.9985}, None),
        (1.0, {"a": -0.997}, 1 / 0.003), (1.0, {"a": -1.0}, None), (0.0, {"a": 1.0}, 0.0), (0.0, {}, None),
    ],
)  # fmt: skip
def test_the_share_is_made_of_its_terms(pixels: float, constants: dict[str, float], expected: float | None) -> None:
    e = with_sums(pixels, constants, ("logits.bias",))
    share = e.to_dict()["explanations"][0][0]["share"]
    assert share == (expected if expected is None else pytest.approx(expected, rel=1e-3))
    assert bool(e.share.isnan()) == (expected is None)


@settings(max_examples=25, deadline=None)
@given(power=st.floats(-8, 2), biased=st.booleans(), seed=st.integers(0, 999), contrast=st.booleans())
def test_the_share_is_that_of_float64(power: float, biased: bool, seed: int, contrast: bool) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(bnn.BcosConv2d(6, 4, 3), bnn.BcosConv2d(4, 4, 1), bnn.GlobalAveragePool())
    if biased:
        model.append(bnn.TokenNorm(4)).append(bnn.Linear(4, 3))
        nn.init.normal_(model[3].bias)
    model.append(bnn.Logits(-4.6, 10.0**-power)).eval()
    x, other = torch.rand(1, 6, 6, 6), 1 if contrast else None
    found = torchbcos.explain(model, x, 0, contrast=other).share
    exact = torchbcos.explain(copy.deepcopy(model).double(), x.double(), 0, contrast=other)
    if bool(exact.share.isnan()) or bool(found.isnan()):
        return  # which side of a thousandth a rounded sum lies on
    size = exact.contributions.abs().sum() + sum(c.abs().sum() for n, c in exact.constants.items() if n not in exact.fixed)
    known = float(exact.total.abs() + sum(c.abs().sum() for n, c in exact.constants.items() if n not in exact.fixed)) / float(
        size
    )
    assert float(found) == pytest.approx(float(exact.share), rel=max(1e-3, 1e-5 / known))


def test_a_residual_that_hides_nothing_leaves_the_share_alone() -> None:
    assert float(with_sums(1e-6, {"logits.bias": -4.6}, ("logits.bias",), value=-4.6).share) == 1.0  # as float32 rounds the sum


def test_the_best_classes_of_a_caption_are_those_of_the_logits() -> None:
    e = explanation(outputs=torch.tensor([[20.0, 30.0, 40.0, 25.0, -1.0]] * 3), class_names=tuple("abcde"))
    assert [name for name, _ in e._caption(0, 0).predictions[:3]] == ["c", "b", "d"]  # in float32 all are 100 %
