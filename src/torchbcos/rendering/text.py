"""Words and numbers on a picture: fonts that are always there, text that always fits."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from PIL import ImageDraw, ImageFont

from torchbcos._core.letters import one_line
from torchbcos._core.probability import short_of_half
from torchbcos.rendering.fonts import font_for, has_letter, load_font

__all__ = ["Pen", "format_chance", "format_number", "format_share"]

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


def format_chance(chance: float) -> str:
    """A probability in per cent; one below one half is not rounded up to it: a further digit tells them apart.

    >>> format_chance(0.494), format_chance(0.4996), format_chance(0.5), format_chance(0.003)
    ('49 %', '49.9 %', '50 %', '0.3 %')
    """
    near = chance < 0.5 and round(100 * chance) == 50
    return f"{100 * short_of_half(chance, 1):.1f} %" if near else format_share(chance)


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


@dataclass(frozen=True)
class _Chain:
    """Fonts for one line: each letter is drawn by the first that has it."""

    fonts: tuple[Any, ...]

    def has(self, letter: str) -> bool:
        return any(has_letter(font, letter) for font in self.fonts)

    def runs(self, line: str) -> list[tuple[str, Any]]:
        """The line in pieces of one font each. Marks stay with their letter, spaces with the words on both sides."""
        if len(self.fonts) == 1:
            return [(line, self.fonts[0])] if line else []
        clusters = _clusters(line)
        fonts = [None if cluster.isspace() else self._font_of(cluster) for cluster in clusters]
        pieces: list[tuple[str, Any]] = []
        for i, (cluster, font) in enumerate(zip(clusters, fonts, strict=True)):
            if font is None:
                before = pieces[-1][1] if pieces else self.fonts[0]
                after = next((f for f in fonts[i:] if f is not None), None)
                font = before if before is after else self.fonts[0]
            if pieces and pieces[-1][1] is font:
                pieces[-1] = (pieces[-1][0] + cluster, font)
            else:
                pieces.append((cluster, font))
        return pieces

    def _font_of(self, cluster: str) -> Any:
        return next((font for font in self.fonts if all(has_letter(font, c) for c in cluster)), self.fonts[0])

    def length(self, line: str) -> float:
        return sum(float(font.getlength(piece)) for piece, font in self.runs(line))


def _clusters(line: str) -> list[str]:
    """Letters with the marks and joiners that belong to them."""
    found: list[str] = []
    for c in line:
        joined = unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf") or (found and found[-1][-1] == "\u200d")
        if joined and found and not found[-1].isspace():
            found[-1] += c
        else:
            found.append(c)
    return found


@dataclass
class Pen:
    """Writes on one canvas. Fonts are loaded once a pen and size; a pen is not shared between threads.

    Places, sizes and widths are in units of `scale` pixels: letters are drawn larger, not blown up.
    """

    draw: ImageDraw.ImageDraw
    fonts: dict[tuple[str, int], Any] = field(default_factory=dict)
    scale: float = 1

    def write(self, x: float, y: float, text: str, size: int, colour: str, *, width: float = math.inf) -> float:
        """Write one line with its top left corner at (x, y), cut with "…" at `width`; returns the width used."""
        line, chain = self._line(text, size, width)
        x, y = x * self.scale, y * self.scale
        start = x
        base = y + self._ascent(chain.fonts[0])
        for piece, font in chain.runs(line):
            top = y if font is chain.fonts[0] else base - self._ascent(font)  # letters of all fonts stand on one line
            self.draw.text((x, top), piece, font=font, fill=colour)
            x += float(font.getlength(piece))
        return (x - start) / self.scale

    def label(self, x: float, y: float, text: str, size: int, colour: str) -> float:
        """Write spaced capitals, the quiet kind of heading; returns the width used."""
        line, chain = self._line(text.upper(), size, math.inf)
        start = x
        for letter in line:
            self.draw.text((x * self.scale, y * self.scale), letter, font=chain.fonts[0], fill=colour)
            x += chain.length(letter) / self.scale + _TRACKING
        return x - start

    def label_length(self, text: str, size: int) -> float:
        """Width of a label."""
        line, chain = self._line(text.upper(), size, math.inf)
        return sum(chain.length(letter) / self.scale + _TRACKING for letter in line)

    def length(self, text: str, size: int) -> float:
        """Width of the whole line."""
        line, chain = self._line(text, size, math.inf)
        return chain.length(line) / self.scale

    def lacks(self, text: str, size: int = 16) -> set[str]:
        """Letters of the text that no font here can draw, not even without their accents: they would become "?"."""
        text = unicodedata.normalize("NFC", one_line(text))
        if text.isascii():
            return set()
        return self._lost(text, self._chain(text, size))

    def _line(self, text: str, size: int, width: float) -> tuple[str, _Chain]:
        line, chain = self._legible(unicodedata.normalize("NFC", one_line(text)), size)
        width *= self.scale
        if chain.length(line) <= width:
            return line, chain
        dots = "…" if chain.has("…") else "..."
        low, high = 0, len(line)  # the longest beginning that fits with its dots, by halving
        while low < high:
            middle = (low + high + 1) // 2
            if chain.length(line[:middle].rstrip() + dots) <= width:
                low = middle
            else:
                high = middle - 1
        return line[:low].rstrip() + dots, chain

    def _legible(self, text: str, size: int) -> tuple[str, _Chain]:
        """The text and fonts that have all its letters; failing that, the text in letters that one has."""
        chain = self._chain(text, size)
        if text.isascii():
            return text, chain
        line = "".join(c if chain.has(c) else self._nearest(chain, c) for c in text)
        return line, chain

    def _chain(self, text: str, size: int) -> _Chain:
        """Pillow's own font where it has all letters, else the wide one that has most, and the system's for the rest."""
        if text.isascii():  # every font of Pillow's has these
            return _Chain((self._font("", size),))
        best, missing = self._font("", size), self._missing(text.translate(_STAND_INS), self._font("", size))
        for name in _WIDE_FONTS if missing else ():
            wide = self._font(name, size)
            lost = self._missing(text, wide) if wide is not None else missing
            if len(lost) < len(missing):
                best, missing = wide, lost
        fonts = [best]
        for letter in sorted(missing):
            if not any(has_letter(font, letter) for font in fonts):
                path = font_for(frozenset(missing)) or font_for(frozenset(letter))
                other = self._font(path, size) if path else None
                fonts += [other] if other is not None else []
        return _Chain(tuple(fonts))

    @staticmethod
    def _missing(text: str, font: Any) -> set[str]:
        return {c for c in set(text) if not has_letter(font, c)}

    def _lost(self, text: str, chain: _Chain) -> set[str]:
        return {c for c in set(text) if not chain.has(c) and self._nearest(chain, c) == "?"}

    def _nearest(self, chain: _Chain, letter: str) -> str:
        """The letter without its accents where the fonts have that, else a question mark."""
        bare = letter.translate(_STAND_INS)
        if bare == letter:
            bare = "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
        return bare if bare and all(chain.has(c) for c in bare) else "?"

    def _font(self, name: str, size: int) -> Any:
        key = (name, size)
        if key not in self.fonts:
            self.fonts[key] = load_font(name, max(round(size * self.scale), 1))
        return self.fonts[key]

    @staticmethod
    def _ascent(font: Any) -> float:
        return float(font.getmetrics()[0]) if isinstance(font, ImageFont.FreeTypeFont) else 0.0
