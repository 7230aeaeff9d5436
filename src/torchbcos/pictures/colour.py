"""Colours as they were meant: a picture that says in which colour space its numbers are becomes sRGB.

Networks are trained on pictures that are sRGB, or that nobody converted because nearly all are. The conversion is LittleCMS's,
relative colorimetric, without black point compensation: what Pillow's `ImageCms` gives for the same profile.
"""

from __future__ import annotations

import functools
import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from torchbcos._core.errors import InputError

__all__ = ["MAX_PROFILE", "make_profile", "make_srgb", "note_profile", "sixteen_to_srgb", "to_srgb"]

# More than the largest profiles of printers, and what fits into the segments of a JPEG.
MAX_PROFILE = 2**24
_RGB, _GREY, _CMYK = b"RGB ", b"GRAY", b"CMYK"
# Scanner, monitor, printer, colour space. Links of two devices, named colours and effects describe no picture.
_DEVICES = (b"scnr", b"mntr", b"prtr", b"spac")
_SRGB = ((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # x, y of white, red, green, blue
_SRGB_GAMMA = 0.45455
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_srgb(image: Image.Image, mode: str, profile: bytes | None) -> Image.Image:
    """The image in sRGB, as a new image of that mode.

    A profile that is broken, that belongs to another kind of picture (of grey, in a picture in colour), or that moves no colour
    by more than one level of 255, counts as none.

    Args:
        image: a loaded image of at most 8 bits a sample, of any mode.
        mode: "RGB", or "RGBA" where transparency is to be kept.
        profile: an ICC profile; None: the image is sRGB.

    Raises:
        InputError: this Pillow cannot convert colours.

    >>> linear = make_profile(1.0, None, grey=True)
    >>> to_srgb(Image.new("L", (1, 1), 128), "RGB", linear).getpixel((0, 0))
    (188, 188, 188)
    >>> to_srgb(Image.new("L", (1, 1), 128), "RGB", b"no profile").getpixel((0, 0))
    (128, 128, 128)
    """
    space = _space_of(image.mode) if _is_of_pictures(profile) else b""
    if profile is None or profile[16:20] != space:
        return image.copy() if image.mode == mode else image.convert(mode)
    if space == _RGB:
        image = image if image.mode == mode else image.convert(mode)
        transform = _find_transform(profile, mode)
        return image.copy() if transform is None else transform.apply(image)
    own = image if space == _CMYK else image.convert("L")
    transform = _find_transform(profile, own.mode)
    flat = own.convert("RGB") if transform is None else transform.apply(own)
    if mode == "RGBA":
        flat.putalpha(image.convert("RGBA").getchannel("A"))
    return flat


def make_srgb(image: Image.Image, profile: bytes) -> None:
    """Bring the pixels of an image of mode RGB to sRGB where they lie: a copy would cost half of a JPEG's decoding."""
    transform = _find_transform(profile, "RGB") if _is_of_pictures(profile) and profile[16:20] == _RGB else None
    if transform is not None:
        transform.apply_in_place(image)


def sixteen_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Grey of 16 bits (mode "I;16") in sRGB, from all its bits; None where a profile has nothing to do."""
    if profile is None or image.mode != "I;16" or profile[16:20] != _GREY or not _is_of_pictures(profile):
        return None
    transform = _find_transform(profile, image.mode)
    return None if transform is None else transform.apply(image)


def note_profile(image: Image.Image) -> bytes | None:
    """The profile that an image of Pillow carries in its `info`, or that its PNG's numbers amount to."""
    info = image.info
    found = info.get("icc_profile")
    if isinstance(found, bytes) or "srgb" in info:
        return found if isinstance(found, bytes) else None
    gamma, xy = info.get("gamma"), info.get("chromaticity")
    gamma = gamma if isinstance(gamma, float) else None
    xy = xy if isinstance(xy, tuple) and len(xy) == 8 else None
    return None if gamma is None and xy is None else make_profile(gamma, xy, grey=_space_of(image.mode) == _GREY)


def _space_of(mode: str) -> bytes:
    """The space of a profile, as its header has it, that belongs to an image's mode; empty for L*a*b*, which needs none."""
    if mode in ("1", "L", "LA", "La", "I", "F") or mode.startswith("I;16"):
        return _GREY
    return {"CMYK": _CMYK, "LAB": b""}.get(mode, _RGB)


def _is_of_pictures(profile: bytes | None) -> bool:
    return profile is not None and profile[12:16] in _DEVICES and len(profile) <= MAX_PROFILE


@functools.lru_cache(maxsize=8)
def _find_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion from a profile; None if it is unreadable or changes nothing. Pictures of a folder share few profiles."""
    out = "RGBA" if mode == "RGBA" else "RGB"
    try:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, target, mode, out, ImageCms.Intent.RELATIVE_COLORIMETRIC)
        probe = _draw_probe(mode)
        seen = np.asarray(transform.apply(probe).convert("RGB"), np.int16)
    except ImportError as error:
        raise InputError(
            "A picture with a colour profile needs a Pillow that was built with LittleCMS: pip install --force-reinstall pillow."
        ) from error
    except Exception:  # LittleCMS and its wrapper raise five kinds on broken profiles, none of them documented
        return None
    same = mode != "CMYK" and np.abs(seen - np.asarray(_as_rgb(probe), np.int16)).max() <= 1
    return None if same else transform


def _draw_probe(mode: str) -> Image.Image:
    """An image of that mode that holds a lattice of all colours, 33 steps an axis, and every grey."""
    greys = np.arange(256, dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray((greys.astype(np.uint16) * 257)[None])
    steps = np.linspace(0, 255, 33).round().astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    return Image.fromarray(np.concatenate([lattice, greys[:, None].repeat(3, 1)])[None]).convert(mode)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I;16":
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def make_profile(gamma: float | None, xy: tuple[float, ...] | None, *, grey: bool) -> bytes | None:
    """The ICC profile of a picture that states its gamma and chromaticities as numbers (PNG's gAMA and cHRM).

    What is as near to sRGB as encoders write it for pictures that are sRGB (libpng's measure for the gamma: 5 %) counts as sRGB.

    Args:
        gamma: the exponent of encoding, stored = light ** gamma; None: that of sRGB.
        xy: x and y of white, red, green and blue; None: those of sRGB.
        grey: whether the picture has one channel; its chromaticities do not matter then.

    Returns:
        A version 4 profile; None if it would be sRGB's, or the numbers are absurd.

    >>> make_profile(0.45455, None, grey=False) is None
    True
    """
    exponent = 2.2 if gamma is None else 1 / gamma if 0.01 <= gamma <= 10 else 0.0
    points = np.array(_SRGB) if xy is None or grey else np.array(xy, float).reshape(4, 2)
    usual = abs(exponent * _SRGB_GAMMA - 1) < 0.05
    if not exponent or (usual and np.abs(points - _SRGB).max() < 0.01):
        return None
    curve = b"para" + struct.pack(">4xHHi", 0, 0, _fixed(exponent))
    if gamma is None:  # the curve of sRGB, IEC 61966-2-1
        curve = b"para" + struct.pack(">4xHH5i", 3, 0, *map(_fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    white = b"XYZ " + struct.pack(">4x3i", *map(_fixed, _D50))
    if grey:
        return _pack(b"GRAY", {b"wtpt": white, b"kTRC": curve})
    columns = _adapt(points)
    if columns is None:
        return None
    tags = {b"wtpt": white}
    for name, column in zip("rgb", columns.T, strict=True):
        tags[f"{name}XYZ".encode()] = b"XYZ " + struct.pack(">4x3i", *map(_fixed, column))
        tags[f"{name}TRC".encode()] = curve
    return _pack(b"RGB ", tags)


def _fixed(value: float) -> int:
    return round(value * 65536)


def _adapt(points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The XYZ of red, green and blue as columns, seen under D50 (Bradford); None for primaries that span no space."""
    if not (points[:, 1] > 0).all():
        return None
    x, y = points.T
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    try:
        primaries = xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])
    except np.linalg.LinAlgError:
        return None
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ xyz[:, 0])
    columns = np.linalg.solve(_BRADFORD, cones[:, None] * (_BRADFORD @ primaries))
    return columns if np.isfinite(columns).all() and np.abs(columns).max() < 30_000 else None


def _pack(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of a monitor: header, table of tags, tags (ICC.1:2010, section 7)."""
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, tag in tags.items():
        tag += bytes(-len(tag) % 4)
        table += name + struct.pack(">II", at + len(body), len(tag))
        body += tag
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4xI4s4s4s12x4s28x3i", size, 0x04200000, b"mntr", space, b"XYZ ", b"acsp", *map(_fixed, _D50))
    return head.ljust(128, b"\0") + table + body
