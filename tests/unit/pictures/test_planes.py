"""Shades of single pictures: against a slow twin, against pydicom, and for each way of coding."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from tests.reference import scans as twin
from tests.scans import NATIVE, dicom, save
from torchbcos import BcosError
from torchbcos.pictures.scans import read_scan


def read(data: pydicom.Dataset, **options: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return read_scan(save(data, Path(folder) / "a"), **options)


def table(first: int, bits: int, outputs: list[int]) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(outputs), first, bits])
    item.add_new("LUTData", "US", outputs)
    return item


@st.composite
def greys(draw: st.DrawFn) -> tuple[np.ndarray, twin.Grey, str, dict[str, Any]]:
    """Words, what their header says, the encoding, and the same in DICOM's elements."""
    allocated = draw(st.sampled_from((8, 16)))
    bits = draw(st.integers(max(1, allocated // 4), allocated))
    encoding = draw(st.sampled_from(sorted(NATIVE)))
    if encoding == "rle" and bits <= 8 < allocated:
        encoding = "explicit"  # pydicom's encoder then writes a byte a pixel, and nobody reads that
    high = draw(st.integers(bits - 1, allocated - 1))
    signed = draw(st.booleans()) and bits > 1
    words = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2**allocated, (3, 4), dtype=np.uint64)
    slope, intercept = draw(st.sampled_from(((1.0, 0.0), (1.0, -1024.0), (0.25, 3.5), (-2.0, 100.0), (3.0, 0.0))))
    width = draw(st.sampled_from((1.0, 2.0, 40.0, 400.5, 0.5)))
    function = draw(st.sampled_from(("LINEAR", "LINEAR_EXACT", "SIGMOID")))
    window = draw(st.none() | st.just((draw(st.sampled_from((0.0, 40.0, -600.5, 3.25))), width, function)))
    padding = draw(st.none() | st.just(twin.number(int(words[0, 0]), bits, high, signed)))
    value_range = draw(st.none() | st.just((-160.0, 240.0)))
    inverted = draw(st.booleans())
    elements: dict[str, Any] = {
        "BitsStored": bits, "HighBit": high, "PixelRepresentation": int(signed),
        "PhotometricInterpretation": "MONOCHROME1" if inverted else "MONOCHROME2",
    }  # fmt: skip
    if (slope, intercept) != (1.0, 0.0):
        elements |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    if window:
        elements |= {"WindowCenter": window[0], "WindowWidth": window[1], "VOILUTFunction": function}
    if window and function == "LINEAR" and width < 1:
        window = (window[0], width, "LINEAR_EXACT")
    if padding is not None:
        elements["PixelPaddingValue"] = padding % 2**allocated if encoding == "implicit" and not signed else padding
    grey = twin.Grey(
        bits, high, signed, slope, intercept, window=window, value_range=value_range, inverted=inverted,
        padding=None if padding is None else (padding, padding),
    )  # fmt: skip
    return words.astype(f"u{allocated // 8}"), grey, encoding, elements


@settings(max_examples=40, deadline=None)
@given(greys())
def test_shades_are_those_of_the_standard(drawn: tuple[np.ndarray, twin.Grey, str, dict[str, Any]]) -> None:
    words, grey, encoding, elements = drawn
    if "PixelPaddingValue" in elements and elements["PixelPaddingValue"] >= 2**15 and grey.signed:
        return
    scan = read(dicom(words, encoding, **elements), value_range=grey.value_range)
    np.testing.assert_allclose(scan.pixels[0].numpy(), twin.shades(words.astype(np.uint64), grey), atol=1e-6)
    source = "caller" if grey.value_range else "file" if grey.window else "stored bits"
    assert scan.facts["window_from"] == source
    assert scan.facts.get("inverted", False) == grey.inverted


@settings(max_examples=30, deadline=None)
@given(greys())
def test_shades_are_those_of_pydicom(drawn: tuple[np.ndarray, twin.Grey, str, dict[str, Any]]) -> None:
    words, grey, encoding, elements = drawn
    if grey.window is None or elements["WindowWidth"] in (0.5, 1.0) or grey.slope < 0:
        return
    elements = {**elements, "HighBit": grey.bits - 1, "PhotometricInterpretation": "MONOCHROME2"}
    elements.pop("PixelPaddingValue", None)
    data = dicom(words, encoding, **elements)
    with np.errstate(over="ignore"):  # of the exponential of a narrow SIGMOID, which becomes zero there
        theirs = apply_voi_lut(apply_modality_lut(pixel_array(data), data), data)
    low, high = twin.ends(grey)
    scan = read(dicom(words, encoding, **elements))
    np.testing.assert_allclose(scan.pixels[0].numpy(), (theirs - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("first", [0, 5, -3])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_tables_of_values_and_of_windows(first: int, bits: int) -> None:
    pixels = np.arange(-8, 12, dtype=np.int16).reshape(4, 5)
    outputs = np.random.default_rng(0).integers(0, 2**bits, 7).tolist()
    data = dicom(pixels, ModalityLUTSequence=pydicom.Sequence([table(first, bits, outputs)]))
    grey = twin.Grey(16, 15, True, modality=(first, bits, outputs))
    words = pixels.view(np.uint16).astype(np.uint64)
    np.testing.assert_allclose(read(data).pixels[0], twin.shades(words, grey), atol=1e-6)
    data = dicom(pixels, VOILUTSequence=pydicom.Sequence([table(first, bits, outputs)]), WindowCenter=1, WindowWidth=9)
    scan, grey = read(data), twin.Grey(16, 15, True, voi=(first, bits, outputs))
    np.testing.assert_allclose(scan.pixels[0], twin.shades(words, grey), atol=1e-6)
    assert (scan.facts["function"], scan.facts["window"]) == ("TABLE", [first, first + 6])
    assert scan.facts["other_windows"] == [[-3.5, 4.5]]
    theirs = apply_voi_lut(pixels, data)
    np.testing.assert_allclose(scan.pixels[0], theirs / (2**bits - 1), atol=1e-6)


def test_bytes_of_a_table_in_words() -> None:
    outputs = list(range(0, 250, 10))
    item = table(0, 8, outputs)
    item.add_new("LUTData", "OW", bytes(outputs) + b"\0")
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    scan = read(dicom(pixels, VOILUTSequence=pydicom.Sequence([item])))
    np.testing.assert_allclose(scan.pixels[0], pixels * 10 / 255, atol=1e-6)


def test_several_windows_the_first_is_used_and_the_others_are_said() -> None:
    pixels = np.arange(0, 4000, 200, dtype=np.uint16).reshape(4, 5)
    elements = {"RescaleSlope": 1, "RescaleIntercept": -1024, "BitsStored": 12, "HighBit": 11}
    scan = read(dicom(pixels, WindowCenter=[40, -600], WindowWidth=[400, 1500], **elements))
    assert scan.facts["window"] == [-160.0, 239.0] and scan.facts["other_windows"] == [[-1350.0, 149.0]]
    assert scan.facts["unit"] == "HU"
    scan = read(dicom(pixels, **elements))
    assert (scan.facts["window"], scan.facts["window_from"]) == ([-1024.0, 3071.0], "stored bits")


@pytest.mark.parametrize("width", [0, -5, ""])
def test_a_window_that_is_none_is_passed_over(width: object) -> None:
    scan = read(dicom(np.arange(20, dtype=np.uint8).reshape(4, 5) * 12, WindowCenter=10, WindowWidth=width))
    assert scan.facts["window"] == [0.0, 255.0]


def test_a_picture_that_uses_little_of_its_bits_is_said_and_of_32_bits_refused() -> None:
    pixels = np.arange(20, dtype=np.uint16).reshape(4, 5) * 50
    notes = read(dicom(pixels)).facts["notes"]
    assert "states no window" in notes[0] and "--range" in notes[0]
    with pytest.raises(BcosError, match="32 bits can hold: say which"):
        read(dicom(pixels.astype(np.uint32)))
    assert "notes" not in read(dicom(pixels), value_range=(0, 1000)).facts
    assert "notes" not in read(dicom(pixels * 60)).facts


def test_padding_is_black_in_both_directions() -> None:
    pixels = np.array([[0, 100, 50, 200]], np.uint8)
    for shades, seen in (("MONOCHROME2", [0, 100, 50, 200]), ("MONOCHROME1", [255, 155, 205, 55])):
        scan = read(dicom(pixels, PhotometricInterpretation=shades, PixelPaddingValue=200))
        np.testing.assert_allclose(scan.pixels[0, 0] * 255, [*seen[:3], 0], atol=1e-4)
        scan = read(dicom(pixels, PhotometricInterpretation=shades, PixelPaddingValue=0, PixelPaddingRangeLimit=60))
        np.testing.assert_allclose(scan.pixels[0, 0] * 255, [0, seen[1], 0, seen[3]], atol=1e-4)


@pytest.mark.parametrize("encoding", ["explicit", "big", "rle"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_colours(encoding: str, kind: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (4, 6, 3)).astype(kind)
    scan = read(dicom(pixels, encoding, SamplesPerPixel=3))
    np.testing.assert_allclose(scan.pixels, np.moveaxis(pixels / np.iinfo(kind).max, 2, 0), atol=1e-6)
    assert scan.facts["unit"] is None
    planar = dicom(pixels, SamplesPerPixel=3)
    planar.PlanarConfiguration = 1
    planar.PixelData = np.moveaxis(pixels, 2, 0).tobytes()
    np.testing.assert_array_equal(read(planar).pixels, scan.pixels)


def test_luminance_and_colour_differences() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    scan = read(dicom(pixels, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL"))
    wanted = np.array([[twin.rgb(*(float(v) for v in pixel)) for pixel in row] for row in pixels])
    np.testing.assert_allclose(scan.pixels.permute(1, 2, 0) * 255, wanted, atol=1.0)  # the library rounds to bytes
    half = pixels.copy()
    half[:, 1::2, 1:] = half[:, ::2, 1:]  # one colour for two pixels
    data = dicom(half, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    two = half.reshape(4, 3, 2, 3)
    data.PixelData = np.stack([two[..., 0, 0], two[..., 1, 0], two[..., 0, 1], two[..., 0, 2]], -1).tobytes()
    wanted = np.array([[twin.rgb(*(float(v) for v in pixel)) for pixel in row] for row in half])
    np.testing.assert_allclose(read(data).pixels.permute(1, 2, 0) * 255, wanted, atol=1.0)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("first", [0, 10])
def test_palettes(bits: int, first: int) -> None:
    rng = np.random.default_rng(0)
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 2
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [32, first, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = rng.integers(0, 2**bits, 32).astype(f"<u{bits // 8}").tobytes()
    data = dicom(pixels, **elements)
    theirs = apply_color_lut(pixels, data)
    np.testing.assert_allclose(read(data).pixels.permute(1, 2, 0), theirs / (2**bits - 1), atol=1e-6)


@pytest.mark.parametrize("broken", [[0, 0], [4, 0], [9, 0, 8], [4, 0, 77], None])
def test_broken_tables_are_refused(broken: Any) -> None:
    item = pydicom.Dataset()
    item.add_new("LUTData", "US", [1, 2, 3, 4])
    if broken is not None:
        item.add_new("LUTDescriptor", "US", broken)
    with pytest.raises(BcosError, match="has a table of"):
        read(dicom(np.zeros((2, 2), np.uint8), VOILUTSequence=pydicom.Sequence([item])))


def test_floats_need_a_range() -> None:
    data = dicom(np.zeros((2, 3), np.uint32))
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(data, keyword)
    data.FloatPixelData = np.array([0, 0.5, 1, 2, 4, np.nan], np.float32).tobytes()
    with pytest.raises(BcosError, match="holds floats and states no window"):
        read(data)
    assert read(data, value_range=(0, 4)).pixels.flatten().tolist() == [0, 0.125, 0.25, 0.5, 1, 0]
