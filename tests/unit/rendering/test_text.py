from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from torchbcos._core.letters import one_line
from torchbcos.rendering import format_number, format_share, text
from torchbcos.rendering.text import Pen


def pen() -> Pen:
    return Pen(ImageDraw.Draw(Image.new("RGB", (300, 40), "white")))


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.97, "97 %"),
        (1.0, "100 %"),
        (1.5, "150 %"),
        (0.031, "3.1 %"),
        (0.0, "0 %"),
        (-1e-9, "0 %"),
        (1e-9, "0 %"),
        (-0.2, "-20 %"),
        (0.0996, "10 %"),
        (12345.0, "1e+06 %"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_share(share: float, words: str) -> None:
    assert format_share(share) == words


@settings(deadline=None)
@given(st.floats(width=32))
def test_a_number_is_short_and_right(value: float) -> None:
    words = format_number(value)
    assert len(words) <= 9
    if math.isfinite(value) and (abs(value) > 1e-40 or value == 0):
        assert float(words) == pytest.approx(value, rel=0.06)
    if not math.isfinite(value):
        assert words == "–"


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=40), st.integers(20, 300))
def test_any_text_is_drawn_within_its_width(words: str, width: int) -> None:
    assert pen().write(0, 0, words, 16, "black", width=width) <= width
    assert "\n" not in one_line(words)


@pytest.mark.parametrize("words", ["", "a\nb", "\x00", "\ud800", "漢字", "שלום", "é" * 500, "😀", "x\u0301", "\u202eabc"])
def test_odd_text_with_every_kind_of_font(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load = text.load_font
    fonts: list[Any] = [load, lambda name, size: None if name else load(name, size)]
    fonts.append(lambda name, size: None if name else ImageFont.load_default_imagefont())
    for font in fonts:
        monkeypatch.setattr(text, "load_font", font)
        p = pen()
        assert p.write(0, 0, words, 16, "black", width=100) <= 100
        assert p.label(0, 0, words, 12, "black") == pytest.approx(p.label_length(words, 12))


def test_letters_that_no_font_has_keep_their_base(monkeypatch: pytest.MonkeyPatch) -> None:
    load = text.load_font
    monkeypatch.setattr(text, "load_font", lambda name, size: None if name else load(name, size))
    p = pen()
    assert p._line("Müller – 漢", 16, math.inf)[0] == "Muller - ?"


def test_long_text_ends_with_dots() -> None:
    line, _ = pen()._line("a very long name of a class", 16, 100)
    assert line.endswith("…") and line.startswith("a very")


def test_without_freetype_the_bitmap_font_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    bitmap = ImageFont.load_default_imagefont()

    def load_default(size: float | None = None) -> Any:
        if size is not None:
            raise ImportError("The _imagingft C module is not installed")
        return bitmap

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    assert text.load_font("", 20) is bitmap
