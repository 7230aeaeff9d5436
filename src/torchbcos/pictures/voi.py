"""What a scanner's number means, and which shade it gets: the modality's values, then the window.

DICOM calls the second step the "values of interest" (VOI). Formulas: DICOM PS3.3, C.11.1 (modality), C.11.2.1.2 (windows),
C.11.2.1.1 and C.7.6.3.1.5 (tables). Everything is float64 until the shade is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FUNCTIONS", "Doubles", "Rescale", "Table", "Window", "as_numbers"]

Doubles = NDArray[np.float64]
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Table:
    """A table of outputs for consecutive inputs; inputs before its first and after its last get the outputs at its ends.

    Attributes:
        first: the input of the first output.
        outputs: (n,) whole numbers as float64.
        bits: of an output: the greatest possible one is 2^bits − 1.

    >>> Table(first=2, outputs=np.array([0.0, 50.0, 255.0]), bits=8)(np.array([0.0, 3.0, 9.0])).tolist()
    [0.0, 50.0, 255.0]
    """

    first: int
    outputs: Doubles
    bits: int

    def __call__(self, values: Doubles) -> Doubles:
        places = np.clip(np.rint(values) - self.first, 0, len(self.outputs) - 1).astype(np.int64)
        found: Doubles = self.outputs[places]
        return found

    @property
    def top(self) -> float:
        """The greatest output that its bits can hold."""
        return float(2**self.bits - 1)


@dataclass(frozen=True)
class Rescale:
    """A stored number times `slope`, plus `intercept`: Hounsfield units in a CT.

    >>> Rescale(2.0, -1024.0)(np.array([512.0])).tolist()
    [0.0]
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, values: Doubles) -> Doubles:
        return values * self.slope + self.intercept


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which values become 0, which 1, and how those between.

    Attributes:
        low, high: the values that become 0 and 1; of "SIGMOID", which never gets there, centre ∓ width / 2.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID"; "TABLE" with `table`; "RANGE" where no file speaks of a window.
        source: who said so: "file", "caller", or "stored bits", all numbers that the file could hold.

    >>> window = Window.of_file(40.0, 400.0, "LINEAR")
    >>> (window.low, window.high), window(np.array([-160.0, 239.0])).tolist()
    ((-160.0, 239.0), [0.0, 1.0])
    """

    low: float
    high: float
    function: str = "RANGE"
    source: str = "caller"
    centre: float = 0.0
    width: float = 0.0
    table: Table | None = None

    @classmethod
    def of_file(cls, centre: float, width: float, function: str) -> Window:
        """The window that a file states; PS3.3 lets the linear one begin half a number before, so a width of 1 is a step."""
        low, high = centre - width / 2, centre + width / 2
        if function == "LINEAR":
            low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        return cls(low=low, high=high, function=function, source="file", centre=centre, width=width)

    @classmethod
    def of_table(cls, table: Table) -> Window:
        """The window that is a table."""
        last = table.first + len(table.outputs) - 1
        return cls(low=float(table.first), high=float(last), function="TABLE", source="file", table=table)

    def __call__(self, values: Doubles) -> Doubles:
        """Shades in [0, 1]."""
        if self.table is not None:
            return self.table(values) / self.table.top
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):  # far below the centre: 1 / infinity is the 0 that is meant
                return np.asarray(1 / (1 + np.exp(-4 * (values - self.centre) / self.width)))
        if self.low == self.high:
            return (values > self.low).astype(np.float64)
        return np.clip((values - self.low) / (self.high - self.low), 0, 1)


def as_numbers(value: Any) -> list[float]:
    """One number or several, whatever a file's element holds; nothing for none.

    >>> as_numbers(None), as_numbers("40"), as_numbers([1, 2])
    ([], [40.0], [1.0, 2.0])
    """
    if value is None or value == "":
        return []
    single = isinstance(value, (str, bytes, int, float)) or np.ndim(value) == 0
    return [float(value)] if single else [float(one) for one in value]
