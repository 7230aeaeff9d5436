"""Pictures of coloured squares and small networks that know the colours: comparisons of seconds, with every answer known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos.zoo import Classifier

__all__ = ["COLOURS", "Bcos", "Plain", "classifier", "folder", "picture", "plain_classifier"]

COLOURS = {"blue": (0, 0, 1), "cyan": (0, 1, 1), "green": (0, 1, 0), "red": (1, 0, 0), "yellow": (1, 1, 0)}
SIDE = 12


def picture(colour: Sequence[float], seed: int, side: int = SIDE) -> Image.Image:
    """A square of the colour on noise of dull colours, not in the middle."""
    generator = torch.Generator().manual_seed(seed)
    pixels = 0.35 + 0.3 * torch.rand(3, side, side, generator=generator)
    top, left = (int(v) for v in torch.randint(0, side // 2, (2,), generator=generator))
    square = torch.tensor(colour).view(3, 1, 1) * 0.9 + 0.05
    pixels[:, top : top + side // 2, left : left + side // 2] = square
    return Image.fromarray((255 * pixels).byte().permute(1, 2, 0).numpy())


def folder(place: Path, each: int = 3, colours: Sequence[str] = tuple(COLOURS), side: int = SIDE) -> Path:
    """A folder of pictures for every colour."""
    for k, name in enumerate(COLOURS):
        if name in colours:
            (place / name).mkdir(parents=True)
            for i in range(each):
                picture(COLOURS[name], 100 * k + i, side).save(place / name / f"{i}.png")
    return place


class Bcos(nn.Module):
    """A B-cos network in two halves, with noise in its weights so that no two methods agree by accident."""

    def __init__(self, classes: int = 5, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.stem = bnn.BcosConv2d(6, 8, 3, padding=1)
        self.last = bnn.BcosConv2d(8, classes, 1)
        self.pool = bnn.GlobalAveragePool()
        with torch.no_grad():
            self.stem.weight.copy_(torch.randn(self.stem.weight.shape, generator=generator))
            for i, colour in enumerate(COLOURS.values()):
                template = torch.tensor([*colour, *(1 - c for c in colour)]) - 0.5
                self.stem.weight[i] = template.view(6, 1, 1) + 0.1 * torch.randn(6, 3, 3, generator=generator)
            self.last.weight.copy_(0.05 * torch.randn(classes, 8, 1, 1, generator=generator))
            for k in range(min(classes, 5)):
                self.last.weight[k, k] += 1

    def forward_features(self, x: Tensor) -> Tensor:
        found: Tensor = self.stem(x)
        return found

    def forward_head(self, x: Tensor) -> Tensor:
        found: Tensor = self.pool(self.last(x))
        return 100 * found

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class Plain(nn.Module):
    """An ordinary network of RGB, or of grey pictures (which shades it cannot tell from colours)."""

    def __init__(self, classes: int = 5, channels: int = 3, seed: int = 0, side: int | None = None) -> None:
        super().__init__()
        self.side = side  # of pictures, the only one that it takes; None: any
        generator = torch.Generator().manual_seed(seed)
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)
        with torch.no_grad():
            self.stem.weight.copy_(0.02 * torch.randn(self.stem.weight.shape, generator=generator))
            self.stem.bias.zero_()
            self.head.weight.copy_(0.1 * torch.randn(classes, 8, generator=generator))
            for i, colour in enumerate(COLOURS.values()):
                value = 2 * torch.tensor(colour, dtype=torch.float32) - 1
                value = value if channels == 3 else value.sum(0, keepdim=True) * (1 + i / 10)
                self.stem.weight[i, :, 1, 1] += value
                self.stem.bias[i] = -0.5 * value.sum() - 0.7
                if i < classes:
                    self.head.weight[i, i] += 40
            self.head.bias.fill_(-0.5)

    def forward_features(self, x: Tensor) -> Tensor:
        if self.side is not None:
            assert x.shape[-1] == self.side, f"Input width ({x.shape[-1]}) does not match the model ({self.side})"
        return torch.relu(self.stem(x))

    def forward_head(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(x.mean((2, 3)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def classifier(seed: int = 0, names: Sequence[str] = tuple(COLOURS), side: int = SIDE, **options: Any) -> Classifier:
    """The B-cos network as a classifier of the colours."""
    return Classifier(
        Bcos(len(names), seed), class_names=names, preprocess={"resize": side, "crop": side, "encoding": "add_inverse"}, **options
    )


def plain_classifier(
    names: Sequence[str] = tuple(COLOURS), *, channels: int = 3, side: int = SIDE, only: bool = False, **preprocess: Any
) -> Classifier:
    """The ordinary network as a classifier of the colours; `only`: it takes pictures of that side and no others."""
    network = Plain(len(names), channels, side=side if only else None)
    return Classifier(
        network, class_names=names,
        preprocess={"resize": side, "crop": side, "encoding": "none", "raw_channels": channels, **preprocess},
    )  # fmt: skip
