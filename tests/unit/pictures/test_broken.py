"""Files that are no good: each is refused with one sentence that names it, whatever its bytes are."""

from __future__ import annotations

import collections
import io
import os
import random
import re
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from torchbcos import pictures
from torchbcos._core.errors import BcosError, InputError, MissingFileError

MUTATIONS = int(os.environ.get("TORCHBCOS_MUTATIONS", "1500"))
KINDS = os.environ.get("TORCHBCOS_MUTATION_KINDS", "JPEG PNG GIF WEBP BMP TIFF").split()


def picture(mode: str = "RGB", seed: int = 0, side: int = 24) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (side, side + 5, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (picture() if image is None else image).save(stream, kind, **options)
    return stream.getvalue()


def refused(path: Path, text: str, error: type[BcosError] = InputError) -> str:
    with pytest.raises(error, match=re.escape(text)) as caught:
        pictures.read_image(path)
    message = str(caught.value)
    assert path.name in message
    assert len(message) <= 500
    assert "\n" not in message
    return message


def chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


# -- files that are no pictures ------------------------------------------------------------------


def test_missing_files_are_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    refused(tmp_path / "holidy.jpg", "does not exist. Did you mean 'holiday.jpg'?", MissingFileError)
    refused(tmp_path / "holiday.jpg" / "x.jpg", "does not exist.", MissingFileError)
    with pytest.raises(MissingFileError, match="Addresses are not read: download the file first"):
        pictures.read_image("https://example.org/a.jpg")


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder, not a picture")
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "is no regular file")
    with pytest.raises(InputError, match="cannot be read: embedded null"):
        pictures.read_image("a\0b.jpg")
    with pytest.raises(InputError, match=r"cannot be read: .*too long"):
        pictures.read_image("x" * 5000 + ".jpg")


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded("PNG"))

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    refused(path, "may not be read: permission denied. Change its permissions")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty (0 bytes)"),
        (b"just some text\n", "it contains text; supported: JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC and ICO."),
        (b"\n<!DOCTYPE html><html>404</html>", "it contains HTML or XML text (an error page saved under this name?)"),
        (b"<svg xmlns=''/>", "it contains an SVG drawing"),
        (b"%PDF-1.7", "it contains a PDF document"),
        (b"\0\0\0\x18ftypjxl ", "it contains a JPEG XL picture"),
        (b"\0\0\0\x18ftypmp42", "it contains a film or a HEIF picture"),
        (b"\0" * 400, "it contains zero bytes only (a copy or download that failed?)"),
        (b"\x01\x02\x03\x80" * 100, "it contains unknown data"),
        (b"GIF89", "it contains text"),
    ],
)
def test_other_content_under_a_pictures_name(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    refused(tmp_path / "a.jpg", text)


def test_formats_pillow_knows_but_we_do_not_read(tmp_path: Path) -> None:
    for kind in ("PPM", "TGA", "ICNS", "PCX", "EPS", "DDS"):
        (tmp_path / "a.jpg").write_bytes(encoded(kind))
        refused(tmp_path / "a.jpg", "is no picture that can be read")


# -- truncated files -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path, kind: str) -> None:
    whole = encoded(kind)
    path = tmp_path / "cut.jpg"
    # Decoders need no byte behind the last pixel: of a GIF the end of its codes and of its blocks, of a PNG two checks and a
    # chunk, of a BMP what fills the row up.
    last = len(whole) - {"GIF": 6, "BMP": 2, "PNG": 24}.get(kind, 1)
    lengths = {16, 20, 30, 50, 100, len(whole) // 2, len(whole) * 9 // 10, last}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.jpg' (ends early: it is truncated|is damaged|is no picture)"):
            pictures.read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_half_a_photo_says_truncated(tmp_path: Path, kind: str) -> None:
    for options in ({}, {"progressive": True}) if kind == "JPEG" else ({},):
        whole = encoded(kind, picture(side=200), **options)
        (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
        refused(tmp_path / "half.jpg", "ends early: it is truncated. Copy or download it again.")


# -- bombs ---------------------------------------------------------------------------------------


def bombs() -> dict[str, bytes]:
    side = 20_000
    jpeg = bytearray(encoded("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(encoded("BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    gif = bytearray(encoded("GIF"))
    gif[6:10] = struct.pack("<HH", side, side)
    webp = b"RIFF" + struct.pack("<I", 1000) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4
    webp += (16_383).to_bytes(3, "little") * 2
    tiff = bytearray(encoded("TIFF"))
    (start,) = struct.unpack_from("<I", tiff, 4)
    for i in range(struct.unpack_from("<H", tiff, start)[0]):
        entry = start + 2 + 12 * i
        if struct.unpack_from("<H", tiff, entry)[0] in (256, 257):
            tiff[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, side)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return {"jpg": bytes(jpeg), "bmp": bytes(bmp), "gif": bytes(gif), "webp": webp, "tif": bytes(tiff), "png": png}


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "gif", "webp", "tif", "png"])
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"bomb.{suffix}"
    path.write_bytes(bombs()[suffix])

    def never(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    monkeypatch.setattr(Image.core, "new", never)
    tracemalloc.start()
    refused(path, "megapixels, more than the")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_a_real_bomb_of_one_bit_pixels(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png", compress_level=9)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path / "bomb.png", "has 20000 x 20000 = 400 megapixels, more than the 178 that are read")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes; the pixels alone: 50,000


def test_a_bomb_in_memory_is_refused_before_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Image.open(io.BytesIO(encoded("PNG")))
    monkeypatch.setattr("torchbcos.pictures.read.MAX_PIXELS", 100)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("pixels were decoded"))
    with pytest.raises(InputError, match="The RGB image of 29x24 has 29 x 24 = 0 megapixels"):
        pictures.to_rgb(photo)


def test_a_huge_tile_in_a_small_tiff_is_refused(tmp_path: Path) -> None:
    values = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1), (322, 60_000), (323, 60_000)]
    values += [(324, 8), (325, 64)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values)
    raw = b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + b"\0" * 4
    (tmp_path / "tile.tif").write_bytes(raw + b"\0" * 64)
    refused(tmp_path / "tile.tif", "60000 x 60000 = 3,600 megapixels")


def test_text_bombs_and_broken_metadata_do_not_matter(tmp_path: Path) -> None:
    whole = encoded("PNG")
    end = 33
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 80_000_000, 9))
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(b"\0" * 80_000_000, 9))
    odd = chunk(b"acTL", b"\0" * 8) + chunk(b"tEXt", b"no separator") + chunk(b"pHYs", b"") + chunk(b"iTXt", b"\xff")
    (tmp_path / "a.png").write_bytes(whole[:end] + bomb * 5 + profile + odd + whole[end:])
    tracemalloc.start()
    image = pictures.read_image(tmp_path / "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(np.asarray(image), np.asarray(picture()))
    assert peak < 4_000_000


def test_files_beyond_the_byte_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    monkeypatch.setattr("torchbcos.pictures.read.MAX_BYTES", 1000)
    refused(tmp_path / "a.png", "bytes, more than the 1,000 that are read")


@pytest.mark.parametrize(
    "error",
    [
        OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error, ZeroDivisionError, IndexError, KeyError,
        OverflowError, Image.DecompressionBombError, NotImplementedError, TypeError, AttributeError, MemoryError,
        RuntimeError, RecursionError, AssertionError, UnicodeDecodeError, UserWarning,
    ],
)  # fmt: skip
def test_whatever_a_decoder_raises_is_one_sentence(
    tmp_path: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))

    def fail(_: object) -> None:
        raise error("utf-8", b"", 0, 1, "bad") if error is UnicodeDecodeError else error("two\nlines")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    text = "does not fit into memory" if error is MemoryError else "a.png' "
    refused(tmp_path / "a.png", text)
    with pytest.raises(InputError, match="The RGB image of 29x24"):
        pictures.to_rgb(Image.open(io.BytesIO(encoded("PNG"))))


# -- mutated files -------------------------------------------------------------------------------


def seeds() -> list[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[274] = 6
    rgb, palette = picture(), picture("P")
    frames = {"save_all": True, "append_images": [picture(seed=1), picture(seed=2)]}
    found = [
        ("JPEG", encoded("JPEG", exif=exif, comment=b"hello")),
        ("JPEG", encoded("JPEG", progressive=True)),
        ("JPEG", encoded("JPEG", picture("CMYK"))),
        ("JPEG", encoded("JPEG", picture("L"))),
        ("PNG", encoded("PNG", exif=exif)),
        ("PNG", encoded("PNG", palette, transparency=bytes(range(256)))),
        ("PNG", encoded("PNG", picture("1"), transparency=0)),
        ("PNG", encoded("PNG", picture("L").convert("I;16"))),
        ("PNG", encoded("PNG", rgb, **frames)),
        ("GIF", encoded("GIF", palette, transparency=3, comment=b"hello")),
        ("GIF", encoded("GIF", rgb, disposal=2, **frames)),
        ("WEBP", encoded("WEBP", exif=exif)),
        ("WEBP", encoded("WEBP", picture("RGBA"), lossless=True)),
        ("WEBP", encoded("WEBP", rgb, **frames)),
        ("BMP", encoded("BMP")),
        ("BMP", encoded("BMP", palette)),
        ("TIFF", encoded("TIFF", exif=exif)),
        ("TIFF", encoded("TIFF", compression="tiff_lzw")),
        ("TIFF", encoded("TIFF", compression="jpeg")),
        ("TIFF", encoded("TIFF", picture("L").convert("F"))),
        ("TIFF", encoded("TIFF", palette, big_tiff=True)),
        ("TIFF", encoded("TIFF", rgb, **frames)),
    ]
    return [(kind, content) for kind, content in found if kind in KINDS]


def mutate(content: bytes, draw: random.Random) -> bytes:
    raw = bytearray(content)
    how = draw.randrange(6)
    if how == 0:  # flip a few bits anywhere
        for _ in range(draw.choice([1, 1, 2, 5, 20])):
            raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    elif how == 1:  # flip bytes in the header
        for _ in range(draw.choice([1, 2, 4])):
            raw[draw.randrange(min(len(raw), 120))] = draw.randrange(256)
    elif how == 2:
        del raw[draw.randrange(len(raw)) :]
    elif how == 3:  # insert
        at = draw.randrange(len(raw))
        raw[at:at] = draw.randbytes(draw.choice([1, 2, 7, 300]))
    elif how == 4:  # cut out
        at = draw.randrange(len(raw))
        del raw[at : at + draw.choice([1, 2, 4, 30])]
    else:  # write an extreme number over a field
        at = draw.randrange(min(len(raw), 400))
        value = draw.choice([0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 20_000])
        width = draw.choice([1, 2, 4])
        raw[at : at + width] = (value & (256**width - 1)).to_bytes(width, draw.choice(["big", "little"]))
    return bytes(raw)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    draw, originals, counts = random.Random(37), seeds(), collections.Counter[str]()
    path = tmp_path / "mutated.jpg"
    for i in range(MUTATIONS):
        kind, content = originals[i % len(originals)]
        changed = mutate(content, draw)
        path.write_bytes(changed)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                image = pictures.read_image(path)
                counts[f"{kind} read"] += 1
                assert image.mode == "RGB"
            except BcosError as error:
                counts[f"{kind} refused"] += 1
                text = str(error)
                assert "mutated.jpg" in text
                assert len(text) <= 500
                assert "\n" not in text
        assert not heard, (kind, [str(w.message) for w in heard], changed[:200])
    print(dict(sorted(counts.items())))
    assert sum(counts.values()) == MUTATIONS
    if MUTATIONS >= 500:
        assert {key.split()[1] for key in counts} == {"read", "refused"}
