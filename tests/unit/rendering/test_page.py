from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pages import page_faults, read_page
from torchbcos.rendering.figures import Curve, Interval, curves, intervals
from torchbcos.rendering.page import (
    Html,
    Section,
    bullets,
    code,
    document,
    element,
    facts,
    figure,
    heading,
    note,
    paragraph,
    shown,
    warning,
)
from torchbcos.rendering.page_pictures import Shot, strip
from torchbcos.rendering.page_table import Column, table
from torchbcos.rendering.shapes import INKS

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&\x1b[2J\u202e\ud800\n"


def whole(words: str) -> str:
    """A page that has every part, with these words wherever words can stand."""
    columns = [Column(words, help=words), Column("n", number=True)]
    row = Interval(words, 0.5, 0.4, 0.6, note=words)
    shot = Shot([np.zeros((4, 4, 3))], words, {words: words}, [words])
    sections = [
        Section(words, [paragraph(words, code(words)), note(words), warning(words), heading(words), bullets([words])]),
        Section("Figures", [figure(intervals([row], axis=words, lines={words: 1}, series=[words, "b"], label=words), words)]),
        Section(
            "Curves", [figure(curves([Curve(words, [0, 1], [1, 0])], x_label=words, y_label=words, lines={words: 0.5}), words)]
        ),
        Section("Tables", [table(columns, [[words, 1.5]] * 4, caption=words), facts({words: words}), strip([shot])]),
    ]
    return document(words, sections, lead=words, footer=words)


def test_a_page_is_one_file_that_loads_and_runs_nothing_else() -> None:
    page = whole("plain words")
    assert page_faults(page) == []
    assert "http:" not in page and "https:" not in page


@pytest.mark.parametrize(
    "planted",
    [
        '<img src="https://example.org/a.png">', '<p onclick="x()">a</p>', '<p style="color:red">a</p>', "<p>", "</p>",
        '<a href="#nowhere">a</a>', "<script>1</script>", '<p id="contents">a</p>', "<iframe></iframe>",
    ],
)  # fmt: skip
def test_the_check_of_pages_finds_what_is_planted(planted: str) -> None:
    sections = [Section(str(i), [Html(planted)]) for i in range(3)]
    assert page_faults(document("a", sections)) != []


def test_the_parts_and_a_page_without_pictures_are_below_100_kilobytes() -> None:
    rows = [[f"method {i}", i / 20] for i in range(20)]
    marks = [Interval(f"method {i}", i / 20, i / 21, i / 19, 0, i / 25, i / 18) for i in range(20)]
    drawn = figure(intervals(marks, lines={"uniform": 0.25, "oracle": 1}, span=(0, 1)))
    page = document("a", [Section("b", [table([Column("method"), Column("median", number=True)], rows), drawn])])
    empty = document("a", [])
    assert len(empty.encode()) < 20_000  # style sheet and script
    assert len(page.encode()) < 40_000


def test_names_of_strangers_stay_text() -> None:
    page = whole(EVIL)
    page.encode()  # no half characters
    assert page_faults(page) == []
    reader = read_page(page)
    assert sum(tag == "script" for tag, _ in reader.elements) == 1 and sum(tag == "img" for tag, _ in reader.elements) == 1
    assert "\x1b" not in page and "\u202e" not in page
    assert "<script>alert(1)</script>" in "".join(reader.words)


@settings(max_examples=12, deadline=None)
@given(st.text(max_size=40))
def test_any_words_leave_a_page_well_formed(words: str) -> None:
    page = document(words, [Section(words, [paragraph(words), facts({words: words}), table([Column(words)], [[words]])])])
    assert page_faults(page) == []
    page.encode()


def test_a_page_has_its_sections_and_a_table_of_contents_from_three_on() -> None:
    three = document("a", [Section(name, []) for name in "bcd"])
    assert three.count("<nav") == 1 and '<a href="#s2">c</a>' in three and '<h2 id="s2">c' in three
    assert document("a", [Section("b", [])]).count("<nav") == 0


def test_the_panel_is_there_for_pictures_only() -> None:
    assert "<dialog" not in document("a", [Section("b", [paragraph("c")])])
    assert whole("a").count("<dialog") == 1


def test_plain_values_in_words() -> None:
    assert shown(math.nan) == "–" and shown([]) == "–" and shown({}) == "–" and shown(None) == "–"
    assert shown(12345) == "12,345" and shown(1999) == "1999" and shown(False) == "no"
    assert shown({"a": [1, 2.5]}) == "a 1, 2.50"


def test_an_element_needs_no_second_escape() -> None:
    assert element("p", code("a<b")) == "<p><code>a&lt;b</code></p>"
    assert element("p", "<code>") == "<p>&lt;code&gt;</p>"


def _light(code: str) -> np.ndarray:
    """Linear red, green and blue of a colour."""
    values = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _contrast(a: str, b: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted((float(_light(a) @ weights), float(_light(b) @ weights)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", [0, 1])
def test_colours_stand_out_from_the_paper(side: int) -> None:
    paper = INKS["paper"][side]
    for name, codes in INKS.items():
        least = 4.5 if name in ("ink", "quiet", "warn") else 3.0  # WCAG 2.2: text, and marks
        assert name in ("paper", "line") or _contrast(codes[side], paper) >= least, name
    assert _contrast("#56b4e9", "#ffffff") < 3  # the palette as published would not do on white


# Machado, Oliveira, Fernandes 2009, severity 1: what those see who lack red or green
_BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("kind", list(_BLIND))
@pytest.mark.parametrize("side", [0, 1])
def test_the_first_colours_differ_for_the_colour_blind(kind: str, side: int) -> None:
    def seen(code: str) -> np.ndarray:
        return np.clip(np.array(_BLIND[kind]) @ _light(code), 0, 1) ** (1 / 2.2)

    def apart(a: str, b: str) -> float:
        return float(np.linalg.norm(seen(a) - seen(b)))

    first = [INKS[f"s{i}"][side] for i in range(5)]
    assert min(apart(a, b) for i, a in enumerate(first) for b in first[:i]) > 0.15
    assert (
        apart("#d62728", "#2ca02c") < 0.35 < apart(*first[:2])
    )  # red and green of a usual palette are closer than our first two
