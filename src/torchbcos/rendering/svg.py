"""A drawing as SVG inside a page: colours are classes of the page's style sheet, so that it can be light or dark."""

from __future__ import annotations

from typing import assert_never

from torchbcos.rendering.markup import Html, element
from torchbcos.rendering.shapes import Area, Dot, Drawing, Line, Point, Shape, Words, breadth, outline, strokes

__all__ = ["svg"]

_CUT = "…"


def svg(drawing: Drawing) -> Html:
    """The drawing as an `<svg>` element for `page.document`.

    >>> svg(Drawing(10, 10, (Line(((0, 0), (10, 10))),), "a line"))[:62]
    '<svg viewBox="0 0 10 10" width="10" height="10" role="img" ari'
    """
    below = [_written(shape) for shape in drawing.shapes if not isinstance(shape, Words)]
    words = [_words(shape) for shape in drawing.shapes if isinstance(shape, Words)]
    size = {"width": _number(drawing.width), "height": _number(drawing.height)}
    about = {"viewBox": f"0 0 {size['width']} {size['height']}", **size, "role": "img", "aria-label": drawing.label}
    return element("svg", *below, *words, attributes={**about})


def _written(shape: Shape) -> Html:
    if isinstance(shape, Line):
        dash = {"stroke-dasharray": " ".join(map(_number, shape.dash))} if shape.dash else {}
        given = {"points": _points(shape.points), "stroke-width": _number(shape.width), "fill": "none"}
        return _shape("polyline", {**given, **dash, **_ink("stroke", shape.ink)}, shape.title)
    if isinstance(shape, Area):
        clear = {"fill-opacity": _number(shape.opacity)} if shape.opacity < 1 else {}
        return _shape("polygon", {"points": _points(shape.points), **clear, **_ink("fill", shape.ink)}, shape.title)
    if isinstance(shape, Dot):
        return _dot(shape)
    if isinstance(shape, Words):
        return _words(shape)
    assert_never(shape)


def _dot(dot: Dot) -> Html:
    if dot.mark == "cross":
        path = "".join(f"M{_number(x0)} {_number(y0)}L{_number(x1)} {_number(y1)}" for (x0, y0), (x1, y1) in strokes(dot))
        return _shape("path", {"d": path, "class": f"s-{dot.ink}", "stroke-width": "2"}, dot.title)
    inks = {"class": f"s-{dot.ink} f-{'paper' if dot.hollow else dot.ink}", "stroke-width": "1.5"}
    corners = outline(dot, dot.radius)
    if corners:
        return _shape("polygon", {"points": _points(corners), **inks}, dot.title)
    return _shape("circle", {"cx": _number(dot.x), "cy": _number(dot.y), "r": _number(dot.radius), **inks}, dot.title)


def _words(words: Words) -> Html:
    line, whole = _cut(words.text, words.size, words.most), words.text
    turn = {"transform": f"rotate(-90 {_number(words.x)} {_number(words.y)})"} if words.turned else {}
    given = {"x": _number(words.x), "y": _number(words.y), "dy": ".35em", "font-size": str(words.size), **turn}
    anchor = {"text-anchor": words.anchor} if words.anchor != "start" else {}
    bold = {"font-weight": "600"} if words.bold else {}
    title = [element("title", whole)] if line != whole else []
    return element("text", *title, line, attributes={**given, **anchor, **bold, **_ink("fill", words.ink)})


def _cut(line: str, size: int, most: float) -> str:
    """The beginning of a line that is about as long as there is room."""
    if breadth(line, size) <= most:
        return line
    while line and breadth(line + _CUT, size) > most:
        line = line[:-1]
    return line.rstrip() + _CUT


def _shape(tag: str, attributes: dict[str, str], title: str) -> Html:
    inside = [element("title", title)] if title else []
    return element(tag, *inside, attributes={**attributes})


def _ink(kind: str, ink: str) -> dict[str, str]:
    """A colour as a class of the style sheet, or as itself."""
    return {kind: ink} if ink.startswith("#") else {"class": f"{kind[0]}-{ink}"}


def _points(points: tuple[Point, ...] | list[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: float) -> str:
    """A place to a tenth of a pixel: more digits make a page larger, and no line sharper."""
    return f"{value:.1f}".removesuffix(".0")
