"""Words and numbers on a picture: fonts that are always there, text that always fits."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from PIL import ImageDraw, ImageFont

__all__ = ["Pen", "format_number", "format_share", "load_font", "one_line"]

# Pillow's own font has ASCII and little more; one of these is on most machines and has the rest of Europe and beyond.
_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc")
_TRACKING = 1.2  # pixels between the capitals of a label
_STAND_INS = str.maketrans({"\u2013": "-", "\u2014": "-", "\u2212": "-", "\u00d7": "x", "ß": "ss", "ø": "o", "æ": "ae", "ł": "l"})


def format_share(share: float) -> str:
    """What part of a logit the pixels carry, in per cent; "–" where it is not defined.

    >>> format_share(0.9712), format_share(0.0031), format_share(float("nan"))
    ('97 %', '0.3 %', '–')
    """
    if not math.isfinite(share):
        return "–"
    percent = 100 * share
    if abs(percent) >= 1e5:
        return f"{percent:.0e} %"
    return f"{percent:.1f} %" if 0.05 <= abs(percent) < 9.95 else f"{percent:.0f} %".replace("-0 ", "0 ")


def format_number(value: float) -> str:
    """A number in at most nine characters, "–" for NaN and infinity.

    >>> [format_number(v) for v in (12.3456, -0.01234, 3.2e-7, 123456.7, 0.0, float("nan"))]
    ['12.35', '-0.0123', '3.2e-07', '1.2e+05', '0', '–']
    """
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3 or size >= 1e5:
        return f"{value:.1e}"
    digits = 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:.{digits if size < 1000 else 0}f}"


@dataclass
class Pen:
    """Writes on one canvas. Fonts are loaded once a pen and size; a pen is not shared between threads."""

    draw: ImageDraw.ImageDraw
    fonts: dict[tuple[str, int], Any] = field(default_factory=dict)

    def write(self, x: float, y: float, text: str, size: int, colour: str, *, width: float = math.inf) -> float:
        """Write one line with its top left corner at (x, y), cut with "…" at `width`; returns the width used."""
        line, font = self._line(text, size, width)
        self.draw.text((x, y), line, font=font, fill=colour)
        return self._length(line, font)

    def label(self, x: float, y: float, text: str, size: int, colour: str) -> float:
        """Write spaced capitals, the quiet kind of heading; returns the width used."""
        line, font = self._line(text.upper(), size, math.inf)
        start = x
        for letter in line:
            self.draw.text((x, y), letter, font=font, fill=colour)
            x += self._length(letter, font) + _TRACKING
        return x - start

    def label_length(self, text: str, size: int) -> float:
        """Width of a label in pixels."""
        line, font = self._line(text.upper(), size, math.inf)
        return sum(self._length(letter, font) + _TRACKING for letter in line)

    def length(self, text: str, size: int) -> float:
        """Width of the whole line in pixels."""
        return self._length(*self._line(text, size, math.inf))

    def _line(self, text: str, size: int, width: float) -> tuple[str, Any]:
        line, font = self._legible(one_line(text), size)
        if self._length(line, font) <= width:
            return line, font
        dots = "…" if self._has(font, "…") else "..."
        low, high = 0, len(line)  # the longest beginning that fits with its dots, by halving
        while low < high:
            middle = (low + high + 1) // 2
            if self._length(line[:middle].rstrip() + dots, font) <= width:
                low = middle
            else:
                high = middle - 1
        return line[:low].rstrip() + dots, font

    def _legible(self, text: str, size: int) -> tuple[str, Any]:
        """The text and a font that has all its letters; failing that, the text in letters the font has."""
        plain = text.translate(_STAND_INS)
        best, font, missing = plain, self._font("", size), {c for c in plain if not self._has(self._font("", size), c)}
        for name in _WIDE_FONTS if missing else ():
            wide = self._font(name, size)
            lost = {c for c in text if not self._has(wide, c)} if wide is not None else missing
            if len(lost) < len(missing):
                best, font, missing = text, wide, lost
        return "".join(self._nearest(font, c) if c in missing else c for c in best), font

    def _nearest(self, font: Any, letter: str) -> str:
        """The letter without its accents where the font has that, else a question mark."""
        bare = "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
        return bare if bare and all(self._has(font, c) for c in bare) else "?"

    def _font(self, name: str, size: int) -> Any:
        key = (name, size)
        if key not in self.fonts:
            self.fonts[key] = load_font(name, size)
        return self.fonts[key]

    @staticmethod
    def _has(font: Any, letter: str) -> bool:
        if letter.isspace():
            return True
        if not isinstance(font, ImageFont.FreeTypeFont):
            return letter.isascii()
        glyph, missing = font.getmask(letter), font.getmask("\uffff")
        return (glyph.size, bytes(glyph)) != (missing.size, bytes(missing))

    @staticmethod
    def _length(text: str, font: Any) -> float:
        return float(font.getlength(text))


def load_font(name: str, size: int) -> Any:
    """Pillow's own font for "", else the named one; None where that is not installed."""
    if name:
        try:
            return ImageFont.truetype(name, size)
        except (OSError, ImportError):
            return None
    try:
        return ImageFont.load_default(size=size)
    except (ImportError, OSError):  # Pillow was built without FreeType: its small bitmap letters
        return ImageFont.load_default()


def one_line(text: str) -> str:
    """The text on one line without control characters or broken surrogates, which no font can draw.

    >>> one_line("a\\nb\\x00  c")
    'a b c'
    """
    clean = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text[:2000])
    return " ".join(clean.split())
