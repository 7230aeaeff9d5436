"""Numbers of any kind and range as the 8 bits of a picture: which is black, which is white, and what is refused.

No scale is guessed from the values: files of one folder would get different ones, and a value that is a little greater would turn
a picture black. Unsigned integers span their type, floats lie in [0, 1]; what has no such range needs one that is said.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError

__all__ = [
    "FEW", "OUT_OF_RANGE", "SLACK", "Range", "Samples", "check_range", "heard", "other_range", "range_note", "range_words",
    "warn_once", "window", "without_range",
]  # fmt: skip

Range = tuple[float, float]
SLACK = 1e-3  # by which resampled numbers may leave [0, 1]
# Of its range: 12 bits in 16 use a sixteenth, 13 bits an eighth. An eighth is said of 9 to 16 bits only, whose numbers are bright
# as the eye sees: a photo of which 99 % lie there is one of the night. 14 bits use a quarter, as many a dim photo does: no word.
_LITTLE, _SOME = 1 / 16, 1 / 8
# Numbers that may lie beyond, as a share of all: dead pixels and a letter burnt in must not hide that the rest is black.
_STRAY = 0.01
_SAMPLE = 2**14  # numbers of a part that are looked at for it: a share of 1 % is 160 of them, in 0.1 ms
# Most of the numbers outside a range that was said: a wrong range. A window of a CT cuts air, which may be nearly all of a slice,
# and a lone background is no sign either; a bone window cuts what is soft, too.
_MOST, _NEARLY_ALL, _HALF = 0.9, 0.99, 0.5
_FAR = 4  # times the width of the range, by which half of the numbers may lie above it
# Hounsfield units: whose lowest number lies between the first two is a CT; what lies below the third is air; and no window of a
# CT begins below the fourth
_PADDING, _AIR, _LUNG, _LOW_WINDOW = -4096, -900, -500, -1500
FEW = 64  # numbers, of which nothing is told
OUT_OF_RANGE = " the range from "  # stands in every sentence on numbers that do not fit
_SAY = re.compile(r"say the range: (value_range=\([^()]*\)), on the command line --range \S+\.")
_warned: set[str] = set()  # ranges of which this process has heard, as `warnings` keeps what it has said
_listener: ContextVar[list[str] | None] = ContextVar("_listener", default=None)
_FARTHEST = 1e300  # so that differences are finite
_WIDE = 32  # bits; so many are never a photo's own, and are not taken for one that is dark


def check_range(value_range: object) -> Range | None:
    """Two finite numbers, black below white, or None.

    Raises:
        ArgumentTypeError, InputError: it is something else.

    >>> check_range((0, 4095))
    (0.0, 4095.0)
    """
    if value_range is None:
        return None
    if isinstance(value_range, (np.ndarray, Tensor)):
        value_range = value_range.tolist()
    if not isinstance(value_range, (tuple, list)):
        raise ArgumentTypeError(f"value_range must be two numbers, (0, 4095) say, or None; got {type(value_range).__name__}.")
    plain = [value.item() if isinstance(value, np.generic) or _is_single(value) else value for value in value_range]
    numbers = [float(value) for value in plain if _is_number(value)]
    if len(numbers) != 2 or len(value_range) != 2 or not numbers[0] < numbers[1]:
        raise InputError(f"value_range must be two finite numbers, that of black below that of white; got {value_range!r:.100}.")
    return numbers[0], numbers[1]


def _is_single(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_FARTHEST < value < _FARTHEST


def range_words(low: float, high: float) -> str:
    """How a range is said, in Python and on the command line.

    >>> range_words(0, 4095)
    'value_range=(0, 4095), on the command line --range 0..4095'
    """
    return f"value_range=({_digits(low)}, {_digits(high)}), on the command line --range {_digits(low)}..{_digits(high)}"


def _digits(number: float) -> str:
    return f"{number:.0f}" if number == int(number) and abs(number) < 1e15 else f"{number:.6g}"


class Samples:
    """Turns the numbers of one picture into bytes, part by part, and judges them when all were seen.

    Args:
        kind: "u", "i" or "f": unsigned, signed, floating point.
        bits: of a number.
        value_range: the numbers of black and white; None: the kind's own, [0, 2^bits - 1] or [0, 1].

    >>> samples = Samples("u", 16)
    >>> samples.to_bytes(np.array([0, 25700, 65535], np.uint16)).tolist(), samples.judge("It")
    ([0, 100, 255], None)
    """

    def __init__(self, kind: str, bits: int, value_range: Range | None = None) -> None:
        self.kind, self.bits, self.said = kind, bits, value_range is not None
        top = float(2 ** (bits - (kind == "i")))
        own = {"f": (0.0, 1.0), "u": (0.0, top - 1), "i": (-top, top - 1)}[kind]
        self.black, self.white = own if value_range is None else value_range
        self.low, self.high = math.inf, -math.inf
        self._seen: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []  # numbers, and how many each stands for
        self._table: NDArray[np.uint8] | None = None

    def saw(self, values: NDArray[Any], counts: NDArray[Any] | None = None) -> None:
        """Note some numbers, each as often as `counts` says; NaN stays."""
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low != low or high != high:
            self.low = self.high = math.nan
        step = 1 if counts is not None else max(1, values.size // _SAMPLE) | 1  # odd, so that it does not keep to some columns
        some = values.flat[::step].astype(np.float64)
        self._seen.append((some, np.full(some.size, float(step)) if counts is None else counts.astype(np.float64)))

    def to_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """The numbers as 0 to 255, rounded; what lies outside the range is cut to its ends."""
        with np.errstate(all="ignore"):  # NaN and infinity are refused when all is seen
            if values.size:
                self.saw(values)
            if not (self.kind == "u" and values.dtype.kind == "u" and values.dtype.itemsize <= 2):
                return self._scaled(values.astype(np.float64))
            if self._table is None:
                self._table = self._scaled(np.arange(2 ** (8 * values.dtype.itemsize), dtype=np.float64))
            found: NDArray[np.uint8] = self._table[values]
            return found

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        cut = np.clip(np.nan_to_num(values, posinf=np.inf, neginf=-np.inf), self.black, self.white)
        scaled: NDArray[np.uint8] = np.rint((cut - self.black) * 255 / (self.white - self.black)).astype(np.uint8)
        return scaled

    def judge(self, name: str, first: str = "") -> str | None:
        """A sentence for the user where the picture uses a sixteenth of its range or less; None where all is well.

        Of its numbers 1 % may lie elsewhere; unsigned ones of 9 to 16 bits should use more than an eighth. And a sentence where
        most of them lie outside a range that was said.

        Args:
            name: what the sentence calls it.
            first: what must be done before a range can be said: "save it as TIFF and ".

        Raises:
            InputError: NaN, infinity, or numbers whose range nobody can know.
        """
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise InputError(f"{name} holds NaN or infinity.")
        span, photo = self.white - self.black, not self.said and self.kind == "u" and 8 < self.bits < _WIDE
        shares = (_LITTLE, _SOME) if photo else (_LITTLE,)
        airy = self.said and _PADDING <= self.low <= _AIR and self.black > _LOW_WINDOW
        tops = ((share, None if airy else self._reach(self.black + share * span)) for share in shares)
        share, top = next(((share, top) for share, top in tops if top is not None), (1.0, None))
        if not self.said:
            self._check_known(name, share, top)
        bottom = self._reach(self.white - _LITTLE * span, below=False) if self.said and top is None and not airy else None
        apart = self.said and (self.low > self.white or self.high < self.black)  # the range is a wrong one, not one that is wide
        if apart and (found := self._outside(name, airy)) is not None:
            return found
        if self.low == self.high or (top is None and bottom is None):
            return self._outside(name, airy) if self.said and self.low < self.high else None
        most = f", 99 % of them up to {_digits(top)}" if top is not None and top < self.high else ""
        most += f", 99 % of them from {_digits(bottom)} on" if bottom is not None and bottom > self.low else ""
        part = f"{'lightest' if top is None else 'darkest'} {'eighth' if share == _SOME else 'sixteenth'}"
        better = "Is that meant?" if self.said else f"If that is not meant, {first}say the range: {self._likely(top)}."
        return (
            f"{name} holds values from {_digits(self.low)} to {_digits(self.high)}{most}, the {part} "
            f"of the range from {_digits(self.black)} to {_digits(self.white)}. {better}"
        )

    def _reach(self, limit: float, below: bool = True) -> float | None:
        """The farthest number on one side of a limit, if all or nearly all of several numbers are there; None elsewhere."""
        if self.high <= limit if below else self.low >= limit:
            return self.high if below else self.low
        values, counts = (np.concatenate([part[k] for part in self._seen]) for k in (0, 1))
        there = values <= limit if below else values >= limit
        if counts[~there].sum() > _STRAY * counts.sum():
            return None
        near = values[there]  # of one number only, black say, nothing can be told
        return None if near.min() == near.max() else float(near.max() if below else near.min())

    def _outside(self, name: str, airy: bool) -> str | None:
        """A sentence where most of the numbers, those of air left out, lie outside the range that was said."""
        values, counts = (np.concatenate([part[k] for part in self._seen]) for k in (0, 1))
        kept = values >= _LUNG if airy else values > self.low
        total, rest = float(counts.sum()), float(counts[kept].sum())
        if total < FEW or rest < _STRAY * total:
            return None
        below, above = (float(counts[kept & beyond].sum()) / rest for beyond in (values < self.black, values > self.white))
        far = not airy and above > _HALF and self.high > self.white + _FAR * (self.white - self.black)
        if not (far or above > _MOST or below + above > (_NEARLY_ALL if airy else _MOST)):
            return None
        share = float(counts[(values < self.black) | (values > self.white)].sum()) / total
        return (
            f"{name} holds values from {_digits(self.low)} to {_digits(self.high)}, and {100 * share:.0f} % of them lie outside "
            f"the range from {_digits(self.black)} to {_digits(self.white)}: they are cut to its ends. Is that meant?"
        )

    def _check_known(self, name: str, used: float, top: float | None) -> None:
        if self.kind == "f" and self.low >= -SLACK and self.high <= 1 + SLACK:
            return
        if self.kind == "u" and (self.bits < _WIDE or used > _LITTLE):
            return
        what = "floats" if self.kind == "f" else f"{self.bits}-bit {'signed ' if self.kind == 'i' else ''}integers"
        more = " Floats of a picture lie in [0, 1]." if self.kind == "f" else ""
        raise InputError(
            f"{name} holds {what} from {_digits(self.low)} to {_digits(self.high)}, and nothing says which are black and "
            f"white.{more} Say it, for all files alike: {self._likely(top)}."
        )

    def _likely(self, high: float | None) -> str:
        """The words for a range that may be meant: of as many bits as the values need, or from the lowest to the highest."""
        high = self.high if high is None else high
        if self.low < 0 or self.kind == "f":
            return range_words(min(self.low, 0), high if high > self.low else self.low + 1)
        return range_words(0, 2 ** max(int(high).bit_length(), 1) - 1)


def without_range(note: str) -> str:
    """What `Samples.judge` says, where no range can be said: the pictures are converted first.

    >>> without_range("Dark. If not meant, say the range: value_range=(0, 9), on the command line --range 0..9.")[20:]
    'convert the pictures first, each so: torchbcos.pictures.read_image(file, value_range=(0, 9)).save(copy).'
    """
    return _SAY.sub(r"convert the pictures first, each so: torchbcos.pictures.read_image(file, \1).save(copy).", note)


def range_note(values: NDArray[Any], name: str, value_range: Range | None) -> str | None:
    """What `Samples.judge` says of numbers that lie in [0, 1], or for which a range was said; of a few of them, or air, nothing.

    >>> range_note(np.linspace(0, 0.01, 99), "It", None)[:69]
    'It holds values from 0 to 0.01, the darkest sixteenth of the range fr'
    """
    step = max(1, values.size // _SAMPLE) | 1
    sound = values[np.isfinite(values)].ravel().astype(np.float64)
    if sound.size < FEW:
        return None
    samples = Samples("f", 64, value_range)
    some = sound[::step]
    samples.saw(some, np.full(some.size, float(step)))
    samples.low, samples.high = float(sound.min()), float(sound.max())
    return samples.judge(name)


def other_range(card: Range | None, said: Range | None) -> str | None:
    """A sentence where another range was said than the model's card has; (0, 1) means numbers that are scaled already.

    >>> other_range((0, 4095), (0, 65535))
    'This model was trained with the range from 0 to 4095, and here 0 to 65535 become 0 and 1: other numbers than it knows.'
    >>> other_range((0, 4095), None), other_range(None, (0, 9)), other_range((0, 4095), (0, 1))
    (None, None, None)
    """
    if card is None or said is None or said in (card, (0, 1)):
        return None
    return (
        f"This model was trained with the range from {_digits(card[0])} to {_digits(card[1])}, and here {_digits(said[0])} to "
        f"{_digits(said[1])} become 0 and 1: other numbers than it knows."
    )


@contextmanager
def heard() -> Iterator[list[str]]:
    """What `warn_once` is told inside, each time, in place of warnings: for programs that say it in their own way.

    >>> with heard() as notes:
    ...     warn_once("It is dark.")
    >>> notes
    ['It is dark.']
    """
    notes: list[str] = []
    before = _listener.set(notes)
    try:
        yield notes
    finally:
        _listener.reset(before)


def warn_once(note: str | None) -> None:
    """Warn of what `Samples.judge` says, once for each range: of a folder of such files one sentence is enough."""
    if note is None:
        return
    listener = _listener.get()
    if listener is not None:
        listener.append(note)
        return
    kind = next((note[at:].partition(". ")[0] for mark in (", the ", " outside ") if (at := note.rfind(mark)) >= 0), note)
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(f"{note} (Said once.)", stacklevel=4)


def window(image: Image.Image, name: str, value_range: Range) -> tuple[Image.Image, str | None]:
    """An RGB or RGBA image of 8 bits within a range of its numbers, alpha as it is; and what `Samples.judge` says of it."""
    samples = Samples("u", 8, value_range)
    bands = image.split()
    colours = [Image.fromarray(samples.to_bytes(np.asarray(band))) for band in bands[:3]]
    return Image.merge(image.mode, (*colours, *bands[3:])), samples.judge(name)
