"""A folder of pictures read here and by Pillow alone, and every difference: python tests/corpus.py FOLDER [--slowest N]

Pillow's own test pictures are the folder to try: Tests/images of its source package (pip download --no-binary :all: --no-deps
pillow). Sound means: Pillow itself opens and loads the file as JPEG, PNG, GIF, WebP, BMP or TIFF. What it gives is converted to
sRGB by its ImageCms, turned by its exif_transpose and laid over white, and compared with what `read_image` gives.

Exit code 1 if a file raised anything but a BcosError, a sound file is called damaged or truncated, or one took over ten seconds.
"""

from __future__ import annotations

import argparse
import collections
import io
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from torchbcos._core.errors import BcosError
from torchbcos.pictures import read_image

KINDS = {"JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF"}
SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "L": "GRAY", "I;16": "GRAY", "CMYK": "CMYK"}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def convert(image: Image.Image, profile: bytes | None) -> Image.Image:
    """By Pillow's ImageCms, where the profile is of this kind of image."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
        if source.profile.xcolor_space != SPACES.get(image.mode):
            return image
        out = image.mode if image.mode == "RGBA" else "RGB"
        found = ImageCms.profileToProfile(image, source, SRGB, renderingIntent=1, outputMode=out)
        assert found is not None
        return found
    except (ImageCms.PyCMSError, OSError):
        return image


def reference(path: Path) -> tuple[str, np.ndarray | None]:
    """Pillow's format and pixels (H, W, 3); None where it cannot load the file."""
    with Image.open(path) as image:
        kind = image.format or ""
        if kind not in KINDS:
            return kind, None
        try:
            image.load()
        except Exception:
            return kind, None
        key, profile = image.info.get("transparency"), image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in ("L", "LA", "I;16", "1")
        if upright.mode.startswith(("I", "F")) and not (upright.mode == "I;16" and key is None and profile):
            values = np.asarray(upright).astype(float)
            upright = Image.fromarray(np.rint(values / (257 if values.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
        rgba = upright.convert("RGBA") if key is not None or (upright.has_transparency_data and upright.mode != "L") else None
        if rgba is not None:
            alpha, colours = rgba.getchannel("A"), rgba.getchannel("R") if grey else rgba.convert("RGB")
        else:
            alpha, colours = None, upright if upright.mode in SPACES else upright.convert("L" if grey else "RGB")
        flat = convert(colours, profile).convert("RGB")
        white = Image.new("RGB", flat.size, "white")
        white.paste(flat, mask=alpha)
        return kind, np.asarray(white).astype(int)


def compare(path: Path) -> tuple[str, str]:
    """What came of a file, in a word, and more of it."""
    try:
        kind, wanted = reference(path)
    except Exception as error:
        kind, wanted = f"no picture ({type(error).__name__})", None
    try:
        got = np.asarray(read_image(path)).astype(int)
    except BcosError as error:
        text = str(error).split("' ", 1)[-1]
        return f"refused, {'sound' if wanted is not None else 'and by Pillow'}", f"{kind}: {text}"
    if wanted is None:
        return "read, not by Pillow", kind
    if got.shape != wanted.shape:
        return "other size", f"{kind}: {wanted.shape} here {got.shape}"
    off = int(np.abs(got - wanted).max())
    return (
        ("equal", kind)
        if off <= 1
        else ("other pixels", f"{kind}: by up to {off}, {np.abs(got - wanted).mean():.2f} in the mean")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slowest", type=int, default=3)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    counts, kinds, times, bad = collections.Counter[str](), collections.Counter[str](), [], 0
    for path in sorted(path for path in chosen.folder.rglob("*") if path.is_file()):
        start = time.perf_counter()
        try:
            word, more = compare(path)
        except Exception as error:
            word, more = "TRACEBACK", repr(error)
        times.append((time.perf_counter() - start, path.name))
        counts[word] += 1
        kinds[f"{word}: {more.split(':')[0]}"] += 1
        wrong = word == "TRACEBACK" or (word == "refused, sound" and ("damaged" in more or "truncated" in more))
        bad += wrong or times[-1][0] > 10
        if word not in ("equal", "refused, and by Pillow") or wrong:
            print(f"{word:22} {path.relative_to(chosen.folder)}: {more}")
    print(*(f"{count:5} {word}" for word, count in sorted(kinds.items()) if word.startswith("equal")), sep="\n")
    print(*(f"{count:5} {word}" for word, count in counts.most_common()), sep="\n")
    print("slowest, with Pillow:", *(f"{name} {seconds:.1f} s" for seconds, name in sorted(times)[::-1][: chosen.slowest]))
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
