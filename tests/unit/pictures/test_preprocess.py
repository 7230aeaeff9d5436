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
from torchbcos.pictures import Preprocess

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
