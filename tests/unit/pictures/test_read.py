"""Reading pictures: formats, modes, depths, orientations, animation, threads."""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from torchbcos import pictures
from torchbcos._core.errors import InputError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
NAMES = ["jpg", "png", "gif", "webp", "bmp", "tif"]


def photo(height: int = 40, width: int = 60) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) * 255 // max(height + width - 2, 1)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: Pillow cannot write 16-bit colour."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def with_orientation(value: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + mark + struct.pack(order + "IHHHIHHI", 8, 1, 274, 3, 1, value, 0, 0)


# -- formats and modes ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (60, 40)])
def test_every_format_is_read_from_one_pixel_up(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"ä b[1].{suffix}"
    options = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    photo(size[1], size[0]).save(path, **options)
    image = pictures.read_image(str(path))
    assert (image.mode, image.size) == ("RGB", size)
    off = np.abs(pixels(image) - pixels(photo(size[1], size[0]))).mean()
    assert off <= {"jpg": 3, "gif": 12}.get(suffix, 0)
    assert not pictures.is_animated(image)


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    photo().save(tmp_path / "p.dat", "PNG")
    assert np.array_equal(pixels(pictures.read_image(tmp_path / "p.dat")), pixels(photo()))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_compressions(tmp_path: Path, compression: str | None, big: bool) -> None:
    image = photo().convert("1") if compression == "group4" else photo()
    image.save(tmp_path / "p.tif", compression=compression, big_tiff=big)
    off = np.abs(pixels(pictures.read_image(tmp_path / "p.tif")) - pixels(image.convert("RGB"))).mean()
    assert off < (6 if compression == "jpeg" else 1e-9)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "YCbCr", "LAB", "HSV", "CMYK"])
def test_modes_in_memory_keep_their_colour(mode: str) -> None:
    for colour in [(0, 0, 0), WHITE, RED, BLUE]:
        if mode in ("1", "L") and colour in (RED, BLUE):
            continue
        image = Image.new("RGB", (3, 2), colour)
        image = image.convert("RGBA").convert("RGBX") if mode == "RGBX" else image.convert(mode)
        out = pictures.to_rgb(image)
        assert (out.mode, out.size) == ("RGB", (3, 2))
        assert np.abs(pixels(out) - np.array(colour)).max() <= {"LAB": 25, "YCbCr": 4}.get(mode, 1), (mode, colour)


def test_defect_37_palette_is_read_as_colours_not_as_indices(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    for suffix in ("png", "gif", "bmp", "tif"):
        image.save(tmp_path / f"p.{suffix}")
        assert pixels(pictures.read_image(tmp_path / f"p.{suffix}")).tolist() == [[list(RED), list(BLUE)]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGBA", "CMYK", "LA", "PA", "I", "F"])
def test_defect_37_every_mode_encodes_to_six_channels(mode: str) -> None:
    image = Image.new("P", (30, 26)).convert("LA").convert("PA") if mode == "PA" else Image.new(mode, (30, 26))
    known = {"value_range": (0, 255)} if mode == "I" else {}  # whose numbers have no range of their own
    assert pictures.Preprocess(resize=24, crop=16)(pictures.to_rgb(image, **known)).shape == (6, 16, 16)


def test_defect_37_uint8_tensors_are_divided_by_255() -> None:
    x = torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4)
    assert torch.equal(pictures.Preprocess()(x), pictures.Preprocess()(x.float() / 255))
    with pytest.raises(InputError, match=re.escape("[0, 1], got torch.uint8. Use image.float() / 255.")):
        pictures.check_tensor(x)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_alpha_lies_over_white(mode: str) -> None:
    rgba = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    rgba.putpixel((2, 0), (0, 0, 0, 102))
    image = rgba.convert("LA").convert(mode) if mode == "La" else rgba.convert(mode)
    assert pixels(pictures.to_rgb(image))[0, :, 0].tolist() == [0, 255, 153]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_in_files_lies_over_white(tmp_path: Path, suffix: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 255, 255))
    image.putpixel((1, 0), (0, 0, 255, 51))
    image.save(tmp_path / f"p.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    assert pixels(pictures.read_image(tmp_path / f"p.{suffix}")).tolist() == [[[0, 0, 255], [204, 204, 255]]]


def test_transparent_palette_entries_lie_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "one.png", transparency=0)
    image.save(tmp_path / "bytes.png", transparency=bytes([51, 255]))
    image.save(tmp_path / "one.gif", transparency=0)
    assert pixels(pictures.read_image(tmp_path / "one.png")).tolist() == [[list(WHITE), list(BLUE)]]
    assert pixels(pictures.read_image(tmp_path / "bytes.png")).tolist() == [[[255, 204, 204], list(BLUE)]]
    assert pixels(pictures.read_image(tmp_path / "one.gif")).tolist() == [[list(WHITE), list(BLUE)]]


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key", "expected"),
    [
        (2, 0, bytes([0b01_10_00_11]), (1,), [255, 170, 0, 255]),
        (4, 0, bytes([0x15, 0x0F]), (1,), [255, 85, 0, 255]),
        (16, 0, struct.pack(">4H", 300, 25700, 0, 65535), (300,), [255, 100, 0, 255]),
        (16, 2, struct.pack(">12H", *[300] * 3, *[25700] * 3, *[0] * 3, *[65535] * 3), (300,) * 3, [255, 100, 0, 255]),
    ],
)
def test_a_transparent_colour_is_found_at_any_depth(
    tmp_path: Path, depth: int, colour: int, row: bytes, key: tuple[int, ...], expected: list[int]
) -> None:
    chunk = (b"tRNS", struct.pack(f">{len(key)}H", *key))
    (tmp_path / "p.png").write_bytes(png(4, 1, depth, colour, b"\0" + row, chunk))
    assert pixels(pictures.read_image(tmp_path / "p.png"))[0, :, 1].tolist() == expected


def test_cmyk_colours_are_right_with_and_without_adobes_segment(tmp_path: Path) -> None:
    inks = {(0, 0, 0, 0): WHITE, (0, 255, 255, 0): RED, (255, 0, 255, 0): GREEN, (0, 0, 0, 255): (0, 0, 0)}
    for ink, colour in inks.items():
        image = Image.new("CMYK", (16, 16), ink)
        image.save(tmp_path / "adobe.jpg", quality=95)
        stored = (tmp_path / "adobe.jpg").read_bytes()
        assert b"Adobe" in stored
        assert np.abs(pixels(pictures.read_image(tmp_path / "adobe.jpg")) - np.array(colour)).max() <= 3
        image.save(tmp_path / "p.tif")
        assert pixels(pictures.read_image(tmp_path / "p.tif"))[0, 0].tolist() == list(colour)
        # The segment tells decoders that inks are stored inverted. Tools that strip metadata leave the inks as they
        # are, so its absence says nothing, and the colours are the same.
        at = stored.index(b"\xff\xee")
        plain = stored[:at] + stored[at + 2 + int.from_bytes(stored[at + 2 : at + 4], "big") :]
        (tmp_path / "plain.jpg").write_bytes(plain)
        assert np.abs(pixels(pictures.read_image(tmp_path / "plain.jpg")) - np.array(colour)).max() <= 3


# -- depth ---------------------------------------------------------------------------------------


def test_sixteen_bit_grey_is_scaled_never_clipped(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(values / 257.0).astype(int)
    for suffix in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"p.{suffix}")
        assert np.array_equal(pixels(pictures.read_image(tmp_path / f"p.{suffix}"))[..., 0], expected)
    big_endian = Image.frombytes("I;16B", (256, 256), values.astype(">u2").tobytes())
    assert np.array_equal(pixels(pictures.to_rgb(big_endian))[..., 2], expected)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_sixteen_bit_colour_png_is_scaled(tmp_path: Path, colour: int) -> None:
    count = {2: 3, 4: 2, 6: 4}[colour]
    values = np.linspace(0, 65535, 50).astype(">u2")
    row = np.full((50, count), 65535, dtype=">u2")
    row[:, 0] = values
    (tmp_path / "p.png").write_bytes(png(50, 1, 16, colour, b"\0" + row.tobytes()))
    got = pixels(pictures.read_image(tmp_path / "p.png"))[0, :, 0]
    assert np.abs(got - values.astype(int) / 257.0).max() <= 1
    assert got[0] == 0
    assert got[-1] == 255


@pytest.mark.parametrize(
    ("mode", "values", "limits", "expected"),
    [
        ("I", [0, 128, 255], (0, 255), [0, 128, 255]),
        ("I", [0, 25700, 65535], (0, 65535), [0, 100, 255]),
        ("I", [-51, 0, 204], (-51, 204), [0, 51, 255]),
        ("I", [0, 100_000, 300_000], (0, 255_000), [0, 100, 255]),
        ("F", [0.0, 0.4, 1.0], None, [0, 102, 255]),
        ("F", [-0.0009, 0.4, 1.0009], None, [0, 102, 255]),
        ("F", [0.0, 40.0, 255.0], (0, 255), [0, 40, 255]),
        ("F", [-1.0, 0.0, 1.0], (-1, 1), [0, 128, 255]),
        ("F", [-3.0, -3.0, -3.0], (-4, -2), [128, 128, 128]),
    ],
)
def test_wide_grey_is_scaled_by_a_range_that_is_known_or_said(
    mode: str, values: list[float], limits: tuple[float, float] | None, expected: list[int]
) -> None:
    image = Image.fromarray(np.array([values], dtype=np.int32 if mode == "I" else np.float32))
    assert image.mode == mode
    assert pixels(pictures.to_rgb(image, value_range=limits))[0, :, 0].tolist() == expected
    if limits is not None:
        with pytest.raises(
            InputError, match=f"from {values[0]:g} to {max(values):g}, and nothing says which are black and white"
        ):
            pictures.to_rgb(image)


def test_nan_in_a_float_picture_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(InputError, match=r"nan\.tif' holds NaN or infinity"):
        pictures.read_image(tmp_path / "nan.tif")


# -- orientation ---------------------------------------------------------------------------------

UNDO: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
def test_all_orientations_are_undone(tmp_path: Path, value: int, suffix: str) -> None:
    stored = photo(5, 8)
    exif = Image.Exif()
    exif[274] = value
    path = tmp_path / f"p.{suffix}"
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    stored.save(path, exif=exif, **options)
    upright = UNDO[value](pixels(stored))
    for image in (pictures.read_image(path), pictures.to_rgb(Image.open(io.BytesIO(path.read_bytes())))):
        assert pixels(image).shape == upright.shape
        assert np.abs(pixels(image) - upright).max() <= (12 if suffix == "jpg" else 0)
        assert image.getexif().get(274, 1) == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_in_either_byte_order(tmp_path: Path, order: str) -> None:
    photo(5, 8).save(tmp_path / "p.jpg", exif=with_orientation(6, order))
    assert pictures.read_image(tmp_path / "p.jpg").size == (5, 8)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0junk that is no TIFF directory",
        b"Exif\0\0II*\0" + struct.pack("<I", 2**32 - 1),
        b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 65535) + b"\xff" * 600,
        with_orientation(0),
        with_orientation(9),
        with_orientation(65535),
    ],
)
def test_absurd_exif_changes_nothing(tmp_path: Path, exif: bytes) -> None:
    for suffix in ("jpg", "png", "webp"):
        photo(5, 8).save(tmp_path / f"p.{suffix}", exif=exif)
        assert pictures.read_image(tmp_path / f"p.{suffix}").size == (8, 5)


# -- animation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animated_file_the_first_frame_is_read_and_it_says_so(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in (RED, GREEN, BLUE)]
    path = tmp_path / f"p.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    image = pictures.read_image(path)
    assert image.getpixel((3, 3)) == RED
    assert pictures.is_animated(image)
    assert pictures.is_animated(pictures.to_rgb(Image.open(io.BytesIO(path.read_bytes()))))
    assert pictures.is_animated(pictures.as_images(path)[0])


def test_a_gif_frame_beyond_its_screen_and_with_comments(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, *BLUE])
    stored = io.BytesIO()
    image.save(stored, "GIF", comment=b"x" * 1000)
    raw = bytearray(stored.getvalue())
    raw[6:10] = struct.pack("<HH", 2, 2)  # the screen; the frame keeps its 4 x 4
    (tmp_path / "p.gif").write_bytes(bytes(raw))
    assert pictures.read_image(tmp_path / "p.gif").size == (4, 4)


# -- no global state, threads --------------------------------------------------------------------


def test_threads_read_without_warnings_and_change_no_state(tmp_path: Path) -> None:
    photo().save(tmp_path / "p.tif", exif=with_orientation(6)[6:], tiffinfo={700: b"x" * 10})
    photo().save(tmp_path / "p.jpg", exif=b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 5, 270, 2, 900, 9_000_000))
    photo().save(tmp_path / "p.png")
    filters, before = list(warnings.filters), (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                for suffix in ("tif", "jpg", "png"):
                    pictures.read_image(tmp_path / f"p.{suffix}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == filters
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
