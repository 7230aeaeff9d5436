"""AVIF, HEIC and icons: read as any picture is, or named with the way to read them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from torchbcos import pictures
from torchbcos._core.errors import BcosError, InputError, MissingPackageError
from torchbcos.pictures import modern

PHOTO = Image.fromarray((np.mgrid[:40, :60, :3].sum(0) * 2 % 256).astype(np.uint8))
AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")


def avif(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "AVIF", quality=95, **options)
    return stream.getvalue()


def icon(*sizes: int, bitmap: bool = False) -> bytes:
    stream = io.BytesIO()
    PHOTO.resize((256, 256)).save(stream, "ICO", sizes=[(s, s) for s in sizes], bitmap_format="bmp" if bitmap else "png")
    return stream.getvalue()


def heic(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=95, **options)
    return stream.getvalue()


@AVIF
def test_avif(tmp_path: Path) -> None:
    (tmp_path / "a.avif").write_bytes(avif(PHOTO))
    read = pictures.read_image(tmp_path / "a.avif")
    assert read.mode == "RGB" and np.abs(np.asarray(read).astype(int) - np.asarray(PHOTO)).mean() < 4
    assert [found.path.name for found in pictures.find_images(tmp_path)] == ["a.avif"]
    exif = Image.Exif()
    exif[274] = 6
    assert pictures.decode_image(avif(PHOTO, exif=exif), "a").size == (40, 60)
    clear = PHOTO.convert("RGBA")
    clear.putalpha(0)
    assert pictures.decode_image(avif(clear), "a").getpixel((5, 5)) == (255, 255, 255)


def test_heic(tmp_path: Path) -> None:
    (tmp_path / "a.HEIC").write_bytes(heic(PHOTO))
    read = pictures.read_image(tmp_path / "a.HEIC")
    assert read.mode == "RGB" and np.abs(np.asarray(read).astype(int) - np.asarray(PHOTO)).mean() < 4
    assert [found.path.name for found in pictures.find_images(tmp_path)] == ["a.HEIC"]
    exif = Image.Exif()
    exif[274] = 6
    assert pictures.decode_image(heic(PHOTO, exif=exif.tobytes()), "a").size == (40, 60)


@pytest.mark.parametrize("bitmap", [False, True])
def test_the_largest_picture_of_an_icon(bitmap: bool) -> None:
    read = pictures.decode_image(icon(16, 64, 32, bitmap=bitmap), "a.ico")
    assert read.size == (64, 64)
    expected = PHOTO.resize((256, 256)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(read).astype(int) - np.asarray(expected)).max() <= 1


def test_an_icon_that_lies(tmp_path: Path) -> None:
    honest = bytearray(icon(32, bitmap=True))
    at = struct.unpack_from("<I", honest, 18)[0]
    struct.pack_into("<ii", honest, at + 4, 60_000, 120_000)
    with pytest.raises(InputError, match="'a' is damaged: its icon has 60000 x 60000 pixels, and may have 256"):
        pictures.decode_image(bytes(honest), "'a'")
    for cut in (7, 20, 60, len(honest) - 1):
        with pytest.raises(InputError, match="'a' ends early"):
            pictures.decode_image(icon(32, bitmap=True)[:cut], "'a'")
    bomb = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(bomb, "PNG", compress_level=1)
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(bomb.getvalue()), 22)
    with pytest.raises(InputError, match="= 200 megapixels, more than the 178 that are read"):
        pictures.decode_image(b"\0\0\1\0\1\0" + entry + bomb.getvalue(), "'a'")


def test_what_is_not_installed_names_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modern, "_HAS_AVIF", False)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(MissingPackageError, match=r"'a' is an AVIF picture, which Pillow .* pip install 'pillow>=11\.3'"):
        pictures.decode_image(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "'a'")
    with pytest.raises(MissingPackageError, match=r"'a' is a HEIC picture.*pip install '.*\[heic\]'"):
        pictures.decode_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "'a'")


@pytest.mark.parametrize("kind", ["avif", "heic", "ico", "ico of bitmaps"])
def test_damaged_files_are_refused_or_read(kind: str) -> None:
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    whole = {"avif": avif, "heic": heic}[kind](PHOTO) if kind in ("avif", "heic") else icon(32, bitmap="of" in kind)
    draw = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole)
        for place in draw.integers(0, len(data), 3):
            data[place] = draw.integers(0, 256)
        try:
            assert pictures.decode_image(bytes(data[: draw.integers(1, len(data) + 1)]), "a").mode == "RGB"
        except BcosError as error:
            assert len(str(error)) <= 500 and "a" in str(error)
