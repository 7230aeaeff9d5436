"""The reliability diagram: its bins as records, and as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.files import finite_or_null
from torchbcos._core.names import quote
from torchbcos.judging import Outputs
from torchbcos.metrics import reliability
from torchbcos.rendering import figures_square as figures
from torchbcos.rendering.draw import draw
from torchbcos.rendering.files import FORMATS, save_image

__all__ = ["bins_of", "check_figure", "save_reliability"]

_MOST = 3  # panels side by side


def bins_of(outputs: Outputs, probability: str, temperature: float | None) -> list[dict[str, Any]]:
    """The bins of `torchbcos.metrics.reliability` as JSON has them; None for the means of an empty one."""
    found = reliability(outputs.logits, outputs.targets, probability=probability, temperature=temperature)
    return [finite_or_null(asdict(one)) for one in found]


def check_figure(path: str | os.PathLike[str]) -> None:
    """Refuse a file that `save_reliability` could not write, before anything is measured.

    Raises:
        InputError: its suffix is of no picture.
        MissingFileError: its folder is not there.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise InputError(f"A figure is a picture: {quote(target.name)} must end with one of {', '.join(FORMATS)}.")
    if not target.parent.is_dir():
        raise MissingFileError(f"There is no folder {quote(target.parent)} for the figure: make it first.")


def save_reliability(panels: Mapping[str, Sequence[Mapping[str, Any]]], path: str | os.PathLike[str]) -> Path:
    """Draw reliability diagrams side by side.

    Args:
        panels: title -> bins, as `measure_accuracy` has them under `reliability`; at most three.
        path: ends with .png, .jpg, .webp or .pdf.

    Returns:
        The path.

    Raises:
        InputError, MissingFileError: as `check_figure`; there are more panels, or none.
        StateError: it cannot be written.
    """
    check_figure(path)
    if not 1 <= len(panels) <= _MOST:
        raise InputError(f"A figure has one to {_MOST} diagrams, not {len(panels)}.")
    given = {
        title: [figures.Bin(one["confidence"], one["accuracy"], one["count"]) for one in bins if one["count"]]
        for title, bins in panels.items()
    }
    return save_image(draw(figures.reliability(given)), path)
