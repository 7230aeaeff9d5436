"""Claims (a) and (b), read from the JSON that `torchbcos compare` wrote: the inherent explanation against post-hoc methods."""

from __future__ import annotations

from typing import Any

__all__ = ["against_others", "against_twin"]

Comparison = dict[str, Any]
_LOCATES = "grid-pointing"
_PUBLISHED = (
    "3×3, medians: B-cos DenseNet-121 inherent .95, LIME .69, Grad-CAM .27, RISE .158, IG .103, input × gradient .082; "
    "ResNet-34 .98, .65, .665, .132, .107, .082; VGG-11 .985, .44, .30, .138, .099, .086 (B-cos v1, ImageNet)"
)


def against_others(comparison: Comparison | None) -> dict[str, Any]:
    """(a) On the B-cos network itself."""
    return _claim(comparison, twin=False)


def against_twin(comparison: Comparison | None) -> dict[str, Any]:
    """(b) Against methods on the ordinary twin."""
    return _claim(comparison, twin=True)


def _claim(comparison: Comparison | None, *, twin: bool) -> dict[str, Any]:
    if comparison is None:
        return {"columns": [], "rows": [], "missing": ["the comparison of the embedded network and its twin"], "notes": [],
                "published": _PUBLISHED, "verdict": "not shown yet", "why": "The comparison was not made yet."}  # fmt: skip
    bcos = next(one["label"] for one in comparison["models"] if not one["plain"])
    plain = [one["label"] for one in comparison["models"] if one["plain"]]
    of = plain[0] if twin and plain else bcos
    kinds = {one["label"]: "dumb" if one["dumb"] else one["kind"] for one in comparison["methods"]}
    inherent = next(label for label, kind in kinds.items() if kind == "inherent")
    metrics = [one for one in comparison["metrics"] if one["best"] in ("high", "low")]
    table = {(r["model"], r["method"], r["metric"]): r for r in comparison["rows"]}
    shown = [(bcos, inherent), *((of, label) for label, kind in kinds.items() if label != inherent)]
    rows = [
        {"label": f"{method} ({'B-cos' if model == bcos else 'twin'})", "run": model, "kind": kinds[method], "cells": {
            one["label"]: _cell(table[model, method, one["label"]]) for one in metrics if (model, method, one["label"]) in table}}
        for model, method in shown
    ]  # fmt: skip
    return {
        "columns": [{"key": one["label"], "name": f"{one['label']}, median", "best": one["best"]} for one in metrics],
        "rows": [one for one in rows if one["cells"]], "missing": [], "published": _PUBLISHED,
        **_verdict(comparison, metrics, bcos, inherent, of, {k for k, kind in kinds.items() if kind not in ("inherent", "dumb")}),
        "notes": list(comparison["sentences"]),
    }  # fmt: skip


def _cell(row: dict[str, Any]) -> dict[str, Any]:
    return {"value": row["median"], "low": row["median_low"], "high": row["median_high"], "n": row["n"],
            "undefined": row["undefined"], "p5": row["p5"]}  # fmt: skip


def _verdict(
    comparison: Comparison, metrics: list[dict[str, Any]], bcos: str, inherent: str, of: str, others: set[str]
) -> dict[str, str]:
    """Of each metric: how many of the others the inherent one beats, item by item; localisation decides."""
    words, decided = [], None
    for metric in metrics:
        wins, losses, compared = set(), set(), set()
        for one in comparison["pairs"]:
            sides = ((one["model"], one["method"]), (one["other_model"], one["other"]))
            if one["metric"] != metric["label"] or (bcos, inherent) not in sides or one["low"] is None or one["high"] is None:
                continue
            ours_first = sides[0] == (bcos, inherent)
            model, name = sides[1] if ours_first else sides[0]
            if model != of or name not in others:
                continue
            compared.add(name)
            low, high = (one["low"], one["high"]) if ours_first == (metric["best"] == "high") else (-one["high"], -one["low"])
            wins |= {name} if low > 0 else set()
            losses |= {name} if high < 0 else set()
        worse = f", worse than {', '.join(sorted(losses))}" if losses else ""
        words.append(f"{metric['label']}: better than {len(wins)} of {len(compared)}{worse}")
        if metric["name"] == _LOCATES and compared:
            decided = decided is not False and wins == compared
    verdict = "not shown yet" if decided is None else "holds" if decided else "fails"
    why = "Paired by item, where the whole interval of the difference says so. " + "; ".join(words) + "."
    return {"verdict": verdict, "why": why}
