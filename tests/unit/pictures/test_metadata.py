"""Orientation, wherever Pillow's exif_transpose finds one."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from torchbcos import pictures
from torchbcos.pictures import metadata

ATTRIBUTE = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
ELEMENT = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>%d</tiff:Orientation></x:xmpmeta>'


def scene() -> Image.Image:
    values = np.arange(5 * 8, dtype=np.uint8).reshape(5, 8) * 6
    return Image.fromarray(np.stack([values, values[::-1], values[:, ::-1]], -1))


def exif(value: int, kind: int = 3, order: str = "<") -> bytes:
    """An EXIF block whose orientation is of that type: 1 byte, 3 short, 4 long, 5 rational, 9, 10 signed, 11 float."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1)
    codes = {1: "B3x", 3: "H2x", 4: "I", 6: "b3x", 8: "h2x", 9: "i", 11: "f"}
    if kind in codes:
        return b"Exif\0\0" + head + struct.pack(order + "HHI" + codes[kind] + "I", 274, kind, 1, value, 0)
    pair = struct.pack(order + ("II" if kind == 5 else "ii"), 2 * value, 2)
    return b"Exif\0\0" + head + struct.pack(order + "HHIII", 274, kind, 1, 26, 0) + pair


def raw_profile(block: bytes) -> str:
    return f"\nexif\n{len(block):8}\n" + "\n".join(block.hex()[i : i + 72] for i in range(0, 2 * len(block), 72)) + "\n"


def text_of_png(name: str, value: str, kind: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        info.add_itxt(name, value)
    else:
        info.add_text(name, value, zip=kind == "zTXt")
    return info


def ways(value: int) -> dict[str, tuple[str, dict[str, object]]]:
    """Name -> format and options of `Image.save`: every place in which a file may state its orientation."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = ATTRIBUTE % value
    tags.tagtype[700] = 1
    found: dict[str, tuple[str, dict[str, object]]] = {
        "JPEG, EXIF": ("JPEG", {"exif": exif(value)}),
        "JPEG, XMP": ("JPEG", {"xmp": ATTRIBUTE % value}),
        "JPEG, XMP as an element": ("JPEG", {"xmp": ELEMENT % value}),
        "JPEG, EXIF before XMP": ("JPEG", {"exif": exif(value), "xmp": ATTRIBUTE % (value % 8 + 1)}),
        "JPEG, absurd EXIF before XMP": ("JPEG", {"exif": exif(9), "xmp": ATTRIBUTE % value}),
        "PNG, eXIf": ("PNG", {"exif": exif(value)}),
        "WebP, EXIF": ("WEBP", {"exif": exif(value)}),
        "WebP, XMP": ("WEBP", {"xmp": ATTRIBUTE % value}),
        "TIFF, tag": ("TIFF", {"tiffinfo": {274: value}}),
        "TIFF, XMP": ("TIFF", {"tiffinfo": tags}),
        "PNG, EXIF before text": (
            "PNG",
            {"exif": exif(value), "pnginfo": text_of_png("Raw profile type exif", raw_profile(exif(3)), "zTXt")},
        ),
    }
    for kind in ("tEXt", "zTXt", "iTXt"):
        options = {"pnginfo": text_of_png("Raw profile type exif", raw_profile(exif(value)), kind)}
        found[f"PNG, EXIF as text, {kind}"] = "PNG", options
        found[f"PNG, XMP, {kind}"] = "PNG", {"pnginfo": text_of_png("XML:com.adobe.xmp", (ATTRIBUTE % value).decode(), kind)}
    for kind in (4, 5, 9, 10, 11):
        found[f"JPEG, EXIF of type {kind}"] = "JPEG", {"exif": exif(value, kind)}
    return found


@pytest.mark.parametrize("value", [1, 3, 6, 7])
@pytest.mark.parametrize("name", list(ways(1)))
def test_orientation_is_found_where_pillow_finds_it(name: str, value: int) -> None:
    kind, options = ways(value)[name]
    stream = io.BytesIO()
    scene().save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}), **options)
    with Image.open(io.BytesIO(stream.getvalue())) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(np.asarray(pictures.decode_image(stream.getvalue(), "it")), wanted)
    with Image.open(io.BytesIO(stream.getvalue())) as opened:
        assert np.array_equal(np.asarray(pictures.to_rgb(opened)), wanted)
    if value != 1 and "absurd" not in name:
        assert not np.array_equal(wanted, np.asarray(scene()))


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_exif_block_of_two_segments_and_either_order(order: str) -> None:
    stream = io.BytesIO()
    scene().save(stream, "JPEG")
    block, whole = exif(6, order=order), stream.getvalue()
    parts = [block[:20], b"Exif\0\0" + block[20:]]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    assert pictures.decode_image(whole[:2] + segments + whole[2:], "it").size == (5, 8)


def test_the_first_of_two_orientations_counts_as_in_pillow() -> None:
    block = bytearray(exif(6)[6:])
    block[8:10] = struct.pack("<H", 2)
    both = bytes(block[:22]) + struct.pack("<HHIH2xI", 274, 3, 1, 3, 0)
    seen = Image.Exif()
    seen.load(both)
    assert metadata.read_orientation(both) == seen[274] == 6


@pytest.mark.parametrize("raw", ["", "\n\n\n", "\nexif\n  4\nzz\n", "\nexif\n  4\nabc\n", "\nexif\n 4\nä\n"])
def test_broken_text_states_nothing(raw: str) -> None:
    stream = io.BytesIO()
    scene().save(stream, "PNG", pnginfo=text_of_png("Raw profile type exif", raw, "iTXt"))
    assert pictures.decode_image(stream.getvalue(), "it").size == (8, 5)


def test_text_bombs_with_a_name_that_matters_are_unpacked_in_part() -> None:
    stream = io.BytesIO()
    scene().save(stream, "PNG")
    whole = stream.getvalue()
    body = b"Raw profile type exif\0\0" + zlib.compress(bytes(50_000_000), 9)
    bomb = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    tracemalloc.start()
    assert pictures.decode_image(whole[:33] + bomb * 30 + whole[33:], "it").size == (8, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


def test_profiles_of_a_jpeg_are_joined_by_their_numbers() -> None:
    assert metadata.join_profile([b"\2\2b", b"\1\2a"]) == b"ab"
    assert metadata.join_profile([b"\1\2a"]) is None
    assert metadata.join_profile([b""]) is None
    assert metadata.join_profile([]) is None


def test_values_that_are_no_orientation() -> None:
    for value, kind in ((0, 3), (9, 3), (65535, 4), (6, 2), (6, 12), (6, 99)):
        block = bytearray(exif(1))
        block[6 + 12 : 6 + 14] = struct.pack("<H", kind)
        block[6 + 18 : 6 + 22] = struct.pack("<I", value)
        assert metadata.find_orientation(metadata.read_orientation(bytes(block)), b"") == 1
    assert metadata.read_orientation(exif(0, 5)) == 0
    assert metadata.find_orientation(None, b'tiff:Orientation="9"') == 1
