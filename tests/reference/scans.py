"""Shades of scans, written a second time: float64, a pixel after the other, straight from the formulas of DICOM PS3.3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Entries = tuple[int, int, Sequence[int]]  # first input, bits of an output, outputs


@dataclass(frozen=True)
class Grey:
    """What a header says of the shades of a grey picture."""

    bits: int
    high: int
    signed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    modality: Entries | None = None
    voi: Entries | None = None
    window: tuple[float, float, str] | None = None  # centre, width, function
    value_range: tuple[float, float] | None = None
    inverted: bool = False
    padding: tuple[int, int] | None = None


def number(word: int, bits: int, high: int, signed: bool) -> int:
    """The stored number within a word (PS3.5 8.1.1)."""
    kept = [(word >> (high - bits + 1 + i)) & 1 for i in range(bits)]
    value = sum(bit << i for i, bit in enumerate(kept))
    return value - (1 << bits) if signed and kept[-1] else value


def look_up(value: float, entries: Entries) -> float:
    """C.11.1.1.1: inputs below the first get the first output, those beyond the last one the last."""
    first, _, outputs = entries
    if value <= first:
        return float(outputs[0])
    if value >= first + len(outputs) - 1:
        return float(outputs[-1])
    return float(outputs[round(value) - first])


def windowed(x: float, centre: float, width: float, function: str) -> float:
    """C.11.2.1.2.1 and C.11.2.1.3 with an output from 0 to 1."""
    if function == "SIGMOID":
        return 1 / (1 + math.exp(min(-4 * (x - centre) / width, 700)))
    if function == "LINEAR_EXACT":
        if x <= centre - width / 2:
            return 0.0
        if x > centre + width / 2:
            return 1.0
        return (x - centre) / width + 0.5
    if x <= centre - 0.5 - (width - 1) / 2:
        return 0.0
    if x > centre - 0.5 + (width - 1) / 2:
        return 1.0
    return (x - (centre - 0.5)) / (width - 1) + 0.5


def shade(word: int, grey: Grey) -> float:
    """The shade of one pixel: its number, the modality's value, the window, the inversion."""
    stored = number(word, grey.bits, grey.high, grey.signed)
    if grey.padding is not None and min(grey.padding) <= stored <= max(grey.padding):
        return 0.0
    value = look_up(stored, grey.modality) if grey.modality else stored * grey.slope + grey.intercept
    low, high = grey.value_range or ends(grey)
    if grey.value_range is None and grey.voi:
        y = look_up(value, grey.voi) / (2 ** grey.voi[1] - 1)
    elif grey.value_range is None and grey.window:
        y = windowed(value, *grey.window)
    else:
        y = min(max((value - low) / (high - low), 0.0), 1.0)
    return 1 - y if grey.inverted else y


def ends(grey: Grey) -> tuple[float, float]:
    """The least and the greatest value that the stored bits can hold."""
    if grey.modality:
        return 0.0, 2.0 ** grey.modality[1] - 1
    least = -(2 ** (grey.bits - 1)) if grey.signed else 0
    both = [least * grey.slope + grey.intercept, (least + 2**grey.bits - 1) * grey.slope + grey.intercept]
    return min(both), max(both)


def shades(words: NDArray[np.uint64], grey: Grey) -> NDArray[np.float64]:
    """(H, W) -> (H, W)."""
    return np.array([[shade(int(word), grey) for word in row] for row in words])


def rgb(y: float, cb: float, cr: float) -> tuple[float, ...]:
    """C.7.6.3.1.2, YBR_FULL, solved for red, green and blue; 0 to 255."""
    cb, cr = cb - 128, cr - 128
    red = y + 1.402 * cr
    blue = y + 1.772 * cb
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return tuple(min(max(v, 0.0), 255.0) for v in (red, green, blue))
