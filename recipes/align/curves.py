r"""What accuracy and localisation depend on: pictures seen, B, the rule for biases, anti-aliasing; a table and a figure.

    python recipes/align/curves.py --rows ROWS.json --teacher given --pictures PICTURES/measure/duts \
      --samples DATA/imagenet-samples --out curves

ROWS.json is a list of `{"group": "B", "label": "1.5", "options": {"b": …}}`, settings of `bcosify` for a network that has seen
nothing, or `{"group": "pictures seen", "label": "33,762", "model": FOLDER}`. What is in OUT.json is not measured again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import measure as m
import torch
from torch import Tensor

import torchbcos
from torchbcos.metrics import choose_grids
from torchbcos.zoo import Classifier

SHOWN = {
    "top1 224": "top-1 at 224 px, %",
    "grid smooth 15": "2×2 grid, over 15 px",
    "sum of sizes over logit": "Σ|contributions| / logit",
}


def opened(row: dict[str, Any], teacher: Classifier, photos: Tensor) -> Classifier:
    """The network of a row: saved, or converted now."""
    if "model" in row:
        return torchbcos.load(row["model"], deploy=False, device="cpu")
    made, _ = torchbcos.bcosify(teacher, example=photos, **row["options"])
    return made


def measured(
    classifier: Classifier, teacher: Classifier, paths: list[Path], masks_of: int, grids: int, samples: Path
) -> dict[str, float]:
    """Agreement, grids, masks and sums at 160 pixels; accuracy at 160 and 224."""
    size = 160
    pixels = m.pixels_of(paths, round(size / 0.875), size)
    ours, theirs = m.logits_of(classifier, pixels), m.logits_of(teacher, pixels)
    rows = choose_grids([theirs], theirs.argmax(1), 2, confidence=0.5, probability=["softmax"], limit=grids)
    some = slice(None, None, max(1, len(paths) // masks_of))
    found: dict[str, float] = m.agreement(ours, theirs) | m.on_grids(m.inherent(classifier), pixels, theirs.argmax(1), rows)
    found |= m.in_masks(
        m.inherent(classifier), pixels[some], ours.argmax(1)[some], m.masks_of(paths[some], round(size / 0.875), size)
    )
    found |= m.of_sums(classifier, pixels[some], ours.argmax(1)[some])
    for side in (160, 224):
        found |= m.of_samples(classifier, samples, side)
    return found


def drawn(done: list[dict[str, Any]], out: Path) -> None:
    """One column for each group, one row for each number."""
    groups = list(dict.fromkeys(row["group"] for row in done))
    widths = [max(3, sum(row["group"] == group for row in done)) for group in groups]
    size = (1.1 * sum(widths) + 1, 2.1 * len(SHOWN) + 0.6)
    figure, axes = plt.subplots(len(SHOWN), len(groups), figsize=size, sharey="row", squeeze=False, width_ratios=widths)
    for j, group in enumerate(groups):
        rows = [row for row in done if row["group"] == group]
        labels = [row["label"] for row in rows]
        numbers = all(label.replace(",", "").replace(".", "").isdigit() for label in labels)
        for i, (key, name) in enumerate(SHOWN.items()):
            axis, values = axes[i][j], [row[key] for row in rows]
            axis.plot(range(len(rows)), values, "o-" if numbers else "o", color="#0072b2")
            for x, value in enumerate(values):
                axis.annotate(f"{value:.3g}", (x, value), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
            axis.set_xticks(range(len(rows)), labels if i == len(SHOWN) - 1 else [""] * len(rows), fontsize=8)
            axis.set_xlim(-0.5, len(rows) - 0.5)
            axis.margins(y=0.25)
            axis.grid(axis="y", alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
            if j == 0:
                axis.set_ylabel(name, fontsize=9)
            if i == 0:
                axis.set_title(group, fontsize=10)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--pictures", type=Path, required=True, help="with masks beside it, as measure.py has them")
    parser.add_argument("--photos", type=Path, help="unlabelled, to convert with; else --pictures")
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--some", type=int, default=240)
    parser.add_argument("--grids", type=int, default=16)
    parser.add_argument("--explained", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True, help="OUT.json and OUT.png")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    kept = args.out.with_suffix(".json")
    done: dict[str, dict[str, Any]] = (
        {f"{row['group']}: {row['label']}": row for row in json.loads(kept.read_text("utf-8"))} if kept.exists() else {}
    )
    teacher = torchbcos.load(args.teacher, deploy=False, device="cpu")
    paths = sorted(path for path in args.pictures.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = paths[:: max(1, len(paths) // args.some)]
    photos = sorted((args.photos or args.pictures).iterdir())
    photos = photos[:: max(1, len(photos) // 64)][:64]
    wanted = json.loads(args.rows.read_text("utf-8"))
    for row in wanted:
        name = f"{row['group']}: {row['label']}"
        if name in done:
            continue
        classifier = opened(row, teacher, m.pixels_of(photos, 256, 224))
        done[name] = row | measured(classifier, teacher, paths, args.explained, args.grids, args.samples)
        print(name, {key: done[name][key] for key in SHOWN}, flush=True)
        kept.write_text(json.dumps(list(done.values()), indent=1, ensure_ascii=False) + "\n", "utf-8")
    drawn([done[f"{row['group']}: {row['label']}"] for row in wanted], args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
