"""A drawing as a picture, in the style of panels: for docs and for whoever wants a PNG."""

from __future__ import annotations

import math
from itertools import pairwise

from PIL import Image, ImageDraw

from torchbcos.rendering.canvas import Page, check_scale, check_size
from torchbcos.rendering.shapes import INKS, Area, Dot, Drawing, Line, Point, Words, outline, strokes

__all__ = ["draw"]

_FINER = 3  # Pillow's lines have steps: lines are drawn so many times larger, and made smaller
_LETTER_MIDDLE = 0.62  # of the letters' size: where the middle of a line is, below its top


def draw(drawing: Drawing, *, scale: float = 2, margin: float = 16) -> Image.Image:
    """The drawing on white paper, as a picture.

    Args:
        drawing: of `figures`, say.
        scale: pixels a unit; 2 is sharp in print.
        margin: white around it, in units.

    Raises:
        InputError: scale out of range, or a picture of more than 100 million pixels.

    >>> draw(Drawing(40, 20, (Line(((0, 0), (40, 20))),)), scale=1, margin=0).size
    (40, 20)
    """
    scale = check_scale(scale)
    width, height = drawing.width + 2 * margin, drawing.height + 2 * margin
    check_size(width, height, scale * _FINER, "parts of a figure")
    page = Page(width, height, scale)
    fine = Image.new("RGB", (page.canvas.width * _FINER, page.canvas.height * _FINER), INKS["paper"][0])
    pencil = _Pencil(ImageDraw.Draw(fine, "RGBA"), scale * _FINER, margin)
    for shape in drawing.shapes:
        if isinstance(shape, Line):
            pencil.line(shape)
        elif isinstance(shape, Area):
            pencil.area(shape)
        elif isinstance(shape, Dot):
            pencil.dot(shape)
    page.canvas.paste(fine.reduce(_FINER))
    for shape in drawing.shapes:
        if isinstance(shape, Words):
            _write(page, shape, margin)
    return page.canvas


def _code(ink: str) -> str:
    return ink if ink.startswith("#") else INKS[ink][0]


def _colour(ink: str, opacity: float = 1) -> tuple[int, int, int, int]:
    code = _code(ink)
    red, green, blue = (int(code[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue, round(255 * opacity)


class _Pencil:
    """Shapes in units of a scale, moved by the margin."""

    def __init__(self, pen: ImageDraw.ImageDraw, scale: float, margin: float) -> None:
        self.pen, self.scale, self.margin = pen, scale, margin

    def line(self, line: Line) -> None:
        for part in _dashed(line.points, line.dash):
            self._stroke(part, line.ink, line.width)

    def area(self, area: Area) -> None:
        self.pen.polygon(self._places(area.points), fill=_colour(area.ink, area.opacity))

    def dot(self, dot: Dot) -> None:
        if dot.mark == "cross":
            for stroke in strokes(dot):
                self._stroke(list(stroke), dot.ink, 2)
            return
        self._mark(dot, dot.radius + 0.75, dot.ink)
        if dot.hollow:
            self._mark(dot, max(dot.radius - 0.75, 0), "paper")

    def _mark(self, dot: Dot, radius: float, ink: str) -> None:
        corners = outline(dot, radius)
        if corners:
            self.pen.polygon(self._places(corners), fill=_colour(ink))
        else:
            (x, y), r = self._places(((dot.x, dot.y),))[0], radius * self.scale
            self.pen.ellipse((x - r, y - r, x + r, y + r), fill=_colour(ink))

    def _stroke(self, points: list[Point], ink: str, width: float) -> None:
        self.pen.line(self._places(points), fill=_colour(ink), width=max(round(width * self.scale), 1), joint="curve")

    def _places(self, points: tuple[Point, ...] | list[Point]) -> list[Point]:
        return [((x + self.margin) * self.scale, (y + self.margin) * self.scale) for x, y in points]


def _dashed(points: tuple[Point, ...], dash: tuple[float, ...]) -> list[list[Point]]:
    """The pieces of a line that are drawn: all of it, or dashes and gaps by turns."""
    if not dash or len(points) < 2:
        return [list(points)]
    pieces: list[list[Point]] = [[points[0]]]
    turn, left = 0, dash[0]
    for (x0, y0), (x1, y1) in pairwise(points):
        length, done = math.dist((x0, y0), (x1, y1)), 0.0
        while length - done > left:
            done += left
            place = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if turn % 2 == 0:
                pieces[-1].append(place)
            else:
                pieces.append([place])
            turn += 1
            left = dash[turn % len(dash)]
        left -= length - done
        if turn % 2 == 0:
            pieces[-1].append((x1, y1))
    return [piece for piece in pieces if len(piece) > 1]


def _write(page: Page, words: Words, margin: float) -> None:
    x, y = words.x + margin, words.y + margin
    room = min(words.most, 4 * (page.width + page.height))
    if words.turned:
        _write_turned(page, words, x, y, room)
        return
    long = min(page.pen.length(words.text, words.size), room)
    left = x - {"start": 0.0, "middle": long / 2, "end": long}[words.anchor]
    page.pen.write(left, y - _LETTER_MIDDLE * words.size, words.text, words.size, _code(words.ink), width=room)


def _write_turned(page: Page, words: Words, x: float, y: float, room: float) -> None:
    """Words that run upwards: written on a slip of paper, which is turned; white lets through what is below it."""
    long = min(page.pen.length(words.text, words.size), room)
    high = 1.4 * words.size
    slip = Page(long + 2, high, page.scale)
    slip.pen.write(1, high / 2 - _LETTER_MIDDLE * words.size, words.text, words.size, _code(words.ink), width=room)
    turned = slip.canvas.transpose(Image.Transpose.ROTATE_90)
    below = {"start": 0.0, "middle": long / 2, "end": long}[words.anchor]
    place = (round((x - high / 2) * page.scale), round((y + below) * page.scale) - turned.height)
    darkness = turned.convert("L").point([255 - i for i in range(256)])
    page.canvas.paste(turned, place, darkness)
