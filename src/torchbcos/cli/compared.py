"""A comparison on the terminal: tables, what follows from them, and what a person should know first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchbcos._core.errors import shorten
from torchbcos._core.names import brief
from torchbcos.cli.common import say, tell

__all__ = ["tell_comparison"]

_SENTENCES, _LETTERS = 6, 240  # on stderr: how many, and how long; the page has all of them


def tell_comparison(facts: dict[str, Any], page: Path) -> None:
    """Tables, which method to trust, and where the page is; beside them what a person should know first, in few lines."""
    from torchbcos.evaluation.findings import across, opening
    from torchbcos.evaluation.telling import of_standings

    for line in _lines(facts):
        tell(line)
    for line in (*opening(facts), *across(facts)):
        tell(line)
    tell(f"Page: {page}")
    refused = {f"{row['method']} on {row['model']}: {row['note']}" for row in facts["rows"]}  # the tables say it
    told = {*of_standings(facts), *refused}
    others = [sentence for sentence in facts["sentences"] if sentence not in told]
    warned = tuple(f"{method['label']} on {model['label']}: " for method in facts["methods"] for model in facts["models"])
    others.sort(key=lambda sentence: sentence.startswith(warned))  # what is about all methods first
    shown_here = others if len(others) <= _SENTENCES else others[: _SENTENCES - 1]
    for sentence in shown_here:
        say(f"torchbcos: {shorten(sentence, _LETTERS)}")
    if len(shown_here) < len(others):
        say(f"torchbcos: {len(others) - len(shown_here)} more sentences stand on the page.")


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """A table for each metric and model, best methods first; * marks maps that ask no network."""
    dumb = {one["label"] for one in facts["methods"] if one["dumb"]}
    known: set[str] = set()
    for metric in facts["metrics"]:
        for model in facts["models"]:
            rows = [r for r in facts["rows"] if (r["metric"], r["model"]) == (metric["label"], model["label"])]
            yield from _table(metric, model, rows, dumb, known)
        yield f"  Its limits: {metric['blind']}"
        yield ""
    if dumb:
        yield "* asks no network: a method that is not better than these says nothing of it."


def _table(
    metric: dict[str, Any], model: dict[str, Any], rows: list[dict[str, Any]], dumb: set[str], known: set[str]
) -> Iterator[str]:
    good = {"high": "high is good", "low": "low is good", "neither": "it describes: no value is better"}[metric["best"]]
    lines = ", ".join(f"{name} {_number(value)}" for name, value in metric["lines"].items())
    counts = dict.fromkeys(str(r["n"]) for r in rows)
    yield f"{metric['label']} on {brief(model['label'])}, n = {' or '.join(counts)} ({good}{'; ' + lines if lines else ''})"
    sign = -1 if metric["best"] == "high" else 1
    ranked = sorted(rows, key=lambda r: (r["mean"] is None, sign * (r["mean"] or 0)))
    names = {r["method"]: brief(r["method"]) + " *" * (r["method"] in dumb) for r in ranked}
    width = max([len(name) for name in names.values()] + [6])
    yield f"  {'method':{width}} {'mean':>6} {'95 % interval':>16} {'median':>6} {'5 %':>6} {'passes':>6}"
    for r in ranked:
        interval = "–" if r["mean_low"] is None else f"{_number(r['mean_low'])} to {_number(r['mean_high'])}"
        passes = "–" if r["passes"] is None else round(r["passes"])
        middle = f"{_number(r['mean']):>6} {interval:>16} {_number(r['median']):>6} {_number(r['p5']):>6}"
        yield f"  {names[r['method']]:{width}} {middle} {passes:>6}"
    yield from _notes(ranked, known)


def _notes(rows: list[dict[str, Any]], known: set[str]) -> Iterator[str]:
    """What stands below a table, so that its columns fit a terminal; `known` are the reasons that another table gave."""
    for r in rows:
        if r["undefined"] and not r["note"]:
            yield f"  {brief(r['method'])}: {r['undefined']} of {r['values']} numbers are undefined"
    for group in dict.fromkeys(frozenset([r["method"], *r["same_as"]]) for r in rows if r["same_as"]):
        yield f"  {', '.join(map(brief, sorted(group)))}: the same map"
    for note in dict.fromkeys(r["note"] for r in rows if r["note"]):
        names = ", ".join(brief(r["method"]) for r in rows if r["note"] == note)
        yield f"  {names}: not measured; why stands above" if note in known else f"  {names}: not measured. {note}"
        known.add(note)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
