"""Letters of all scripts: with a font that has them, or as what they are not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont, features

from torchbcos.rendering import fonts, text, undrawable
from torchbcos.rendering.fonts import font_for, has_letter, load_font
from torchbcos.rendering.text import Pen

NAMES = ["金魚", "قطة سوداء", "แมวดำ", "🎉", "कुत्ता", "כלב", "한국어", "ქართული", "Z\u0335\u0301algo", "ፊደል", "\U00013080"]


def pen() -> Pen:
    return Pen(ImageDraw.Draw(Image.new("RGB", (600, 60), "white")))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_drawn_in_full_or_said_to_be_not_drawable(name: str) -> None:
    """On any machine, whatever fonts it has: a line holds all letters of the name, or the name is `undrawable`."""
    line, chain = pen()._line(f"Why '{name}'", 30, math.inf)
    if name in undrawable([name]):
        assert "?" in line
    else:
        assert "?" not in line and all(chain.has(letter) for letter in line)


def test_names_without_a_letter_are_not_drawable() -> None:
    assert undrawable(["", " ", "\u202e\u200b", "\ue000", "tench", "Größe"]) == {"", " ", "\u202e\u200b", "\ue000"}


@pytest.fixture
def two_fonts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine whose only further font is the one Pillow finds as DejaVu; the letter 漢 is in none."""
    path = load_font("DejaVuSans.ttf", 16)
    if path is None:
        pytest.skip("no DejaVu here")
    monkeypatch.setattr(text, "_WIDE_FONTS", ())
    monkeypatch.setattr(fonts, "_font_files", lambda: (path.path,))
    font_for.cache_clear()
    yield [path.path]
    font_for.cache_clear()


def test_a_system_font_lends_its_letters(two_fonts: list[str]) -> None:
    """Ж is not in Pillow's own font: its word is drawn with the other font, the rest with Pillow's."""
    assert not has_letter(load_font("", 16), "Ж") and font_for(frozenset("Ж")) == two_fonts[0]
    line, chain = pen()._line("Why 'Ж Жe\u0301'", 16, math.inf)
    assert line == "Why 'Ж Жé'" and len(chain.fonts) == 2
    pieces = [piece for piece, _ in chain.runs(line)]
    assert "".join(pieces) == line and pieces == ["Why '", "Ж Жé", "'"]
    assert font_for(frozenset("漢Ж")) is None and "漢" in undrawable(["漢"])
    width = pen().write(0, 0, "Why 'Ж'", 16, "black")
    assert width == pytest.approx(pen().length("Why 'Ж'", 16)) and width > 20


def test_marks_stay_with_their_letters(two_fonts: list[str]) -> None:
    line, chain = pen()._line("aж\u0301b", 16, math.inf)
    assert [piece for piece, _ in chain.runs(line)] == ["a", "ж\u0301", "b"]


def test_without_shaping_joined_scripts_are_not_drawable(monkeypatch: pytest.MonkeyPatch) -> None:
    check = features.check
    monkeypatch.setattr(features, "check", lambda name: name != "raqm" and check(name))
    assert undrawable(["قطة", "כלב", "कुत्ता", "tench"]) == {"قطة", "כלב", "कुत्ता"}


def test_without_freetype_only_ascii_is_drawable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "load_font", lambda name, size: None if name else ImageFont.load_default_imagefont())
    assert undrawable(["tench", "Größe", "金魚"]) == {"金魚"}  # Größe is drawn as Grosse


def test_missing_and_damaged_fonts_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "bad.ttf").write_bytes(b"no font")
    (tmp_path / "fonts" / "notes.txt").write_text("no font")
    monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path / "fonts", tmp_path / "nowhere"])
    fonts._font_files.cache_clear()
    font_for.cache_clear()
    try:
        assert fonts._font_files() == (str(tmp_path / "fonts" / "bad.ttf"),) and font_for(frozenset("漢")) is None
    finally:
        fonts._font_files.cache_clear()
        font_for.cache_clear()


def test_a_font_of_many_weights_is_regular() -> None:
    class Varying:
        def __init__(self) -> None:
            self.axes: Any = None

        def get_variation_axes(self) -> list[dict[str, Any]]:
            return [{"name": b"Weight", "default": 100}, {"name": b"Width", "default": 75}]

        def set_variation_by_axes(self, axes: list[float]) -> None:
            self.axes = axes

    font = Varying()
    assert fonts._regular(font) is font and font.axes == [400, 75]  # type: ignore[arg-type,comparison-overlap]
