"""TIFFs of any layout, written by hand from the specification: nothing here is shared with the reader."""

from __future__ import annotations

import io
import lzma
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

BASE = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3, 9: 3, 32844: 1}
FORMATS = {"u": 1, "i": 2, "f": 3, "x": 4, "c": 6}
REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


@dataclass(frozen=True)
class Kind:
    """One layout: every axis of the table."""

    photometric: int = 1
    format: str = "u"
    bits: int = 8
    planar: int = 1
    order: str = "<"
    compression: int = 1
    predictor: int = 1
    fill: int = 1
    tile: tuple[int, int] | None = None
    rows: int = 7
    extra: tuple[int, ...] = ()
    big: bool = False

    @property
    def samples(self) -> int:
        return BASE[self.photometric] + len(self.extra)


def numbers(kind: Kind, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random samples (H, W, S) over the whole range of the kind; floats in [0, 1]."""
    draw = np.random.default_rng(seed)
    shape = height, width, kind.samples
    if kind.format == "f":
        return draw.random(shape).astype(f"f{kind.bits // 8}")
    whole = draw.integers(0, 2**64, shape, dtype=np.uint64, endpoint=False) >> np.uint64(64 - kind.bits)
    whole[0, 0], whole[-1, -1] = 0, 2**kind.bits - 1
    if kind.format == "c":
        return whole.astype(f"c{kind.bits // 8}")
    width_of = next(b for b in (8, 16, 32, 64) if b >= kind.bits)
    return whole.astype(f"u{width_of // 8}").view(f"{'i' if kind.format == 'i' else 'u'}{width_of // 8}")


def written(kind: Kind, values: np.ndarray, more: Sequence[tuple[int, int, Any]] = ()) -> bytes:
    """The file; `more` are tags (tag, type, numbers) that are added or take another's place."""
    height, width, _ = values.shape
    planes = [values[..., k : k + 1] for k in range(kind.samples)] if kind.planar == 2 else [values]
    bw, bh = kind.tile or (width, min(kind.rows, height))
    blocks = []
    for plane in planes:
        for y in range(0, height, bh):
            for x in range(0, width, bw):
                part = plane[y : y + bh, x : x + bw]
                if kind.tile:
                    part = np.pad(part, ((0, bh - part.shape[0]), (0, bw - part.shape[1]), (0, 0)), mode="edge")
                blocks.append(packed(kind, part))
    tags: dict[int, tuple[int, Any]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [kind.bits] * kind.samples), 259: (3, [kind.compression]),
        262: (3, [kind.photometric]), 266: (3, [kind.fill]), 277: (3, [kind.samples]), 284: (3, [kind.planar]),
        317: (3, [kind.predictor]), 339: (3, [FORMATS[kind.format]] * kind.samples),
    }  # fmt: skip
    if kind.extra:
        tags[338] = (3, list(kind.extra))
    if kind.photometric == 3 and kind.bits <= 16:
        tags[320] = (3, palette(kind.bits).T.flatten().tolist())
    if kind.photometric == 6:
        tags[530] = (3, [1, 1])
    tags |= {322: (4, [bw]), 323: (4, [bh])} if kind.tile else {278: (4, [bh])}
    tags |= {tag: (code, items) for tag, code, items in more}
    return assembled(kind, tags, blocks)


def assembled(kind: Kind, tags: dict[int, tuple[int, Any]], blocks: list[bytes]) -> bytes:
    """Header, blocks, directory, and behind it what does not fit into the directory."""
    order, head = kind.order, 16 if kind.big else 8
    offsets, at = [], head
    for block in blocks:
        offsets.append(at)
        at += len(block) + len(block) % 2
    where, sizes = (324, 325) if kind.tile else (273, 279)
    tags = {where: (16 if kind.big else 4, offsets), sizes: (4, [len(block) for block in blocks]), **tags}
    entry, room, offset = ("HHQ", 8, "Q") if kind.big else ("HHI", 4, "I")
    step = struct.calcsize(order + entry) + room
    outside = at + (8 if kind.big else 2) + step * len(tags) + room
    directory, tail = b"", b""
    for tag in sorted(tags):
        code, items = tags[tag]
        letter = {1: "B", 3: "H", 4: "I", 5: "I", 16: "Q"}[code]
        field = struct.pack(f"{order}{len(items)}{letter}", *items)
        if len(field) > room:
            field, tail = struct.pack(order + offset, outside + len(tail)), tail + field
        count = len(items) // 2 if code == 5 else len(items)
        directory += struct.pack(order + entry, tag, code, count) + field.ljust(room, b"\0")
    mark = {"<": b"II", ">": b"MM"}[order]
    first = mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if kind.big else struct.pack(order + "HI", 42, at))
    body = b"".join(block + b"\0" * (len(block) % 2) for block in blocks)
    number = struct.pack(order + ("Q" if kind.big else "H"), len(tags))
    return first + body + number + directory + b"\0" * room + tail


def palette(bits: int) -> np.ndarray:
    """(2^bits, 3) numbers of 16 bits."""
    return np.random.default_rng(bits).integers(0, 65536, (2**bits, 3)).astype(np.uint16)


def packed(kind: Kind, part: np.ndarray) -> bytes:
    """A strip or tile (R, W, S) as it lies in the file."""
    rows, _, samples = part.shape
    each = math.ceil(kind.bits / 8)
    if kind.bits % 8:
        single = (part.reshape(rows, -1, 1) >> np.arange(kind.bits - 1, -1, -1, dtype=part.dtype)) & 1
        raw = np.packbits(single.reshape(rows, -1).astype(np.uint8), axis=1).tobytes()
    elif kind.predictor == 3:
        planes = np.ascontiguousarray(part.astype(f">f{each}")).view(np.uint8).reshape(rows, -1, each).transpose(0, 2, 1)
        lines = planes.reshape(rows, -1).copy()
        lines[:, samples:] -= planes.reshape(rows, -1)[:, :-samples]
        raw = lines.tobytes()
    else:
        whole = part.view(f"u{each}") if part.dtype.kind != "c" else part
        if kind.predictor == 2:
            whole = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
        raw = whole.astype(whole.dtype.newbyteorder(kind.order)).tobytes()
    data = encoded(raw, kind.compression)
    return data.translate(REVERSED) if kind.fill == 2 else data


def encoded(raw: bytes, compression: int) -> bytes:
    """Bytes in one of TIFF's compressions."""
    if compression in (8, 32946):
        return zlib.compress(raw)
    if compression == 32773:
        cut = [raw[i : i + 128] for i in range(0, len(raw), 128)]
        return b"".join(bytes([len(part) - 1]) + part for part in cut)
    if compression == 34925:
        return lzma.compress(raw)
    if compression == 5:
        return lzw(raw)
    if compression == 50000:  # nothing of Python's own writes it
        file = io.BytesIO()
        Image.frombytes("L", (len(raw), 1), raw).save(file, "TIFF", compression="zstd")
        tags = TiffImageFile(io.BytesIO(file.getvalue())).tag_v2
        return file.getvalue()[tags[273][0] :][: tags[279][0]]
    return raw


def lzw(raw: bytes) -> bytes:
    """LZW whose codes never grow beyond nine bits: cleared before they would."""
    codes = [256]
    for i in range(0, len(raw), 250):
        codes += [*raw[i : i + 250], 256]
    bits = "".join(f"{code:09b}" for code in [*codes[:-1], 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
