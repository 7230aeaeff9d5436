"""One DICOM file: its header, judged before memory is taken, and its frames as stored numbers.

Of a header only what pictures need is looked at: no name, number or date of a patient ever leaves the file, not even in an error.
(`torchbcos.pictures.origin` tells patients apart without keeping their numbers.)
Elements, formulas and their names: DICOM PS3.3 C.7.6.3 (pixels), C.11.1 and C.11.2 (values), PS3.5 (encodings).
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import stat
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchbcos._core.errors import BcosError, InputError, MissingFileError, in_short, shorten
from torchbcos._core.names import nearby
from torchbcos._core.optional import require
from torchbcos.pictures.npy import MAX_NUMBERS

__all__ = [
    "COLOURS", "GREYS", "bits_of", "check_picture", "frames_of", "has_magic", "open_regular", "quiet", "read_header", "size_of",
]  # fmt: skip

_MAGIC = b"DICM"  # after a preamble of 128 bytes
GREYS = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_ELEMENTS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Modality", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "Units", "DoseGridScaling", "DoseUnits", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "PixelSpacing", "ImagerPixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "GridFrameOffsetVector", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *(f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
)  # fmt: skip
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_DEFLATED, _EXPLICIT = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.1"
_NATIVE = ("1.2.840.10008.1.2", _EXPLICIT, "1.2.840.10008.1.2.2", _DEFLATED)
_RLE = "1.2.840.10008.1.2.5"
_DIRECTORY = "1.2.840.10008.1.3.10"
_PICTURES = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")  # JPEG; JPEG 2000, bare and in its boxes
# a word in the name of a compression, and what unpacks it
_PLUGINS = (("High-Throughput", "pylibjpeg pylibjpeg-openjpeg"), ("JPEG 2000", "pylibjpeg pylibjpeg-openjpeg"),
            ("JPEG", "pylibjpeg pylibjpeg-libjpeg"))  # fmt: skip
_MOST_FRAMES = 100_000
_MOST_BYTES = 2**30  # that a deflated file may unpack to
_MOST_FILE = 2**31  # bytes
_quoted = re.compile(r"['\"].*['\"]")  # from the first mark to the last: bytes that are quoted may hold marks
_AT_PIXELS = (0x7FE00010, 0x7FE00009, 0x7FE00008)
_LOCK = threading.RLock()


def has_magic(head: bytes) -> bool:
    """Whether a file that begins with these 132 bytes is DICOM.

    >>> has_magic(bytes(128) + b"DICM"), has_magic(b"GIF89a")
    (True, False)
    """
    return head[128:132] == _MAGIC


@contextlib.contextmanager
def quiet(name: str, what: str) -> Iterator[None]:
    """Read a scanner's file: whatever its library warns of is kept silent, whatever it raises becomes one sentence.

    What the sentence quotes of the error holds nothing in quotation marks: there a value of the file may stand, and that may be a
    patient's. Warnings can be silenced only for all threads at once, so our own wait for each other.

    Raises:
        MissingFileError, InputError: the file is not there, or is broken.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except BcosError:
            raise
        except FileNotFoundError:
            raise MissingFileError(f"{name} does not exist.") from None
        except MemoryError:
            raise InputError(f"{name} does not fit into memory.") from None
        except Exception as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            why = in_short(_quoted.sub("…", " ".join(said.split())) or type(error).__name__, 160).rstrip(".")
            why = "it is nested too deeply" if isinstance(error, RecursionError) else why
            # what came before it would be shown, too, and may quote more
            raise InputError(f"{name} is no {what} that can be read: {why}.") from None


def open_regular(path: str | os.PathLike[str], name: str) -> tuple[Any, int]:
    """An open file and its bytes; pipes, devices and folders are refused before they are opened.

    Raises:
        MissingFileError, InputError: it is not there, or no regular file.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{name} is no regular file: copy it into a file first.")
        return open(path, "rb"), found.st_size
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{name} does not exist.{nearby(path)}") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from error


def read_header(
    path: str | os.PathLike[str], name: str, *, pixels: bool = False, also: tuple[str, ...] = (), only: tuple[str, ...] = ()
) -> Any:
    """The elements of a DICOM file that pictures need, as pydicom's Dataset; with `pixels` the pixels too.

    To be called within `quiet`.

    Args:
        also: names of further elements.
        only: names of elements that are read instead, and nothing behind the last of them.

    Raises:
        MissingPackageError, MissingFileError, InputError: no pydicom; no such file; no DICOM.
    """
    pydicom = require("pydicom", extra="medical", why="Reading DICOM")
    reader = require("pydicom.filereader", extra="medical", why="Reading DICOM")
    file, size = open_regular(path, name)
    with file, pydicom.config.disable_value_validation():
        if not has_magic(file.read(132)):
            raise InputError(f"{name} is no DICOM file: 'DICM' should stand at its byte 128.")
        if pixels and size > _MOST_FILE:
            raise InputError(f"{name} has {size:,} bytes, more than the {_MOST_FILE:,} that are read.")
        tags = [pydicom.tag.Tag(key) for key in only or (*_ELEMENTS, *also, *(_PIXELS if pixels else ()))]
        stop = _stop(max(tags) if only else None, pixels)
        meta = reader.read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        syntax = {str(meta[tag].keyword): meta[tag].value for tag in list(meta.keys())}.get("TransferSyntaxUID")
        if not syntax:
            raise InputError(f"{name} does not say its transfer syntax, how its bytes are to be read: export it again.")
        if syntax != _DEFLATED:
            file.seek(0)
            if only:
                return reader.read_partial(file, stop, specific_tags=tags)
            return pydicom.dcmread(file, stop_before_pixels=not pixels, specific_tags=tags)
        header = pydicom.Dataset(reader.read_dataset(_inflated(file, name), False, True, stop_when=stop, specific_tags=tags))
        header.file_meta = pydicom.dataset.FileMetaDataset(meta)
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.set_original_encoding(False, True, "utf-8")
        return header


def _stop(last: int | None, pixels: bool) -> Callable[[int, Any, Any], bool] | None:
    """Where reading ends: behind an element, or before the pixels; None at the end of the file."""
    if last is not None:
        return lambda tag, vr, length: tag > last
    return None if pixels else lambda tag, vr, length: tag in _AT_PIXELS


def _inflated(file: Any, name: str) -> io.BytesIO:
    """What follows the first group of a deflated file; it may unpack to no more than any file may hold."""
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    found = unpack.decompress(file.read(), _MOST_BYTES)
    if unpack.unconsumed_tail:
        raise InputError(f"{name} would unpack to more than {_MOST_BYTES:,} bytes.")
    return io.BytesIO(found)


def size_of(header: Any, name: str) -> tuple[int, int, int, int]:
    """Frames, rows, columns and samples that a header speaks of, within the limits.

    Raises:
        InputError: one is missing or they are too many.
    """
    sides = [header.get(key) for key in ("Rows", "Columns")]
    samples, frames = header.get("SamplesPerPixel", 1), header.get("NumberOfFrames") or 1
    numbers = [int(value) if isinstance(value, (int, str, float)) else 0 for value in (frames, *sides, samples)]
    if min(numbers) < 1 or numbers[3] not in (1, 3):
        raise InputError(f"{name} says no size: rows, columns, samples and frames must be there.")
    count = math.prod(numbers)
    if numbers[0] > _MOST_FRAMES or count > MAX_NUMBERS:
        raise InputError(f"{name} has {shorten(f'{count:,}', 40)} numbers, more than the {MAX_NUMBERS:,} that are read.")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def check_picture(header: Any, name: str) -> None:
    """Refuse what is no picture, or one of a kind that nobody can read here, and say what it is.

    Raises:
        InputError: so it is.
    """
    if header.get("SOPClassUID") == _DIRECTORY or header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
        raise InputError(f"{name} is a DICOMDIR, a table of what a disc holds: name the folder of one series instead.")
    shades = header.get("PhotometricInterpretation")
    if "Rows" not in header or shades is None:
        raise InputError(f"{name} holds no picture: it is {_class_of(header)}.")
    samples, wanted = header.get("SamplesPerPixel", 1), 3 if shades in COLOURS and shades != "PALETTE COLOR" else 1
    if shades not in (*GREYS, *COLOURS) or samples != wanted:
        raise InputError(
            f"{name} has {samples} samples a pixel in the photometric interpretation {shorten(str(shades), 40)!r}; "
            f"supported: {', '.join((*GREYS, *COLOURS))}."
        )


def _class_of(header: Any) -> str:
    """What a file without a picture is, in the standard's words."""
    uid = header.get("SOPClassUID")
    known = getattr(uid, "name", "") if uid else ""
    return f"of the kind '{known}'" if known and known != str(uid) else "of another kind"


def frames_of(header: Any, name: str) -> Iterator[NDArray[Any]]:
    """The stored numbers of each frame: (H, W), or (H, W, 3) in RGB; bits beside those that are stored are taken away.

    To be called within `quiet`, with a header that holds the pixels and passed `size_of`.

    Raises:
        InputError: the pixels are compressed in a way that no installed package reads, are too few, or not of the header's size.
    """
    pydicom = require("pydicom", extra="medical", why="Reading DICOM")
    pixels = require("pydicom.pixels", extra="medical", why="Reading DICOM")
    count, rows, columns, samples = size_of(header, name)
    syntax = header.file_meta.TransferSyntaxUID
    kind = next((key for key in _PIXELS[:3] if key in header), None)
    if kind is None:
        raise InputError(f"{name} holds no pixels.")
    if syntax.is_encapsulated:
        _check_codec(pixels, syntax, name)
        _check_frames(header, count, (columns, rows), rows * columns * samples * (header.get("BitsAllocated", 8) + 7) // 8, name)
    whole = syntax in (*_NATIVE, _RLE) and samples == 1 and kind == "PixelData"
    options = {"correct_unused_bits": False} if whole else {}
    # one by one where a frame would come out read-only, which pydicom itself cannot correct the sign of
    singly = count == 1 or syntax in pydicom.uid.JPEG2000TransferSyntaxes
    each = (pixels.pixel_array(header, index=i, **options) for i in range(count))
    frames = each if singly else pixels.iter_pixels(header, **options)
    for number in range(count):
        with _unpacking(syntax, name):
            frame = next(frames, None)
        if frame is None:
            raise InputError(f"{name} holds {number} of its {count} frames.")
        if frame.shape[:2] != (rows, columns):
            raise InputError(f"{name} holds a frame of {frame.shape}, not of {rows} × {columns}.")
        yield _stored(frame, header, name) if whole else frame


@contextlib.contextmanager
def _unpacking(syntax: Any, name: str) -> Iterator[None]:
    """What a decoder of compressed pixels raises names the compression, and what to install if the file is sound."""
    try:
        yield
    except (AttributeError, RuntimeError, ValueError, NotImplementedError, OSError):
        plugin = _plugin_of(syntax)
        if not syntax.is_encapsulated or plugin is None:
            raise
        raise InputError(
            f"{name} is compressed as {syntax.name}, and its pixels are broken or of a form that nothing installed here unpacks. "
            f"If other programs show it: pip install {plugin}."
        ) from None


def _stored(frame: NDArray[Any], header: Any, name: str) -> NDArray[Any]:
    """Only the bits from HighBit down count, BitsStored of them; old files keep overlays in the others."""
    allocated, bits, high = bits_of(header, name)
    if bits == allocated:
        return frame
    unsigned = frame.astype(frame.dtype.newbyteorder("=")).view(f"u{frame.dtype.itemsize}").astype(np.int64)
    values = (unsigned >> (high + 1 - bits)) & (2**bits - 1)
    signed = header.get("PixelRepresentation", 0) == 1
    found: NDArray[Any] = np.where(values >= 2 ** (bits - 1), values - 2**bits, values) if signed else values
    return found


def bits_of(header: Any, name: str) -> tuple[int, int, int]:
    """Bits allocated and stored, and the highest of the stored ones.

    Raises:
        InputError: they do not fit each other.
    """
    allocated = header.get("BitsAllocated", 0)
    bits = header.get("BitsStored") or allocated
    high = header.get("HighBit")
    high = bits - 1 if high is None else high
    if not (
        all(isinstance(n, int) for n in (allocated, bits, high)) and 1 <= bits <= allocated <= 64 and bits - 1 <= high < allocated
    ):
        raise InputError(f"{name} stores {bits} of {allocated} bits, the highest at {high}: no such pixels are known.")
    return allocated, bits, high


def _check_codec(pixels: Any, syntax: Any, name: str) -> None:
    """Name a compression that nothing here unpacks, and what to install for it."""
    try:
        known = pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if known:
        return
    said = syntax.name if syntax.name != str(syntax) else f"of the unknown number {shorten(str(syntax), 64)}"
    plugin = _plugin_of(syntax)
    todo = f"pip install {plugin}" if plugin else "export it without compression"
    raise InputError(f"{name} is compressed as {said}, which nothing that is installed here unpacks: {todo}.")


def _plugin_of(syntax: Any) -> str | None:
    """What to install to unpack a compression."""
    return next((text for word, text in _PLUGINS if word in syntax.name), None)


def _check_frames(header: Any, count: int, size: tuple[int, int], most: int, name: str) -> None:
    """Refuse compressed frames that would unpack to more than the header says, before they are unpacked."""
    encaps = require("pydicom.encaps", extra="medical", why="Reading DICOM")
    tables = [header.get(key) for key in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    offsets = {"extended_offsets": tuple(tables)} if all(tables) else {}
    for number, frame in enumerate(encaps.generate_frames(header.PixelData, number_of_frames=count, **offsets)):
        if number == count:
            return
        if len(frame) > 2 * most + 2**16:
            raise InputError(f"{name} holds a compressed frame of {len(frame):,} bytes, more than it has uncompressed.")
        if not frame.startswith(_PICTURES):
            continue
        with contextlib.suppress(OSError), Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
            if image.size != size:
                raise InputError(f"{name} holds a frame of {image.size} pixels, and its header says {size}.")
