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
    figure, (top, loss) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for run, colour in zip(args.runs, COLOURS, strict=False):
        name, _, place = run.partition("=")
        with Path(place, "history.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("epoch")]
        judged = [(int(r["epoch"]), float(r["selection_top1"])) for r in rows if r.get("selection_top1")]
        if judged:  # a run that trains on everything has no such split
            x, y = zip(*judged, strict=True)
            top.plot(x, y, "o-", ms=3, color=colour, label=name)
        loss.plot([int(r["epoch"]) for r in rows], [float(r["loss"]) for r in rows], "-", color=colour, label=name)
    for axis, title in ((top, "top-1 on the selection split, %"), (loss, "training loss")):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    if top.lines:
        top.legend(frameon=False)
    else:
        top.remove()
    figure.savefig(args.out, dpi=110)
    print(args.out)


if __name__ == "__main__":
    main()
