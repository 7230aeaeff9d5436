"""Small networks for methods of attribution: convolutions and transformers in float64, with pictures for them."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from torchbcos import nn as bnn

__all__ = ["Blocks", "Sequence", "bcos", "pictures", "plain"]


def plain(classes: int = 4) -> nn.Sequential:
    """A small ordinary network in float64: global pooling, a linear classifier."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU(inplace=True))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)).double().eval()


def bcos(classes: int = 4) -> nn.Sequential:
    """A small B-cos network without constants: its head is a convolution before the pooling."""
    torch.manual_seed(0)
    layers = [bnn.BcosConv2d(6, 8, 3), bnn.BcosConv2d(8, 7, 3, 2), bnn.BcosConv2d(7, classes, 1)]
    return nn.Sequential(*layers, bnn.GlobalAveragePool()).double().eval()


def pictures(n: int = 3, channels: int = 3, size: tuple[int, int] = (9, 11)) -> Tensor:
    x = torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x if channels == 3 else torch.cat([x, 1 - x], 1)


class Blocks(nn.Module):
    """A transformer of attention written out, with a class token or the mean over tokens."""

    def __init__(self, token: bool, extra: int = 0, depth: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.first = nn.Parameter(torch.randn(1, extra + token, 8))
        self.blocks = nn.ModuleList(
            [torchvision.models.vision_transformer.EncoderBlock(2, 8, 16, 0.0, 0.0) for _ in range(depth)]
        )
        self.norm, self.head, self.token = nn.LayerNorm(8), nn.Linear(8, 4), token

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0] if self.token else x.mean(1))


class Sequence(nn.Module):
    """torch's own encoder, tokens before images or after them, of signals, pictures or volumes."""

    def __init__(self, axes: int, first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = [nn.Conv1d, nn.Conv2d, nn.Conv3d][axes - 1](3, 8, 4, 4)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=not first, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.token, self.head, self.first = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, 4), first

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = self.encoder(x.transpose(0, 1)).transpose(0, 1) if self.first else self.encoder(x)
        return self.head(x[:, 0])
