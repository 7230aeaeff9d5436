"""The table of TIFF layouts: each is read as it was written, and as tifffile reads it, or refused by name."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import random
import re
import struct
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.pictures.tiffs import BASE, Kind, numbers, palette, written
from torchbcos import pictures
from torchbcos._core.errors import BcosError, InputError
from torchbcos.pictures.read import decode_image
from torchbcos.pictures.tiff import layout_of, read_tags
from torchbcos.pictures.tiff_pixels import stored_values

TYPES = [*(("u", bits) for bits in (*range(1, 17), 32, 64)), *(("i", bits) for bits in (8, 12, 16, 32, 64)), ("f", 16), ("f", 32),
         ("f", 64), ("x", 8), ("c", 64)]  # fmt: skip
TABLE = list(itertools.product((0, 1, 2, 3, 4, 5, 6, 8, 9), TYPES, (1, 2), "<>", (1, 5, 8, 32773, 34925, 50000)))
EXTRA = [(), (), (), (0,), (1,), (2,), (0, 0), (2, 0), (1, 2)]


def drawn(seed: int, rows: list[Any]) -> Iterator[tuple[Kind, np.ndarray]]:
    """For each row of the table a kind whose other axes are drawn, and numbers to write."""
    draw = random.Random(seed)
    for photometric, (form, bits), planar, order, compression in rows:
        predictor = draw.choice([1, 1, 2, 3 if form == "f" else 1])
        kind = Kind(
            photometric, form, bits, planar, order, compression, predictor, draw.choice([1, 1, 1, 2]),
            draw.choice([None, None, (16, 16), (32, 16)]), draw.choice([1, 5, 7, 99]), draw.choice(EXTRA), draw.random() < 0.3,
        )  # fmt: skip
        yield kind, numbers(kind, draw.choice([1, 13, 40]), draw.choice([1, 19, 37]), seed=draw.randrange(1000))


def readable(kind: Kind) -> bool:
    """Whether the documented table has the layout."""
    bits = {"u": {*range(1, 17), 32, 64}, "i": {8, 16, 32, 64}, "f": {16, 32, 64}}.get(kind.format, set())
    own = {3: ("u", {*range(1, 17)}), 5: ("u", {8, 16}), 6: ("u", {8}), 8: ("u", {8})}.get(kind.photometric, (kind.format, bits))
    fits = kind.photometric in (0, 1, 2, 3, 5, 6, 8) and kind.format == own[0] and kind.bits in (bits & own[1])
    alphas = sum(what > 0 for what in kind.extra)
    fits &= alphas <= (kind.photometric < 4) and not (kind.photometric == 3 and 1 in kind.extra)
    fits &= len(kind.extra) <= (1 if BASE[kind.photometric] == 1 else 0 if kind.photometric == 6 else 9)
    if kind.predictor > 1:
        fits &= kind.compression > 1 and (kind.bits % 8 == 0 if kind.predictor == 2 else kind.format == "f")
    return fits


def expected(kind: Kind, values: np.ndarray) -> np.ndarray:
    """The picture in float64, straight from what the tags mean."""
    base = BASE[kind.photometric]
    top = 1.0 if kind.format == "f" else 2.0**kind.bits - 1
    low = -(2.0 ** (kind.bits - 1)) if kind.format == "i" else 0.0
    colour = (values[..., :base].astype(np.float64) - low) / top * 255
    if kind.photometric == 0:
        colour = 255 - colour
    if kind.photometric == 3:
        colour = (palette(kind.bits) >> 8)[values[..., 0]].astype(np.float64)
    if kind.photometric > 3:
        mode = {5: "CMYK", 6: "YCbCr", 8: "LAB"}[kind.photometric]
        raw = np.rint(colour).astype(np.uint8).tobytes()
        colour = np.asarray(Image.frombytes(mode, (values.shape[1], values.shape[0]), raw).convert("RGB")).astype(np.float64)
    alpha = {1: 1.0, 2: 1.0}.keys() & set(kind.extra)
    if alpha:
        place = base + next(i for i, what in enumerate(kind.extra) if what)
        clear = values[..., place, None].astype(np.float64) / (2.0 ** (kind.bits - 1) - 1 if kind.format == "i" else top)
        clear = clear.clip(0, 1)
        colour = (np.minimum(colour, 255 * clear) if 1 in kind.extra else colour * clear) + 255 * (1 - clear)
    return np.broadcast_to(colour, (*values.shape[:2], 3))


def fault(kind: Kind, values: np.ndarray, data: bytes) -> str:
    """How what is read of a file differs from what was written; "" where it does not."""
    try:
        stored = stored_values(layout_of(*read_tags(data), "the file"), data)
    except BcosError as error:
        assert "is a TIFF that" in str(error) and "which is not read. Save it anew as" in str(error) and len(str(error)) <= 500
        return "refused though it is in the table" if readable(kind) else ""
    if not readable(kind):
        return "read though it is not in the table"
    if stored.shape != values.shape or not np.array_equal(stored, values):
        return "other numbers"
    if kind.format in "ui" and kind.bits >= 32 and values[..., 0].max() < 2 ** (kind.bits - 4):
        return ""  # too few numbers to be a picture of their own range
    limits = (-(2 ** (kind.bits - 1)), 2 ** (kind.bits - 1) - 1) if kind.format == "i" else None
    if limits is not None and 1 in kind.extra:
        return ""  # refused: no range of premultiplied numbers
    off = np.abs(np.asarray(decode_image(data, "the file", value_range=limits)) - expected(kind, values)).max()
    return "" if off <= (2 if kind.extra else 0.51) else f"another picture: {off:.1f}"


def test_a_sample_of_the_table_is_read_as_it_was_written_or_refused_by_name() -> None:
    rows = random.Random(7).sample(TABLE, 220)
    found = [(kind, fault(kind, values, written(kind, values)), readable(kind)) for kind, values in drawn(1, rows)]
    assert [(kind, what) for kind, what, _ in found if what] == []
    assert sum(good for _, _, good in found) > 40
    for photometric, compression, planar in itertools.product((1, 2, 5), (1, 5, 8), (1, 2)):  # whatever the sample held
        kind = Kind(photometric, "u", 16, planar, ">", compression, extra=(0,))
        values = numbers(kind, 9, 20)
        assert fault(kind, values, written(kind, values)) == ""


@pytest.mark.slow
def test_the_whole_table_as_tifffile_reads_it() -> None:
    tifffile = pytest.importorskip("tifffile")
    counts = Counter[str]()
    for seed in range(3):
        for kind, values in drawn(seed, TABLE):
            data = written(kind, values)
            assert fault(kind, values, data) == "", kind
            if not readable(kind):
                counts["refused"] += 1
                continue
            planes = kind.planar == 2 and kind.samples > 1
            other = tifffile.imread(io.BytesIO(data)).reshape((kind.samples, *values.shape[:2]) if planes else values.shape)
            assert np.array_equal(other.transpose(1, 2, 0) if planes else other, values), kind
            counts["equal"] += 1
    print(counts)
    assert counts["equal"] > 3000


@pytest.mark.parametrize(
    "lie",
    [
        {"planar": 2}, {"predictor": 2}, {"fill": 2}, {"format": "i"}, {"photometric": 0}, {"order": ">"}, {"tile": (16, 16)},
        {"extra": (2,)}, {"bits": 8},
    ],
)  # fmt: skip
def test_the_table_notices_a_reader_that_takes_one_layout_for_another(
    lie: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = Kind(2 if "planar" in lie or "extra" in lie else 1, "u", 16, compression=5, extra=(0,) if "extra" in lie else ())
    values, data = numbers(kind, 20, 32), written(kind, numbers(kind, 20, 32))
    assert fault(kind, values, data) == ""
    names = {"fill": "fill", "tile": "block", "format": "kind"}
    for attribute, wrong in lie.items():
        planted = lambda *a, real=layout_of, n=names.get(attribute, attribute), w=wrong: replace(real(*a), **{n: w})  # noqa: B008
        monkeypatch.setattr("tests.unit.pictures.test_tiff.layout_of", planted)
        monkeypatch.setattr("torchbcos.pictures.read.layout_of", planted)
    with contextlib.suppress(ValueError, OSError, IndexError):  # it cannot even be unpacked so
        assert fault(kind, values, data) != ""


# -- what was misread ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        Kind(1, "u", 32), Kind(1, "u", 32, order=">"), Kind(2, "u", 32), Kind(2, "u", 16, planar=2), Kind(0, "u", 16),
        Kind(0, "f", 32, compression=8), Kind(1, "u", 12, order=">"), Kind(1, "u", 10), Kind(1, "f", 16),
        Kind(1, "f", 64, order=">"), Kind(2, "f", 32), Kind(2, "f", 32, planar=2, compression=5, predictor=3),
        Kind(2, "u", 8, planar=2, fill=2),
        Kind(8, "u", 8, planar=2, compression=8), Kind(3, "u", 8, tile=(16, 16), compression=5, predictor=2), Kind(1, "i", 8),
        Kind(1, "i", 16, compression=8, predictor=2), Kind(2, "i", 32, planar=2), Kind(1, "u", 64, big=True),
    ],
)  # fmt: skip
def test_layouts_that_were_misread_or_called_damaged(kind: Kind) -> None:
    values = numbers(kind, 40, 37)
    assert readable(kind)
    assert fault(kind, values, written(kind, values)) == ""


def with_tags(kind: Kind, *more: tuple[int, int, list[int]]) -> bytes:
    return written(kind, numbers(kind, 16, 16), more)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (with_tags(Kind(8, "u", 8), (259, 3, [7])), "holds CIE Lab of 3 samples of 8 bits, compressed by JPEG"),
        (with_tags(Kind(1), (259, 3, [34712])), "is compressed by JPEG 2000 (34712)"),
        (with_tags(Kind(2), (259, 3, [50001])), "is compressed by WebP (50001)"),
        (with_tags(Kind(1), (259, 3, [4711])), "is compressed by a method that is not known (4711)"),
        (with_tags(Kind(1), (262, 3, [32803])), "holds a colour filter array (raw)"),
        (with_tags(Kind(1), (262, 3, [99])), "holds photometric interpretation 99"),
        (with_tags(Kind(6), (530, 3, [2, 2])), "holds YCbCr with fewer colours than pixels"),
        (with_tags(Kind(6), (529, 5, [2126, 10000, 7152, 10000, 722, 10000])), "or with coefficients of its own"),
        (with_tags(Kind(5), (332, 3, [2])), "holds inks that are not CMYK"),
        (with_tags(Kind(5, extra=(2,))), "holds CMYK with alpha"),
        (with_tags(Kind(2), (258, 3, [5, 6, 5])), "holds samples of different kinds (formats (1, 1, 1), bits (5, 6, 5))"),
        (with_tags(Kind(2), (339, 3, [1, 1, 3])), "holds samples of different kinds"),
        (with_tags(Kind(1, extra=(0, 0))), "holds 3 samples a pixel, and 1 are grey"),
        (with_tags(Kind(1, extra=(0, 0)), (338, 3, [])), "holds 3 samples a pixel, and 1 are grey"),
        (with_tags(Kind(1), (317, 3, [2])), "has predictor 2 for 8-bit unsigned integers, compression none"),
        (with_tags(Kind(1), (284, 3, [3])), "has planar configuration 3 and fill order 1"),
        (with_tags(Kind(1), (339, 3, [6])), "holds complex floats"),
        (with_tags(Kind(1, "u", 16), (258, 3, [24])), "holds grey of 24-bit unsigned integers"),
    ],
)
def test_other_layouts_are_refused_by_name_with_the_next_step(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        pictures.read_image(tmp_path / "a.tif")
    assert "a.tif' is a TIFF that" in str(caught.value) and "Save it anew as RGB or grey, unsigned" in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_a_file_that_does_not_say_what_its_numbers_are_is_not_guessed() -> None:
    data = bytearray(with_tags(Kind(1)))
    at = data.index(struct.pack("<HHII", 262, 3, 1, 1))
    data[at : at + 2] = struct.pack("<H", 261)
    with pytest.raises(InputError, match="is a TIFF that does not say what its numbers are"):
        decode_image(bytes(data), "it")


# -- opened by Pillow ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [Kind(1, "u", 32), Kind(2, "u", 16, planar=2), Kind(0, "u", 16), Kind(1, "u", 12), Kind(1, "i", 8)]
)
def test_what_pillow_misreads_is_refused_when_it_was_opened_by_pillow(kind: Kind) -> None:
    data = written(kind, numbers(kind, 20, 20))
    with pytest.raises(
        InputError, match=r"was opened by Pillow, which misreads such a TIFF .*: give the path of the file instead"
    ):
        pictures.to_rgb(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    "kind",
    [Kind(1), Kind(2), Kind(2, extra=(2,)), Kind(1, "u", 16), Kind(2, "u", 16, compression=5), Kind(3), Kind(5), Kind(1, "f", 32),
     Kind(0, "u", 4)],
)  # fmt: skip
def test_what_pillow_reads_is_the_same_from_pillow(kind: Kind) -> None:
    data = written(kind, numbers(kind, 20, 20))
    same = np.asarray(pictures.to_rgb(Image.open(io.BytesIO(data)))).astype(int) - np.asarray(decode_image(data, "it"))
    assert np.abs(same).max() <= (1 if kind.bits == 16 and kind.photometric == 2 else 0)  # Pillow cuts where we round


# -- bombs ---------------------------------------------------------------------------------------


@functools.cache
def bombs() -> dict[str, bytes]:
    grey, wide = Kind(1), Kind(1, "f", 64, compression=8, rows=99)
    big = Kind(1, big=True)
    raw = with_tags(big)
    start = struct.unpack_from("<Q", raw, 8)[0]
    loop = bytearray(with_tags(grey))
    first = struct.unpack_from("<I", loop, 4)[0]
    end = first + 2 + 12 * struct.unpack_from("<H", loop, first)[0]
    loop[end : end + 4] = struct.pack("<I", first)
    return {
        "wide and high": with_tags(grey, (256, 4, [2**31]), (257, 4, [2**31])),
        "one strip of 5 GB": with_tags(
            wide, (256, 4, [88_000]), (257, 4, [1000]), (278, 4, [1000]), (338, 3, [0]), (277, 3, [2])
        ),
        "a gigabyte and more in strips": with_tags(wide, (256, 4, [1000]), (257, 4, [80_000]), (278, 4, [1])),
        "a huge tile": with_tags(Kind(1, tile=(16, 16)), (322, 4, [2**30]), (323, 4, [16])),
        "tiles without a size": with_tags(Kind(1, tile=(16, 16)), (322, 4, [0])),
        "no size": with_tags(grey, (256, 4, [0])),
        "strips of no rows, all missing": with_tags(grey, (278, 4, [1]), (257, 4, [60_000])),
        "strips outside": with_tags(grey, (273, 4, [2**32 - 1] * 3)),
        "strips of huge size": with_tags(Kind(1, compression=8), (279, 4, [2**32 - 1] * 3)),
        "a strip in the header": with_tags(grey, (273, 4, [0] * 3)),
        "samples without end": with_tags(grey, (277, 3, [65535])),
        "a palette that is too short": with_tags(Kind(3), (320, 3, [0, 1, 2])),
        "entries without end": raw[:start] + struct.pack("<Q", 2**60) + raw[start + 8 :],
        "a directory beyond the file": raw[:8] + struct.pack("<Q", 2**63) + raw[16:],
        "a directory that is its own next": bytes(loop),
        "deflate that ends early": with_tags(Kind(1, compression=8, rows=99), (257, 4, [80_000]), (278, 4, [80_000])),
        "a million offsets and more": with_tags(grey, (273, 4, [8] * (2**20 + 1))),
        "a tag twice": with_tags(grey).replace(struct.pack("<HHII", 284, 3, 1, 1), struct.pack("<HHII", 277, 3, 1, 2)),
    }


@pytest.mark.parametrize("what", sorted(bombs()))
def test_bombs_are_refused_before_they_cost_anything(what: str) -> None:
    data = bombs()[what]
    tracemalloc.start()
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if what == "a directory that is its own next":
            assert decode_image(data, "it").size == (16, 16)
        else:
            with pytest.raises(InputError, match=r"^it "):
                decode_image(data, "it")
    spent, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000 and spent < 5, (peak, spent)


def test_broken_deflate_gets_one_sentence_and_nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff wrote 'ZIPDecode: …' beside it."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 60, (60, 50, 3)).astype(np.uint8)).save(
        file, "TIFF", compression="tiff_deflate"
    )
    data = bytearray(file.getvalue())
    for broken in (slice(900, 950), slice(8, 12)):
        wrong = data[: broken.start] + bytes(byte ^ 0xA5 for byte in data[broken]) + data[broken.stop :]
        with pytest.raises(InputError, match="it is damaged"):
            decode_image(bytes(wrong), "it")
    assert capfd.readouterr().err == ""


def test_a_block_that_is_too_large_is_refused_in_one_clause() -> None:
    order, tags = "<", {256: (40_000,), 257: (4000,), 258: (8, 8, 8), 259: (1,), 262: (2,), 273: (8,), 277: (3,), 278: (4000,)}
    with pytest.raises(
        InputError, match=r"is a TIFF that has strips or tiles of 480,000,000 bytes, and at most 268,435,456 are"
    ) as e:
        layout_of(order, {tag: tuple(map(float, values)) for tag, values in tags.items()}, "It")
    assert "that are read, which" not in str(e.value)
