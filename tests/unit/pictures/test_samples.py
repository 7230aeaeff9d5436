"""Numbers as 8 bits: no scale is guessed, what is said is obeyed, and what may be meant otherwise is said aloud."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.pictures.tiffs import Kind, written
from torchbcos import pictures
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.pictures import samples
from torchbcos.pictures.read import decode_image
from torchbcos.pictures.samples import Samples, check_range

DTYPES = [("u", 16), ("u", 32), ("i", 16), ("f", 32), ("f", 64)]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_warned", set())


def read(values: np.ndarray, kind: Kind, limits: tuple[float, float] | None = None) -> Image.Image | None:
    try:
        return decode_image(written(kind, values[..., None]), "it", value_range=limits)
    except InputError as error:
        assert "nothing says which are black and white" in str(error) and len(str(error)) <= 500
        return None


# -- no scale is guessed -------------------------------------------------------------------------


@given(data=st.data(), kind=st.sampled_from(DTYPES))
def test_what_a_number_becomes_does_not_depend_on_the_other_numbers(data: st.DataObject, kind: tuple[str, int]) -> None:
    form, bits = kind
    whole = (
        st.floats(-2, 2**17, width=32) if form == "f" else st.integers(*{"u": (0, 2**bits - 1), "i": (-(2**15), 2**15 - 1)}[form])
    )
    near = st.one_of(whole, st.floats(-0.002, 1.002).map(np.float32)) if form == "f" else whole
    number = data.draw(near)
    found = []
    for _ in range(4):
        values = np.array([[number, *data.draw(st.lists(near, min_size=1, max_size=3))]], dtype=f"{form}{bits // 8}")
        image = read(values, Kind(1, form, bits))
        found += [] if image is None else [image.getpixel((0, 0))]
    assert len(set(found)) <= 1


@given(top=st.floats(0.5, 1.01).map(lambda v: float(np.float32(v))))
def test_a_float_picture_is_never_black_for_reaching_a_little_further(top: float) -> None:
    values = np.array([[0.25, 0.4, top]], np.float32)
    for image in (read(values, Kind(1, "f", 32)), read(1 - values, Kind(0, "f", 32))):
        assert (image is None) == (top > 1 + 1e-3)
        if image is not None:
            assert [image.getpixel((i, 0))[0] for i in range(2)] == [64, 102]


def test_a_float_picture_that_reaches_1_0005_is_read_and_not_black() -> None:
    values = np.linspace(0, 1.0005, 64, dtype=np.float32).reshape(8, 8)
    image = decode_image(written(Kind(1, "f", 32), values[..., None]), "it")
    assert np.array_equal(np.asarray(image)[..., 0], np.rint(255 * values.clip(0, 1)))
    assert np.array_equal(np.asarray(pictures.to_rgb(Image.fromarray(values))), np.asarray(image))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            np.array([[0.0, 1.002]], np.float32),
            "It holds floats from 0 to 1.002, and nothing says which are black and white. Floats",
        ),
        (np.array([[-1000, 3000]], np.int16), "It holds 16-bit signed integers from -1000 to 3000"),
        (np.array([[0, 255_000]], np.uint32), "value_range=(0, 262143), on the command line --range 0..262143."),
        (np.array([[0.0, np.nan]], np.float32), "It holds NaN or infinity."),
        (np.array([[0.0, np.inf]], np.float64), "It holds NaN or infinity."),
    ],
)
def test_numbers_without_a_range_are_refused_with_the_words_for_one(values: np.ndarray, text: str) -> None:
    kind = Kind(1, values.dtype.kind, 8 * values.dtype.itemsize)
    with pytest.raises(InputError, match=re.escape(text)):
        decode_image(written(kind, values[..., None]), "It")


def test_a_float_picture_in_colour_is_read_or_refused_as_grey_is(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((9, 8, 3)).astype(np.float32)
    assert np.array_equal(np.asarray(decode_image(written(Kind(2, "f", 32), values), "it")), np.rint(255 * values))
    (tmp_path / "hdr.tif").write_bytes(written(Kind(2, "f", 32), 4 * values))
    with pytest.raises(InputError, match=r"hdr\.tif' holds floats from .* nothing says"):
        pictures.read_image(tmp_path / "hdr.tif")
    assert np.abs(np.asarray(pictures.read_image(tmp_path / "hdr.tif", value_range=(0, 4))) - 255 * values).max() <= 0.51


# -- a range that is said ------------------------------------------------------------------------


@given(values=st.lists(st.integers(0, 65535), min_size=2, max_size=5), low=st.integers(-500, 5000), span=st.integers(1, 70_000))
def test_a_range_is_the_same_for_every_form_of_a_picture(values: list[int], low: int, span: int) -> None:
    array, limits = np.array([values], np.uint16), (float(low), float(low + span))
    expected = np.rint((np.clip(array.astype(float), *limits) - low) * (255 / span))
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    forms: list[Any] = [
        decode_image(stream.getvalue(), "it", value_range=limits),
        decode_image(written(Kind(1, "u", 16, order=">", compression=8), array[..., None]), "it", value_range=limits),
        pictures.to_rgb(Image.fromarray(array), value_range=limits),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forms += pictures.as_images([array, array.astype(np.float64), array.astype(np.int32)], value_range=limits)
        tensor = pictures.as_images(torch.from_numpy(array.astype(np.int64)).expand(3, 1, -1), value_range=limits)[0]
    for image in forms:
        assert np.array_equal(np.asarray(image)[..., 0], expected)
    assert isinstance(tensor, torch.Tensor) and np.abs(255 * tensor[0].numpy() - expected).max() < 0.51


def test_a_range_of_eight_bits_is_a_window_and_leaves_alpha_alone(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (3, 1), (100, 50, 150, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    rgba.putpixel((2, 0), (60, 200, 100, 102))
    rgba.save(tmp_path / "a.png")
    image = pictures.read_image(tmp_path / "a.png", value_range=(50, 150))
    assert [image.getpixel((i, 0)) for i in range(3)] == [(128, 0, 255), (255, 255, 255), (163, 255, 204)]
    Image.new("RGB", (8, 8), (100, 100, 100)).save(tmp_path / "a.jpg", quality=95)
    assert pictures.read_image(tmp_path / "a.jpg", value_range=(0, 200)).getpixel((4, 4)) == (128, 128, 128)
    with pytest.raises(InputError, match=r"it has premultiplied alpha, a palette or inks: no range"):
        decode_image(written(Kind(5, "u", 16), np.zeros((2, 2, 4), np.uint16)), "it", value_range=(0, 4095))


def test_a_range_of_a_tensor_is_differentiable() -> None:
    x = torch.full((3, 2, 2), 1000.0, requires_grad=True)
    (item,) = pictures.as_images(x, value_range=(0, 4000))
    assert isinstance(item, torch.Tensor)
    item.sum().backward()
    assert float(item.detach().max()) == 0.25 and x.grad is not None and float(x.grad.mean()) == pytest.approx(1 / 4000)
    with pytest.raises(InputError, match="holds NaN"):
        pictures.as_images(torch.full((3, 2, 2), float("nan")), value_range=(0, 4000))


@pytest.mark.parametrize(
    "wrong", [(1, 1), (2, 1), (0,), (0, 1, 2), (0, float("nan")), (0, float("inf")), ("0", "1"), (False, True), (0, 10**400)]
)
def test_what_is_no_range(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"value_range must be two finite numbers, that of black below that of white; got \("):
        check_range(wrong)


def test_what_is_not_even_two_numbers() -> None:
    for wrong in ("0..1", 4095, {0: 1}):
        with pytest.raises(ArgumentTypeError, match="value_range must be two numbers"):
            pictures.as_image(np.zeros((2, 2), np.uint8), value_range=wrong)  # type: ignore[arg-type]
    assert check_range([np.int16(0), np.float32(0.5)]) == (0.0, 0.5)
    whole = (0.0, 255.0)
    assert all(
        check_range(two) == whole for two in (np.array([0, 255]), torch.tensor([0, 255]), [torch.tensor(0), np.uint8(255)])
    )
    for wrong in (np.zeros((2, 2)), torch.zeros(2, 2), np.array(["a", "b"]), torch.tensor([0]), [torch.zeros(2), 1]):
        with pytest.raises(InputError, match="value_range must be two finite numbers"):
            check_range(wrong)
    with pytest.raises(ArgumentTypeError, match="value_range must be two numbers"):
        check_range(np.array(5))


# -- a word where another range may be meant -----------------------------------------------------


def note_of(values: np.ndarray, limits: tuple[float, float] | None = None) -> str | None:
    kind = Kind(1, values.dtype.kind, 8 * values.dtype.itemsize)
    return pictures.take_note(decode_image(written(kind, values[..., None]), "it", value_range=limits))


@pytest.mark.parametrize(
    ("values", "limits", "text"),
    [
        (np.array([[0, 4095]], np.uint16), None,
         "it holds values from 0 to 4095, the darkest sixteenth of the range from 0 to 65535. If that is not meant, "
         "say the range: value_range=(0, 4095), on the command line --range 0..4095."),
        (np.array([[7, 900]], np.uint16), None, "say the range: value_range=(0, 1023), on the command line --range 0..1023."),
        (np.array([[0, 4097]], np.uint16), None, "the darkest eighth of the range from 0 to 65535. If that is not meant, say the "
         "range: value_range=(0, 8191), on"),
        (np.array([[0.0, 0.05]], np.float32), None, "value_range=(0, 0.05), on the command line --range 0..0.05."),
        (np.array([[0, 255]], np.uint8), (0, 4095), "the darkest sixteenth of the range from 0 to 4095. Is that meant?"),
        (np.array([[900, 901]], np.int16), (0, 10), "the lightest sixteenth of the range from 0 to 10. Is that meant?"),
    ],
)  # fmt: skip
def test_a_picture_that_uses_a_sixteenth_of_its_range_has_a_note(
    values: np.ndarray, limits: tuple[float, float] | None, text: str
) -> None:
    assert text in (note_of(values, limits) or "")


@pytest.mark.parametrize(
    "values",
    [np.array([[0, 8192]], np.uint16), np.array([[0, 3]], np.uint8), np.array([[5, 5]], np.uint16),
     np.array([[0.0, 0.07]], np.float32), np.array([[65000, 65535]], np.uint16)],
)  # fmt: skip
def test_other_pictures_have_none(values: np.ndarray) -> None:
    assert note_of(values) is None


def test_a_colour_png_of_sixteen_bits_has_its_note_too() -> None:
    from tests.unit.pictures.test_read import png

    row = np.array([[0, 100, 4095], [9, 50, 3000]], ">u2")
    dark = decode_image(png(2, 1, 16, 2, b"\0" + row.tobytes()), "it")
    assert "it holds values from 0 to 4095, the darkest sixteenth" in (pictures.take_note(dark) or "")
    with pytest.raises(InputError, match="it is a colour PNG of 16 bits, of which the decoder keeps the upper 8: no range"):
        decode_image(png(2, 1, 16, 2, b"\0" + row.tobytes()), "it", value_range=(0, 4095))
    light = decode_image(png(2, 1, 16, 2, b"\0" + (row * 16).tobytes()), "it")
    assert pictures.take_note(light) is None


def test_a_note_is_warned_of_once_and_only_where_pictures_are_used() -> None:
    dark = Image.fromarray(np.array([[0, 4095]], np.uint16))
    with pytest.warns(UserWarning, match=r"sixteenth of the range from 0 to 65535\. .* \(Said once\.\)"):
        pictures.Preprocess().batch([dark, dark])
    pictures.Preprocess().batch([dark])  # warnings are errors here
    with pytest.warns(UserWarning, match="from 0 to 255"):
        pictures.Preprocess().batch([Image.fromarray(np.array([[0, 3]], np.uint8))], value_range=(0, 255))


def test_samples_in_parts_are_judged_as_one() -> None:
    parts = Samples("u", 16)
    parts.to_bytes(np.array([1, 2], np.uint16))
    assert parts.judge("it") is not None
    parts.to_bytes(np.array([60_000], np.uint16))
    assert parts.judge("it") is None
    parts.saw(np.array([float("nan")]))
    parts.to_bytes(np.array([1], np.uint16))
    with pytest.raises(InputError, match="NaN"):
        parts.judge("it")


@given(bits=st.integers(8, 13), stray=st.integers(1, 40), where=st.integers(0, 4095), top=st.sampled_from([20_000, 65_535]))
def test_stray_numbers_do_not_hide_that_the_rest_is_black(bits: int, stray: int, where: int, top: int) -> None:
    """One dead pixel of 65535, and 12 bits in 16 were shown black without a word."""
    values = np.random.default_rng(bits).integers(0, 2**bits, (64, 64)).astype(np.uint16)
    values[0, 0] = 2**bits - 1
    values.reshape(-1)[(where + np.arange(stray)) % 4095 + 1] = top
    note = note_of(values)
    assert note is not None and f"from {int(values.min())} to {top}, 99 % of them up to {2**bits - 1}, the darkest" in note
    assert f"value_range=(0, {2**bits - 1})" in note
    values.reshape(-1)[1 : 4 * 41] = top  # 4 %
    assert note_of(values) is None


def test_parts_count_by_their_size_and_dead_pixels_either_way() -> None:
    dark, light = np.arange(2**17).astype(np.uint16) % 4096, np.full(3000, 65_535, np.uint16)
    for strays, noted in ((light[:1000], True), (light, False)):
        parts = Samples("u", 16)
        parts.to_bytes(dark)
        parts.to_bytes(strays)
        assert (parts.judge("it") is not None) == noted
    said = Samples("u", 16, (0, 10))
    said.to_bytes(np.append(np.arange(500, 700), [0]).astype(np.uint16))
    assert "99 % of them from 500 on, the lightest sixteenth of the range from 0 to 10" in (said.judge("it") or "")


def test_pictures_of_the_night_and_blank_ones_raise_no_alarm() -> None:
    photo = np.random.default_rng(0).gamma(1.2, 12, (128, 128)).clip(0, 255)  # a dark one, in bytes
    assert note_of(photo.astype(np.uint8)) is None and note_of((257 * photo).astype(np.uint16)) is None
    blank = np.zeros((128, 128), np.uint16)
    blank[3, 5] = 65_535
    assert note_of(blank) is None


@pytest.mark.parametrize(("colour", "kind"), [(2, "colour PNG"), (4, "PNG with transparency"), (6, "PNG with transparency")])
def test_a_png_of_which_8_bits_are_read_is_never_told_to_set_a_range_at_once(colour: int, kind: str) -> None:
    from tests.unit.pictures.test_read import png

    channels = {2: 3, 4: 2, 6: 4}[colour]
    row = np.arange(40 * 40 * channels).reshape(40, 40, channels) % 4096
    if colour in (4, 6):
        row[..., -1] = 65_535
    row[0, 0, 0] = 65_535
    data = png(40, 40, 16, colour, b"".join(b"\0" + line.astype(">u2").tobytes() for line in row))
    note = pictures.take_note(decode_image(data, "it")) or ""
    first = "save it as a TIFF of 16 bits (of this PNG only 8 are read) and "
    assert f"If that is not meant, {first}say the range: value_range=(0, 4095), on" in note
    assert f"{first}convert the pictures first" in samples.without_range(note) and len(samples.without_range(note)) < 500
    with pytest.raises(InputError, match=f"it is a {kind} of 16 bits"):
        decode_image(data, "it", value_range=(0, 4095))


def test_one_dead_pixel_does_not_give_32_bits_a_range() -> None:
    values = np.arange(4096, dtype=np.uint32).reshape(64, 64)
    values[5, 5] = 2**32 - 1
    with pytest.raises(InputError, match=r"32-bit integers from 0 to 4294967295, and nothing says .* --range 0\.\.4095\.$"):
        decode_image(written(Kind(1, "u", 32), values[..., None]), "it")
