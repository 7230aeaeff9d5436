"""Networks as users write them: of classes and functions of their own, which no table knows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn


class Residual(nn.Module):
    """`x + f(x)`, which is no sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = bnn.BcosConv2d(width, width, 3, padding=1)
        self.norm = bnn.BatchNorm(width, centered=False, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x))


class Net(nn.Module):
    """Counts its calls, and masks with truth values, as own networks do."""

    mask: Tensor

    def __init__(self, num_classes: int = 2, in_channels: int = 6, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            bnn.BcosConv2d(in_channels, width, 3, padding=1), bnn.BatchNorm(width, centered=False, bias=False)
        )
        self.block = Residual(width)
        self.head = nn.Sequential(bnn.BcosConv2d(width, num_classes, 1), bnn.GlobalAveragePool(), bnn.Logits(bias=-1.0))
        self.register_buffer("mask", torch.arange(width) > 0)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.head(self.block(self.stem(x)) * self.mask[:, None, None])
        return out


class Fixed(nn.Module):
    """No parameters, and no arguments."""

    def forward(self, x: Tensor) -> Tensor:
        return bnn.GlobalAveragePool()(x)[:, :3] * 2


class Tricky(Net):
    """Reads a layer's output between two that a twin would fold into one."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem[0](x)
        out: Tensor = self.head(x + self.stem[1](x))
        return out


class Stubborn(Net):
    """Cannot be copied, so it has no twin."""

    def __deepcopy__(self, memo: object) -> Stubborn:
        raise TypeError("no copies")


class Sized(Net):
    """Needs an argument that it does not keep."""

    def __init__(self, width: int) -> None:
        super().__init__(width=width)


def small(num_classes: int, in_channels: int, width: int = 4) -> nn.Module:
    return Net(num_classes, in_channels, width)


def signal(num_classes: int) -> nn.Module:
    return nn.Sequential(bnn.BcosConv1d(4, 8, 5, padding=2), bnn.GlobalAveragePool(), bnn.BcosLinear(8, num_classes))


def other(num_classes: int) -> nn.Module:
    """Another network every time: what is built by chance cannot be saved."""
    net = Net(num_classes)
    net.head[2].bias = float(torch.rand(()))  # type: ignore[assignment]
    net.register_buffer("shift", torch.rand(1), persistent=False)
    return net


def lazy(num_classes: int) -> nn.Module:
    return nn.Sequential(bnn.BcosConv2d(6, 4, 3), nn.Flatten(), nn.LazyLinear(num_classes))
