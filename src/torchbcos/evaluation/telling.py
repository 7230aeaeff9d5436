"""What a reader of a comparison should be told, in sentences that stand alone: who is first, how surely, and what not to believe.

All functions read the facts of a comparison as JSON has them (`Comparison.to_dict()`), where a number that is undefined is null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torchbcos._core.letters import printable
from torchbcos.evaluation.statistics import rank_sentences

__all__ = ["sentences"]

_SATURATED = 0.98  # of the best value that there is
_FEW = 30  # items
_LACKING = 0.05  # part of the numbers that are undefined
_NAMED = 6  # of a list
_NOTHING = 1e-12  # a number so small is rounding
_ARE = ("is", "are")
_Row = Mapping[str, Any]


def sentences(facts: Mapping[str, Any]) -> list[str]:
    """What follows from the numbers of a comparison, the most important first.

    Per model and metric: which method is first by its mean, and which are not told apart from it by the paired interval; methods
    that are no better than a map without a network; a median so high that it separates nothing; many undefined numbers. Then:
    too few items, methods that give the same maps, metrics that rank methods differently, B-cos and plain networks in one table.

    Args:
        facts: "models", "methods", "metrics", "items", "rows", "pairs" and "rankings" of a comparison; what is missing there is
            not spoken of.

    Returns:
        Sentences.

    >>> game = {"model": "m", "metric": "gap"}
    >>> rows = [{**game, "method": "a", "n": 40, "mean": 0.5}, {**game, "method": "b", "n": 40, "mean": 0.2}]
    >>> pair = {**game, "method": "a", "other": "b", "other_model": "m", "difference": 0.3, "low": 0.2, "high": 0.4}
    >>> sentences({"metrics": [{"label": "gap", "best": "high"}], "rows": rows, "pairs": [pair]})
    ['a is first in gap on m (mean 0.5, n = 40), 0.3 ahead of b (paired, 95 % between 0.2 and 0.4).']
    """
    table = _Table(facts)
    found: list[str] = []
    for about in (_first, _beaten, _saturated, _undefined):
        found += [text for model, metric in table.games() for text in about(table, model, metric)]
    return [*_few(facts), *found, *_same(table), *_rankings(table), *_kinds(facts)]


class _Table:
    """Rows and pairs of a comparison, found by their labels."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.rankings: Sequence[_Row] = facts.get("rankings", ())
        self.metrics = {str(one["label"]): one for one in facts.get("metrics", ())}
        self.dumb = {str(one["label"]) for one in facts.get("methods", ()) if one.get("dumb")}
        self.rows: dict[tuple[str, str], list[_Row]] = {}
        for row in facts.get("rows", ()):
            self.rows.setdefault((row["model"], row["metric"]), []).append(row)
        self._pairs = {
            (one["model"], one["metric"], one["method"], one["other"]): one
            for one in facts.get("pairs", ()) if one["model"] == one["other_model"]
        }  # fmt: skip

    def games(self) -> list[tuple[str, str]]:
        """Each model and metric in which methods are better or worse."""
        return [key for key in self.rows if self.metrics.get(key[1], {}).get("best") in ("high", "low")]

    def lower(self, metric: str) -> bool:
        """Whether a low number is good."""
        return bool(self.metrics[metric]["best"] == "low")

    def ranked(self, model: str, metric: str) -> list[_Row]:
        """Rows with a mean, the best first."""
        rows = [row for row in self.rows[model, metric] if math.isfinite(_number(row, "mean"))]
        return sorted(rows, key=lambda row: _number(row, "mean"), reverse=not self.lower(metric))

    def ahead(self, model: str, metric: str, method: str, other: str) -> tuple[float, float, float] | None:
        """How much a method is better than another, and the ends of the interval; None if they were not paired."""
        for (first, second), sign in (((method, other), 1), ((other, method), -1)):
            one = self._pairs.get((model, metric, first, second))
            if one is not None:
                good = -sign if self.lower(metric) else sign
                middle, *ends = (good * _number(one, key) for key in ("difference", "low", "high"))
                return None if math.isnan(sum(ends)) else (middle, min(ends), max(ends))
        return None


def _first(table: _Table, model: str, metric: str) -> Iterable[str]:
    """Who is first, and whether surely."""
    ranked = table.ranked(model, metric)
    if len(ranked) < 2:
        return
    best = ranked[0]
    name, where = printable(best["method"]), f"in {printable(metric)} on {printable(model)}"
    facts = f"(mean {_figure(_number(best, 'mean'))}, n = {best['n']})"
    if best["method"] in table.dumb:
        yield f"{name}, a map without a network, is first {where} {facts}: no method says more there."
        return
    others = [row for row in ranked[1:] if row["method"] not in best.get("same_as", ())]
    if not others:
        return
    begin, second = f"{name} is first {where} {facts}", printable(others[0]["method"])
    gap = table.ahead(model, metric, best["method"], others[0]["method"])
    if gap is None:
        yield f"{begin}, before {second} (mean {_figure(_number(others[0], 'mean'))}); how surely is not known."
        return
    between = f"95 % between {_figure(gap[1])} and {_figure(gap[2])}"
    gaps = ((row["method"], table.ahead(model, metric, best["method"], row["method"])) for row in others)
    alike = [method for method, one in gaps if one is not None and one[1] <= 0]
    if not alike:
        yield f"{begin}, {_figure(gap[0])} ahead of {second} (paired, {between})."
    elif gap[1] <= 0:
        yield f"{begin}, but not told apart from {_listed(alike)} (paired difference to {second} {_figure(gap[0])}, {between})."
    else:
        yield f"{begin}, {_figure(gap[0])} ahead of {second} (paired, {between}), but not told apart from {_listed(alike)}."


def _beaten(table: _Table, model: str, metric: str) -> Iterable[str]:
    """Methods that are no better than the best map without a network."""
    ranked = table.ranked(model, metric)
    dumb = next((row for row in ranked if row["method"] in table.dumb), None)
    if dumb is None or ranked[0] is dumb:  # said by `_first`
        return
    methods = [row for row in ranked if row["method"] not in table.dumb]
    beaten = [row["method"] for row in methods if not _beats(table, row, dumb)]
    if beaten:
        line = f"{printable(dumb['method'])}, a map without a network (mean {_figure(_number(dumb, 'mean'))})"
        verb, end = ("is", "it says") if len(beaten) == 1 else ("are", "they say")
        yield f"{_listed(beaten)} {verb} no better in {printable(metric)} on {printable(model)} than {line}: {end} nothing here."


def _beats(table: _Table, row: _Row, dumb: _Row) -> bool:
    """Surely better: by the paired interval, else by that of its own mean, else by its mean."""
    gap = table.ahead(row["model"], row["metric"], row["method"], dumb["method"])
    if gap is not None:
        return gap[1] > 0
    lower, line = table.lower(row["metric"]), _number(dumb, "mean")
    end = _number(row, "mean_high" if lower else "mean_low")
    end = _number(row, "mean") if math.isnan(end) else end
    return end < line if lower else end > line


def _saturated(table: _Table, model: str, metric: str) -> Iterable[str]:
    """Medians that separate nothing."""
    top = table.metrics[metric].get("lines", {}).get("oracle")
    if top is None or table.lower(metric):
        return
    full = [
        row for row in table.ranked(model, metric)
        if _number(row, "median") >= _SATURATED * top and row["method"] not in table.dumb
    ]  # fmt: skip
    if full:
        low = [f"{_figure(_number(row, 'p5'))} ({printable(row['method'])})" for row in full]
        best = f"the best median is {_figure(max(_number(row, 'median') for row in full))} of {_figure(top)}"
        look = f"Look at the 5th percentile{'s' * (len(full) > 1)}: {_listed(low, plain=True)}."
        yield f"{printable(metric)} is saturated on {printable(model)}: {best}. {look}"


def _undefined(table: _Table, model: str, metric: str) -> Iterable[str]:
    """Methods of which many numbers are undefined."""
    rows = [row for row in table.rows[model, metric] if row.get("undefined") and row["undefined"] < row["values"]]
    lacking = [row for row in rows if row["undefined"] >= _LACKING * row["values"]]
    if lacking:
        counts = [f"{row['undefined']} of {row['values']} of {printable(row['method'])}" for row in lacking]
        rule = "they are left out" if table.lower(metric) else "they count as 0"
        yield f"Numbers are undefined in {printable(metric)} on {printable(model)}, and {rule}: {_listed(counts, plain=True)}."


def _few(facts: Mapping[str, Any]) -> Iterable[str]:
    """Sets of so few items that their intervals say little."""
    for name, one in facts.get("items", {}).items():
        count = one.get("count")
        if count == 1:
            yield f"There is one item in {printable(name)} (n = 1): there is no interval, and nothing follows from its numbers."
        elif count is not None and count < _FEW:
            why = "the intervals are wide, and still too narrow, for they know no others"
            yield f"There are few {printable(name)} (n = {count}): {why}."


def _same(table: _Table) -> Iterable[str]:
    """Methods that are one."""
    groups: dict[tuple[str, frozenset[str]], None] = {}
    for (model, _), rows in table.rows.items():
        for row in rows:
            if row.get("same_as"):
                groups[model, frozenset([row["method"], *row["same_as"]])] = None
    for model, group in groups:
        names = _listed(sorted(group))
        yield f"{names} give the same maps on {printable(model)}: they are one method there, not several that agree."


def _rankings(table: _Table) -> Iterable[str]:
    for one in table.rankings:
        for text in rank_sentences([{**one, "first": printable(one["first"]), "second": printable(one["second"])}]):
            yield f"On {printable(one['model'])}, {text}"


def _kinds(facts: Mapping[str, Any]) -> Iterable[str]:
    """B-cos networks and plain ones in one table."""
    models = facts.get("models", ())
    plain, other = ([one for one in models if bool(one.get("plain")) == kind] for kind in (True, False))
    if plain and other:
        of_plain, of_other = (_listed([one["label"] for one in some]) for some in (plain, other))
        verb = f"{'is a plain network' if len(plain) == 1 else 'are plain networks'}, and {of_other} {_ARE[len(other) > 1]} not"
        read = f"read the paired differences, and the accuracy of each ({_tops([*plain, *other])})"
        yield f"{of_plain} {verb}: do not rank their medians in one column; {read}."


def _tops(models: Sequence[_Row]) -> str:
    tops = [
        f"{printable(one['label'])} {_figure(_number(one, 'top1'))}" for one in models if not math.isnan(_number(one, "top1"))
    ]
    return ", ".join(tops) or "not measured here"


def _number(row: _Row, key: str) -> float:
    """NaN for null and for what is missing."""
    found = row.get(key)
    return math.nan if found is None else float(found)


def _figure(number: float) -> str:
    """Three digits that count, and no sign before zero.

    >>> _figure(0.12345), _figure(-0.0), _figure(12345.0)
    ('0.123', '0', '12345')
    """
    if abs(number) < _NOTHING:
        return "0"
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _listed(names: Sequence[str], *, plain: bool = False) -> str:
    """Names in words, at most six of them.

    >>> _listed(["a", "b", "c"]), _listed(list("abcdefghi"))
    ('a, b and c', 'a, b, c, d, e, f and 3 others')
    """
    write: Callable[[str], str] = str if plain else printable
    shown = [write(name) for name in names[:_NAMED]]
    left = len(names) - len(shown)
    if left:
        return f"{', '.join(shown)} and {left} other{'s' * (left > 1)}"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
