"""A comparison as `Comparison.to_dict` gives it, with numbers made up: two models, six methods, three metrics."""

from __future__ import annotations

import random
from typing import Any

METHODS = ("inherent", "input_x_gradient", "rise", "lime", "edges", "uniform")
MODELS = ("embedded", "plain twin")
DUMB = ("edges", "uniform")
# mean of a method: place on a scale from bad (0) to good (1)
WORTH = {"inherent": 0.9, "input_x_gradient": 0.88, "rise": 0.55, "lime": 0.3, "edges": 0.4, "uniform": 0.2}


def metric(label: str, best: str, items: str, lines: dict[str, float]) -> dict[str, Any]:
    """The record of a metric."""
    return {
        "name": label, "label": label, "settings": {"n": 2} if items == "grids-2" else {}, "best": best,
        "range": "[0, 1]; even map 1/n²" if items == "grids-2" else "any", "blind": f"What {label} does not see.",
        "source": "arXiv 0000.00000", "items": items, "lines": lines, "summary": f"What {label} is.",
    }  # fmt: skip


def row(model: str, method: str, metric: dict[str, Any], mean: float, n: int) -> dict[str, Any]:
    """The row of a method."""
    values = n * (4 if metric["items"] == "grids-2" else 1)
    return {
        "model": model, "method": method, "metric": metric["label"], "n": n, "values": values, "undefined": 0, "mean": mean,
        "mean_low": mean - 0.02, "mean_high": mean + 0.02, "median": mean + 0.03, "median_low": mean + 0.01,
        "median_high": mean + 0.05, "p5": mean - 0.3, "p25": mean - 0.1, "p50": mean + 0.03, "p75": mean + 0.08, "passes": 1,
        "same_as": [], "note": "",
    }  # fmt: skip


def pair(
    model: str, metric: str, method: str, other: str, difference: float, p: float, other_model: str | None = None
) -> dict[str, Any]:
    """A paired comparison in which the first is better."""
    return {
        "model": model, "metric": metric, "method": method, "other": other, "other_model": other_model or model, "n": 200,
        "difference": difference, "low": difference - 0.05, "high": difference + 0.05, "better": 150, "worse": 40,
        "tied": 10, "p": p,
    }  # fmt: skip


def comparison() -> dict[str, Any]:
    """The whole record. `lime` on the plain twin is undefined; `inherent` and `input_x_gradient` are not told apart."""
    chance = random.Random(0)
    metrics = [
        metric("grid-pointing", "high", "grids-2", {"oracle": 1.0, "uniform": 0.25}), metric("deletion", "low", "pictures", {}),
        metric("gini", "neither", "pictures", {"uniform": 0.0}),
    ]  # fmt: skip
    rows = []
    for one in metrics:
        for m, model in enumerate(MODELS):
            for method in METHODS:
                mean = (1 - WORTH[method] if one["best"] == "low" else WORTH[method]) - 0.1 * m + chance.uniform(-0.01, 0.01)
                rows.append(row(model, method, one, mean, 200 if one["items"] == "grids-2" else 50))
    for one in rows:
        if (one["model"], one["method"]) == ("plain twin", "lime"):
            one |= {key: None for key in one if key.startswith(("mean", "median", "p")) and key != "passes"}
            one |= {"undefined": one["values"], "note": "needs a network that it does not fit"}
    rows[2]["undefined"] = 3
    rows[0]["same_as"], rows[1]["same_as"] = ["input_x_gradient"], ["inherent"]
    pairs = []
    for label, sign in (("grid-pointing", 1), ("deletion", -1)):
        for model in MODELS:
            ranked = sorted(METHODS, key=lambda name: -WORTH[name])
            top = min((r for r in rows if r["model"] == model and r["metric"] == label and r["mean"] is not None),
                      key=lambda r: -sign * r["mean"])["method"]  # fmt: skip
            for other in ranked:
                if other != top and (model, other) != ("plain twin", "lime"):
                    close = WORTH[other] > 0.85
                    pairs.append(
                        pair(model, label, top, other, sign * (0.02 if close else 0.9 - WORTH[other]), 0.3 if close else 1e-12)
                    )
    pairs.append(pair("embedded", "grid-pointing", "inherent", "rise", 0.45, 1e-20, "plain twin"))
    rankings = [{"model": m, "first": "grid-pointing", "second": "deletion", "tau": 0.8, "low": 0.4, "high": 1.0} for m in MODELS]
    names = [f"val/dog/{i:03}.jpg" for i in range(50)]
    return {
        "schema": 1, "torchbcos": "0.1.0", "seed": 0, "settings": {"limit": 200, "cell": 80, "rescale": False},
        "data": {"path": "imagenette", "split": "val", "fingerprint": "ab12", "pictures": 500, "unreadable": ["val/broken.jpg"]},
        "models": [
            {"label": label, "source": "default", "name": label, "architecture": "resnet", "hash": "00ff", "parameters": 271_000,
             "plain": label != "embedded", "top1": 0.913} for label in MODELS
        ],
        "methods": [
            {"label": label, "name": label, "settings": {"samples": 128} if label == "rise" else {},
             "kind": "none" if label in DUMB else "gradient", "dumb": label in DUMB} for label in METHODS
        ],
        "metrics": metrics,
        "items": {
            "grids-2": {"n": 2, "cell": 80, "count": 200, "names": [names[:4]] * 200},
            "pictures": {"size": 160, "count": 50, "names": names, "classes": ["dog"] * 50},
        },
        "rows": rows, "pairs": pairs, "rankings": rankings, "sentences": ["grid-pointing and deletion rank the methods alike."],
    }  # fmt: skip


def cost() -> list[dict[str, Any]]:
    """What it took."""
    return [
        {"model": model, "method": method, "items": items, "seconds_a_map": 0.1 * i, "passes": i}
        for model in MODELS for i, method in enumerate(METHODS) for items in ("grids-2", "pictures")
    ]  # fmt: skip
