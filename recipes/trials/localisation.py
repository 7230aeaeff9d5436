"""Grid localisation and residuals of a model on a labelled split.

Four pictures of different classes form a grid; for each of its classes, the share of positive contribution (smoothed over 15
px) that lies in that class's cell. As in the published protocol, the surest of the rightly classified pictures of each
class come first, and every one has a probability above one half.

    python recipes/trials/localisation.py --model runs/imagenette/model --data ../shared/data/imagenette
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos.data import open_labelled
from torchbcos.metrics import compose_grids, grid_pointing


def localisation(model: nn.Module, x: Tensor, y: Tensor, logits: Tensor, grids: int, seed: int) -> np.ndarray:
    """Shares of own-cell evidence: four numbers a grid."""
    rng = np.random.default_rng(seed)
    best, found = logits.max(1)
    order = best.argsort()  # the surest last: they are popped first
    sure = order[((found == y) & (best > 0))[order]]
    pools = {c: sure[y[sure] == c].tolist() for c in sorted(set(y.tolist()))}
    scores: list[float] = []
    for _ in range(grids):
        chosen = rng.choice([c for c in pools if pools[c]], 4, replace=False)
        cells = [x[pools[c].pop()] for c in chosen]
        grid = compose_grids(torch.stack(cells)[None], 2)
        e = torchbcos.explain(model, grid, [[int(c) for c in chosen]])
        scores += grid_pointing(e.contributions[0], torch.arange(4), n=2, smooth=15).nan_to_num(0.0).tolist()
    return np.array(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--grids", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=2000, help="drawn from the split; grids are made of these")
    args = parser.parse_args()
    classifier = torchbcos.load(args.model)
    data = open_labelled(args.data)
    split = data.report or data.train
    rows = np.random.default_rng(1).permutation(len(split))[: args.pictures].tolist()
    x, y = torch.cat([classifier.preprocess(split.read(i)) for i in rows]), split.targets[rows]
    with torch.no_grad():
        logits = torch.cat([classifier.model(part) for part in x.split(64)])
    scores = localisation(classifier.model, x, y, logits, args.grids, seed=0)
    e = torchbcos.explain(classifier.model, x[:100], batch_size=20)
    result = {
        "model": args.model, "pictures": len(rows),
        "top1_of_these": round(100 * float((logits.argmax(1) == y).float().mean()), 2),
        "localisation_2x2_median": round(float(np.median(scores)), 4), "localisation_2x2_mean": round(float(scores.mean()), 4),
        "grids": args.grids, "max_residual": float(e.residual.abs().max()), "median_share": round(float(e.share.median()), 4),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
