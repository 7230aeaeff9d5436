"""Preprocessing: equal to torchvision's pipeline, its settings checked, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError
from torchbcos.pictures import Preprocess, Seen

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth structure with noise on it: resizing errors and shifts by one pixel both show."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = np.stack([np.sin(x / 7), np.cos(y / 5), np.sin((x + y) / 11)], -1) * 90 + 128
    return Image.fromarray(np.clip(planes + draw.normal(0, 25, planes.shape), 0, 255).astype(np.uint8))


def reference(p: Preprocess, image: Any) -> torch.Tensor:
    """The same settings in torchvision."""
    v1 = pytest.importorskip("torchvision.transforms")
    mode = {"bilinear": v1.InterpolationMode.BILINEAR, "bicubic": v1.InterpolationMode.BICUBIC}[p.interpolation]
    steps: list[Callable[[Any], Any]] = [v1.Resize(p.resize, mode, antialias=True)] if p.resize else []
    steps += [v1.CenterCrop(p.crop)] if p.crop else []
    steps += [v1.PILToTensor(), v1.ConvertImageDtype(torch.float)] if isinstance(image, Image.Image) else []
    if p.encoding == "normalize":
        steps += [v1.Normalize(p.mean, p.std)]
    else:
        steps += [lambda x: torch.cat([x, 1 - x], dim=-3)]
    out: torch.Tensor = v1.Compose(steps)(image)
    return out


SIZES = [(1, 1), (1, 9), (33, 47), (47, 33), (223, 225), (225, 223), (224, 224), (300, 301), (640, 427), (97, 501)]
SETTINGS = [
    Preprocess(resize=256, crop=224),
    Preprocess(resize=256, crop=224, encoding="normalize", mean=MEAN, std=STD),
    Preprocess(resize=61),
    Preprocess(crop=64),
    Preprocess(crop=65),
    Preprocess(resize=50, crop=81),
    Preprocess(resize=57, crop=32, interpolation="bicubic"),
    Preprocess(),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("p", SETTINGS, ids=str)
def test_equal_to_torchvision(p: Preprocess, size: tuple[int, int]) -> None:
    image = photo(*size)
    x, expected = p(image), reference(p, image)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert x.shape == expected.shape
    assert (x - expected).abs().max() <= 1e-6
    if p.interpolation == "bilinear":
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        assert (p(tensor) - reference(p, tensor)).abs().max() <= 1e-6


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    resize=st.none() | st.integers(1, 70),
    crop=st.none() | st.integers(1, 70),
)
def test_sizes_and_offsets_round_as_torchvision_rounds(width: int, height: int, resize: int | None, crop: int | None) -> None:
    p, image = Preprocess(resize=resize, crop=crop), photo(width, height)
    expected = reference(p, image)
    assert p(image).shape == expected.shape
    assert (p(image) - expected).abs().max() <= 1e-6


@pytest.mark.parity
def test_equal_to_the_official_transform() -> None:
    presets = pytest.importorskip("bcos.data.presets")
    for size in [(33, 47), (500, 375), (224, 300)]:
        image = photo(*size)
        official = presets.ImageNetClassificationPresetEval(crop_size=224, resize_size=256, is_bcos=True)
        assert (Preprocess(resize=256, crop=224)(image) - official(image)).abs().max() <= 1e-6


def test_a_small_picture_gets_a_black_border_before_it_is_encoded() -> None:
    x = Preprocess(crop=4)(Image.new("RGB", (2, 1), (255, 255, 255)))
    assert x[:3, 0].eq(0).all()
    assert x[3:, 0].eq(1).all()
    assert x[0].sum() == 2
    assert torch.equal(x, Preprocess(crop=4)(torch.ones(3, 1, 2)))


def test_bicubic_tensors_stay_in_range() -> None:
    x = Preprocess(resize=40, interpolation="bicubic")(torch.rand(3, 9, 9).round())
    assert x.min() >= 0
    assert x.max() <= 1


def test_gradients_reach_the_picture() -> None:
    x = torch.rand(3, 12, 10, requires_grad=True)
    before = x.detach().clone()
    Preprocess(resize=8, crop=8)(x)[:3].sum().backward()
    assert x.grad is not None
    assert float(x.grad.sum()) > 0
    assert torch.equal(x, before)


def test_a_batch_is_its_pictures() -> None:
    p = Preprocess(resize=20, crop=16)
    images = [photo(30, 21), photo(18, 40, 1), torch.rand(3, 25, 25)]
    assert torch.equal(p.batch(images), torch.stack([p(image) for image in images]))
    assert p.batch(photo(30, 21)).shape == (1, 6, 16, 16)
    assert p.batch(torch.rand(2, 3, 30, 20)).shape == (2, 6, 16, 16)


def test_pictures_of_two_sizes_make_no_batch() -> None:
    text = "images[0] is 9 x 7 pixels, images[2] 9 x 8. Set crop, or give them one at a time."
    with pytest.raises(InputError, match=re.escape(text)):
        Preprocess().batch([photo(9, 7), photo(9, 7), photo(9, 8)])
    with pytest.raises(InputError, match="images is empty"):
        Preprocess(crop=4).batch([])


def test_an_extreme_shape_is_refused_before_memory_is_taken() -> None:
    for image in (Image.new("RGB", (1, 20_000)), torch.zeros(3, 20_000, 1)):
        with pytest.raises(InputError, match="of 1 x 20000 pixels would become 256 x 5120000"):
            Preprocess(resize=256, crop=224)(image)


@pytest.mark.parametrize("p", SETTINGS[:2], ids=["add_inverse", "normalize"])
def test_decoding_gives_the_colours_back(p: Preprocess) -> None:
    x = p(photo(300, 260))[None]
    plain = Preprocess(resize=256, crop=224)(photo(300, 260))[None, :3]
    assert (p.decode(x) - plain).abs().max() <= 1e-6
    assert p.decode(x * 50).max() <= 1
    assert p.channels == x.shape[1]


@pytest.mark.parametrize("space", [(5,), (4, 3), (2, 3, 4)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("p", [SETTINGS[0], SETTINGS[1], Preprocess(encoding="none")], ids=["add_inverse", "normalize", "none"])
def test_encoding_and_the_way_back_for_any_channels_and_space(p: Preprocess, channels: int, space: tuple[int, ...]) -> None:
    pixels = torch.rand(2, channels, *space)
    if p.encoding == "normalize" and channels != 3:
        for refused in (lambda: p.encode(pixels, dim=1), lambda: p.array(pixels[0]), lambda: p.channels_of(channels)):
            with pytest.raises(InputError, match=rf"for three channels, and here are {channels}: encoding='none' takes"):
                refused()
        return
    x = p.encode(pixels, dim=1)
    assert x.shape == (2, p.channels_of(channels), *space)
    assert torch.equal(x[0], p.encode(pixels[0]))
    assert (p.decode(x) - pixels).abs().max() <= 1e-6
    expected = {"add_inverse": torch.cat([pixels, 1 - pixels], 1), "none": pixels}.get(p.encoding)
    if expected is None:
        expected = (pixels - torch.tensor(MEAN).view(3, *[1] * len(space))) / torch.tensor(STD).view(3, *[1] * len(space))
    torch.testing.assert_close(x, expected)


def test_pictures_that_no_encoding_changes() -> None:
    x = Preprocess(crop=4, encoding="none")(photo(9, 7))
    assert torch.equal(x, Preprocess(crop=4)(photo(9, 7))[:3])


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (torch.zeros(2, 3, 4, 4), InputError, "decode needs a float batch (N, 6, H, W) encoded by 'add_inverse'"),
        (torch.zeros(6, 4), InputError, "got (6, 4) of torch.float32"),
        (torch.zeros(2, 6, 4, 4, dtype=torch.uint8), InputError, "torch.uint8"),
        (np.zeros((2, 6, 4, 4)), ArgumentTypeError, "decode needs a torch.Tensor, got ndarray"),
    ],
)
def test_what_cannot_be_decoded(x: Any, error: type[BcosError], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        Preprocess().decode(x)


@pytest.mark.parametrize("p", SETTINGS, ids=str)
def test_settings_survive_json(p: Preprocess) -> None:
    again = Preprocess.from_dict(json.loads(json.dumps(p.to_dict())))
    assert again == p
    assert hash(again) == hash(p)


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"resise": 256}, InputError, "Preprocessing has no setting 'resise'. Did you mean 'resize'? Known: "),
        ({"resize": 0}, InputError, "resize must lie between 1 and 8192 pixels, got 0."),
        ({"crop": 9000}, InputError, "crop must lie between 1 and 8192 pixels, got 9000."),
        ({"crop": 224.0}, ArgumentTypeError, "crop must be a whole number of pixels or None, got 224.0."),
        ({"crop": True}, ArgumentTypeError, "crop must be a whole number"),
        ({"encoding": "add-inverse"}, InputError, "got 'add-inverse'. Did you mean 'add_inverse'?"),
        ({"encoding": ["normalize"]}, InputError, "encoding must be 'add_inverse' or 'normalize'"),
        ({"interpolation": "bilinera"}, InputError, "Did you mean 'bilinear'?"),
        ({"encoding": "normalize"}, InputError, "encoding='normalize' needs mean and std"),
        ({"encoding": "normalize", "mean": MEAN}, InputError, "needs mean and std"),
        ({"mean": MEAN, "std": STD}, InputError, "mean and std belong to encoding='normalize'"),
        ({"encoding": "none", "std": STD}, InputError, "mean and std belong to encoding='normalize'; encoding='none' uses"),
        ({"encoding": "normalize", "mean": MEAN, "std": (1, 0, 1)}, InputError, "std must be above 0"),
        ({"encoding": "normalize", "mean": (1, 2), "std": STD}, InputError, "mean must be three finite numbers"),
        ({"encoding": "normalize", "mean": "abc", "std": STD}, ArgumentTypeError, "mean must be three numbers"),
        ({"encoding": "normalize", "mean": [0, 0, float("nan")], "std": STD}, InputError, "three finite numbers"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], error: type[BcosError], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        Preprocess.from_dict(values)


def test_from_dict_needs_a_mapping() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Preprocess\.from_dict needs a mapping, got list"):
        Preprocess.from_dict([("crop", 3)])  # type: ignore[arg-type]


def test_what_is_no_picture_is_refused() -> None:
    for wrong in (3, None, [photo(4, 4)]):
        with pytest.raises(ArgumentTypeError, match="image must be a path, a PIL image"):
            Preprocess()(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=re.escape("images[1] holds NaN")):
        Preprocess().batch([photo(4, 4), torch.full((3, 4, 4), float("nan"))])


# -- what is seen, and letterboxes -------------------------------------------------------------------------------------

sides = st.integers(1, 300)


@given(sides, sides, st.integers(1, 200))
def test_what_is_said_to_be_seen_is_what_is_seen(width: int, height: int, crop: int) -> None:
    """White outside the box leaves no white in what the network gets, and the box is the share of the area."""
    p = Preprocess(crop=crop)
    seen = p.seen(width, height)
    left, top, right, bottom = seen.box
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[top:bottom, left:right] = 0
    assert float(p.place(Image.fromarray(pixels)).max()) == 0
    assert seen.share == pytest.approx((right - left) * (bottom - top) / (width * height))
    pixels[top:bottom, left:right], pixels[:top], pixels[bottom:] = 255, 0, 0
    pixels[:, :left], pixels[:, right:] = 0, 0
    assert float(p.place(Image.fromarray(pixels)).sum()) == 3 * (right - left) * (bottom - top)


@given(sides, sides, st.integers(1, 99), st.integers(1, 99))
def test_the_box_is_in_pixels_of_the_picture_whatever_it_is_resized_to(width: int, height: int, resize: int, crop: int) -> None:
    p = Preprocess(resize=resize, crop=crop)
    seen, (w, h) = p.seen(width, height), p._frame.resized(width, height)
    assert seen.share == pytest.approx(min(crop, w) * min(crop, h) / (w * h))
    left, top, right, bottom = seen.box
    assert 0 <= left <= right <= width and 0 <= top <= bottom <= height
    assert abs((right - left) - width * min(crop, w) / w) <= 1 and abs((bottom - top) - height * min(crop, h) / h) <= 1
    assert abs((left + right) - width) <= 2 + width / w and abs((top + bottom) - height) <= 2 + height / h  # the centre


@pytest.mark.parametrize(
    ("fit", "share", "note"),
    [
        ("crop", 1.0, ""), ("crop", 0.995, ""), ("crop", 0.98, "centre crop, 98 % of the picture"),
        ("crop", 0.0042, "centre crop, 0.42 % of the picture"), ("letterbox", 1.0, "whole picture, letterboxed"),
        ("squash", 1.0, "whole picture, squashed to a square"),
        ("squash", 0.5, "squashed to a square, centre crop, 50 % of the picture"),
    ],
)  # fmt: skip
def test_the_words(fit: str, share: float, note: str) -> None:
    assert Seen(fit=fit, share=share, box=(0, 0, 1, 1)).note == note


@given(sides, sides, st.integers(1, 64), st.sampled_from(["add_inverse", "normalize", "none"]), st.booleans())
def test_a_letterbox_holds_the_whole_picture(width: int, height: int, crop: int, encoding: Any, tensor: bool) -> None:
    """Red pictures: red stands in the middle, with the picture's aspect, and bars of least norm around it."""
    moments = {"mean": MEAN, "std": STD} if encoding == "normalize" else {}
    p = Preprocess(resize=99, crop=crop, encoding=encoding, fit="letterbox", **moments)  # type: ignore[arg-type]
    red = torch.tensor([1.0, 0.0, 0.0])
    image = red.reshape(3, 1, 1).expand(3, height, width) if tensor else Image.new("RGB", (width, height), "#ff0000")
    square = p.place(image)
    assert square.shape == (3, crop, crop) and p.seen(width, height).share == 1 and p.seen(width, height).fit == "letterbox"
    bars = {"normalize": torch.tensor(MEAN), "add_inverse": torch.full((3,), 0.5), "none": torch.zeros(3)}[encoding]
    is_red = (square - red[:, None, None]).abs().amax(0) < 1e-6
    assert ((square - bars[:, None, None]).abs().amax(0)[~is_red] < 1e-6).all()
    rows, columns = int(is_red.any(1).sum()), int(is_red.any(0).sum())
    assert int(is_red.sum()) == rows * columns and max(rows, columns) == crop
    assert abs(rows - max(1, height * crop / max(width, height))) <= 0.5
    assert abs(columns - max(1, width * crop / max(width, height))) <= 0.5
    first = int(is_red.any(1).int().argmax())
    assert abs(first - (crop - rows - first)) <= 1
    least = p.encode(bars[:, None, None]).norm()
    assert all(float(p.encode(torch.rand(3, 1, 1)).norm()) >= float(least) - 1e-6 for _ in range(3))


@given(sides, sides, st.integers(1, 64), st.integers(1, 64), st.booleans())
def test_a_squashed_picture_is_a_square_whatever_its_shape(width: int, height: int, resize: int, crop: int, tensor: bool) -> None:
    """Left half black, right half white: half of what is seen is white, and as much of both sides as is cut."""
    p = Preprocess(resize=resize, crop=crop, encoding="none", fit="squash")
    image: Any = torch.zeros(3, height, width) if tensor else Image.new("RGB", (width, height))
    assert p._frame.resized(width, height) == (resize, resize) and p(image).shape == (3, crop, crop)
    seen, share = p.seen(width, height), min(crop, resize) / resize
    assert seen.fit == "squash" and seen.share == pytest.approx(share**2)
    left, top, right, bottom = seen.box
    assert abs((right - left) - width * share) <= 1.5 and abs((bottom - top) - height * share) <= 1.5


def test_squashed_as_pillow_does_it() -> None:
    image = photo(50, 30)
    wanted = torch.from_numpy(np.array(image.resize((20, 20), Image.Resampling.BILINEAR))).permute(2, 0, 1).float() / 255
    assert torch.equal(Preprocess(resize=20, crop=20, encoding="none", fit="squash")(image), wanted)
    whole = Preprocess(fit="squash", encoding="none")  # without a size: the picture as it is
    assert torch.equal(whole(image), Preprocess(encoding="none")(image))


def test_a_letterbox_without_a_crop_is_the_picture() -> None:
    a, b = Preprocess(resize=20, fit="letterbox"), Preprocess(resize=20)
    assert torch.equal(a(photo(50, 30)), b(photo(50, 30))) and a.seen(50, 30) == b.seen(50, 30)


def test_cards_name_a_letterbox_and_nothing_new_otherwise() -> None:
    assert "fit" not in Preprocess(crop=8).to_dict()
    boxed = Preprocess(crop=8, fit="letterbox")
    assert boxed.to_dict()["fit"] == "letterbox" and Preprocess.from_dict(boxed.to_dict()) == boxed
    with pytest.raises(
        InputError, match=r"fit must be 'crop' or 'letterbox' or 'squash', got 'leterbox'\. Did you mean 'letterbox'"
    ):
        Preprocess(fit="leterbox")  # type: ignore[arg-type]


# -- other channels and axes -------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 3), st.sampled_from(["add_inverse", "normalize", "none"]), st.integers(0, 99))
def test_decoding_undoes_encoding_for_all_channels_and_axes(channels: int, axes: int, encoding: Any, seed: int) -> None:
    draw = np.random.default_rng(seed)
    moments = {"mean": tuple(draw.random(channels)), "std": tuple(draw.random(channels) + 0.1)} if encoding == "normalize" else {}
    p = Preprocess(raw_channels=channels, axes=axes, encoding=encoding, **moments)
    pixels = torch.from_numpy(draw.random((2, channels, *(3, 4, 5)[:axes]))).float()
    x = p.encode(pixels, dim=1)
    assert x.shape[1] == p.channels and (p.decode(x) - pixels).abs().max() <= 1e-5
    assert torch.equal(p.batch(list(pixels)), x)
    assert Preprocess.from_dict(json.loads(json.dumps(p.to_dict()))) == p


def test_cards_name_nothing_new_for_pictures_of_three_colours() -> None:
    assert list(Preprocess(crop=8).to_dict()) == ["resize", "crop", "encoding", "mean", "std", "interpolation"]
    p = Preprocess(raw_channels=2, axes=1, value_range=(0, 4095))
    assert {"raw_channels": 2, "axes": 1, "value_range": [0.0, 4095.0]}.items() <= p.to_dict().items()


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"raw_channels": 0}, InputError, "raw_channels must lie between 1 and 4096, got 0."),
        ({"raw_channels": 1.0}, ArgumentTypeError, "raw_channels must be a whole number, got 1.0."),
        ({"axes": 4}, InputError, "axes must lie between 1 and 3, got 4."),
        ({"axes": True}, ArgumentTypeError, "axes must be a whole number, got True."),
        ({"value_range": (3, 1)}, InputError, "value_range must be two finite numbers"),
        ({"axes": 1, "crop": 8}, InputError, "resize and crop are for pictures, of two axes; signals (axes=1) have neither."),
        ({"axes": 3, "resize": 8}, InputError, "volumes (axes=3) have neither."),
        (
            {"raw_channels": 2, "encoding": "normalize", "mean": MEAN, "std": STD},
            InputError,
            "mean must be 2 finite numbers, one a channel",
        ),
    ],
)
def test_wrong_channels_and_axes_are_refused(values: dict[str, Any], error: type[BcosError], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        Preprocess.from_dict(values)


def test_what_was_placed_stands_for_its_picture() -> None:
    preprocess, photo = Preprocess(resize=8, crop=8), Image.effect_noise((24, 11), 60).convert("RGB")
    placed = preprocess.placed(photo)
    assert torch.equal(preprocess.batch([placed, photo]), preprocess.batch([photo, placed]))
    assert torch.equal(preprocess.batch(placed), preprocess.batch(photo))
    assert preprocess.look([("a", placed)])[1] == preprocess.look([("a", photo)])[1]
