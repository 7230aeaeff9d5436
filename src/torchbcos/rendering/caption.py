"""The words and numbers of a panel, and which of them no font can draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from torchbcos._core.letters import one_line
from torchbcos._core.probability import undecided
from torchbcos.rendering.text import Pen, format_number, format_share

__all__ = ["MOST_PREDICTIONS", "Caption", "drawable", "missing_words", "undrawable"]

MOST_PREDICTIONS = 5
_SMALL_SHARE = 0.5
_LARGE_SHARE = 1.5
_CANCELS = 20.0  # so many times what is left of them, contributions cancel: B-cos networks have 1 to 2, ordinary ones hundreds


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The words and numbers of a panel.

    Args:
        title: The file or the picture's name.
        predictions: The highest classes, (name, probability), best first; behind them those of the question, if they are lower.
        explained: The class that is explained.
        contrast: The class it is compared with, or None.
        value: What is explained: the logit, or the difference of two.
        contribution: Sum of all pixels' contributions.
        constants: Sum of all constants.
        share: What part of the value the pixels carry; NaN where it is not defined.
        residual: value - contribution - constants.
        complete: Whether the residual is no more than rounding.
        aside: Of the constants, the fixed logit bias, which the share leaves aside.
        size: Sum of the magnitudes of all pixels' contributions; 0 where it is not known.
        note: What part of the picture the network saw, or "".
        parts: What the input is made of: "pixels", "samples" of a signal, "voxels" of a volume.
    """

    title: str
    predictions: tuple[tuple[str, float], ...]
    explained: str
    contrast: str | None
    value: float
    contribution: float
    constants: float
    share: float
    residual: float
    note: str = ""
    parts: str = "pixels"
    complete: bool = True
    aside: float = 0.0
    size: float = 0.0

    @property
    def question(self) -> str:
        """What the panel answers: "Why 'tench'", or "Why 'springer' rather than 'tench'", and whether it is answered at all."""
        rather = f" rather than '{self.contrast}'" if self.contrast is not None else ""
        return f"Why '{self.explained}'{rather}{self.doubt}"

    @property
    def doubt(self) -> str:
        """The end of the question where no class reaches one half, else ""."""
        return ", though no class reaches 50 %" if undecided([p for _, p in self.predictions]) else ""

    @property
    def colours(self) -> str:
        """What the heat map's two colours say."""
        if self.contrast is None:
            return "red: for it, blue: against it"
        return f"red: for '{self.explained}', blue: for '{self.contrast}'"

    @property
    def warning(self) -> str | None:
        """What a reader must know: a sum that does not add up; a share far from all; pixels that cancel."""
        if not self.complete:
            return missing_words(self.residual, parts=self.parts, difference=self.contrast is not None)
        return " ".join(sentence for sentence in (self._share_words, self._cancelling_words) if sentence) or None

    @property
    def _share_words(self) -> str:
        if not (self.share < _SMALL_SHARE or self.share > _LARGE_SHARE):  # NaN has no share to warn about
            return ""
        what, part = "logit" if self.contrast is None else "difference", format_share(self.share)
        if self.share < 0:
            said = f"together speak against it ({part}): this {what} is made by constants"
        elif self.share > _LARGE_SHARE:
            said = f"carry {part} of this {what}: what is above 100 % is taken back by constants"
        else:
            said = f"carry only {part} of this {what}; the rest are constants"
        return f"The {self.parts} {said}, which no picture can show."

    @property
    def _cancelling_words(self) -> str:
        if not self.size > _CANCELS * max(1.0, abs(self.value), abs(self.contribution)):
            return ""
        up, down = (self.size + self.contribution) / 2, (self.size - self.contribution) / 2
        return (
            f"Nearly all that the {self.parts} say cancels: {format_number(up)} for it, {format_number(down)} against it, "
            f"{format_number(self.contribution)} is left."
        )


def missing_words(residual: float, *, parts: str = "pixels", difference: bool = False) -> str:
    """What is said of an explanation that is not complete, wherever it is shown.

    >>> missing_words(-0.037)[:71]
    'Pixels and constants do not add up to this logit: -0.0370 is missing. T'
    """
    what = "difference" if difference else "logit"
    return (
        f"{parts.capitalize()} and constants do not add up to this {what}: {format_number(residual)} is missing. The network "
        "does something that its explanation does not know; torchbcos.testing.check_model(model, x) names it."
    )


def undrawable(names: Sequence[str]) -> set[str]:
    """Those of the names that no font here can draw in full, or that have nothing to draw: a panel must not ask "Why '?'".

    >>> undrawable(["tench", "\\ue000\\ue001", ""]) == {"", "\\ue000\\ue001"}
    True
    """
    pen = Pen(ImageDraw.Draw(Image.new("L", (1, 1))))
    return {name for name in set(names) if not one_line(name) or pen.lacks(name)}


def drawable(caption: Caption) -> Caption:
    """The caption with code points in place of letters that no font has: "\\u6f22", not "?"."""
    pen = Pen(ImageDraw.Draw(Image.new("L", (1, 1))))

    def mended(name: str) -> str:
        name = one_line(name)
        lost = pen.lacks(name)
        return "".join(c.encode("unicode_escape").decode() if c in lost else c for c in name)

    return dataclasses.replace(
        caption, explained=mended(caption.explained), contrast=None if caption.contrast is None else mended(caption.contrast),
        predictions=tuple((mended(name), p) for name, p in caption.predictions[:MOST_PREDICTIONS]),
    )  # fmt: skip
