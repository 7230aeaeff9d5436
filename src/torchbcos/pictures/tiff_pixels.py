"""The pixels of a TIFF: libtiff unpacks the bytes, numpy says what numbers they are, `samples` what those mean.

Shapes: R rows of a strip or tile, W columns, S samples a pixel (one where each sample has a plane of its own).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from torchbcos._core.errors import InputError
from torchbcos.pictures.samples import Range, Samples
from torchbcos.pictures.tiff import Layout

__all__ = ["decode_tiff", "stored_values"]

_DEFLATE = (8, 32946)
_GROUP = 2**24  # bytes that are unpacked at a time
_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
_MODES = {(1, False): "L", (1, True): "LA", (3, False): "RGB", (3, True): "RGBA", (4, False): "CMYK"}
_Part = tuple[int, int, NDArray[Any]]  # first sample, first row, numbers (R, W, S)


def decode_tiff(
    layout: Layout, data: bytes, name: str, value_range: Range | None = None
) -> tuple[Image.Image, str | None, Range | None]:
    """The picture in 8 bits a sample: mode L, LA, La, RGB, RGBA, RGBa, CMYK, YCbCr or LAB.

    Args:
        layout: from `torchbcos.pictures.tiff.layout_of`.
        data: the whole file.
        name: what messages call it.
        value_range: the stored numbers of black and white, for grey and RGB.

    Returns:
        The picture; what `Samples.judge` says of its numbers; the range that is still to be set.

    Raises:
        InputError: NaN, numbers without a range, or a range for what has none.
        EOFError, OSError, ValueError: the data is broken.
    """
    if layout.by_pillow:
        decoded = TiffImageFile(io.BytesIO(data))
        decoded.load()
        return decoded, None, value_range
    plain = layout.photometric in (0, 1, 2)
    if value_range is not None and (layout.premultiplied or (not plain and layout.bits > 8)):
        raise InputError(
            f"{name} has premultiplied alpha, a palette or inks: no range of numbers can be set for it. Save it as RGB."
        )
    samples = Samples(layout.kind, layout.bits, value_range if plain else None)
    image = _assemble(layout, data, samples)
    own = layout.kind == "u" and layout.bits <= 8 and value_range is None  # a photo of 8 bits may be dark
    note = samples.judge(name) if plain and not own else None
    return image, note, None if plain else value_range


def stored_values(layout: Layout, data: bytes) -> NDArray[Any]:
    """All numbers as they are stored, (H, W, samples)."""
    parts = list(_parts(layout, data, range(layout.samples)))
    whole = np.zeros((layout.height, layout.width, layout.samples), parts[0][2].dtype)
    for first, top, values in parts:
        whole[top : top + values.shape[0], :, first : first + values.shape[2]] = values
    return whole


def _assemble(layout: Layout, data: bytes, samples: Samples) -> Image.Image:
    """The picture, part by part: never more than one part in another form than bytes."""
    count, alpha = layout.colours, layout.alpha
    wanted = [*range(count), *([] if alpha is None else [alpha])]
    paletted = layout.photometric == 3
    whole = np.zeros((layout.height, layout.width, len(wanted)), np.uint16 if paletted else np.uint8)
    clear = Samples(
        layout.kind, layout.bits, (0, 1) if layout.kind == "f" else (0, 2.0 ** (layout.bits - (layout.kind == "i")) - 1)
    )
    as_stored = paletted or (layout.kind == "u" and layout.bits == 8 and not samples.said)
    for first, top, values in _parts(layout, data, wanted):
        rows, colours = slice(top, top + values.shape[0]), values[..., : max(count - first, 0)]
        if colours.shape[2]:
            whole[rows, :, first : first + colours.shape[2]] = colours if as_stored else samples.to_bytes(colours)
        if alpha is not None and first <= alpha < first + values.shape[2]:
            whole[rows, :, count] = clear.to_bytes(values[..., alpha - first])
    if layout.photometric == 0:
        whole[..., 0] = 255 - whole[..., 0]
    if paletted:
        table = (np.array(layout.palette, np.uint16).reshape(3, -1).T >> 8).astype(np.uint8)
        whole = np.concatenate([table[whole[..., 0]], whole[..., 1:].astype(np.uint8)], -1)
    return _image(whole, layout)


def _image(pixels: NDArray[Any], layout: Layout) -> Image.Image:
    """(H, W, channels) bytes as an image of the mode that says what they are."""
    special = {6: "YCbCr", 8: "LAB"}.get(layout.photometric)
    has_alpha = layout.alpha is not None
    if special is not None:
        mode, pixels = special, pixels[..., :3]
    elif layout.photometric == 5:
        mode, pixels = "CMYK", pixels[..., :4]
    else:
        mode = _MODES[pixels.shape[2] - has_alpha, has_alpha]
        mode = {"LA": "La", "RGBA": "RGBa"}[mode] if has_alpha and layout.premultiplied else mode
    return Image.frombytes(mode, (layout.width, layout.height), np.ascontiguousarray(pixels).tobytes())


def _parts(layout: Layout, data: bytes, wanted: Any) -> Iterator[_Part]:
    """The numbers of the samples that are wanted, some rows of strips or tiles at a time."""
    tall, each = layout.block[1], layout.row_bytes
    line = layout.across * tall * each
    for plane in range(layout.planes):
        if layout.planar == 2 and plane not in wanted:
            continue
        row = 0
        while row < layout.down:
            last = row == layout.down - 1
            high = layout.height - row * tall if last and not layout.tiled else tall
            group = (
                1
                if high != tall
                else min(max(1, _GROUP // line), layout.down - row - (not layout.tiled and layout.height % tall > 0))
            )
            start = (plane * layout.down + row) * layout.across
            raw = _unpack(layout, data, range(start, start + group * layout.across), high)
            values = _numbers(layout, raw.reshape(group * layout.across, high, each))
            wide = values.reshape(group, layout.across, high, layout.block[0], -1).transpose(0, 2, 1, 3, 4)
            top = row * tall
            grid = wide.reshape(group * high, layout.across * layout.block[0], -1)[: layout.height - top, : layout.width]
            yield plane, top, grid
            row += group


def _unpack(layout: Layout, data: bytes, blocks: range, high: int) -> NDArray[np.uint8]:
    """The bytes of some strips or tiles of `high` rows, one after the other."""
    size = layout.row_bytes * high
    stored = [_stored(layout, data, i, size) for i in blocks]
    if layout.fill == 2:
        stored = [block.translate(_REVERSED) for block in stored]
    if layout.compression == 1:
        return np.frombuffer(b"".join(stored), np.uint8)
    if layout.compression in _DEFLATE:  # as fast as libtiff, which writes to stderr of what is broken
        return np.frombuffer(b"".join([_inflate(block, size) for block in stored]), np.uint8)
    return _by_libtiff(stored, layout.compression, layout.row_bytes, high)


def _stored(layout: Layout, data: bytes, i: int, size: int) -> bytes:
    """Strip or tile i as it lies in the file."""
    start = layout.offsets[i]
    count = layout.counts[i] if i < len(layout.counts) else size if layout.compression == 1 else len(data) - start
    if count < 1 or start < 8:
        raise ValueError("a strip or tile is left out")
    if layout.compression == 1:  # some programs write greater counts, which nothing needs
        count = min(count, size)
    if start + count > len(data) or (layout.compression == 1 and count < size):
        raise EOFError("it ends early")
    return data[start : start + count]


def _inflate(block: bytes, size: int) -> bytes:
    """The first `size` bytes of a deflated block; like libtiff it asks no more of what comes after."""
    found = zlib.decompressobj().decompress(block, size)
    if len(found) < size:
        raise ValueError("a strip or tile is too short")
    return found


def _by_libtiff(stored: list[bytes], compression: int, row_bytes: int, high: int) -> NDArray[np.uint8]:
    """Unpack blocks as the strips of a grey picture of bytes, so that libtiff neither swaps nor adds nor interprets anything."""
    width, height, n = row_bytes, high * len(stored), len(stored)
    ends = np.cumsum([8, *map(len, stored)])
    tables = np.concatenate([ends[:-1], np.array([len(block) for block in stored])]).astype("<u4").tobytes()
    place = int(ends[-1])
    many = [(273, 4, n, place if n > 1 else int(ends[0])), (279, 4, n, place + 4 * n if n > 1 else len(stored[0]))]
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1), (277, 3, 1, 1),
            (278, 4, 1, high), *many]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags)) + b"\0" * 4
    head = struct.pack("<4sI", b"II*\0", place + len(tables))
    image = TiffImageFile(io.BytesIO(b"".join([head, *stored, tables, directory])))
    image.im = Image.new("L", image.size).im  # Pillow would warn of its size, which was judged already
    image.load()
    return np.frombuffer(image.tobytes(), np.uint8)


def _numbers(layout: Layout, raw: NDArray[np.uint8]) -> NDArray[Any]:
    """Numbers (blocks, R, W, S) from the bytes (blocks, R, row_bytes) of strips or tiles; the predictor is undone."""
    blocks, rows, _ = raw.shape
    shape = blocks, rows, layout.block[0], (1 if layout.planar == 2 else layout.samples)
    count = shape[2] * shape[3]
    if layout.bits % 8:
        return _unpack_bits(raw, count, layout.bits).reshape(shape)
    each = layout.bits // 8
    if layout.predictor == 3:
        summed = np.cumsum(raw.reshape(blocks, rows, -1, shape[3]), axis=2, dtype=np.uint8)
        raw = np.ascontiguousarray(summed.reshape(blocks, rows, each, count).swapaxes(2, 3))
        return raw.reshape(blocks, rows, -1).view(f">f{each}").reshape(shape)
    if layout.predictor == 2:
        whole = raw.view(f"{layout.order}u{each}").reshape(shape)
        raw = np.cumsum(whole, axis=2, dtype=f"u{each}").astype(f"{layout.order}u{each}").reshape(blocks, rows, -1).view(np.uint8)
    return raw.view(f"{layout.order}{layout.kind}{each}").reshape(shape)


def _unpack_bits(raw: NDArray[np.uint8], count: int, bits: int) -> NDArray[Any]:
    """Numbers of any bits, the highest first, rows padded to bytes: (…, row_bytes) becomes (…, count)."""
    single = np.unpackbits(raw, axis=-1)[..., : count * bits].reshape(*raw.shape[:-1], count, bits)
    out = np.zeros(single.shape[:-1], np.uint8 if bits < 8 else np.uint16)
    for b in range(bits):
        out = out << 1 | single[..., b]
    return out
