"""A comparison as one HTML page, and as the files of its folder."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from torchbcos._core.errors import InputError, MissingFileError, StateError
from torchbcos._core.files import replacing, write_json
from torchbcos._core.names import hint, quote
from torchbcos.evaluation.cases import Average, Case, Cases
from torchbcos.evaluation.curves import Curves, curve_figures
from torchbcos.evaluation.destination import check_name
from torchbcos.evaluation.findings import (
    Record,
    Standing,
    across,
    caveats,
    lead_sentence,
    number,
    opening,
    p_value,
    standing,
)
from torchbcos.evaluation.tables import (
    Values,
    comparison_csv,
    comparison_markdown,
    kind_words,
    model_facts,
    settings_of,
    subtitle_of,
    title_of,
    write_values,
)
from torchbcos.evaluation.telling import of_standings, unreadable_sentence
from torchbcos.rendering import format_number
from torchbcos.rendering.figures import Interval, intervals
from torchbcos.rendering.figures_square import matrix
from torchbcos.rendering.page import Html, Section, bullets, document, figure, heading, note, paragraph, shown, warning
from torchbcos.rendering.page import facts as facts_table
from torchbcos.rendering.page_pictures import Shot, strip
from torchbcos.rendering.page_table import Cell, Column, table
from torchbcos.rendering.shapes import Drawing

__all__ = ["comparison_page", "metric_figure", "write_comparison"]

_LEVEL = 0.05  # of tests
_NAMED = 20  # pictures
_SPAN = re.compile(r"\[(-?[\d.]+), (-?[\d.]+)\]")


def write_comparison(
    facts: Record, cost: Sequence[Record], folder: Path, name: str, pictures: Sequence[Cases] | None = None,
    curves: Curves | None = None, values: Values | None = None,
) -> list[Path]:  # fmt: skip
    """Write NAME.json, NAME.cost.json, NAME.csv, NAME.values.csv, NAME.md and NAME.html: all of them, or none.

    Args:
        facts: of `Comparison.to_dict`.
        cost: of `Comparison.cost`.
        folder: where; it is made if its own folder exists.
        name: of the files, without a suffix.
        pictures: best and worst cases, and average maps, for the page.
        curves: of `Comparison.curves`, for the page.
        values: of `Comparison.values`, for NAME.values.csv, which is not written without them.

    Returns:
        The files.

    Raises:
        InputError: the name is no file name.
        MissingFileError: the folder cannot be made.
        StateError: a file could not be written; those of an earlier comparison are as they were.
    """
    check_name(name)
    page = comparison_page(facts, cost, pictures or (), curves)
    texts = {".csv": comparison_csv(facts), ".md": comparison_markdown(facts, cost), ".html": page}
    files = {suffix: folder / (name + suffix) for suffix in (".json", ".cost.json", *texts)}
    if values is not None:
        files[".values.csv"] = folder / f"{name}.values.csv"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise MissingFileError(f"{quote(folder)} is no folder, and cannot become one: {error.strerror}.") from error
    try:
        with ExitStack() as stack:
            partial = {suffix: stack.enter_context(replacing(file)) for suffix, file in files.items()}
            write_json(partial[".json"], facts)
            write_json(partial[".cost.json"], {"schema": 1, "cost": list(cost)})
            if values is not None:
                write_values(partial[".values.csv"], facts, values)
            for suffix, words in texts.items():
                partial[suffix].write_text(words, "utf-8", newline="\n")
    except OSError as error:
        raise StateError(
            f"The comparison could not be written to {quote(folder)}: {error.strerror or error}. What was there is as it was."
        ) from error
    return list(files.values())


def comparison_page(
    facts: Record, cost: Sequence[Record] = (), pictures: Sequence[Cases] = (), curves: Curves | None = None
) -> Html:
    """The page of a comparison: what it says, a figure a metric, tables, pictures, settings.

    Args:
        facts: of `Comparison.to_dict`.
        cost: of `Comparison.cost`.
        pictures: best and worst cases, and average maps.
        curves: of `Comparison.curves`: what deletion and insertion saw.
    """
    curves = curves or {}
    sections = [Section("What it says", [*_says(facts), *_warnings(facts)])]
    sections += [_metric_section(facts, metric, curves) for metric in facts["metrics"]]
    sections += [_cases(pictures)] if pictures else []
    sections.append(Section("All rows", [_rows(facts, cost)]))
    sections += [_pairs(facts)] if facts["pairs"] else []
    sections += [_agreement(facts)] if facts["rankings"] or facts.get("agreement") else []
    sections.append(_settings(facts, cost))
    made = f"Made by torchbcos {facts.get('torchbcos', '')}".strip() + ". One file: nothing is loaded, nothing is sent."
    return document(title_of(facts), sections, lead=subtitle_of(facts), footer=made)


def _says(facts: Record) -> list[Html]:
    """Sentences first, then all means at a glance."""
    parts = [bullets([*opening(facts), *across(facts)])]
    found = [_glance(facts, model["label"]) for model in facts["models"]]
    if any(found):
        parts += [part for one in found for part in one]
        parts.append(paragraph(
            "★ the best mean. ≈ not told apart from it: the 95 % interval of the paired difference, item by item, includes 0. ",
            "▽ not surely better than the best map that looks at no network. Of twenty such intervals, about one misses.",
        ))  # fmt: skip
    told = set(of_standings(facts))  # each metric's section says these
    lost = _unreadable(facts)
    told |= {unreadable_sentence(lost)} if lost else set()  # the warning names them
    others = [sentence for sentence in facts["sentences"] if sentence not in told]
    if others:
        parts += [heading("Before you trust a number"), bullets(others)]
    return parts


def _warnings(facts: Record) -> list[Html]:
    """Pictures that are in no number, by name."""
    lost = _unreadable(facts)
    others = " and others." if len(lost) > _NAMED else "."
    return [warning(f"Not read, and in no number ({len(lost)}): {', '.join(lost[:_NAMED])}", others)] if lost else []


def _unreadable(facts: Record) -> list[str]:
    return [str(name) for name in facts["data"].get("unreadable") or ()]


def _glance(facts: Record, model: str) -> list[Html]:
    """Means of all methods by the metrics that rank them."""
    found = [standing(facts, model, metric) for metric in facts["metrics"] if metric["best"] != "neither"]
    if not found:
        return []
    columns = [Column("method")]
    for one in found:
        high = one.metric["best"] == "high"
        title = f"{one.metric['label']} {'↑' if high else '↓'}"
        columns.append(Column(title, True, high, help=f"Its limits: {one.metric['blind']}"))
    rows = []
    for method in facts["methods"]:
        cells = [_mean_cell(one, method["label"]) for one in found]
        rows.append([method["label"] + (" (no network)" if method.get("dumb") else ""), *cells])
    caption = f"{model}: means; ↑ high is good, ↓ low is good"
    return [table(columns, rows, caption=caption)]


def _mean_cell(one: Standing, method: str) -> Cell | None:
    row = next((row for row in one.ranked if row["method"] == method), None)
    if row is None or not math.isfinite(number(row["mean"])):
        return None
    ends = f"95 % between {_number(row['mean_low'])} and {_number(row['mean_high'])}; median {_number(row['median'])}"
    return Cell(_number(row["mean"]), number(row["mean"]), one.mark(method), ends)


def _number(value: object) -> str:
    return format_number(number(value))


def _metric_section(facts: Record, metric: Record, curves: Curves) -> Section:
    found = [standing(facts, model["label"], metric) for model in facts["models"]]
    parts: list[str] = [paragraph(metric["summary"])] if metric.get("summary") else []
    for one in found:
        parts += [paragraph(words) for words in [lead_sentence(facts, one)] if words]
        parts += [bullets(words) for words in [caveats(one)] if words]
    parts.append(note(Html("<b>Its limits.</b> "), metric["blind"][:1].upper() + metric["blind"][1:]))
    caption = f"{metric['label']}, {metric['range']}. {_counts(found)}. Hollow: looks at no network. Source: {metric['source']}."
    parts.append(figure(metric_figure(facts, metric["label"]), caption))
    parts += [figure(drawing, words) for words, drawing in curve_figures(facts, metric, curves)]
    if metric["settings"]:
        parts.append(paragraph(f"Settings: {shown(metric['settings'])}."))
    return Section(metric["label"], parts)


def _counts(found: Iterable[Standing]) -> str:
    counts = dict.fromkeys(f"{row['n']} items, {row['values']} values" for one in found for row in one.ranked)
    return " or ".join(counts) or "–"


def metric_figure(facts: Record, label: str) -> Drawing:
    """The figure of one metric: every method's median, its interval and percentiles, models beside each other.

    Args:
        facts: of `Comparison.to_dict`, or read from its JSON.
        label: of the metric.

    Returns:
        A drawing: `rendering.draw.draw` makes a picture of it, `rendering.svg.svg` a part of a page.

    Raises:
        InputError: the comparison has no such metric.
    """
    metric = next((one for one in facts["metrics"] if one["label"] == label), None)
    if metric is None:
        known = [one["label"] for one in facts["metrics"]]
        raise InputError(f"The comparison has no metric {label!r}.{hint(label, known)} It has {', '.join(known)}.")
    found = [standing(facts, model["label"], metric) for model in facts["models"]]
    dumb = {method["label"] for method in facts["methods"] if method.get("dumb")}
    names = [model["label"] for model in facts["models"]]
    by_method: dict[str, dict[int, Record]] = {}
    for i, one in enumerate(found):
        for row in one.ranked:
            by_method.setdefault(row["method"], {})[i] = row
    rows = [_mark(row, i, label in dumb) for label, each in by_method.items() for i, row in each.items()]
    best = {"high": "high is good", "low": "low is good", "neither": "no value is better"}[metric["best"]]
    lines = {name: number(value) for name, value in (metric.get("lines") or {}).items()}
    span = _SPAN.match(metric["range"])
    ends = (float(span[1]), float(span[2])) if span else None
    return intervals(rows, axis=f"{metric['label']}: {best}", lines=lines, span=ends, series=names)


def _mark(row: Record, series: int, hollow: bool) -> Interval:
    names = ("median", "p5", "p25", "p75", "mean")
    numbers = {name: number(row[name]) for name in names}
    ends = {"low": number(row["median_low"]), "high": number(row["median_high"])}
    missing = "undefined for all" if row["undefined"] == row["values"] else ""
    return Interval(row["method"], **numbers, **ends, series=series, hollow=hollow, note=missing)


def _rows(facts: Record, cost: Sequence[Record]) -> Html:
    seconds = {(one["model"], one["method"], one.get("metric", one["items"])): one["seconds_a_map"] for one in cost}
    sets = {metric["label"]: metric["items"] for metric in facts["metrics"]}
    columns = [
        Column("method", choose=True), Column("model", choose=True), Column("metric", choose=True), Column("mean", True, True),
        Column("95 % of the mean", True, True, help="sorted by its lower end"), Column("median", True, True),
        Column("95 % of the median", True, True, help="sorted by its lower end"), Column("5 %", True, True),
        Column("25 %", True, True), Column("75 %", True, True), Column("n", True, help="grids or pictures"),
        Column("values", True), Column("undefined", True, True), Column("passes", True, help="through the network, a map"),
        Column("seconds", True, help="a map"), Column("same maps as"), Column("note"),
    ]  # fmt: skip
    rows = []
    for row in facts["rows"]:
        key = row["model"], row["method"]
        took = seconds.get((*key, row["metric"]), seconds.get((*key, sets.get(row["metric"], ""))))
        rows.append([
            row["method"], row["model"], row["metric"], row["mean"], _ends(row["mean_low"], row["mean_high"]), row["median"],
            _ends(row["median_low"], row["median_high"]), row["p5"], row["p25"], row["p75"], row["n"], row["values"],
            row["undefined"], row.get("passes"), took, ", ".join(row.get("same_as") or ()), row.get("note") or "",
        ])  # fmt: skip
    return table(columns, rows, caption="One row for each method, model and metric; – is no number", tools=True)


def _ends(low: object, high: object) -> Cell | None:
    if not math.isfinite(number(low) + number(high)):
        return None
    return Cell(f"{_number(low)} to {_number(high)}", number(low))


def _pairs(facts: Record) -> Section:
    columns = [
        Column("method", choose=True), Column("on", choose=True), Column("against", choose=True), Column("on ", choose=True),
        Column("metric", choose=True), Column("difference", True, True),
        Column("95 %", True, True, help="sorted by its lower end"), Column("better", True, True),
        Column("worse", True, True), Column("tied", True, True), Column("n", True),
        Column("p", True, help="exact two-sided sign test"),
    ]  # fmt: skip
    rows = [
        [
            one["method"], one["model"], one["other"], one.get("other_model") or one["model"], one["metric"], one["difference"],
            _ends(one["low"], one["high"]), one["better"], one["worse"], one["tied"], one["n"],
            Cell(p_value(one["p"]), number(one["p"]) if one["p"] is not None else None),
        ]
        for one in facts["pairs"]
    ]  # fmt: skip
    words = (
        f"Two methods on the same items: the mean of their differences, and in how many items which one is better. These are "
        f"{len(rows)} tests: by chance alone, about {max(1, round(_LEVEL * len(rows)))} of so many fall below {_LEVEL:g}."
    )
    return Section("Paired differences", [paragraph(words), table(columns, rows, caption="Paired differences", tools=True)])


def _agreement(facts: Record) -> Section:
    parts: list[str] = []
    if facts["rankings"]:
        parts.append(paragraph(
            "Kendall's τ-b between the rankings that two metrics give to the methods: 1 is the same order, -1 the opposite. "
            "Metrics that rank differently measure different things, or one of them measures nothing.",
        ))  # fmt: skip
    for model in facts["models"]:
        records = [one for one in facts["rankings"] if one["model"] == model["label"]]
        parts += [_square(records, "tau", f"Metrics on {model['label']}")] if records else []
    for model in facts["models"]:
        records = [one for one in facts.get("agreement") or () if one["model"] == model["label"]]
        words = f"Maps of methods on {model['label']}: Spearman's ρ of 14 x 14 cells"
        parts += [_square(records, "spearman", words)] if records else []
    return Section("Do they agree?", parts)


def _square(records: Sequence[Record], key: str, words: str) -> Html:
    names = list(dict.fromkeys(name for one in records for name in (one["first"], one["second"])))
    values = [[1.0 if i == j else math.nan for j, _ in enumerate(names)] for i, _ in enumerate(names)]
    notes = [["" for _ in names] for _ in names]
    for one in records:
        i, j = names.index(one["first"]), names.index(one["second"])
        values[i][j] = values[j][i] = number(one[key])
        ends = f", 95 % between {_number(one['low'])} and {_number(one['high'])}" if one.get("low") is not None else ""
        notes[i][j] = notes[j][i] = _number(one[key]) + ends
    return figure(matrix(names, names, values, notes=notes, label=words), f"{words}. A pointer on a cell shows its interval.")


def _cases(pictures: Sequence[Cases]) -> Section:
    """Best and worst cases, and average maps of what lies between."""
    parts: list[str] = []
    for one in pictures:
        parts.append(heading(f"{one.method} on {one.model}, {one.metric}"))
        for words, cases in (("Best", one.best), ("Worst", one.worst)):
            if cases:
                parts += [paragraph(f"{words} {len(cases)}"), strip(_shot(case, one) for case in cases)]
        if one.averages:
            parts += [paragraph("Average maps, from the best items to the worst"), strip(_average(a, one) for a in one.averages)]
    return Section("Best, worst and average cases", parts)


def _shot(case: Case, of: Cases) -> Shot:
    about: dict[str, object] = {"item": case.name, of.metric: case.value, "method": of.method, "model": of.model}
    about |= {"note": case.note} if case.note else {}
    place = f", {case.note.partition(' of ')[0]}" if case.note else ""
    return Shot([case.picture, case.map], f"{format_number(case.value)}: {case.name}{place}", about, ["input", "map"])


def _average(average: Average, of: Cases) -> Shot:
    count = len(average.bin.items)
    about: dict[str, object] = {
        "items": count, f"lowest {of.metric}": average.low, f"highest {of.metric}": average.high, "method": of.method,
    }  # fmt: skip
    about |= {"note": average.bin.note} if average.bin.note else {}
    return Shot([average.drawn], f"{average.bin.name} ({count} item{'s' * (count != 1)})", about, ["average map"])


def _settings(facts: Record, cost: Sequence[Record]) -> Section:
    parts: list[str] = [facts_table(settings_of(facts))]
    for model in facts["models"]:
        parts += [heading(f"Model: {model['label']}"), facts_table(model_facts(model))]
    kinds = [[m["label"], m["name"], shown(m["settings"]), m.get("kind", "")] for m in facts["methods"]]
    parts += [heading("Methods"), table([Column(n) for n in ("label", "method", "settings", "kind")], kinds, caption="Methods")]
    if cost:
        columns = [Column("method", choose=True), Column("model", choose=True), Column("items", choose=True),
                   Column("seconds a map", True), Column("passes", True)]  # fmt: skip
        called = {name: kind_words(name, one) for name, one in facts["items"].items()}
        rows = {
            (one["method"], one["model"], called.get(one["items"], one["items"]), one["seconds_a_map"], one["passes"]): None
            for one in cost
        }
        parts += [heading("Costs"), paragraph("Times differ from run to run; nothing else on this page does.")]
        parts.append(table(columns, list(rows), caption="Costs"))
    return Section("Settings, data and costs", parts)
