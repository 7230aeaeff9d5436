"""Sound and spoiled scans: DICOM of several encodings, NIfTI plain and compressed."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from tests.scans import SECRETS, dicom, plane, save
from torchbcos import BcosError
from torchbcos.pictures.scans import is_scan, read_scan

__all__ = ["dicoms", "niftis", "prepare_slices", "read_slices", "read_volume", "spoil_dicom", "spoil_nifti"]

_EDGES = (0, 1, -1, 2, 127, 255, 256, 32767, 65535, 2**31 - 1, 2**32 - 1, 0xFFFFFFFE, 2**20, 2**24)
_FLOATS = (0.0, -1.0, 1e-40, 1e30, 3e38, float("nan"), float("inf"), 352.0, 2.0**24, 2.0**26, 2.0**31)
_KINDS = (b"SQ", b"OB", b"OW", b"UN", b"US", b"SS", b"DS", b"IS", b"UI", b"LO", b"PN", b"FD", b"AT", b"UT", b"OF", b"zz", b"\0\0")
_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT", b"OD", b"OL", b"UC", b"UR")
_WORDS = (
    b"", b"MONOCHROME1 ", b"RGB ", b"PALETTE COLOR ", b"YBR_FULL", b"SIGMOID ", b"1e400 ", b"nan ", b"-1", b"9" * 64,
    b"1\\2\\3 ", b"\xff\xfe" * 8, b"\x1b[2J", b"1.2.840.10008.1.2.4.90 ", b"1.2.840.10008.1.2.5 ", b"1.2.840.10008.1.2.1.99",
)  # fmt: skip
_DEEP = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"


@cache
def dicoms() -> tuple[bytes, ...]:
    """Slices and pictures of every encoding, each of a patient with a name."""
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8) * 20
    small = (pixels // 4).astype(np.uint8)
    colour = np.stack([small, small[::-1], 255 - small], -1)
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [4, 0, 8])
    table.add_new("LUTData", "US", [0, 9, 99, 255])
    groups = [pydicom.Dataset() for _ in range(3)]
    for i, group in enumerate(groups):
        group.PlanePositionSequence = pydicom.Sequence([pydicom.Dataset()])
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, i]
    palette = {
        f"{name}PaletteColorLookupTable{part}": value
        for name in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [4, 0, 8]), ("Data", bytes(range(4))))
    }
    made = [
        plane(3, pixels), *(dicom(pixels, encoding) for encoding in ("implicit", "big", "deflated", "rle")),
        plane(4, pixels, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=pydicom.Sequence([table])),
        plane(5, pixels, ModalityLUTSequence=pydicom.Sequence([table]), PixelPaddingValue=0, BitsStored=12, HighBit=11),
        dicom(colour, SamplesPerPixel=3), dicom(small, PhotometricInterpretation="PALETTE COLOR", **palette),
        dicom(np.stack([small] * 3), ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
              PerFrameFunctionalGroupsSequence=pydicom.Sequence(groups)),
    ]  # fmt: skip
    for form, syntax, array in (("JPEG2000", JPEG2000Lossless, small), ("JPEG", JPEGBaseline8Bit, colour)):
        out = io.BytesIO()
        Image.fromarray(array).save(out, form)
        data = dicom(array, SamplesPerPixel=array.ndim * 2 - 3)
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = encapsulate([out.getvalue()])
        data["PixelData"].is_undefined_length = True
        made.append(data)
    with tempfile.TemporaryDirectory() as folder:
        return tuple(save(data, Path(folder) / "a").read_bytes() for data in made)


@cache
def niftis() -> tuple[bytes, ...]:
    """Volumes, plain and compressed, of both versions, one with channels."""
    stored = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    made = [nib.Nifti1Image(stored, np.diag([-1.0, -2, 3, 1])), nib.Nifti2Image(stored.astype(np.float32), np.eye(4)),
            nib.Nifti1Image(np.stack([stored.astype(np.uint8)] * 2, -1), np.eye(4))]  # fmt: skip
    plain = [image.to_bytes() for image in made]
    return (*plain, *(gzip.compress(raw, 1, mtime=0) for raw in plain))


def _elements(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each element of an explicit file begins, its value begins, and it ends."""
    at = 132
    while at + 8 <= len(data):
        long = data[at + 4 : at + 6] in _LONG
        begin = at + (12 if long else 8)
        length = struct.unpack_from("<I" if long else "<H", data, begin - (4 if long else 2))[0] if begin <= len(data) else 0
        end = min(begin + length, len(data))
        yield at, begin, end
        at = end


def spoil_dicom(rng: random.Random, data: bytes) -> bytes:
    """One to three elements with another length, kind, tag or value, away, twice, or within a thousand others."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, begin, end = rng.choice(list(_elements(data)) or [(0, 0, 0)])
        how = rng.randrange(8)
        edge = struct.pack("<q", rng.choice(_EDGES))
        if how == 0:
            size = rng.choice((2, 4))
            data = data[: begin - size] + edge[:size] + data[begin:]
        elif how == 1:
            data = data[: at + 4] + rng.choice(_KINDS) + data[at + 6 :]
        elif how == 2:
            data = data[:at] + rng.randbytes(rng.choice((1, 2, 4))) + data[at + 4 :]
        elif how == 3:
            data = data[:begin] + (edge * 64)[: end - begin] + data[end:]
        elif how == 4:
            word = rng.choice(_WORDS)[: 2**15]
            data = data[: begin - 2] + struct.pack("<H", len(word)) + word + data[end:]
        elif how == 5:
            data = data[:at] + data[end:]
        elif how == 6:
            data = data[:end] + data[at:end] * rng.choice((1, 9)) + data[end:]
        else:
            data = data[:at] + _DEEP * rng.choice((1, 30, 3000)) + data[at:]
    return data


def spoil_nifti(rng: random.Random, data: bytes) -> bytes:
    """One to three fields of the header with another number; compressed again where it was."""
    packed = data.startswith(b"\x1f\x8b")
    raw = gzip.decompress(data) if packed else data
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = 2 * rng.randrange(len(raw) // 2 if rng.random() < 0.1 else 175)
        new = rng.choice((
            struct.pack("<h", rng.choice(_EDGES[:9]) % 2**15), struct.pack("<f", rng.choice(_FLOATS)),
            struct.pack("<d", rng.choice(_FLOATS)), struct.pack("<q", rng.choice(_EDGES)), rng.randbytes(2),
        ))  # fmt: skip
        raw = raw[:at] + new + raw[at + len(new) :]
    raw = raw[: rng.randrange(len(raw))] if rng.random() < 0.1 else raw + bytes(2**22 if rng.random() < 0.1 else 0)
    return gzip.compress(raw, 1, mtime=0) if packed else raw


def prepare_slices(folder: Path) -> Path:
    """Two sound slices beside the place of the spoiled one."""
    for i in (0, 1):
        save(plane(i, np.zeros((6, 8), np.uint16)), folder / "slices" / str(i))
    return folder / "slices" / "spoiled"


def read_slices(file: Path) -> None:
    """The file, and the folder that it is in."""
    is_scan(file)
    is_scan(file.parent)
    _each([lambda: read_scan(file), lambda: read_scan(file, axes=2, value_range=(-160, 240)), lambda: read_scan(file.parent)])


def read_volume(file: Path) -> None:
    """The file with a range and without."""
    _each([lambda: read_scan(file, value_range=(0, 59)), lambda: read_scan(file, axes=2)])


def _each(calls: Sequence[Callable[[], object]]) -> None:
    """All calls, though the first may refuse; nothing that they say is the patient's."""
    refused, said = list[BcosError](), list[str]()
    for call in calls:
        try:
            said.append(repr(getattr(call(), "facts", "")))
        except BcosError as error:
            refused.append(error)
            said.append(str(error))
    told = [secret for secret in SECRETS for text in said if secret in text]
    if told:
        raise AssertionError(f"it tells {told[0]}")
    if len(refused) == len(calls):
        raise refused[0]
