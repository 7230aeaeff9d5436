"""Small data and recipes for the tests of training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from torchbcos import nn as bnn
from torchbcos.training import Recipe, find_recipe

COLOURS = {"blue": (50, 60, 220), "green": (40, 200, 60), "red": (220, 40, 40)}


def squares(place: Path, count: int = 12, names: Mapping[str, tuple[int, int, int]] = COLOURS) -> Path:
    """Pictures of a coloured square on noise, a folder a colour."""
    rng = np.random.default_rng(0)
    for name, colour in names.items():
        (place / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 120, (20, 20, 3)).astype(np.uint8)
            y, x = rng.integers(2, 10, 2)
            pixels[y : y + 8, x : x + 8] = colour
            Image.fromarray(pixels).save(place / name / f"{i:02}.png")
    return place


def tiny(**values: Any) -> Recipe:
    """A recipe that takes a second."""
    base: dict[str, Any] = {
        "name": "tiny", "model": "cifar10_resnet20", "options": {}, "image_size": 16, "crop": "pad", "epochs": 2, "batch_size": 8,
        "workers": 0, "lr": 2e-3, "ema_decay": 0.9, "warmup_epochs": 0, "channels_last": False,
    }  # fmt: skip
    return find_recipe("folder").changed(**{**base, **values})


def patches(num_classes: int, in_channels: int) -> nn.Module:
    """A network of a thousand numbers, with norms."""
    return nn.Sequential(
        bnn.BcosConv2d(in_channels, 8, 3, padding=1), bnn.BatchNorm(8, centered=False),
        bnn.BcosConv2d(8, 8, 3, stride=2, padding=1), bnn.GlobalAveragePool(), bnn.BcosLinear(8, num_classes),
    )  # fmt: skip


def signal(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(bnn.BcosConv1d(in_channels, 4, 5, padding=2), bnn.GlobalAveragePool(), bnn.BcosLinear(4, num_classes))


def flat(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(bnn.BcosConv2d(in_channels, 4, 3, padding=1), bnn.GlobalAveragePool(), bnn.BcosLinear(4, num_classes))


def volume(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(bnn.BcosConv3d(in_channels, 4, 3, padding=1), bnn.GlobalAveragePool(), bnn.BcosLinear(4, num_classes))


def blind(num_classes: int, in_channels: int) -> nn.Module:
    """It shows no filters: nobody can know its axes."""
    return nn.Sequential(bnn.GlobalAveragePool(), bnn.BcosLinear(in_channels, num_classes))
