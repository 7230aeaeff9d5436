"""The report of a conversion as a page of one file."""

from __future__ import annotations

from torchbcos._core.letters import printable
from torchbcos.conversion.checking import kind_of
from torchbcos.conversion.report import Report, percent
from torchbcos.rendering.markup import Html
from torchbcos.rendering.page import Section, bullets, document, facts, note, paragraph, warning
from torchbcos.rendering.page_table import Cell, Column, table

__all__ = ["report_page"]

_POOR, _GOOD = 0.5, 0.9  # shares of variance
_PARTS = {
    "bias": "biases", "position": "where a token stands (position embeddings)", "token": "class tokens and registers",
}  # fmt: skip


def report_page(report: Report, title: str = "Conversion") -> Html:
    """A page: what the conversion costs, a sortable line a layer, constants by name, what is held in explanations.

    Args:
        report: of `bcosify`.
        title: of the page.
    """
    sections = [
        Section("What it says", _told(report)),
        Section("Layers", [_layers(report)]),
        Section("Constants that are left", _constants(report)),
        Section("What is held while it is explained", [_operations(report)]),
        Section("Settings", [facts(report.settings), *_steps(report)]),
    ]
    lead = "What became of each layer, and how much of the highest logit still comes from constants."
    return document(printable(title), sections, lead=lead, footer="Made by torchbcos bcosify.")


def _told(report: Report) -> list[str]:
    told, rest = report.sentences(), []
    if report.share < 0 or report.share > 1.5:
        rest.append(
            warning(
                f"The input carries {report.share:.2f} of the highest logit: constants outweigh it or work against it. An "
                "explanation of this network adds up and says little about the picture; norm biases leave no such constant."
            )
        )
    if report.settings.get("calibrated"):
        rest.append(
            note(
                "Nothing was trained. The column “fit” says how much of what the given network has at a layer the converted one "
                "gives there after calibration (share of variance; 100 is all). Alignment or fine-tuning brings the rest."
            )
        )
    return [bullets(told), *rest]


def _layers(report: Report) -> Html:
    columns = [
        Column("layer"), Column("was"), Column("became", choose=True), Column("does", choose=True),
        Column("B", number=True), Column("biases", choose=True, help="norm: they grow with the length of a patch"),
        Column("constants, %", number=True, high=True, help="of all magnitudes of the highest logit"),
        Column("fit, %", number=True, help="share of the variance of the given network's values after calibration"),
    ]  # fmt: skip
    rows = [
        [
            printable(line.path) or "(network)", line.was, line.became, line.role, line.b, line.biases,
            round(100 * line.constant, 2) if line.constant else None, _fit(line.fit),
        ]
        for line in report.lines
    ]  # fmt: skip
    return table(columns, rows, caption=f"{len(rows)} layers, in the order in which they run")


def _fit(fit: float | None) -> Cell | None:
    if fit is None:
        return None
    return Cell(percent(fit), 100 * fit, "poor" if fit < _POOR else "good" if fit >= _GOOD else "")


def _constants(report: Report) -> list[str]:
    if not report.constants:
        return [paragraph("None: the highest logit comes from the input alone.")]
    parts = [bullets(f"{100 * share:.1f} %: {_PARTS[kind]}" for kind, share in report.kinds.items())]
    rows: list[list[str | float]] = [
        [printable(name), _PARTS[kind_of(name)], round(100 * share, 3)] for name, share in report.constants.items()
    ]
    columns = [Column("constant"), Column("kind", choose=True), Column("of all magnitudes, %", number=True, high=True)]
    return [*parts, table(columns, rows, caption="Constants by name")]


def _operations(report: Report) -> Html:
    columns = [Column("operation", choose=True), Column("module"), Column("kind", choose=True), Column("rule", choose=True)]
    columns += [Column("times", number=True)]
    rows: list[list[str | int]] = [[*row] for row in report.operations]
    return table(columns, rows, caption="Factors are held; products are split in halves")


def _steps(report: Report) -> list[str]:
    more = {
        "did not run, and stayed as they were": report.never_ran,
        "stayed linear: no layer of ours gives what they give": report.stayed,
        "stayed linear: their weights are used elsewhere": report.elsewhere,
        "biases that were set to zero": report.zeroed,
    }  # fmt: skip
    return [facts({words: [printable(n) for n in names] for words, names in more.items() if names})] if any(more.values()) else []
