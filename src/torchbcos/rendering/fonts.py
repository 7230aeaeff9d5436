"""Fonts: Pillow's own, and those of the system that have the letters it lacks."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import ImageFont, features

__all__ = ["font_for", "has_letter", "load_font"]

_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
_MOST_FILES = 3000  # a machine with more fonts than this is searched in part
_LAST = ("bold", "italic", "oblique", "black", "light", "thin", "mono", "condensed", "serif", "emoji", "color")
# scripts whose letters join, move or change places, beside those that are written from right to left
_SHAPED = ((0x0900, 0x0DFF), (0x0E80, 0x109F), (0x1780, 0x17FF), (0x1A20, 0x1AAF))
_REGULAR = 400


def load_font(name: str, size: int) -> Any:
    """Pillow's own font for "", else the named one, regular if its weight varies; None where that is not installed."""
    if name:
        try:
            return _regular(ImageFont.truetype(name, size))
        except (OSError, ImportError, ValueError):
            return None
    try:
        return ImageFont.load_default(size=size)
    except (ImportError, OSError):  # Pillow was built without FreeType: its small bitmap letters
        return ImageFont.load_default()


def _regular(font: ImageFont.FreeTypeFont) -> ImageFont.FreeTypeFont:
    """A font whose weight varies at the weight of text: some begin at their thinnest."""
    try:
        axes = font.get_variation_axes()
        if any(axis["name"] in (b"Weight", "Weight") for axis in axes):
            wanted = [_REGULAR if axis["name"] in (b"Weight", "Weight") else axis["default"] for axis in axes]
            font.set_variation_by_axes([float(value or 0) for value in wanted])
    except (OSError, NotImplementedError, KeyError):
        pass  # a font of one weight
    return font


def has_letter(font: Any, letter: str) -> bool:
    """Whether the font draws this letter; where Pillow cannot join letters, a script that needs that counts as absent."""
    if letter.isspace() or unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f":
        return True  # nothing is drawn: joiners and variation selectors
    if not isinstance(font, ImageFont.FreeTypeFont):
        return letter.isascii()
    if _is_shaped(letter) and not features.check("raqm"):
        return False
    basic = _unshaped(font)
    glyph, missing = basic.getmask(letter), basic.getmask("\uffff")
    return (glyph.size, bytes(glyph)) != (missing.size, bytes(missing))


def _is_shaped(letter: str) -> bool:
    return unicodedata.bidirectional(letter) in ("R", "AL") or any(low <= ord(letter) <= high for low, high in _SHAPED)


@lru_cache(maxsize=16)
def _unshaped(font: ImageFont.FreeTypeFont) -> ImageFont.FreeTypeFont:
    """The font letter by letter: shaped, a mark without its letter would get a circle, which looks like a drawn letter."""
    if font.layout_engine == ImageFont.Layout.BASIC:
        return font
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=512)
def font_for(letters: frozenset[str]) -> str | None:
    """The file of a system's font that has all these letters; None if there is none."""
    for path in _font_files():
        font = load_font(path, 16)
        if font is not None:
            basic = _unshaped(font)
            if all(has_letter(basic, letter) for letter in letters):
                return path
    return None


@lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    """The fonts of this machine, plain ones first."""
    found: list[Path] = []
    for path in _walked(_folders()):
        found.append(path)
        if len(found) == _MOST_FILES:
            break
    return tuple(str(path) for path in sorted(found, key=lambda p: (sum(word in p.name.lower() for word in _LAST), str(p))))


def _walked(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for where, _, names in os.walk(folder):
            yield from (Path(where, name) for name in names if name.lower().endswith(_SUFFIXES))


def _folders() -> list[Path]:
    """Where systems keep fonts."""
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"),
                Path(os.environ.get("LOCALAPPDATA", "C:/"), "Microsoft/Windows/Fonts")]  # fmt: skip
    own = Path(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"))
    mac = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), Path(os.path.expanduser("~/Library/Fonts"))]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), own / "fonts", Path(os.path.expanduser("~/.fonts")), *mac]
