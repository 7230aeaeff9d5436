"""Signals: traces over an axis, signed contributions below them, and the traces in the colours of their contributions.

Shapes: C channels, L length, n columns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import integer
from torchbcos.rendering._checks import real_tensor, upper_limit
from torchbcos.rendering.canvas import INK, LINE, PAPER, QUIET, Tile, check_size
from torchbcos.rendering.caption import undrawable
from torchbcos.rendering.columns import Doubles, column_sums, envelope, group_size
from torchbcos.rendering.facts import Facts
from torchbcos.rendering.files import to_uint8
from torchbcos.rendering.heatmap import heat_colours
from torchbcos.rendering.text import Pen, format_number, format_share

__all__ = ["MOST_CHANNELS", "signal_tiles", "ticks"]

MOST_CHANNELS = 8
_WIDTH, _LEFT, _RIGHT, _AXIS = 1352, 124, 12, 24  # of a tile; of the words beside a row; of the ticks below it
_PLOT = _WIDTH - _LEFT - _RIGHT
_ROWS, _ROW = (44, 104), 360  # least and greatest height of a row, and of all rows together
_FINE = 3.0  # pixels a unit at least while lines are drawn; then made smaller, so that they are smooth
_TICKS = 9
_FOR, _AGAINST, _PALE = "#ff0000", "#0000ff", "#eceef1"
_TINT = 0.35  # how strong the colours behind a coloured trace are


@dataclass(frozen=True)
class _Signal:
    """What is drawn of the channels that are shown, column by column."""

    low: Doubles  # (C, n)
    high: Doubles
    sums: Doubles
    limit: float
    names: tuple[str, ...]
    group: int
    length: int
    facts: Facts
    together: bool  # one row of contributions for all channels

    @property
    def row(self) -> float:
        """Height of a row."""
        return max(_ROWS[0], min(_ROWS[1], _ROW / len(self.names)))

    @property
    def edges(self) -> Doubles:
        """(n + 1,): where columns begin and end, as parts of the width."""
        return np.asarray(np.minimum(np.arange(self.low.shape[1] + 1) * self.group, self.length) / self.length)


def signal_tiles(
    image: Tensor, contributions: Tensor, by_channel: Tensor | None, percentile: float, channels: Sequence[int] | None,
    facts: Facts, scale: float, note: str,
) -> list[Tile]:  # fmt: skip
    """Input, contributions and overlay of a signal, to be placed below each other.

    Args:
        image: (C, L), of any range.
        contributions: (L,).
        by_channel: (C, L), the contributions of each channel; None: every channel has the colours of their sum.
        percentile: of the colours' range.
        channels: which are shown, in that order; None: the 8 that carry most, in theirs.
        facts: sampling interval in seconds, names, stored numbers.
        scale: pixels a unit.
        note: below the input.
    """
    values = real_tensor(image, "image").cpu().double().numpy()
    parts = _parts(contributions, by_channel, len(values))
    shown = _channels(channels, len(values), None if by_channel is None else np.abs(parts).sum(1))
    group = group_size(values.shape[1], _PLOT)
    low, high = envelope(values[list(shown)], group)
    sums = column_sums(parts[list(shown)], group)
    lost = undrawable(facts.channels)
    names = tuple(f"channel {i}" if not facts.channels or facts.channels[i] in lost else facts.channels[i] for i in shown)
    signal = _Signal(
        low, high, sums, upper_limit(np.abs(sums), percentile), names, group, values.shape[1], facts, by_channel is None
    )
    some = ""
    if len(set(shown)) < len(values):
        part = format_share(float(np.abs(parts[sorted(set(shown))]).sum() / (np.abs(parts).sum() or math.nan)))
        some = f": {len(shown)} of {len(values)} channels" + ("" if by_channel is None else f", with {part} of all contributions")
    summed = f": in each column the sum of {group:,} samples" if group > 1 else ""
    whose = "" if by_channel is not None or len(values) == 1 else " of all channels together"
    return [
        Tile(f"Input{some}", _traces(signal, scale), note=note, framed=False),
        Tile(f"Contributions{whose}{summed}", _bars(signal, scale), framed=False),
        Tile("Overlay", _coloured(signal, scale), signal.limit, framed=False),
    ]


def _parts(contributions: Tensor, by_channel: Tensor | None, count: int) -> Doubles:
    total = real_tensor(contributions, "contributions").cpu().double().numpy()
    if by_channel is None:
        return np.broadcast_to(total, (count, len(total)))
    parts = real_tensor(by_channel, "by_channel").cpu().double().numpy()
    if parts.shape != (count, len(total)):
        raise InputError(f"by_channel must be {(count, len(total))}, one row a channel of the image, got {parts.shape}.")
    return np.asarray(parts)


def _channels(wanted: Sequence[int] | None, count: int, sizes: Doubles | None) -> tuple[int, ...]:
    """The channels that are drawn: those that carry most, in their order."""
    if wanted is None:
        best = range(count) if sizes is None else np.argsort(-sizes, kind="stable").tolist()
        return tuple(sorted(best[:MOST_CHANNELS]))
    numbers = [integer(i) for i in wanted]
    found = [n % count for n in numbers if n is not None and -count <= n < count]
    if len(found) < len(numbers) or not found:
        raise InputError(f"channels must be whole numbers from 0 to {count - 1}, at least one; got {list(wanted)!r}.")
    return tuple(found)


class _Plot:
    """The rows of one tile: a canvas for curves, and a pen for the words beside them."""

    def __init__(self, signal: _Signal, scale: float) -> None:
        self.signal, self.scale = signal, scale
        self.fine = scale * max(1, math.ceil(_FINE / scale))
        self.height = signal.row * len(signal.names)
        check_size(_WIDTH, self.height, self.fine, "channels")
        self.canvas = Image.new("RGB", (round(_WIDTH * self.fine), round((self.height + _AXIS) * self.fine)), PAPER)
        self.draw = ImageDraw.Draw(self.canvas)
        self.marks = _marks(signal)
        for place, _ in self.marks:
            x = self.x(place)
            self.draw.line((x, 0, x, self.height * self.fine), fill=_PALE, width=round(self.fine / 2) or 1)

    def x(self, part: float) -> float:
        """Where a part of the signal's length is, in fine pixels."""
        return (_LEFT + part * _PLOT) * self.fine

    def y(self, row: int, part: float) -> float:
        """Where a part of a row's height is, counted from its bottom, with a little air above and below."""
        return (row + 0.93 - 0.86 * part) * self.signal.row * self.fine

    def background(self, row: int, colours: np.ndarray) -> None:
        """Colours (n, 3), a column each."""
        box = [
            round(v) for v in (self.x(0), row * self.signal.row * self.fine, self.x(1), (row + 1) * self.signal.row * self.fine)
        ]
        wide = box[2] - box[0]
        # the column that lies under the middle of each pixel
        under = np.searchsorted(self.signal.edges, (np.arange(wide) + 0.5) / wide, side="right") - 1
        line = colours[np.clip(under, 0, len(colours) - 1)]
        self.canvas.paste(Image.fromarray(to_uint8(line[None])).resize((wide, box[3] - box[1])), (box[0], box[1]))

    def finished(self, labels: Sequence[tuple[str, str]]) -> Image.Image:
        """The tile, with the names of the rows, the numbers at their ends, and the axis."""
        thick = max(round(self.fine / 2), 1)
        for row in range(1, len(self.signal.names)):
            y = row * self.signal.row * self.fine
            self.draw.line((self.x(0), y, self.x(1), y), fill=LINE, width=thick)
        self.draw.rectangle((self.x(0), 0, self.x(1), self.height * self.fine), outline=LINE, width=thick)
        size = (round(_WIDTH * self.scale), round((self.height + _AXIS) * self.scale))
        picture = self.canvas.resize(size, Image.Resampling.BOX)
        pen = Pen(ImageDraw.Draw(picture), scale=self.scale)
        for row, (name, (high, low)) in enumerate(zip(self.signal.names, labels, strict=True)):
            top = row * self.signal.row
            _right(pen, top + 3, high, 11, QUIET)
            _right(pen, top + self.signal.row - 15, low, 11, QUIET)
            if len(self.signal.names) > 1 or self.signal.facts.channels:
                pen.write(0, top + self.signal.row / 2 - 8, name, 13, INK, width=_LEFT - 62)
        self._axis(pen)
        return picture

    def _axis(self, pen: Pen) -> None:
        free = float(_LEFT)
        _right(pen, self.height + 6, "seconds" if any(self.signal.facts.spacing) else "sample", 12, QUIET)
        for place, word in self.marks:
            wide = pen.length(word, 12)
            left = min(max(_LEFT + place * _PLOT - wide / 2, _LEFT), _WIDTH - wide)
            if left >= free:
                free = left + pen.write(left, self.height + 6, word, 12, QUIET) + 8


def _right(pen: Pen, y: float, text: str, size: int, colour: str) -> None:
    pen.write(max(_LEFT - 8 - pen.length(text, size), 0), y, text, size, colour, width=_LEFT - 8)


def _traces(signal: _Signal, scale: float) -> Image.Image:
    plot = _Plot(signal, scale)
    for row in range(len(signal.names)):
        points = [point for pair in _points(plot, row) for point in pair]
        plot.draw.line(points, fill=INK, width=max(round(plot.fine * 1.3), 1), joint="curve")
    return plot.finished(_ranges(signal))


def _points(plot: _Plot, row: int) -> list[list[tuple[float, float]]]:
    """For each column the ends of its stroke, the one that is nearer to the column before it first."""
    signal = plot.signal
    low, high = signal.low[row], signal.high[row]
    base, reach = float(low.min()), float(high.max() - low.min())
    found: list[list[tuple[float, float]]] = []
    for j, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        ys = [plot.y(row, (value - base) / reach if reach else 0.5) for value in (a, b)]
        if found and abs(found[-1][-1][1] - ys[1]) < abs(found[-1][-1][1] - ys[0]):
            ys.reverse()
        x = plot.x(float(signal.edges[j] + signal.edges[j + 1]) / 2)
        found.append([(x, y) for y in ys])
    if len(found) == 1:  # one sample has no line: it gets its whole width
        found[0] = [(plot.x(0), found[0][0][1]), (plot.x(1), found[0][-1][1])]
    return found


def _ranges(signal: _Signal) -> list[tuple[str, str]]:
    """Greatest and least number of each row."""
    stored = signal.facts.stored
    return [(stored(float(high.max())), stored(float(low.min()))) for low, high in zip(signal.low, signal.high, strict=True)]


def _bars(signal: _Signal, scale: float) -> Image.Image:
    """Bars from the middle of each row: up and red for the class, down and blue against it, all rows on one scale."""
    if signal.together:
        signal = dataclasses.replace(signal, low=signal.low[:1], high=signal.high[:1], sums=signal.sums[:1], names=("",))
    plot, most = _Plot(signal, scale), float(np.abs(signal.sums).max())
    edges = [plot.x(float(edge)) for edge in signal.edges]
    for row, sums in enumerate(signal.sums):
        zero = plot.y(row, 0.5)
        for j in np.flatnonzero(sums).tolist():
            value = float(sums[j])
            end = plot.y(row, 0.5 + value / most / 2)
            right = max(edges[j + 1] - 1, edges[j])
            plot.draw.rectangle((edges[j], min(zero, end), right, max(zero, end)), fill=_FOR if value > 0 else _AGAINST)
        plot.draw.line((plot.x(0), zero, plot.x(1), zero), fill=QUIET, width=max(round(plot.fine / 2), 1))
    ends = ("+" + format_number(most), format_number(-most)) if most else ("0", "0")
    return plot.finished([ends] + [("", "")] * (len(signal.names) - 1))


def _coloured(signal: _Signal, scale: float) -> Image.Image:
    """The trace of each row, from grey to red or blue by what its columns contribute, over the same colours, paler."""
    plot, grey = _Plot(signal, scale), np.array([0.55, 0.57, 0.6])
    for row, sums in enumerate(signal.sums):
        heat = heat_colours(sums, signal.limit)
        plot.background(row, 1 - _TINT * (1 - heat))
        strength = 1 - heat.min(-1, keepdims=True)
        full = np.where(sums[:, None] > 0, [0.85, 0.0, 0.0], [0.0, 0.0, 0.85])
        ink = to_uint8((grey * (1 - strength) + full * strength)[None])[0].tolist()
        points = _points(plot, row)
        for j, pair in enumerate(points):
            before = [_middle(points[j - 1][-1], pair[0])] if j else []
            after = [_middle(pair[-1], points[j + 1][0])] if j + 1 < len(points) else []
            plot.draw.line([*before, *pair, *after], fill=tuple(ink[j]), width=max(round(plot.fine * 1.5), 1))
    return plot.finished(_ranges(signal))


def _middle(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


def _marks(signal: _Signal) -> list[tuple[float, str]]:
    """Round numbers on the axis: where they stand, as a part of its length, and their words."""
    seconds = next(iter(signal.facts.spacing), None)
    step = seconds or 1.0
    last = (signal.length - 1) * step
    return [((value / step + 0.5) / signal.length, word) for value, word in ticks(last, whole=seconds is None)]


def ticks(last: float, *, whole: bool = False, most: int = _TICKS) -> list[tuple[float, str]]:
    """Round numbers from 0 to `last`, at most `most`, in steps of 1, 2 or 5 times a power of ten.

    >>> [word for _, word in ticks(999, whole=True)], [word for _, word in ticks(0.37)]
    (['0', '200', '400', '600', '800'], ['0', '0.05', '0.1', '0.15', '0.2', '0.25', '0.3', '0.35'])
    """
    if last <= 0:
        return [(0.0, "0")]
    power = 10.0 ** math.floor(math.log10(last / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if last / (power * factor) <= most - 1 + 1e-9)
    step = max(step, 1.0) if whole else step
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [i * step for i in range(math.floor(last / step + 1e-9) + 1)]
    return [(value, f"{value:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}") for value in values]
