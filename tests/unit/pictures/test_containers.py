"""Walkers are no stricter than decoders; what no decoder reads is named; what is cheap to write and dear to read is refused."""

from __future__ import annotations

import io
import random
import re
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from tests.unit.pictures.test_broken import chunk, encoded, mutate, picture, seeds
from torchbcos import pictures
from torchbcos._core.errors import BcosError, InputError
from torchbcos.pictures import containers

DECODERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}


def read(content: bytes) -> np.ndarray:
    return np.asarray(pictures.decode_image(content, "it"))


def refused(content: bytes, text: str) -> None:
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        pictures.decode_image(content, "it")
    assert "damaged" not in str(caught.value) and "opy it again" not in str(caught.value)


def put(content: bytes, at: int, what: bytes) -> bytes:
    return content[:at] + what + content[at:]


# -- no stricter than the decoder ------------------------------------------------------------------


def test_what_pillow_decodes_is_never_called_damaged() -> None:
    """The law of all walkers: files with a few bytes changed, of which Pillow still makes a picture."""
    draw, originals, sound = random.Random(28), [seed for seed in seeds() if seed[0] in DECODERS], 0
    for i in range(300):
        kind, content = originals[i % len(originals)]
        changed = mutate(content, draw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = DECODERS[kind](io.BytesIO(changed))
                assert image.width * image.height < 1_000_000
                image.load()
            except Exception:
                continue
        sound += 1
        try:
            pictures.decode_image(changed, "it")
        except BcosError as error:
            pytest.fail(f"{kind} {i}: {error}")
    assert sound > 80


STRAY = {
    "a byte": b"\x07",
    "a line": b"stray bytes\r\n",
    "zeros": bytes(5000),
    "a stuffed byte": b"\xff\0\xff\0",
    "fill bytes": b"\xff" * 300,
    "a restart": b"\xff\xd3",
    "a TEM marker": b"\xff\x01",
    "a second beginning": b"\xff\xd8",
    "a comment of no length": b"\xff\xfe\0\0",
    "a short comment": b"\xff\xfe\0\1",
}


@pytest.mark.parametrize("name", list(STRAY))
def test_stray_bytes_between_the_segments_of_a_jpeg(name: str) -> None:
    whole = encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    at, places = 2, []
    while whole[at + 1] != 0xDA:
        places.append(at)
        at += 2 + int.from_bytes(whole[at + 2 : at + 4], "big")
    assert len(places) > 4
    for place in [*places, at]:
        if place == 2 and STRAY[name][0] != 0xFF:  # the first three bytes name a JPEG
            continue
        assert np.array_equal(read(put(whole, place, STRAY[name])), read(whole)), place


def test_a_png_is_read_whatever_follows_its_pixels() -> None:
    whole, end = encoded("PNG"), 12
    cut = whole[:-end]
    for tail in (
        b"",
        b"\0",
        b"garbage without any structure",
        chunk(b"tEXt", b"a\0b")[:-3],
        b"\xff\xff\xff\xfftEXt",
        chunk(b"IEND", b"") * 2,
    ):
        assert np.array_equal(read(cut + tail), np.asarray(picture())), tail
    for cut_off in (1, 4, 8):  # the checks of the data
        assert np.array_equal(read(cut[:-cut_off]), np.asarray(picture()))
    wrong = bytearray(put(whole, 33, chunk(b"tEXt", b"a\0b")))
    wrong[33 + 12] ^= 1  # a checksum of text
    assert np.array_equal(read(bytes(wrong)), np.asarray(picture()))
    data = whole.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", whole, data)
    body, rest = whole[data + 8 : data + 8 + length], whole[data + 12 + length :]
    parts = chunk(b"IDAT", body[:50]) + chunk(b"tEXt", b"between\0them") + chunk(b"IDAT", b"") + chunk(b"IDAT", body[50:])
    assert np.array_equal(read(whole[:data] + parts + rest), np.asarray(picture()))


def test_a_gif_is_read_with_strays_and_without_its_end() -> None:
    whole = encoded("GIF", picture("P"), comment=b"hello")
    frame = whole.index(b"\0,") + 1
    wanted = read(whole)
    for changed in (
        put(whole, frame, b"\x00\x07stray"),
        whole[:-1],
        whole[:-2],
        put(whole, len(whole), b"more"),
        put(whole, frame, b"\0" * 9),
    ):
        assert np.array_equal(read(changed), wanted)
    see_through = put(whole, frame, b"!\xf9\4\1\0\0\0\0" + b"!\xf9\4\0\0\0\0\0")  # two control blocks: Pillow takes what both say
    image = GifImagePlugin.GifImageFile(io.BytesIO(see_through))
    image.load()
    assert image.info["transparency"] == 0
    assert np.array_equal(read(see_through), np.asarray(pictures.to_rgb(image)))


def test_a_webp_with_more_behind_it_and_a_tiff_with_a_wrong_mark() -> None:
    webp = encoded("WEBP")
    for tail in (b"\0", b"more bytes", b"EXIF\xff\xff\xff\xff"):
        assert np.array_equal(read(webp + tail), read(webp))
    tiff = encoded("TIFF")
    assert np.array_equal(read(b"II\0*" + tiff[4:]), read(tiff))
    (start,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    table = tiff[start : start + 2 + 12 * count]  # at the end of the file, without the place of a second one
    moved = tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + table
    assert np.array_equal(read(moved), read(tiff))


# -- sound files that no decoder reads -------------------------------------------------------------


def jpeg_of(marker: int, bits: int = 8, height: int = 8, channels: int = 3) -> bytes:
    whole = encoded("JPEG")
    at = whole.index(b"\xff\xc0")
    body = struct.pack(">BHHB", bits, height, 8, channels) + b"".join(bytes([i + 1, 0x11, 0]) for i in range(channels))
    return whole[:at] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + whole[at + 19 :]


def bmp_of(bits: int = 24, method: int = 0, header: int = 40, colours: int = 0, masks: bytes = b"") -> bytes:
    head = struct.pack("<IiiHHIIiiII", header, 4, 4, 1, bits, method, 64, 0, 0, colours, 0).ljust(max(header, 40), b"\0")
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(head) + len(masks)) + head + masks + bytes(64)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (jpeg_of(0xC1, bits=12), "is a JPEG of 12 bits a sample, which is not read: save it as an ordinary PNG or JPEG."),
        (jpeg_of(0xC3, bits=16), "is a JPEG of 16 bits a sample"),
        (jpeg_of(0xC5), "is a hierarchical JPEG"),
        (jpeg_of(0xCE), "is a hierarchical JPEG"),
        (jpeg_of(0xCB), "is a lossless JPEG with arithmetic coding"),
        (jpeg_of(0xF7), "is a JPEG-LS picture"),
        (jpeg_of(0xC0, channels=2), "is a JPEG of 2 channels"),
        (jpeg_of(0xC0, channels=6), "is a JPEG of 6 channels"),
        (jpeg_of(0xC0, height=0), "is a JPEG that tells its height only at its end"),
        (put(encoded("PNG"), 8, chunk(b"CgBI", bytes(4))), "is a PNG in Apple's own variant for telephones (CgBI)"),
        (bmp_of(bits=2), "is a BMP of 2 bits a pixel"),
        (bmp_of(bits=64), "is a BMP of 64 bits a pixel"),
        (bmp_of(bits=0, method=4), "is a BMP with a JPEG inside"),
        (bmp_of(bits=0, method=5), "is a BMP with a PNG inside"),
        (bmp_of(bits=1, method=3, header=64), "is a BMP in an encoding of OS/2"),
        (bmp_of(bits=8, colours=300), "is a BMP of 8 bits a pixel with 300 colours"),
        (bmp_of(bits=16, method=3, masks=struct.pack("<3I", 0xF00, 0xF0, 0xF)), "is a BMP of a rare kind"),
        (bmp_of(bits=32, method=6, masks=bytes(16)), "is a BMP of a rare kind"),
        (bmp_of(bits=8, header=16), "is a BMP of a rare kind"),
        (b"GIF89a\4\0\4\0\0\0\0;", "is a GIF without a frame"),
        (b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2\1\x44\0;", "is a GIF without a pixel"),
    ],
)
def test_sound_files_of_a_kind_that_is_not_read_are_named(content: bytes, what: str) -> None:
    refused(content, what)


def test_no_words_of_a_decoder_stand_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError("decoder error -2 when reading image file <_io.BytesIO object at 0x7f>")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(
        InputError, match=r"^it is damaged: its PNG data cannot be decoded\. Copy it again, or save it anew\.$"
    ) as caught:
        read(encoded("PNG"))
    assert isinstance(caught.value.__cause__, OSError)  # for those who look for it


# -- cheap to write, dear to read ------------------------------------------------------------------


def progressive(scans: int, side: int = 64, restarts: int = 0) -> bytes:
    """A progressive JPEG of one channel with that many scans, of which all but the first are a few bytes."""
    table = b"\xff\xdb" + struct.pack(">H", 67) + b"\0" + b"\x10" * 64
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\1\x11\0"
    huffman = [
        b"\xff\xc4" + struct.pack(">H", 21) + bytes([c << 4, 1, 1, *[0] * 14]) + (b"\0\xe0" if c else b"\0\1") for c in (0, 1)
    ]
    first = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0\0\0\0" + bytes((side // 8) ** 2 // 8 + 1) + b"\xff\xd0" * restarts
    empty = [
        b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 1 + i % 63, 1 + i % 63, 0]) + b"\xbf\xff\0"
        for i in range(scans - 1)
    ]
    return b"\xff\xd8" + table + frame + b"".join(huffman) + first + b"".join(empty) + b"\xff\xd9"


def test_a_jpeg_of_too_many_scans_is_refused() -> None:
    assert read(progressive(100)).shape == (64, 64, 3)
    for content in (progressive(101), progressive(5000), progressive(101, restarts=7)):
        refused(content, "it is a JPEG of more than 100 scans, which is not read")


def test_scans_of_other_pictures_in_the_file_do_not_count() -> None:
    whole = progressive(60)
    assert read(whole + whole + whole).shape == (64, 64, 3)  # as multi-picture files of cameras have them
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + 2 * 200) + b"\xff\xda" * 200
    at = whole.index(b"\xff\xda", whole.index(b"\xff\xda") + 2)
    assert read(put(whole, at, thumbnail)).shape == (64, 64, 3)


def tall(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def rows_of_runs(width: int, height: int) -> bytes:
    rows = b"\1\1\0\0" * height + b"\0\1"
    return bmp_of(bits=8, method=1, colours=256, masks=bytes(1024))[: 14 + 40 + 1024].replace(
        struct.pack("<ii", 4, 4), struct.pack("<ii", width, height), 1
    ) + rows  # fmt: skip


def slow_files() -> dict[str, tuple[bytes, str]]:
    gif, canvas = encoded("GIF", picture("L")), (12_000).to_bytes(3, "little") * 2
    many, side = "is a file of more than 2,500 parts", "a side of more than 10,000,000"
    comment = b"!\xfe" + (b"\xff" + b"a" * 255) * 700 + b"\0"
    return {
        "rows": (tall(1, 170_000_000), "has 1 x 170000000 pixels, and a side of more than 10,000,000: cut it into parts first."),
        "a row": (tall(10_000_001, 1), side),
        "runs": (rows_of_runs(20_000, 1000), "has 20000 x 1000 = 20 megapixels, more than the 10 that are read"),
        "canvas": (encoded("WEBP")[:12] + b"VP8X\n\0\0\0" + bytes(4) + canvas, "megapixels, more than the 89 that are read"),
        "segments": (put(encoded("JPEG"), 2, b"\xff\xe5\0\2" * 2_600), many),
        "restarts": (put(encoded("JPEG"), 2, b"\xff\xd0" * 2_600), many),
        "chunks": (put(encoded("PNG"), 33, chunk(b"tEXt", b"") * 2_600), many),
        "riff": (encoded("WEBP") + b"abcd\0\0\0\0" * 2_600, many),
        "blocks": (put(gif, 13 + 768, b"!\xfe" + b"\1a" * 41_000 + b"\0"), "is a GIF of more than 40,000 blocks"),
        "extensions": (put(gif, 13 + 768, b"!\xfe\0" * 2_600), many),
        "comments": (put(gif, 13 + 768, comment * 2), "is a GIF with more than 300,000 bytes before its first frame"),
    }


def test_what_is_made_to_be_slow_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (containers._MAX_PARTS, containers._MAX_BLOCKS, containers._MAX_HEAD) == (250_000, 4_000_000, 2**25)
    monkeypatch.setattr(containers, "_MAX_PARTS", 2_500)  # a hundredth, so that the test is quick
    monkeypatch.setattr(containers, "_MAX_BLOCKS", 40_000)
    monkeypatch.setattr(containers, "_MAX_HEAD", 300_000)
    for name, (content, text) in slow_files().items():
        start = time.process_time()
        refused(content, text)
        assert time.process_time() - start < 5, name


def test_long_fillings_take_no_longer_than_they_are() -> None:
    whole = encoded("JPEG")
    for filling in (b"\xff" * 3_000_000, b"\xff" * 100_000 + b"\0", b"\xff\xff\0" * 1_000_000, b"a" * 3_000_000):
        start = time.process_time()
        assert np.array_equal(read(put(whole, 2 + 18, filling)), read(whole))
        assert time.process_time() - start < 2


def test_bytes_of_a_shard_are_limited_as_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchbcos.pictures.read.MAX_BYTES", 100)
    refused(encoded("PNG"), "bytes, more than the 100 that are read")


def test_a_bmp_of_runs_is_read(tmp_path: Path) -> None:
    assert read(rows_of_runs(40, 30)).shape == (30, 40, 3)
    assert containers.unpack("BMP", rows_of_runs(40, 30)).kind == "BMP of runs"
