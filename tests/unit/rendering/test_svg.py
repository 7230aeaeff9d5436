from __future__ import annotations

from tests.pages import read_page
from torchbcos.rendering.shapes import Area, Dot, Drawing, Line, Words
from torchbcos.rendering.svg import svg

SHAPES = (
    Line(((0, 0), (10.04, 5)), "s1", 2, (4, 2), "a <line>"), Area.box(0, 0, 5, 5, "#ff0000", 0.5), Dot(3, 3),
    Dot(4, 4, mark="cross"), Dot(5, 5, mark="diamond", hollow=True), Words(1, 2, "much too long a text", most=60),
    Words(1, 2, "up", turned=True, anchor="middle", bold=True),
)  # fmt: skip


def test_every_shape_is_written_and_escaped() -> None:
    html = svg(Drawing(20, 10, SHAPES, 'a "figure"'))
    reader = read_page(html)
    assert reader.faults == [] and reader.open == []
    tags = [tag for tag, _ in reader.elements]
    assert [t for t in tags if t != "title"] == ["svg", "polyline", "polygon", "circle", "path", "polygon", "text", "text"]
    assert 'aria-label="a &quot;figure&quot;"' in html and "<title>a &lt;line&gt;</title>" in html
    assert 'points="0,0 10,5"' in html and 'stroke-dasharray="4 2"' in html and 'class="s-s1"' in html


def test_colours_are_classes_or_themselves() -> None:
    html = svg(Drawing(20, 10, SHAPES))
    assert 'fill="#ff0000"' in html and 'class="s-ink f-ink"' in html and 'class="s-ink f-paper"' in html


def test_long_words_are_cut_and_whole_in_their_title() -> None:
    html = svg(Drawing(20, 10, SHAPES))
    assert "<title>much too long a text</title>much to…</text>" in html
    assert 'transform="rotate(-90 1 2)"' in html and 'text-anchor="middle"' in html and 'font-weight="600"' in html
