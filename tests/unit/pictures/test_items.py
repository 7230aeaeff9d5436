"""What a caller may hand in as images, and what is refused with the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchbcos import pictures
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, MissingFileError

WHITE = (255, 255, 255)
PHOTO = Image.fromarray((np.mgrid[:40, :60, :3].sum(0) * 5 % 256).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_the_callers_picture_is_not_changed() -> None:
    image = PHOTO.copy().convert("RGBA")
    image.info["transparency"] = 3
    before = image.tobytes()
    out = pictures.to_rgb(image)
    assert (image.mode, image.tobytes(), image.info) == ("RGBA", before, {"transparency": 3})
    rgb = PHOTO.copy()
    rgb.info = {"upright": "yes"}  # a file's own note, not ours
    out = pictures.to_rgb(rgb)
    out.putpixel((0, 0), WHITE)
    assert rgb.getpixel((0, 0)) == (0, 5, 10)
    array = np.zeros((2, 2), np.uint8)
    item = pictures.as_images(array)[0]
    array[:] = 9
    assert isinstance(item, Image.Image)
    assert item.getpixel((0, 0)) == (0, 0, 0)


def test_an_image_of_ours_is_not_copied_again(tmp_path: Path) -> None:
    PHOTO.copy().save(tmp_path / "p.png")
    read = pictures.read_image(tmp_path / "p.png")
    assert pictures.to_rgb(read) is read is pictures.as_image(read)
    part = read.crop((0, 0, 5, 4))
    assert pictures.to_rgb(part) is part
    assert pictures.to_rgb(part.convert("RGBA")).mode == "RGB"
    part.info["transparency"] = (0, 5, 10)  # what the caller says afterwards is heard
    assert pictures.to_rgb(part).getpixel((0, 0)) == WHITE
    with pytest.raises(InputError, match="has no pixels"):
        pictures.to_rgb(read.crop((3, 3, 3, 3)))


def test_arrays_are_copied_once_and_never_shared() -> None:
    for shape in ((2, 2), (2, 2, 3)):
        array = np.zeros(shape, np.uint8)
        item = pictures.as_image(array)
        array[:] = 9
        assert isinstance(item, Image.Image) and item.getpixel((0, 0)) == (0, 0, 0)
        item.putpixel((0, 0), WHITE)
        assert int(array.max()) == 9


def test_an_iterator_is_taken_only_as_far_as_is_asked_for() -> None:
    taken: list[int] = []
    named = pictures.named_items(taken.append(i) or f"{i}.png" for i in range(9))  # type: ignore[func-returns-value]
    assert [next(named), next(named)] == [("images[0]", "0.png"), ("images[1]", "1.png")] and taken == [0, 1]
    with pytest.raises(InputError, match="images is empty"):
        pictures.named_items(iter(()))
    with pytest.raises(ArgumentTypeError, match="images must be a path"):
        pictures.named_items(3)


def test_every_accepted_form_is_one_picture_each(tmp_path: Path) -> None:
    PHOTO.copy().save(tmp_path / "p.png")
    colour = np.asarray(PHOTO.copy())
    tensor = torch.from_numpy(colour.copy()).permute(2, 0, 1) / 255
    forms: list[object] = [str(tmp_path / "p.png"), tmp_path / "p.png", PHOTO.copy(), colour, tensor, tensor.double()]
    for form in forms:
        (item,) = pictures.as_images(form)
        got = item.permute(1, 2, 0).numpy() * 255 if isinstance(item, torch.Tensor) else pixels(item)
        assert np.abs(got - colour).max() < 1e-4
        assert not isinstance(item, torch.Tensor) or item.dtype == torch.float32
    assert len(pictures.as_images(forms)) == len(forms)
    assert len(pictures.as_images(tuple(forms[:2]))) == 2
    grey = pictures.as_images(colour[..., 0])[0]
    assert isinstance(grey, Image.Image)
    assert np.array_equal(pixels(grey)[..., 2], colour[..., 0])
    assert [item.size for item in pictures.as_images(np.stack([colour] * 3))] == [(60, 40)] * 3
    assert [tuple(item.shape) for item in pictures.as_images(torch.stack([tensor] * 2))] == [(3, 40, 60)] * 2


def test_items_are_split_without_reading() -> None:
    assert pictures.as_items(["missing.jpg", Path("b.png")]) == ["missing.jpg", Path("b.png")]


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        ([], InputError, "images is empty: give at least one picture."),
        (torch.zeros(0, 3, 4, 4), InputError, "images is empty"),
        (np.zeros((0, 4, 4, 3), np.uint8), InputError, "images is empty"),
        (None, ArgumentTypeError, "images must be a path, a PIL image, an (H, W[, 3]) uint8 array"),
        (3, ArgumentTypeError, "got int."),
        (b"a.jpg", ArgumentTypeError, "got bytes."),
        ([PHOTO.copy(), 3.5], ArgumentTypeError, "images[1] must be a path"),
        ([[PHOTO.copy()]], ArgumentTypeError, "images[0] must be a path, a PIL image"),
        (np.zeros((4, 4, 3), np.float32), InputError, "got float32. Use (255 * a).round().astype('uint8')."),
        (
            np.zeros((4, 4), np.uint16),
            InputError,
            "got uint16. Say which numbers are black and white: value_range=(0, 65535), or",
        ),
        (np.zeros((4, 4), bool), InputError, "got bool. Use a.astype('uint8') * 255."),
        (np.zeros((4, 4), object), InputError, "got object."),
        (np.zeros((3, 4, 5), np.uint8), InputError, "got (3, 4, 5). Channels come last: use a.transpose(1, 2, 0)."),
        (np.zeros((4, 5, 4), np.uint8), InputError, "For an alpha channel give PIL.Image.fromarray(a)."),
        (np.zeros((4, 5, 1), np.uint8), InputError, "Use a[..., 0]."),
        (np.zeros((4, 5, 2), np.uint8), InputError, "must have shape (H, W) or (H, W, 3), got (4, 5, 2)."),
        (np.zeros(4, np.uint8), InputError, "got (4,)."),
        (np.zeros((0, 5, 3), np.uint8), InputError, "image has no pixels"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), InputError, "must be a float tensor with values in [0, 1]"),
        (torch.zeros(3, 4, 4, dtype=torch.complex64), InputError, "got torch.complex64."),
        (torch.zeros(4, 5, 3), InputError, "got (4, 5, 3). Channels come first: use .permute(2, 0, 1)."),
        (torch.zeros(1, 4, 5), InputError, "Repeat a grey picture three times"),
        (torch.zeros(4, 5), InputError, "Repeat a grey picture three times"),
        (torch.zeros(4, 5, 6), InputError, "Leave out its alpha channel"),
        (torch.zeros(6, 4, 5), InputError, "Is it encoded already?"),
        (torch.zeros(2, 6, 4, 5), InputError, "images[0] must have shape (3, H, W), got (6, 4, 5)."),
        (torch.zeros(3, 0, 5), InputError, "image has no pixels"),
        (torch.full((3, 2, 2), float("nan")), InputError, "image holds NaN"),
        (torch.full((3, 2, 2), float("inf")), InputError, "values from inf to inf"),
        (torch.full((3, 2, 2), 200.0), InputError, "values from 200 to 200; a picture's lie in [0, 1]. Divide by 255."),
        (torch.full((3, 2, 2), -0.5), InputError, "Undo its normalisation, or clamp it."),
        ([PHOTO.copy(), torch.full((3, 2, 2), 1.2)], InputError, "images[1] has values from 1.2 to 1.2"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_remedy(images: object, error: type[BcosError], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        pictures.as_images(images)


def test_one_nan_among_numbers_is_found() -> None:
    x = torch.rand(3, 5, 5)
    x[1, 2, 3] = float("nan")
    with pytest.raises(InputError, match="holds NaN"):
        pictures.as_images(x)


def test_wrong_types_for_single_functions() -> None:
    with pytest.raises(ArgumentTypeError, match=r"to_rgb needs a PIL\.Image\.Image, got str"):
        pictures.to_rgb("a.jpg")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"A path must be a str or a pathlib\.Path, got int"):
        pictures.read_image(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no pixels"):
        pictures.to_rgb(Image.new("RGB", (0, 4)))
    with pytest.raises(MissingFileError, match=r"'p\.jpeg' does not exist"):
        pictures.as_images([PHOTO.copy(), "p.jpeg"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_what_resampling_puts_beyond_is_cut(dtype: torch.dtype) -> None:
    for mode in ("bilinear", "bicubic"):
        x = torch.nn.functional.interpolate(torch.ones(2, 3, 9, 7), (31, 23), mode=mode, antialias=True).to(dtype)
        assert all(float(image.max()) <= 1 for image in pictures.as_images(x))  # type: ignore[arg-type]
    beyond = torch.tensor([-9e-4, 0.5, 1.0009], dtype=dtype, requires_grad=True).expand(3, 1, 3)
    (image,) = pictures.as_images(beyond)
    assert isinstance(image, torch.Tensor) and image.requires_grad and image[0, 0].tolist() == [0, 0.5, 1]
    with pytest.raises(InputError, match=re.escape("has values from 0.5 to 1.002; a picture's")):
        pictures.as_images(torch.tensor([0.5, 0.6, 1.002], dtype=torch.float64).expand(3, 1, 3))
