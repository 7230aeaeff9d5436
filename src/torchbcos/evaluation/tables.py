"""A comparison as Markdown and as CSV: for a repository, and for a spreadsheet."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from torchbcos._core.letters import printable
from torchbcos.evaluation.findings import Record, across, caveats, lead_sentence, number, opening, p_value, standing
from torchbcos.evaluation.telling import of_standings
from torchbcos.rendering import format_number
from torchbcos.rendering.page import shown

__all__ = [
    "ROW_COLUMNS", "VALUE_COLUMNS", "Values", "comparison_csv", "comparison_markdown", "items_words", "kind_words",
    "model_facts", "settings_of", "subtitle_of", "title_of", "write_values",
]  # fmt: skip

ROW_COLUMNS = (
    "model", "method", "metric", "n", "values", "undefined", "mean", "mean_low", "mean_high", "median", "median_low",
    "median_high", "p5", "p25", "p50", "p75", "passes", "same_as", "note",
)  # fmt: skip
VALUE_COLUMNS = ("model", "method", "metric", "item", "picture", "class", "value")
Values = Mapping[tuple[str, str, str], Tensor]
_MARKS = {"good": "**{}**", "even": "{} ≈", "poor": "{} ▽"}


def comparison_csv(facts: Record) -> str:
    """The rows of a comparison, one a line, numbers with all their digits; an empty field is a missing number.

    >>> comparison_csv({"rows": [{"model": "m", "method": "rise", "metric": "road", "n": 2, "mean": 0.5}]}).splitlines()[1]
    'm,rise,road,2,,,0.5,,,,,,,,,,,,'
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(ROW_COLUMNS)
    for row in facts["rows"]:
        writer.writerow([_field(row.get(name)) for name in ROW_COLUMNS])
    return lines.getvalue()


def write_values(file: Path, facts: Record, values: Values) -> None:
    """The numbers behind the rows as CSV: a line for each model, method, metric and picture, of grids for each cell of each.

    Args:
        file: is written.
        facts: of `Comparison.to_dict`.
        values: of `Comparison.values`: (model, method, metric) -> (items, V); NaN is an empty field.
    """
    sets = {metric["label"]: facts["items"][metric["items"]] for metric in facts["metrics"]}
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(VALUE_COLUMNS)
        for (model, method, metric), numbers in values.items():
            named, classes = sets[metric]["names"], sets[metric]["classes"]
            begin = [_field(model), _field(method), _field(metric)]
            for item, row in enumerate(numbers.tolist()):
                cells = (named[item], classes[item]) if isinstance(named[item], list) else ([named[item]], [classes[item]])
                for name, label, value in zip(*cells, row, strict=True):
                    writer.writerow([*begin, item + 1, _field(name), _field(label), _field(value)])


def _field(value: Any) -> str | int | float:
    """A value as a spreadsheet may open it: words that begin like a formula begin with an apostrophe instead."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, (int, float)):
        return value
    words = printable("; ".join(value) if isinstance(value, (list, tuple)) else str(value))
    return "'" + words if words.startswith(("=", "+", "-", "@")) else words


def comparison_markdown(facts: Record, cost: Sequence[Record] = ()) -> str:
    """The comparison as a page in Markdown: what it says first, then tables, then settings.

    Args:
        facts: of `Comparison.to_dict`.
        cost: of `Comparison.cost`.
    """
    parts = [f"# {_plain(title_of(facts))}", _plain(subtitle_of(facts)), "## What it says"]
    told = set(of_standings(facts))  # each metric's chapter says these
    others = [sentence for sentence in facts["sentences"] if sentence not in told]
    parts.append("\n".join(f"- {_plain(one)}" for one in (*opening(facts), *across(facts), *others)))
    parts += [_glance(facts, model["label"]) for model in facts["models"]]
    parts.append("**Bold**: the best mean. ≈: not told apart from it. ▽: not surely better than a map that looks at no network.")
    parts += [_metric(facts, metric) for metric in facts["metrics"]]
    parts += ["## Paired differences", _pairs(facts)] if facts["pairs"] else []
    parts += ["## Do the metrics agree?", _rankings(facts)] if facts["rankings"] else []
    parts += ["## Settings and data", _list(settings_of(facts))]
    parts += ["### Models", _list({one["label"]: shown(model_facts(one)) for one in facts["models"]})]
    parts += ["### Methods", _list({one["label"]: f"{one['name']}, {shown(one['settings'])}" for one in facts["methods"]})]
    if cost:
        head = ("model", "method", "items", "seconds a map", "passes")
        called = {name: kind_words(name, one) for name, one in facts["items"].items()}
        rows: dict[Sequence[str], None] = {}
        for one in cost:
            kind = str(called.get(one["items"], one["items"]))
            rows[one["model"], one["method"], kind, _number(one["seconds_a_map"]), str(shown(one["passes"]))] = None
        parts += ["## Costs", _table(head, rows)]
    return "\n\n".join(parts) + "\n"


def title_of(facts: Record) -> str:
    """The name of a comparison."""
    counts = [(len(facts[name]), name[:-1]) for name in ("methods", "metrics", "models")]
    words = [f"{count} {name}{'s' * (count != 1)}" for count, name in counts]
    return f"Which explanation to trust: {words[0]} by {words[1]} on {words[2]}"


def subtitle_of(facts: Record) -> str:
    """Of which data."""
    data = facts["data"]
    sets = [items_words(name, one) for name, one in facts["items"].items()]
    return f"{PurePath(str(data['path'])).name or data['path']}, split {data['split']}: {', '.join(sets)}; seed {facts['seed']}"


def items_words(name: str, items: Record) -> str:
    """How many items a set has.

    >>> items_words("grids-2", {"n": 2, "count": 200}), items_words("pictures", {"count": 1})
    ('200 grids of 2 x 2', '1 picture')
    """
    return f"{items.get('count', '–')} {kind_words(name, items, one=items.get('count') == 1)}"


def kind_words(name: str, items: Record, *, one: bool = False) -> str:
    """What the items of a set are.

    >>> kind_words("grids-2", {"n": 2}), kind_words("boxes", {}, one=True)
    ('grids of 2 x 2', 'picture with boxes')
    """
    if "n" in items:
        return f"grid{'s' * (not one)} of {items['n']} x {items['n']}"
    return {"pictures": "picture", "boxes": "picture"}.get(name, name) + "s" * (not one) + " with boxes" * (name == "boxes")


def settings_of(facts: Record) -> dict[str, object]:
    """Settings, data and versions, by name."""
    data, found = facts["data"], {name: value for name, value in facts["settings"].items() if name != "split"}
    found |= {"seed": facts["seed"]} | {f"data: {name}": value for name, value in data.items() if name != "unreadable"}
    found["data: pictures that could not be read"] = [str(name) for name in data.get("unreadable", ())]
    for name, one in facts["items"].items():
        found[kind_words(name, one)] = {key: value for key, value in one.items() if isinstance(value, (int, float, str))}
    return found | {"made by": f"torchbcos {facts.get('torchbcos', '')}".strip()}


def model_facts(model: Record) -> dict[str, object]:
    """What is told of a model."""
    found = {name: value for name, value in model.items() if name not in ("label", "top1", "candidates")}
    if model.get("top1") is not None:
        seen = f" of {model['candidates']} pictures that were looked at" if model.get("candidates") is not None else ""
        found["right (top-1)"] = f"{model['top1']:.1f} %{seen}"
    return found


def _metric(facts: Record, metric: Record) -> str:
    """A chapter: sentences, the blind spot, and the rows."""
    lines = [f"## {_plain(metric['label'])}"]
    for model in facts["models"]:
        one = standing(facts, model["label"], metric)
        lines.append(" ".join(_plain(words) for words in (lead_sentence(facts, one), *caveats(one)) if words))
    lines.append(f"Its limits: {_plain(metric['blind'])}")
    rows = [row for model in facts["models"] for row in standing(facts, model["label"], metric).ranked]
    lines.append(
        _table(("method", "model", "mean", "95 %", "median", "95 %", "5 %", "25 %", "75 %", "n", "undefined"), map(_row, rows))
    )
    given = {name: _number(value) for name, value in (metric.get("lines") or {}).items()}
    about = {"settings": shown(metric["settings"]), "range": metric["range"], "source": metric["source"]}
    lines.append(_list({**given, **about}))
    return "\n\n".join(line for line in lines if line)


def _row(row: Record) -> tuple[str, ...]:
    mean, median = (_ends(row, name) for name in ("mean", "median"))
    shares = [_number(row[name]) for name in ("p5", "p25", "p75")]
    numbers = (_number(row["mean"]), mean, _number(row["median"]), median, *shares)
    return row["method"], row["model"], *numbers, str(row["n"]), str(row["undefined"])


def _ends(row: Record, name: str) -> str:
    low, high = number(row[f"{name}_low"]), number(row[f"{name}_high"])
    return f"{format_number(low)} to {format_number(high)}" if math.isfinite(low + high) else "–"


def _glance(facts: Record, model: str) -> str:
    """Means of all methods by all metrics that rank them."""
    found = [standing(facts, model, metric) for metric in facts["metrics"] if metric["best"] != "neither"]
    if not found:
        return ""
    rows = []
    for method in (one["label"] for one in facts["methods"]):
        cells = [next((row for row in one.ranked if row["method"] == method), None) for one in found]
        words = [
            _MARKS.get(one.mark(method), "{}").format(_number(row["mean"]) if row else "–")
            for one, row in zip(found, cells, strict=True)
        ]
        rows.append((_plain(method), *words))
    heads = [f"{_plain(one.metric['label'])} ({'↑' if one.metric['best'] == 'high' else '↓'})" for one in found]
    return f"### {_plain(model)}\n\n" + _lines(("method", *heads), rows)


def _pairs(facts: Record) -> str:
    head = ("metric", "method", "against", "difference", "95 %", "better", "worse", "tied", "p")
    rows = []
    for one in facts["pairs"]:
        apart = one.get("other_model") not in (None, one["model"])
        sides = [f"{one['method']} on {one['model']}", f"{one['other']} on {one['other_model'] if apart else one['model']}"]
        low, high = number(one["low"]), number(one["high"])
        ends = f"{format_number(low)} to {format_number(high)}" if math.isfinite(low + high) else "–"
        counts = [str(one[name]) for name in ("better", "worse", "tied")]
        rows.append((one["metric"], *sides, _number(one["difference"]), ends, *counts, p_value(one["p"])))
    return _table(head, rows)


def _rankings(facts: Record) -> str:
    rows = []
    for one in facts["rankings"]:
        low, high = number(one["low"]), number(one["high"])
        ends = f"{format_number(low)} to {format_number(high)}" if math.isfinite(low + high) else "–"
        rows.append((one["model"], one["first"], one["second"], _number(one["tau"]), ends))
    return _table(("model", "first", "second", "Kendall's τ-b", "95 %"), rows)


def _number(value: Any) -> str:
    return format_number(number(value))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _lines(head, [[_plain(cell) for cell in row] for row in rows])


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(values: Mapping[str, object]) -> str:
    return "\n".join(f"- {_plain(name)}: {_plain(shown(value))}" for name, value in values.items())


def _plain(words: str) -> str:
    """Words that stay words in Markdown: no tag, no link, no cell, no emphasis, on one line."""
    return re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w)|^#|^[+-](?!\d))", r"\\\1", html.escape(printable(str(words)), quote=False))
