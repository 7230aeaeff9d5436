"""Curves of runs: accuracy on the selection split, and training loss, an epoch at a time.

python recipes/trials/curves.py --out docs/pictures/cifar10.png "B-cos=runs/cifar-bcos" "plain=runs/cifar-plain"
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = ("#0b6e4f", "#c1440e", "#3a5a98", "#7a7a7a")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    runs: list[tuple[str, list[dict[str, str]]]] = []
    for run in args.runs:
        name, _, place = run.partition("=")
        with Path(place, "history.csv").open(newline="") as file:
            runs.append((name, [row for row in csv.DictReader(file) if row.get("epoch")]))
    titles = {"selection_top1": "top-1 on the selection split, %", "loss": "training loss"}
    shown = [key for key in titles if any(row.get(key) for _, rows in runs for row in rows)]  # some runs train on everything
    figure, axes = plt.subplots(1, len(shown), figsize=(4.5 * len(shown), 3.2), layout="constrained", squeeze=False)
    for axis, key in zip(axes[0], shown, strict=True):
        for (name, rows), colour in zip(runs, COLOURS, strict=False):
            points = [(int(row["epoch"]), float(row[key])) for row in rows if row.get(key)]
            axis.plot(*zip(*points, strict=True), "-" if key == "loss" else "o-", ms=3, color=colour, label=name)
        axis.set_title(titles[key], fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False)
    figure.savefig(args.out, dpi=110)
    print(args.out)


if __name__ == "__main__":
    main()
