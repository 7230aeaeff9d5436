"""What both recipes of this folder share: training a surface network, and how well scores tell two kinds apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import functional
from torchbcos.models.surface import SurfaceViT

EPOCHS, BATCH, LR = 12, 16, 1e-3


def trained(x: Tensor, y: Tensor, *, classes: int, seed: int = 0, name: str = "surface_vit_nano") -> SurfaceViT:
    """A network that learned features (N, F, V) with classes (N,): AdamW, cosine, binary cross-entropy."""
    torch.manual_seed(seed)
    model = torchbcos.create_model(name, num_classes=classes, in_channels=2 * x.shape[1])
    assert isinstance(model, SurfaceViT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-4)
    steps = EPOCHS * (len(x) // BATCH)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * step / steps)) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    targets = nn.functional.one_hot(y, classes).float()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            loss = nn.functional.binary_cross_entropy_with_logits(model(functional.add_inverse(x[rows])), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def predicted(model: nn.Module, x: Tensor) -> Tensor:
    """(N,) the most probable class of features (N, F, V)."""
    with torch.no_grad():
        return torch.cat([model(functional.add_inverse(x[i : i + 50])).argmax(1) for i in range(0, len(x), 50)])


def balanced(found: Tensor, y: Tensor) -> float:
    """Accuracy, each class counting alike."""
    return float(torch.stack([(found[y == c] == c).double().mean() for c in y.unique()]).mean())


def auc(scores: Tensor, positive: Tensor) -> float:
    """How often a positive one has the higher score; ties count half."""
    _, place, times = scores.double().unique(return_inverse=True, return_counts=True)
    mean = (times.cumsum(0) - (times - 1) / 2)[place]  # ranks; of equal scores their mean
    count = int(positive.sum())
    return float((mean[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))
