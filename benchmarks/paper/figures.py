"""Draw docs/pictures/claims-*.png from claims.json, and from nothing else (needs the extra `bench`).

python benchmarks/paper/figures.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[2]
OUT, JSON = ROOT / "docs" / "pictures", Path(__file__).with_name("claims.json")
GREEN, RED, BLUE, GREY = "#0b6e4f", "#c1440e", "#3a5a98", "#7a7a7a"
Claim = dict[str, Any]


def bars(cells: list[dict[str, Any]]) -> list[list[float]]:
    """Lengths of the intervals below and above."""
    return [[c["value"] - c["low"] for c in cells], [c["high"] - c["value"] for c in cells]]


def tidy(axis: Any, title: str, x: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def sharpness(claim: Claim) -> Any:
    """(c) Two panels against B; networks with MaxOut are drawn apart."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for key, axis, title in (("pointing", axes[0], "3×3 grid pointing, median"), ("top1", axes[1], "test top-1, %")):
        rows = sorted((r for r in claim["rows"] if r["b"] is not None), key=lambda r: r["b"])
        cells = [r["cells"][key] for r in rows]
        b = [r["b"] for r in rows]
        axis.errorbar(b, [c["value"] for c in cells], bars(cells), fmt="o-", ms=4, capsize=3, color=GREEN, label="here")
        for row in claim["rows"]:
            if row["b"] is None:
                c, at = row["cells"][key], 1.0 if "B = 1" in row["label"] else 2.0
                shape = "^" if "MaxOut" in row["label"] else "x"
                axis.plot([at], [c["value"]], shape, color=BLUE, label=row["label"] if key == "pointing" else None)
        known = {
            row["b"] or (1.0 if "B = 1" in row["label"] else 2.0): row["cells"][key].get("published") for row in claim["rows"]
        }
        axis.plot(sorted(known), [known[b] for b in sorted(known)], "s--", ms=3, color=GREY, label="published")
        if key == "pointing":
            axis.axhline(1 / 9, color=RED, lw=0.8, ls=":", label="an even map")
        tidy(axis, title, "B")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def deletion(claim: Claim) -> Any:
    """(e) One curve a method."""
    figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    colours = dict(
        zip(
            (r["label"] for r in claim["rows"]),
            [GREEN, BLUE, "#6b8fd4", "#9a6fb0", RED, "#e0a030", "#b08060", GREY],
            strict=False,
        )
    )
    for row in claim["rows"]:
        at = [25 * i / (len(row["curve"]) - 1) for i in range(len(row["curve"]))]
        axis.plot(
            at, row["curve"], color=colours[row["label"]], lw=2.2 if row["label"] == "inherent" else 1.2, label=row["label"]
        )
    tidy(axis, "probability of the label, mean", "pixels removed, least important first, %")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def checkerboard(claim: Claim) -> Any:
    """(g) Mean spectra of the maps: what lies at periods of 2 and 4 pixels shows as dots."""
    figure, axes = plt.subplots(
        1, len(claim["rows"]), figsize=(3.6 * len(claim["rows"]), 3.2), layout="constrained", squeeze=False
    )
    spectra = [[[float(v) for v in line.split()] for line in row["spectrum"]] for row in claim["rows"]]
    ends = {"vmin": min(min(map(min, s)) for s in spectra), "vmax": max(max(map(max, s)) for s in spectra)}
    for axis, row, levels in zip(axes[0], claim["rows"], spectra, strict=True):
        shown = axis.imshow(levels, extent=(-0.5, 0.5, 0.5, -0.5), cmap="viridis", **ends)
        axis.set_title(row["label"], fontsize=10)
        axis.set_xlabel("cycles a pixel")
    figure.colorbar(shown, ax=axes[0].tolist(), label="power, dB over the mean")
    return figure


def accuracy(claim: Claim) -> Any:
    """(i) Differences to the twins."""
    rows = [row for row in claim["rows"] if row["cells"]["gap"]["value"] is not None][::-1]
    figure, axis = plt.subplots(figsize=(7, 0.6 + 0.35 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        gap = row["cells"]["gap"]
        axis.plot([gap["value"]], [place], "o", ms=5, color=GREEN if gap.get("low") is not None else GREY)
        if gap.get("low") is not None:
            axis.plot([gap["low"], gap["high"]], [place] * 2, color=GREEN)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows], fontsize=8)
    tidy(axis, "top-1 of the B-cos network minus that of its twin", "points")
    return figure


def main() -> None:
    claims = json.loads(JSON.read_text("utf-8"))["claims"]
    drawn: dict[str, tuple[str, Callable[[Claim], Any]]] = {
        "c": ("sharpness", sharpness), "e": ("deletion", deletion), "g": ("checkerboard", checkerboard),
        "i": ("accuracy", accuracy)}  # fmt: skip
    for letter, (name, draw) in drawn.items():
        if letter in claims and len(claims[letter]["rows"]) > (letter == "c"):
            draw(claims[letter]).savefig(OUT / f"claims-{name}.png", dpi=100, metadata={"Software": None})
            print(OUT / f"claims-{name}.png")


if __name__ == "__main__":
    main()
