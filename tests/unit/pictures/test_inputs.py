"""One input of a classifier: every kind of item, every number of channels and axes, and what fits into neither."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError
from torchbcos.pictures import Preprocess, Scan, read_image
from torchbcos.pictures.samples import heard, other_range

SPACE = {1: (7,), 2: (5, 6), 3: (4, 5, 6)}


def shaped(channels: int, axes: int) -> tuple[int, ...]:
    return (channels, *SPACE[axes])


def numbers_of(read: object, limits: tuple[float, float] | None) -> torch.Tensor:
    """What was read: numbers, or a scan that names its range."""
    if limits is None:
        assert isinstance(read, torch.Tensor)
        return read
    assert isinstance(read, Scan) and read.facts == {"window": list(limits)}
    return read.pixels


@settings(deadline=None)
@given(
    channels=st.integers(1, 4), axes=st.integers(1, 3), kind=st.sampled_from(["f4", "f8", "f2", ">f4", "u1", "?", "u2", "i4"]),
    bare=st.booleans(), said=st.booleans(), kept=st.booleans(),
)  # fmt: skip
@heard()  # of 200 among 4095 it is said that they are dark
def test_a_file_is_its_array_is_its_tensor(
    tmp_path_factory: pytest.TempPathFactory, channels: int, axes: int, kind: str, bare: bool, said: bool, kept: bool
) -> None:
    """To the bit; the range of the card is that of a caller who gives it."""
    dtype = np.dtype(kind)
    whole = dtype.kind in "ui" and kind != "u1"
    limits = (0.0, 4095.0) if said or whole else None
    shape = shaped(channels, axes)[1:] if bare and channels == 1 else shaped(channels, axes)
    draw = np.random.default_rng(3)
    array = draw.random(shape) if dtype.kind == "f" else draw.integers(0, 2 if kind == "?" else 200, shape)
    array = (array * 5000 if limits and dtype.kind == "f" else array).astype(dtype)
    file = tmp_path_factory.getbasetemp() / "drawn.npy"
    np.save(file, array)
    p = Preprocess(raw_channels=channels, axes=axes, value_range=limits if kept else None)
    given_range = None if kept else limits
    from_file = numbers_of(p.read(file, value_range=given_range), limits)
    assert from_file.dtype == torch.float32 and tuple(from_file.shape) == shaped(channels, axes)
    tensor = torch.from_numpy(array.astype(dtype.newbyteorder("=")))
    for item in (array, tensor, np.asfortranarray(array), str(file), io.BytesIO(file.read_bytes())):
        read = p.read(item, value_range=given_range)
        assert torch.equal(numbers_of(read, limits), from_file)
        assert torch.equal(numbers_of(p.read(read), limits), from_file)  # what was read may be given again
    low, high = limits or (0, 255 if kind == "u1" else 1)
    expected = (np.clip(array.astype(np.float64), low, high) - low) / (high - low)
    assert np.abs(from_file.numpy().reshape(shape) - expected).max() < 1e-6
    x, seen = p.look([("a", array)], value_range=given_range)
    assert torch.equal(x[0, :channels], from_file) and x.shape == (1, p.channels, *SPACE[axes])
    assert seen[0].note == ("" if limits is None else "window 0 to 4095")


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_scans_of_every_form(channels: int, axes: int) -> None:
    facts = {"window": [-160.0, 240.0], "unit": "HU"}
    scan = Scan(pixels=torch.rand(shaped(channels, axes)), facts=facts)
    p = Preprocess(raw_channels=channels, axes=axes, value_range=(0, 9))
    found = p.read(scan)
    assert isinstance(found, Scan) and torch.equal(found.pixels, scan.pixels) and found.facts is facts
    x, seen = p.look([("a", scan)])
    assert torch.equal(p.decode(x)[0], scan.pixels)
    assert seen[0].note == "window -160 to 240 HU" and seen[0].scan == facts
    grey = Scan(pixels=torch.rand(1, 5, 6), facts=facts)
    if channels == 3 and axes == 2:
        repeated = p.read(grey)
        assert isinstance(repeated, Scan) and torch.equal(repeated.pixels, grey.pixels.expand(3, -1, -1))


def test_grey_networks_read_any_picture_as_grey(tmp_path: Path) -> None:
    p = Preprocess(raw_channels=1)
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8))
    colour.save(tmp_path / "a.png")
    expected = torch.from_numpy(np.asarray(colour.convert("L")).copy())[None].float() / 255
    for item in (colour, tmp_path / "a.png", np.asarray(colour), str(tmp_path / "a.png")):
        assert torch.equal(p(item)[:1], expected)
    grey = np.random.default_rng(0).integers(0, 256, (5, 6), np.uint8)
    Image.fromarray(grey).save(tmp_path / "g.png")
    for item in (grey, tmp_path / "g.png", Image.fromarray(grey), torch.from_numpy(grey), grey[None]):
        assert torch.equal(p(item)[:1], torch.from_numpy(grey)[None].float() / 255)


def test_colour_networks_take_numbers_with_channels_first_or_last() -> None:
    p = Preprocess()
    array = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    expected = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    first = array.transpose(2, 0, 1)
    for item in (array, first, array / 255, first / 255, torch.from_numpy(array), torch.from_numpy(first.copy())):
        assert torch.allclose(p(item)[:3], expected, atol=1e-7)

    grey = Preprocess(raw_channels=1)
    assert (grey(array / 255)[0] - grey(array)[0]).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(p(array[..., 0])[:3], expected[:1].expand(3, -1, -1))
    assert torch.equal(p(expected[:1])[:3], expected[:1].expand(3, -1, -1))
    with pytest.raises(InputError, match=re.escape("of shape (3, 6, 3) may have its channels first or last: give a tensor")):
        p(np.zeros((3, 6, 3)))


@pytest.mark.parametrize(
    ("settings", "item", "error", "text"),
    [
        (
            {"raw_channels": 2, "axes": 1},
            Image.new("L", (4, 4)),
            InputError,
            "This classifier takes signals of 2 channels, (2, L): image is a picture.",
        ),
        ({"raw_channels": 2, "axes": 1}, __file__, InputError, "test_inputs.py' is a picture."),
        ({"raw_channels": 2, "axes": 1}, np.zeros(5), InputError, "(2, L): image has shape (5,)."),
        (
            {"raw_channels": 2, "axes": 1},
            np.zeros((5, 2)),
            InputError,
            "Channels come first: use torch.as_tensor(x).permute(-1, 0)",
        ),
        (
            {"raw_channels": 1, "axes": 1},
            np.zeros((16, 9)),
            InputError,
            "Are these 16 signals? Then give x[:, None], of shape (16, 1",
        ),
        (
            {"raw_channels": 1, "axes": 3},
            torch.zeros(4, 5),
            InputError,
            "volumes of 1 channel, (1, D, H, W) or (D, H, W): image has",
        ),
        ({"raw_channels": 1}, torch.zeros(2, 4, 5), InputError, "Are these 2 pictures? Then give x[:, None]"),
        ({}, torch.zeros(4, 5, 6), InputError, "pictures of 3 channels, (3, H, W), (H, W, 3) or (H, W): image has shape"),
        ({}, 3.5, ArgumentTypeError, "image must be a path, a PIL image, a numpy array, a tensor, a Scan or an open"),
        ({"axes": 1}, np.array(["a"]), InputError, "image contains <U1; supported: real numbers."),
        ({"raw_channels": 1, "axes": 1}, torch.zeros(4, dtype=torch.complex64), InputError, "image contains torch.complex64"),
        ({"axes": 1}, torch.zeros(3, 4).to_sparse(), InputError, "image is a tensor of a packed kind: give ordinary numbers"),
        ({"axes": 1}, torch.zeros(3, 4, device="meta"), InputError, "image is a tensor without numbers (meta)"),
        ({"axes": 1}, np.ma.masked_array(np.zeros((3, 4)), mask=np.eye(3, 4)), InputError, "some numbers are masked"),
        ({"axes": 1}, Scan(pixels=torch.full((3, 4), 7.0)), InputError, "image holds numbers from 7 to 7"),
        ({"axes": 1}, torch.zeros(3, 4) - 2, InputError, "Undo their normalisation, if there was one."),
        ({}, np.zeros((4, 5, 3)) + 200, InputError, "Divide them by 255, if they were bytes."),
        ({"axes": 1}, np.full((3, 4), 3000, np.uint16), InputError, "say which become 0 and 1: value_range=(0, 4095), on the"),
        ({}, np.zeros((4, 5, 4), np.uint8), InputError, "For an alpha channel give PIL.Image.fromarray(x) of bytes."),
        ({}, [0.5, 0.1], ArgumentTypeError, "got list. Numbers are given as an array: numpy.array(x)."),
        ({"raw_channels": 1, "axes": 1}, np.zeros(0), InputError, "of shape (0,): it is empty."),
        ({"raw_channels": 1, "axes": 1}, np.array([0, np.nan]), InputError, "image holds NaN or infinity."),
        (
            {"raw_channels": 1, "axes": 1},
            np.array([0, 900], np.int16),
            InputError,
            "image holds numbers from 0 to 900: bring them to [0, 1], all files by the same scale, or write bytes",
        ),
    ],
)
def test_what_fits_into_no_form_is_refused(settings: Any, item: object, error: type[BcosError], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        Preprocess(**settings).read(item)
    assert len(str(caught.value)) <= 500


def test_a_batch_needs_one_size() -> None:
    p = Preprocess(raw_channels=2, axes=1)
    text = "Signals of one batch need one size: images[0] is 5 long, images[1] 6. Pad or cut them to one size, or give them one"
    with pytest.raises(InputError, match=re.escape(text)):
        p.batch([torch.rand(2, 5), torch.rand(2, 6)])
    with pytest.raises(InputError, match=re.escape("images[0] is 4 x 5 x 6 long, images[1] 4 x 5 x 7.")):
        Preprocess(raw_channels=1, axes=3).batch([torch.rand(4, 5, 6), torch.rand(4, 5, 7)])


def test_floats_that_are_scaled_already_are_noticed() -> None:
    p = Preprocess(raw_channels=1, axes=1, value_range=(0, 7777))
    with pytest.warns(
        UserWarning, match=r"image holds floats from 0 to 1, the darkest .* scaled already, say value_range=\(0, 1\)"
    ):
        p(torch.linspace(0, 1, 9))
    assert torch.equal(p.batch(torch.linspace(0, 1, 9), value_range=(0, 1))[0, 0], torch.linspace(0, 1, 9))
    p(np.arange(2))  # whole numbers may be so few


def test_gradients_reach_the_numbers() -> None:
    x = torch.rand(2, 9, requires_grad=True)
    Preprocess(raw_channels=2, axes=1)(x)[:2].sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones(2, 9))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_range_of_a_card_is_set_once_on_a_picture(tmp_path: Path, channels: int) -> None:
    """However often it is read: as a file, by the caller with that range, and by whoever read it before it came here."""
    p = Preprocess(raw_channels=channels, value_range=(0, 4095))
    numbers = np.random.default_rng(0).integers(0, 4096, (6, 7)).astype(np.uint16)
    Image.fromarray(numbers).save(tmp_path / "a.tif")
    expected = torch.from_numpy(np.rint(numbers * (255 / 4095)) / 255).float()
    once = p.read(tmp_path / "a.tif")
    with open(tmp_path / "a.tif", "rb") as file:
        for item in (once, p.read(once), read_image(tmp_path / "a.tif", value_range=(0, 4095)), Image.fromarray(numbers), file):
            assert (p(item)[:channels] - expected).abs().max() < 1e-6
    with heard() as notes:
        assert float(p.batch(Image.new("L", (2, 2), 9), value_range=(0, 9))[0, 0].min()) == 1  # said for this call
    assert notes == [other_range((0, 4095), (0, 9))]


@pytest.mark.parametrize("kind", ["i4", "i8", "f8", "u4"])
def test_ranges_far_from_zero_lose_nothing(kind: str) -> None:
    base = 1_000_000_000
    array = (base + np.array([0, 1, 3, 4])).astype(kind)
    items: list[Any] = [array] if kind == "u4" else [array, torch.from_numpy(array)]
    for item in items:
        assert Preprocess(raw_channels=1, axes=1).batch(item, value_range=(base, base + 4))[0, 0].tolist() == [0, 0.25, 0.75, 1]
