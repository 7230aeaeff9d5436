"""Numbers of any kind and range as the 8 bits of a picture: which is black, which is white, and what is refused.

No scale is guessed from the values: files of one folder would get different ones, and a value that is a little greater would turn
a picture black. Unsigned integers span their type, floats lie in [0, 1]; what has no such range needs one that is said.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError

__all__ = ["Range", "Samples", "SLACK", "check_range", "without_range", "range_words", "warn_once", "window"]

Range = tuple[float, float]
SLACK = 1e-3  # by which resampled numbers may leave [0, 1]
# Of its range: 12 bits in 16 use a sixteenth, 13 bits an eighth. An eighth is said of 9 to 16 bits only, whose numbers are bright
# as the eye sees: a photo of which 99 % lie there is one of the night. 14 bits use a quarter, as many a dim photo does: no word.
_LITTLE, _SOME = 1 / 16, 1 / 8
# Numbers that may lie beyond, as a share of all: dead pixels and a letter burnt in must not hide that the rest is black.
_STRAY = 0.01
_SAMPLE = 2**14  # numbers of a part that are looked at for it: a share of 1 % is 160 of them, in 0.1 ms
_SAY = re.compile(r"say the range: (value_range=\([^()]*\)), on the command line --range \S+\.")
_warned: set[str] = set()  # ranges of which this process has heard, as `warnings` keeps what it has said
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

        Of its numbers 1 % may lie elsewhere; unsigned ones of 9 to 16 bits should use more than an eighth.

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
        tops = ((share, self._reach(self.black + share * span)) for share in shares)
        share, top = next(((share, top) for share, top in tops if top is not None), (1.0, None))
        if not self.said:
            self._check_known(name, share, top)
        bottom = self._reach(self.white - _LITTLE * span, below=False) if self.said and top is None else None
        if self.low == self.high or (top is None and bottom is None):
            return None
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


def warn_once(note: str | None) -> None:
    """Warn of what `Samples.judge` says, once for each range: of a folder of such files one sentence is enough."""
    kind = "" if note is None else note[note.rfind(", the ") :].partition(". ")[0]
    if note is not None and kind not in _warned:
        _warned.add(kind)
        warnings.warn(f"{note} (Said once.)", stacklevel=4)


def window(image: Image.Image, name: str, value_range: Range) -> tuple[Image.Image, str | None]:
    """An RGB or RGBA image of 8 bits within a range of its numbers, alpha as it is; and what `Samples.judge` says of it."""
    samples = Samples("u", 8, value_range)
    bands = image.split()
    colours = [Image.fromarray(samples.to_bytes(np.asarray(band))) for band in bands[:3]]
    return Image.merge(image.mode, (*colours, *bands[3:])), samples.judge(name)
