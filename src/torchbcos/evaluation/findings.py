"""What a comparison says, in words: which method is best, by how much, how sure that is, and what the metric does not see.

All functions read the record of `Comparison.to_dict`, and nothing else: a page can be made again from its JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchbcos.rendering import format_number

__all__ = [
    "Record", "Standing", "across", "caveats", "difference_words", "lead_sentence", "number", "opening", "p_value",
    "pair_of", "standing", "standings", "undefined_rule", "undefined_sentence",
]  # fmt: skip

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Standing:
    """One metric on one model.

    Attributes:
        model: its label.
        metric: the metric's record.
        ranked: rows of the methods, best mean first; those without a number at the end. As they are, if no value is better.
        even: methods that are not told apart from the best one: the interval of the paired difference includes 0.
        below: methods that look at the network, and are not surely better than the best one that does not.
        dumb: that best one without a network; None where there is none.
    """

    model: str
    metric: Record
    ranked: tuple[Record, ...]
    even: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    dumb: Record | None = None

    @property
    def best(self) -> Record | None:
        """The row of the best method; None where no value is better than another, or none is defined."""
        first = self.ranked[0] if self.ranked and self.metric["best"] != "neither" else None
        return first if first is not None and math.isfinite(number(first["mean"])) else None

    def mark(self, method: str) -> str:
        """ "good" for the best method, "even", "poor" for one that does not beat a map without a network, or "".

        >>> Standing("a", {"best": "neither"}, ()).mark("rise")
        ''
        """
        best = self.best
        if best is None:
            return ""
        return "good" if method == best["method"] else "even" if method in self.even else "poor" if method in self.below else ""


def number(value: Any) -> float:
    """A number of a record: NaN where JSON has null.

    >>> number(None), number(2)
    (nan, 2.0)
    """
    return math.nan if value is None else float(value)


def p_value(value: Any) -> str:
    """A p value in words.

    >>> p_value(0.031234), p_value(1e-30), p_value(None)
    ('0.031', 'below 1e-09', '–')
    """
    p = number(value)
    return "–" if not math.isfinite(p) else "below 1e-09" if p < 1e-9 else f"{p:.2g}"


def pair_of(
    facts: Record, model: str, metric: str, method: str, other: str, other_model: str | None = None
) -> dict[str, Any] | None:
    """The paired comparison of two methods, whichever of them stands first in the record; None where there is none.

    >>> pairs = [{"model": "m", "metric": "road", "method": "a", "other": "b", "other_model": "m", "difference": 1, "low": 0,
    ...           "high": 3, "better": 5, "worse": 2, "tied": 1, "p": 0.4}]
    >>> found = pair_of({"pairs": pairs}, "m", "road", "b", "a")
    >>> found["difference"], found["low"], found["high"], found["better"]
    (-1, -3, 0, 2)
    """
    there = (model, method, other_model or model, other)
    for one in facts["pairs"]:
        if one["metric"] != metric:
            continue
        sides = (one["model"], one["method"]), (one.get("other_model") or one["model"], one["other"])
        if (*sides[0], *sides[1]) == there:
            return dict(one)
        if (*sides[1], *sides[0]) == there:
            turned = {"model": there[0], "method": there[1], "other_model": there[2], "other": there[3]}
            swapped = {"low": _minus(one["high"]), "high": _minus(one["low"]), "better": one["worse"], "worse": one["better"]}
            return {**one, **turned, **swapped, "difference": _minus(one["difference"])}
    return None


def _minus(value: Any) -> Any:
    return None if value is None else -value


def standing(facts: Record, model: str, metric: Record) -> Standing:
    """How the methods stand by one metric on one model."""
    rows = [row for row in facts["rows"] if row["model"] == model and row["metric"] == metric["label"]]
    best = metric["best"]
    if best == "neither":
        return Standing(model, metric, tuple(rows))
    sign = -1 if best == "high" else 1
    ranked = sorted(rows, key=lambda row: (math.isnan(number(row["mean"])), sign * number(row["mean"])))
    defined = [row for row in ranked if math.isfinite(number(row["mean"]))]
    dumb = {method["label"] for method in facts["methods"] if method.get("dumb")}
    first_dumb = next((row for row in defined if row["method"] in dumb), None)
    others = [row for row in defined if row["method"] not in dumb] if first_dumb is not None else []
    below = tuple(row["method"] for row in others if first_dumb is not None and not _beats(facts, metric, row, first_dumb))
    top = defined[0]["method"] if defined else ""
    pairs = {row["method"]: pair_of(facts, model, metric["label"], top, row["method"]) for row in defined[1:]}
    even = tuple(method for method, pair in pairs.items() if pair is None or not _ahead(pair, metric))
    return Standing(model, metric, tuple(ranked), even, below, first_dumb)


def _ahead(pair: Record, metric: Record) -> bool:
    """Whether the first method of a pair is surely better: the interval of the paired difference lies on its side of 0."""
    return number(pair["high"]) < 0 if metric["best"] == "low" else number(pair["low"]) > 0


def _beats(facts: Record, metric: Record, row: Record, dumb: Record) -> bool:
    """Surely better than a map without a network: by the paired interval, else by that of its own mean, else by its mean."""
    pair = pair_of(facts, row["model"], metric["label"], row["method"], dumb["method"])
    if pair is not None and math.isfinite(number(pair["low"])):
        return _ahead(pair, metric)
    low = metric["best"] == "low"
    end = number(row["mean_high" if low else "mean_low"])
    end = number(row["mean"]) if math.isnan(end) else end
    return end < number(dumb["mean"]) if low else end > number(dumb["mean"])


def standings(facts: Record) -> list[Standing]:
    """Every metric on every model, models first."""
    return [standing(facts, model["label"], metric) for model in facts["models"] for metric in facts["metrics"]]


def opening(facts: Record) -> list[str]:
    """What a reader wants to know first: which method to trust on each model, and how sure that is."""
    return [sentence for model in facts["models"] for sentence in _of_model(facts, model["label"])]


def _of_model(facts: Record, model: str) -> list[str]:
    found = [standing(facts, model, metric) for metric in facts["metrics"]]
    judged = [one for one in found if one.best is not None]
    if not judged:
        return [f"On {model} no metric ranks the methods: nothing here says which one to trust."]
    telling = [one for one in judged if one.best is not None and one.best is not one.dumb]
    silent = [one.metric["label"] for one in judged if one not in telling]
    said = (
        [f"On {model}, a map that looks at no network is best by {_listed(silent)}: no method says more there."] if silent else []
    )
    wins = {row["method"]: 0 for one in telling for row in one.ranked}
    for one in telling:
        for row in one.ranked:
            wins[row["method"]] += one.mark(row["method"]) in ("good", "even") and row["method"] not in one.below
    order = sorted(wins, key=lambda method: -wins[method])
    if not order or not wins[order[0]]:
        return said
    top = order[0]
    twins = next((row["same_as"] for row in telling[0].ranked if row["method"] == top), None) or ()
    rivals = [method for method in order[1:] if wins[method] == wins[top] and method not in twins]
    words = f"So {'is' if len(rivals) == 1 else 'are'} {_listed(rivals)}: nothing here decides between them." if rivals else ""
    return [_lead(model, top, telling), *[words] * bool(words), *said]


def _lead(model: str, top: str, judged: Sequence[Standing]) -> str:
    """By which metrics a method is best, not told apart from the best, or behind."""
    told: dict[str, list[str]] = {}
    behind = 0
    for one in judged:
        best = one.best["method"] if one.best is not None else ""
        marked = one.mark(top) in ("good", "even")
        how = f"behind {best}" if not marked else "not told apart from the best" if one.even else "best"
        told.setdefault(how, []).append(one.metric["label"])
        behind += not marked
    total = len(judged)
    ordered = sorted(told, key=lambda how: (how.startswith("behind"), how.startswith("not")))
    words = "; ".join(f"{how} by {_listed(told[how])}" for how in ordered)
    if total == 1 and not behind:
        return f"On {model}, {top} is {'best' if 'best' in told else 'among the best methods'} by {judged[0].metric['label']}."
    return f"On {model}, {top} is among the best methods by {total - behind} of {total} metric{'s' * (total > 1)}: {words}."


def across(facts: Record) -> list[str]:
    """How a method of one model stands against the methods of another, item by item, metric by metric."""
    groups: dict[tuple[str, str, str, str], list[Record]] = {}
    for one in facts["pairs"]:
        if one.get("other_model") not in (None, one["model"]):
            groups.setdefault((one["model"], one["method"], one["other_model"], one["metric"]), []).append(one)
    metrics = {metric["label"]: metric for metric in facts["metrics"]}
    found = []
    for (model, method, other_model, metric), pairs in groups.items():
        behind = [one["other"] for one in pairs if not _ahead(one, metrics[metric])]
        count = f"{len(pairs) - len(behind)} of {len(pairs)} methods on {other_model}"
        found.append(f"By {metric}, {method} on {model} is better than {count}")
        found[-1] += f"; not shown for {_listed(behind)}." if behind else "."
    return found


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def lead_sentence(facts: Record, one: Standing) -> str:
    """The best method of a metric, its number, and its distance to the next."""
    best = one.best
    if best is None:
        return f"{one.metric['label']} describes maps on {one.model}, and no value of it is better." if one.ranked else ""
    words = f"On {one.model}, {best['method']} is {'highest' if one.metric['best'] == 'high' else 'lowest'}, which is better: "
    words += f"mean {_interval(best, 'mean')}, median {format_number(number(best['median']))}."
    others = [row for row in one.ranked[1:] if math.isfinite(number(row["mean"]))]
    pair = pair_of(facts, one.model, one.metric["label"], best["method"], others[0]["method"]) if others else None
    if pair is not None:
        words += f" The next is {others[0]['method']}: {difference_words(pair)}"
    return words


def difference_words(pair: Record) -> str:
    """A paired comparison in words."""
    ends = f" (95 % between {format_number(number(pair['low']))} and {format_number(number(pair['high']))})"
    ends = ends if math.isfinite(number(pair["low"])) else ""
    counts = f"better in {pair['better']}, worse in {pair['worse']}, tied in {pair['tied']} of {pair['n']} items"
    return f"paired difference {format_number(number(pair['difference']))}{ends}, {counts}; sign test p {p_value(pair['p'])}."


def _interval(row: Record, name: str) -> str:
    low, high = number(row[f"{name}_low"]), number(row[f"{name}_high"])
    ends = f" (95 % between {format_number(low)} and {format_number(high)})" if math.isfinite(low) else ""
    return format_number(number(row[name])) + ends


def caveats(one: Standing) -> list[str]:
    """What stands beside the number: who is not told apart, who does not beat a map without a network, what is undefined."""
    found = []
    if one.even and one.best is not None:
        found.append(f"On {one.model}, not told apart from {one.best['method']}: {_listed(one.even)}.")
    if one.dumb is not None and one.below:
        dumb = f"{one.dumb['method']} ({format_number(number(one.dumb['mean']))}), which looks at no network"
        found.append(f"On {one.model}, not surely better than {dumb}: {_listed(one.below)}.")
    return found + [undefined_sentence(row, one.metric) for row in one.ranked if row["undefined"]]


def undefined_sentence(row: Record, metric: Record) -> str:
    """How many numbers of a row are undefined, and what became of them.

    >>> undefined_sentence({"method": "rise", "model": "m", "undefined": 3, "values": 40, "note": ""}, {"best": "high"})
    'rise on m: 3 of 40 values are undefined, and count as 0.'
    """
    words = f"{row['method']} on {row['model']}: {row['undefined']} of {row['values']} values are undefined"
    if row["undefined"] == row["values"]:
        return f"{words}." + (f" {row['note']}" if row.get("note") else "")
    return f"{words}, and {undefined_rule(metric)}."


def undefined_rule(metric: Record) -> str:
    """What becomes of numbers that are undefined: they count as 0 where high is good, so that nobody gains by them.

    >>> undefined_rule({"best": "high"}), undefined_rule({"best": "low"})
    ('count as 0', 'are left out')
    """
    return "count as 0" if metric["best"] == "high" else "are left out"
