"""What a reader of a comparison should be told, in sentences that stand alone: who is first, how surely, and what not to believe.

All functions read the facts of a comparison as JSON has them (`Comparison.to_dict()`), where a number that is undefined is null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from torchbcos._core.letters import printable
from torchbcos._core.names import quote
from torchbcos.evaluation.findings import Record, Standing, number, p_value, pair_of, standing, undefined_rule
from torchbcos.evaluation.statistics import rank_sentences

__all__ = ["of_standings", "sentences", "unreadable_sentence"]

_SATURATED = 0.98  # of the best value that there is
_FEW = 30  # items
_LACKING = 0.05  # part of the numbers that are undefined
_NAMED = 6  # of a list
_MANY = {"boxes": "pictures with boxes"}
_ONE = {"pictures": "one picture", "boxes": "one picture with boxes"}
_NOTHING = 1e-12  # a number so small is rounding
_EMPTY: Record = {"models": (), "methods": (), "metrics": (), "items": {}, "rows": (), "pairs": (), "rankings": ()}


def sentences(facts: Record) -> list[str]:
    """What follows from the numbers of a comparison, the most important first.

    Per model and metric: which method is first by its mean, and which are not told apart from it (`findings.standing`); methods
    that are no better, or not surely better, than the best map without a network; a median so high that it separates nothing;
    many undefined numbers. Then: too few items, methods that give the same maps, metrics that rank methods differently, B-cos and
    plain networks in one table.

    Args:
        facts: "models", "methods", "metrics", "items", "rows", "pairs" and "rankings" of a comparison; what is missing there is
            not spoken of.

    Returns:
        Sentences.

    >>> game = {"model": "m", "metric": "gap"}
    >>> rows = [{**game, "method": "a", "n": 40, "mean": 0.5}, {**game, "method": "b", "n": 40, "mean": 0.2}]
    >>> pair = {**game, "method": "a", "other": "b", "other_model": "m", "difference": 0.3, "low": 0.2, "high": 0.4}
    >>> pair |= {"better": 40, "worse": 0, "tied": 0, "p": 2e-12}
    >>> sentences({"metrics": [{"label": "gap", "best": "high"}], "rows": rows, "pairs": [pair]})
    ['a is first in gap on m (mean 0.5, n = 40), 0.3 ahead of b (paired, 95 % between 0.2 and 0.4).']
    """
    facts = {**_EMPTY, **facts}
    return [
        *_few(facts), *_each(facts, _first, _beaten, _saturated, _undefined), *_same(facts), *_rankings(facts), *_kinds(facts),
    ]  # fmt: skip


def of_standings(facts: Record) -> list[str]:
    """Of `sentences` those that say who is first, who is no better than a map without a network, and what is undefined: where
    each metric has its table or its chapter, these say it again.
    """
    return _each({**_EMPTY, **facts}, _first, _beaten, _undefined)


def unreadable_sentence(names: Sequence[str]) -> str:
    """How many pictures could not be read, and which is the first.

    >>> unreadable_sentence(["cat/1.png"])
    "1 picture was left out, for it could not be read: 'cat/1.png'."
    >>> unreadable_sentence(["cat/1.png", "cat/2.png"])
    "2 pictures were left out, for they could not be read; the first: 'cat/1.png'."
    """
    if len(names) == 1:
        return f"1 picture was left out, for it could not be read: {quote(names[0])}."
    return f"{len(names)} pictures were left out, for they could not be read; the first: {quote(names[0])}."


def _each(facts: Record, *kinds: Callable[[Record, Standing], Iterable[str]]) -> list[str]:
    """Sentences of some kinds about each metric on each model."""
    labels = {one["label"]: one for one in facts["metrics"] if one["best"] != "neither"}
    games = dict.fromkeys((row["model"], row["metric"]) for row in facts["rows"] if row["metric"] in labels)
    standings = [standing(facts, model, labels[metric]) for model, metric in games]
    return [text for about in kinds for one in standings for text in about(facts, one)]


def _where(one: Standing) -> str:
    return f"in {printable(one.metric['label'])} on {printable(one.model)}"


def _ahead(facts: Record, one: Standing, method: str, other: str) -> tuple[float, float, float, float] | None:
    """How much a method is better than another, the ends of the interval, and p; None if that is not known."""
    pair = pair_of(facts, one.model, one.metric["label"], method, other)
    if pair is None or math.isnan(number(pair["low"]) + number(pair["high"])):
        return None
    good = -1 if one.metric["best"] == "low" else 1
    middle, *ends = (good * number(pair[key]) for key in ("difference", "low", "high"))
    return middle, min(ends), max(ends), number(pair["p"])


def _first(facts: Record, one: Standing) -> Iterable[str]:
    """Who is first, and whether surely."""
    best, rivals = one.best, [row for row in one.ranked[1:] if math.isfinite(number(row["mean"]))]
    if best is None or not rivals:
        return
    begin = f"is first {_where(one)} (mean {_figure(number(best['mean']))}, n = {best['n']})"
    name = printable(best["method"])
    if one.dumb is best:
        yield f"{name}, a map without a network, {begin}: no method says more there."
        return
    rivals = [row for row in rivals if row["method"] not in best.get("same_as", ())]
    if not rivals:
        return
    second = printable(rivals[0]["method"])
    gap = _ahead(facts, one, best["method"], rivals[0]["method"])
    if gap is None:
        yield f"{name} {begin}, before {second} (mean {_figure(number(rivals[0]['mean']))}); how surely is not known."
        return
    between = f"95 % between {_figure(gap[1])} and {_figure(gap[2])}"
    even = [row["method"] for row in rivals if row["method"] in one.even]
    if rivals[0]["method"] in even:
        apart = f"paired difference to {second} {_figure(gap[0])}, {between}, sign test p {p_value(gap[3])}"
        yield f"{name} {begin}, but not told apart from {_listed(even)} ({apart})."
    else:
        rest = f", but not told apart from {_listed(even)}" if even else ""
        yield f"{name} {begin}, {_figure(gap[0])} ahead of {second} (paired, {between}){rest}."


def _beaten(_: Record, one: Standing) -> Iterable[str]:
    """Methods that are no better, or not surely better, than the best map without a network."""
    if one.dumb is None or one.dumb is one.best:  # said by `_first`
        return
    line = f"than {printable(one.dumb['method'])}, a map without a network (mean {_figure(number(one.dumb['mean']))})"
    above = {row["method"] for row in one.ranked[: one.ranked.index(one.dumb)]}
    worse, unsure = ([name for name in one.below if (name in above) == kind] for kind in (False, True))
    if worse:
        end = "it says nothing here" if len(worse) == 1 else "they say nothing here"
        yield f"{_listed(worse)} {_be(worse)} no better {_where(one)} {line}: {end}."
    if unsure:
        yield f"{_listed(unsure)} {_be(unsure)} not surely better {_where(one)} {line}; n = {one.dumb['n']}."


def _saturated(facts: Record, one: Standing) -> Iterable[str]:
    """Medians that separate nothing."""
    top = one.metric.get("lines", {}).get("oracle")
    if top is None or one.metric["best"] == "low":
        return
    dumb = {method["label"] for method in facts["methods"] if method.get("dumb")}
    full = [row for row in one.ranked if number(row.get("median")) >= _SATURATED * top and row["method"] not in dumb]
    if full:
        low = [f"{_figure(number(row['p5']))} ({printable(row['method'])})" for row in full]
        best = f"the best median is {_figure(max(number(row['median']) for row in full))} of {_figure(top)}"
        look = f"Look at the 5th percentile{'s' * (len(full) > 1)}: {_listed(low, plain=True)}."
        yield f"{printable(one.metric['label'])} is saturated on {printable(one.model)}: {best}. {look}"


def _undefined(_: Record, one: Standing) -> Iterable[str]:
    """Methods of which many numbers are undefined."""
    rows = [row for row in one.ranked if row.get("undefined") and row["undefined"] < row["values"]]
    lacking = [row for row in rows if row["undefined"] >= _LACKING * row["values"]]
    if lacking:
        counts = [f"{row['undefined']} of {row['values']} of {printable(row['method'])}" for row in lacking]
        yield f"Numbers are undefined {_where(one)}, and {undefined_rule(one.metric)}: {_listed(counts, plain=True)}."


def _few(facts: Record) -> Iterable[str]:
    """Sets of so few items that their intervals say little."""
    for name, one in facts["items"].items():
        count, words = one.get("count"), f"grids of {one['n']} x {one['n']}" if one.get("n") else _MANY.get(name, printable(name))
        if count == 1:
            one_of = f"one grid of {one['n']} x {one['n']}" if one.get("n") else _ONE.get(name, f"one item in {words}")
            yield f"There is {one_of} (n = 1): there is no interval, and nothing follows from its numbers."
        elif count is not None and count < _FEW:
            why = "the intervals are wide, and still too narrow, for they know no others"
            yield f"There are few {words} (n = {count}): {why}."


def _same(facts: Record) -> Iterable[str]:
    """Methods that are one."""
    groups = {(row["model"], frozenset([row["method"], *row["same_as"]])): None for row in facts["rows"] if row.get("same_as")}
    for model, group in groups:
        names = _listed(sorted(group))
        yield f"{names} give the same maps on {printable(model)}: they are one method there, not several that agree."


def _rankings(facts: Record) -> Iterable[str]:
    """Metrics that rank methods differently."""
    for one in facts["rankings"]:
        for text in rank_sentences([{**one, "first": printable(one["first"]), "second": printable(one["second"])}]):
            yield f"On {printable(one['model'])}, {text}"


def _kinds(facts: Record) -> Iterable[str]:
    """B-cos networks and plain ones in one table."""
    models = facts["models"]
    plain, other = ([one for one in models if bool(one.get("plain")) == kind] for kind in (True, False))
    if plain and other:
        of_plain, of_other = (_listed([one["label"] for one in some]) for some in (plain, other))
        kind = "is a plain network" if len(plain) == 1 else "are plain networks"
        read = f"read the paired differences, and the accuracy of each ({_tops([*plain, *other])})"
        yield f"{of_plain} {kind}, and {of_other} {_be(other)} not: do not rank their medians in one column; {read}."


def _tops(models: Sequence[Record]) -> str:
    tops = [(printable(one["label"]), number(one.get("top1"))) for one in models]
    return ", ".join(f"{label} {_figure(top)}" for label, top in tops if math.isfinite(top)) or "not measured here"


def _figure(number: float) -> str:
    """Three digits that count, and no sign before zero.

    >>> _figure(0.12345), _figure(-0.0), _figure(12345.0)
    ('0.123', '0', '12345')
    """
    if abs(number) < _NOTHING:
        return "0"
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _be(names: Sequence[object]) -> str:
    return "is" if len(names) == 1 else "are"


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
