"""A training as a page: what came of it, its curves, what it was made with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torchbcos.rendering.figures import Curve, curves
from torchbcos.rendering.markup import Html, element, joined
from torchbcos.rendering.page import Section, bullets, code, document, facts, figure, heading, note, paragraph, warning
from torchbcos.rendering.page_table import Cell, Column, table
from torchbcos.runs import RunFolder
from torchbcos.runs.history import History
from torchbcos.training.progress import clock
from torchbcos.viewer.measured import called
from torchbcos.viewer.plain import plain, versions

__all__ = ["training_page"]

_PLAIN = ("recipe", "epochs", "steps", "parameters", "export", "best_epoch")
_PACE = "pictures_per_second"
_NOT_DRAWN = ("step", "epoch", "seconds", "pipeline_per_second", _PACE)
_LONGEST, _LINES = 200, 1000  # letters of a line of the recipe, lines


def training_page(folder: RunFolder, report: Mapping[str, Any]) -> Html:
    """A page of one finished run.

    Args:
        folder: of the run; its history gives the curves, its recipe stands on the page.
        report: what `torchbcos.training.train` returned, or its `report.json`.
    """
    rows = History(folder.history, 10**12).rows if folder.history.is_file() else []
    recipe = folder.recipe.read_text("utf-8") if folder.recipe.is_file() else ""
    again = paragraph("As it was resolved, with versions and data: ", code("torchbcos train recipe.toml"), " runs it again.")
    sections = [
        Section("What came of it", _outcome(report)),
        Section("On the way", _curves(rows) or [note("Nothing was measured before the end.")]),
        Section("The recipe", [again, _listing(recipe)]),
        Section("Made with", [facts(versions())]),
    ]
    lead = "The model is in the folder “model” beside this page: torchbcos explain photo.jpg --model RUN/model"
    return document(f"Training: {folder.out.resolve().name}", sections, lead=lead, footer="Made by torchbcos train.")


def _outcome(report: Mapping[str, Any]) -> list[Html]:
    found = {name.replace("_", " "): plain(report[name]) for name in _PLAIN if report.get(name) is not None}
    if "seconds" in report:
        found["time"] = clock(report["seconds"])
    said = [facts(found), *_scores(report)]
    calibration = report.get("calibration") or {}
    if calibration.get("temperature") is not None:
        said.append(
            paragraph(f"Temperature {calibration['temperature']:g}: probabilities are those of the logits divided by it.")
        )
    elif calibration.get("note"):
        said.append(paragraph(str(calibration["note"])))
    if lost := report.get("unreadable"):
        more = [f"and {len(lost) - 20:,} more"] if len(lost) > 20 else []
        said += [warning(f"{len(lost):,} files could not be read and were skipped:"), bullets([*map(str, lost[:20]), *more])]
    return said


def _scores(report: Mapping[str, Any]) -> list[Html]:
    """What was measured at the end on what was held out; both splits side by side."""
    meant = {"selection": "the split that chose", "report": "kept back for this report"}
    splits = [name for name in meant if isinstance(report.get(name), Mapping)]
    names = list(dict.fromkeys(key for split in splits for key in report[split]))
    found = [(name, [report[split].get(name) for split in splits]) for name in names]
    rows = [[called(name), *(Cell(f"{v:g}", v) if _finite(v) else None for v in values)] for name, values in found]
    columns = [Column("of what was held out"), *(Column(meant[split], number=True) for split in splits)]
    return [table(columns, rows, caption="top-1, top-5 and calibration error in per cent", tools=False)] if rows else []


def _curves(rows: Sequence[Mapping[str, str]]) -> list[Html]:
    """Losses, what is in per cent, and the pace, each against the step."""
    steps = [float(row["step"]) for row in rows]
    names = list(dict.fromkeys(key for row in rows for key in row if key not in _NOT_DRAWN))
    losses = [name for name in names if name.endswith("loss")]
    groups = {"Losses": losses, "Held out": [name for name in names if name not in losses], "Pace": [_PACE]}
    said: list[Html] = []
    for title, members in groups.items():
        lines = [Curve(name.replace("_", " "), steps, y) for name in members if any(map(math.isfinite, y := _column(rows, name)))]
        if lines:
            said += [heading(title), figure(curves(lines, x_label="step", y_label=title.lower()))]
    return said


def _listing(recipe: str) -> Html:
    """A file as it is, but for the ends of very long lines."""
    lines = [line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …" for line in recipe.splitlines()[:_LINES]]
    return element("pre", joined(lines, Html("\n")))


def _column(rows: Sequence[Mapping[str, str]], name: str) -> list[float]:
    return [_number(row.get(name, "")) for row in rows]


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
