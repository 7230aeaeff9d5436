"""How often a classifier is right, as a page: numbers, how far its confidence can be believed, each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchbcos._core.letters import printable
from torchbcos.rendering.figures_square import Bin, reliability
from torchbcos.rendering.markup import Html
from torchbcos.rendering.page import Section, bullets, document, facts, figure, paragraph, warning
from torchbcos.rendering.page_table import Cell, Column, table
from torchbcos.viewer.plain import plain, versions

__all__ = ["accuracy_page", "called"]

_MEANING = {
    "top1": ("top-1", "%", "the first class is the label"),
    "top5": ("top-5", "%", "the label is among the first five classes"),
    "map": ("mean average precision", "%", "labels are ranked above those that do not hold"),
    "f1": ("F1 at 0.5", "%", "answers above a probability of 0.5, precision and recall in one"),
    "ece": ("calibration error", "%", "mean distance of confidence from the part that was right; 0 is best"),
    "loss": ("loss", "", "what training makes small"),
}
_FIXED = ("model", "data", "split", "pictures", "fit", "temperature")


def accuracy_page(result: Mapping[str, Any], title: str = "Accuracy") -> Html:
    """A page of what `torchbcos.evaluation.measure_accuracy` found.

    Args:
        result: as it returns it.
        title: of the page.

    >>> page = accuracy_page({"model": "mine", "pictures": 2, "top1": 50.0, "notes": [], "unreadable": [], "reliability": []})
    >>> page[:15], "50.00 %" in page
    ('<!doctype html>', True)
    """
    sections = [Section("Numbers", [_numbers(result), *_complaints(result)])]
    if any(one["count"] for one in result["reliability"]):
        sections.append(Section("Can its confidence be believed?", _believed(result["reliability"])))
    if result.get("labels"):
        sections.append(Section("Label by label", [_labels(result["labels"])]))
    said = {name: plain(result[name]) for name in _FIXED if name in result}
    sections.append(Section("What was measured", [facts(said), facts(versions())]))
    lead = f"{result['pictures']:,} pictures whose class is known."
    return document(printable(title), sections, lead=lead, footer="Made by torchbcos evaluate accuracy.")


def called(name: str) -> str:
    """A number as people call it.

    >>> called("ece"), called("other")
    ('calibration error, %', 'other')
    """
    words, unit, _ = _MEANING.get(name, (name, "", ""))
    return f"{words}, {unit}" if unit else words


def _numbers(result: Mapping[str, Any]) -> Html:
    rows: list[list[Cell | str]] = []
    for name, (words, unit, meaning) in _MEANING.items():
        if name in result:
            value = result[name]
            written = "–" if value is None else f"{value:.2f} {unit}".rstrip()
            rows.append([words, Cell(written, value), meaning])
    return table([Column("number"), Column("value", number=True), Column("what it is")], rows, tools=False)


def _complaints(result: Mapping[str, Any]) -> list[Html]:
    """What stands in the way of believing the numbers."""
    said = []
    if result.get("not_finite"):
        said.append(warning(f"For {result['not_finite']:,} pictures the network gave NaN or infinity: nothing can be measured."))
    if lost := result["unreadable"]:
        said += [warning(f"{len(lost):,} pictures could not be read and are left out:"), _named(lost)]
    if result["notes"]:
        said.append(bullets([printable(str(note)) for note in result["notes"]]))
    return said


def _named(files: Sequence[object], most: int = 20) -> Html:
    more = [f"and {len(files) - most:,} more"] if len(files) > most else []
    return bullets([*(printable(str(file)) for file in files[:most]), *more])


def _believed(bins: Sequence[Mapping[str, Any]]) -> list[Html]:
    """The reliability diagram, and the same in words."""
    found = [Bin(one["confidence"], one["accuracy"], one["count"]) for one in bins if one["count"]]
    words = "Answers of about one confidence, and how many of them were right. On the diagonal a network is as good as it says."
    rows = [[_percent(one.confidence), _percent(one.accuracy), Cell(f"{one.count:,}", one.count)] for one in found]
    columns = [Column("sure to, %", number=True), Column("right, %", number=True), Column("answers", number=True)]
    return [paragraph(words), figure(reliability({"": found})), table(columns, rows, tools=False)]


def _percent(part: float) -> Cell:
    return Cell(f"{100 * part:.1f}", part)


def _labels(labels: Sequence[Mapping[str, Any]]) -> Html:
    columns = [
        Column("label"), Column("average precision, %", number=True), Column("F1 at 0.5, %", number=True),
        Column("holds for", number=True), Column("known of", number=True),
    ]  # fmt: skip
    rows = []
    for one in labels:
        parts = [None if one[key] is None else Cell(f"{one[key]:.2f}", one[key]) for key in ("ap", "f1")]
        counts = [Cell(f"{one[key]:,}", one[key]) for key in ("positive", "known")]
        rows.append([printable(str(one["label"])), *parts, *counts])
    return table(columns, rows)
