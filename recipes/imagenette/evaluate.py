"""Measure an embedded model on Imagenette's `val`: once, at the end.

Top-1 over all pictures, the largest residual of 100 explanations, and 2×2 grid localisation:
four pictures of different classes in one grid; for each of its classes, the share of positive
contribution (smoothed over 15 px) that lies in that class's cell.

    python recipes/imagenette/evaluate.py --model src/torchbcos/zoo/embedded/imagenette --out runs/val.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import images, split_indices

import torchbcos
from torchbcos.functional import add_inverse


def encode(pictures: torch.Tensor, size: int) -> torch.Tensor:
    x = F.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True).float() / 255
    return add_inverse(x).contiguous(memory_format=torch.channels_last)


def localisation(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, grids: int, seed: int) -> np.ndarray:
    """Shares of own-cell evidence: four numbers a grid.

    As in the published protocol, the surest of the rightly classified pictures of each class come
    first, and every one has a probability above one half.
    """
    rng, size = np.random.default_rng(seed), x.shape[-1]
    with torch.no_grad():
        logits = torch.cat([model(x[i : i + 64]) for i in range(0, len(x), 64)])
    best, found = logits.max(1)
    order = best.argsort()  # the surest last: they are popped first
    sure = order[((found == y) & (best > 0))[order]]
    pools = {c: sure[y[sure] == c].tolist() for c in range(10)}
    scores = []
    for _ in range(grids):
        chosen = rng.choice([c for c in pools if pools[c]], 4, replace=False)
        cells = [x[pools[c].pop()] for c in chosen]
        grid = torch.cat([torch.cat(cells[:2], 2), torch.cat(cells[2:], 2)], 1)[None]
        e = torchbcos.explain(model, grid, [[int(c) for c in chosen]])
        maps = F.avg_pool2d(e.contributions[0][:, None], 15, 1, 7).clamp_min(0)
        cell = F.avg_pool2d(maps, size)[:, 0].flatten(1)
        scores += [float(cell[k, k] / cell[k].sum()) if cell[k].sum() > 0 else 0.0 for k in range(4)]
    return np.array(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--grids", type=int, default=100)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--held-out", action="store_true", help="the seeded tenth of train instead of val: for choices")
    args = parser.parse_args()
    classifier = torchbcos.load(args.model)
    pictures, y = images("train" if args.held_out else "val")
    if args.held_out:
        rows = split_indices(len(pictures))[1]
        pictures, y = pictures[rows], y[rows]
    right = 0
    with torch.no_grad():
        for i in range(0, len(pictures), 64):
            right += int((classifier.model(encode(pictures[i : i + 64], args.size)).argmax(1) == y[i : i + 64]).sum())
    some = torch.from_numpy(np.random.default_rng(1).permutation(len(pictures))[: 20 * args.grids])
    x = encode(pictures[some], args.size)
    scores = localisation(classifier.model, x, y[some], args.grids, seed=0)
    residual = float(torchbcos.explain(classifier.model, x[:100], batch_size=20).residual.abs().max())
    split = "the held-out tenth of train" if args.held_out else "all pictures of Imagenette val"
    result = {
        "top1": round(100 * right / len(pictures), 2), "measured": f"{split}, {len(pictures)} pictures, {args.size} px",
        "notes": {"localisation_2x2_median": round(float(np.median(scores)), 4),
                  "localisation_2x2_mean": round(float(scores.mean()), 4), "grids": args.grids, "max_residual": residual},
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
