"""The report of many explanations: one page in one file, to sort, to filter, to print and to keep."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchbcos._core.letters import printable
from torchbcos._core.names import brief
from torchbcos._core.version import VERSION
from torchbcos.explanation import Explanation
from torchbcos.rendering.markup import Html
from torchbcos.rendering.page import Section, bullets, document, facts, note, paragraph, warning
from torchbcos.rendering.page_pictures import Shot, link, strip, thumbnail
from torchbcos.rendering.page_table import Cell, Column, table
from torchbcos.viewer.plain import plain, versions
from torchbcos.zoo import Card
from torchbcos.zoo.records import Record

__all__ = ["Entry", "entry_of", "failed_entry", "report_page"]

_NOTHING = Html("")
_LABELLED = [Column("label", choose=True), Column("named", choose=True, help="whether the first class is the label")]
_FINE, _MANY = 500, 2000  # explanations up to which pictures keep their quality, and their size
_LOW = 0.9  # a share below which constants deserve a word
_TERMS = 5  # constants that a panel names


@dataclass(frozen=True)
class Entry:
    """One explanation of one picture, or a picture that could not be explained.

    Attributes:
        file: what the picture is called.
        record: of the explanation, as `--json` has it, and the picture's "probability"; None: it failed.
        thumbnail: photo, explanation and contributions, as a part of a page.
        truth: the label that is known; "" if none is.
        right: whether the first class is the label; None if none is known.
        error: why it failed.
    """

    file: str
    record: Record | None = None
    thumbnail: Html = _NOTHING
    truth: str = ""
    right: bool | None = None
    error: str = ""


def entry_of(
    e: Explanation, k: int, record: Record, explained: Record, number: int, *, truth: str = "", expected: int = 1
) -> Entry:  # fmt: skip
    """An entry with its pictures made small.

    Args:
        e: the explanation of one picture (N = 1).
        k: which target.
        record: of the picture; explained: of this explanation.
        number: the how-manieth explanation of the report.
        truth: the label that is known.
        expected: how many explanations the report will have about: with many, pictures are smaller.
    """
    chance = float(e.probabilities()[0, explained["index"]])
    right = record["predictions"][0]["label"] == truth if truth else None
    seen = {**explained, "probability": chance, "place": f"p{number}"}
    pictures = _pictures(e, k)
    shown = Shot(
        [*pictures.values()], _caption(record["file"], seen), _about(seen, truth, record), [*pictures], seen["place"]
    )  # fmt: skip
    quality, largest = 85 if expected <= _FINE else 70, 224 if expected <= _MANY else 160
    return Entry(record["file"], seen, thumbnail(shown, largest=largest, quality=quality), truth, right)


def failed_entry(record: Record) -> Entry:
    """The entry of a picture that could not be explained."""
    return Entry(record["file"], error=str(record["error"]))


def _pictures(e: Explanation, k: int) -> dict[str, Any]:
    """What a reader sees, by what it is."""
    photo = None if e.photos is None or e.photos.dim() != 4 else e.photos[0].movedim(0, -1).float().cpu().numpy()
    if photo is None:
        return {"panel": e.panel(0, k)}
    found: dict[str, Any] = {"photo": photo[..., 0] if photo.shape[-1] == 1 else photo}
    if e.inputs.shape[1] in (2, 6):  # the weights of other inputs say no colour
        found["explanation W"] = e.rgba(0, k)
    return {**found, "contributions": e.heatmap(0, k)}


def _caption(file: str, seen: Mapping[str, Any]) -> str:
    rather = f" rather than {brief(seen['contrast']['label'])}" if "contrast" in seen else ""
    return printable(f"{_short(file)}: {brief(seen['label'])}{rather}, {100 * seen['probability']:.0f} %")


def _short(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2] or file


def _about(seen: Mapping[str, Any], truth: str, record: Record) -> dict[str, object]:
    """The rows below a panel."""
    largest = sorted(seen["constants"].items(), key=lambda pair: -abs(pair[1] or 0))
    rows: dict[str, object] = {
        "class": printable(str(seen["label"])),
        **({"rather than": printable(str(seen["contrast"]["label"]))} if "contrast" in seen else {}),
        **({"label": printable(truth)} if truth else {}),
        "probability": f"{100 * seen['probability']:.1f} %",
        "logit": seen["value"], "of it the pixels": seen["contribution"],
        **{f"constant {printable(name)}": value for name, value in largest[:_TERMS]},
    }  # fmt: skip
    if len(largest) > _TERMS:
        rows[f"{len(largest) - _TERMS} further constants"] = sum(value or 0 for _, value in largest[_TERMS:])
    share = seen["share"]
    rows |= {
        "share of the pixels": "–" if share is None else f"{100 * share:.1f} %",
        "residual": f"{seen['residual']:.1g}" if seen["residual"] is not None else "–",
        "other classes": ", ".join(f"{brief(p['label'])} {100 * p['probability']:.0f} %" for p in record["predictions"][1:4]),
        "file": printable(record["file"]),
    }
    return rows


def report_page(
    entries: Sequence[Entry], card: Card, settings: Mapping[str, object], *, title: str = "Explanations"
) -> Html:  # fmt: skip
    """The page.

    Args:
        entries: in the order of the files.
        card: of the network.
        settings: names and values that say how it was made.
        title: of the page.
    """
    good, failed = [one for one in entries if one.record is not None], [one for one in entries if one.record is None]
    sections = [Section("What it says", _told(good, failed))]
    if good:
        sections += [
            Section("Pictures", [paragraph("Press a name to see why; headings sort, words filter."), _table(good)]),
            Section(
                "Why",
                [
                    paragraph(
                        "Of each picture: what the network saw; its explanation, the colours of W(x) where they speak for the "
                        "class; and contributions, red for the class and blue against it. Contributions and constants add up to "
                        "the logit."
                    ),
                    strip(one.thumbnail for one in good),
                ],
            ),
        ]
    if failed:
        rows = [[_short(printable(one.file)), printable(one.error)] for one in failed]
        sections.append(Section("Not explained", [table([Column("picture"), Column("why not")], rows)]))
    sections += [
        Section("The network", [facts(_known(card))]),
        Section("Settings and versions", [facts({**settings, **versions()})]),
    ]
    lead = f"{len(good)} explanations by {brief(card.name)}: each is the network's own computation, exactly."
    return document(printable(title), sections, lead=lead, footer=f"Made by torchbcos {VERSION} report.")


def _told(good: Sequence[Entry], failed: Sequence[Entry]) -> list[str]:
    """What a reader should know before the table."""
    said, rest = [], []
    records = [one.record for one in good if one.record is not None]
    files = {one.file for one in good}
    classes = {record["label"] for record in records}
    said.append(f"{len(records):,} explanations of {len(files):,} pictures, {len(classes):,} classes.")
    judged = {one.file: one.right for one in good if one.right is not None}
    if judged:
        right = sum(judged.values())
        said.append(
            f"{right:,} of {len(judged):,} pictures with a known label are rightly named ({100 * right / len(judged):.1f} %)."
        )
    unsure = len({one.file for one in good if one.record is not None and one.record["probability"] < 0.5})
    if unsure:
        said.append(f"The explained class has a probability below one half in {unsure:,} of {len(files):,} pictures.")
    shares = [record["share"] for record in records if record["share"] is not None]
    if shares:
        said.append(f"The pixels carry {100 * statistics.median(shares):.1f} % of the logit, in the median.")
        low = sum(share < _LOW or share > 2 - _LOW for share in shares)
        if low:
            rest.append(
                warning(
                    f"In {low:,} of {len(shares):,} explanations constants have more than a tenth of the say: there the picture "
                    "shows less than the whole reason. The column “share” says where."
                )
            )
    if inexact := sum(not record["complete"] for record in records):
        rest.append(
            warning(
                f"{inexact:,} explanations do not add up to their logit: they are not exact, and the column “exact” marks them."
            )
        )
    if failed:
        rest.append(warning(f"{len(failed):,} pictures could not be explained; the last sections say why."))
    rest.append(
        note(
            "An explanation says how this network came to this answer. It does not say that the answer is right, nor what "
            "another picture would get."
        )
    )
    return [bullets(said), *rest]


def _table(good: Sequence[Entry]) -> Html:
    labelled = any(one.truth for one in good)
    compared = any(one.record is not None and "contrast" in one.record for one in good)
    columns = [
        Column("picture"), Column("class", choose=True),
        *([Column("rather than", choose=True)] if compared else []),
        Column("probability, %", number=True, high=True),
        *(_LABELLED if labelled else []),
        Column("logit", number=True, high=True), Column("share, %", number=True, help="how much of the logit the pixels carry"),
        Column("residual", number=True, help="what contributions and constants leave of the logit: rounding"),
        Column("exact", choose=True, help="whether contributions and constants add up to the logit"),
    ]  # fmt: skip
    return table(columns, [_row(one, labelled, compared) for one in good], caption=f"{len(good)} explanations")


def _row(one: Entry, labelled: bool, compared: bool) -> list[Any]:
    record = one.record
    assert record is not None
    verdict = {True: "rightly", False: Cell("wrongly", mark="poor"), None: None}[one.right]
    share, residual = record["share"], record["residual"]
    return [
        Cell(link(printable(_short(one.file)), record["place"]), help=printable(one.file)), printable(str(record["label"])),
        *([printable(str(record["contrast"]["label"])) if "contrast" in record else None] if compared else []),
        Cell(f"{100 * record['probability']:.1f}", record["probability"]),
        *([printable(one.truth) or None, verdict] if labelled else []),
        Cell(f"{record['value']:.2f}", record["value"]) if record["value"] is not None else None,
        None if share is None else Cell(f"{100 * share:.1f}", share, "poor" if share < _LOW or share > 2 - _LOW else ""),
        None if residual is None else Cell(f"{residual:.0e}", abs(residual)),
        "yes" if record["complete"] else Cell("no", mark="poor"),
    ]  # fmt: skip


def _known(card: Card) -> dict[str, object]:
    """What the card says, but for long lists."""
    found = card.to_dict()
    classes = found.pop("classes", None)
    rows = {name: value for name, value in found.items() if name not in ("options", "recipe", "conversion", "probe", "schema")}
    rows["classes"] = classes if isinstance(classes, str) else f"{card.num_classes:,}"
    return {printable(str(name)): plain(value) for name, value in rows.items()}
