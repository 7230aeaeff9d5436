"""A network of one's own for docs/how-to/own-model.md: any module made of torchbcos layers."""

from torch import nn

from torchbcos import nn as bnn


class Block(nn.Module):
    """Two B-cos layers and a way around them."""

    def __init__(self, width):
        super().__init__()
        self.conv = bnn.BcosConv2d(width, width, 3, padding=1)
        self.norm = bnn.BatchNorm(width, centered=False, bias=False)

    def forward(self, x):
        """Map (N, width, H, W) to the same shape."""
        return x + self.norm(self.conv(x))


class Net(nn.Module):
    """A stem, blocks, and one filter a class."""

    def __init__(self, num_classes, in_channels, width, depth):
        super().__init__()
        self.stem = bnn.BcosConv2d(in_channels, width, 3, padding=1)
        self.norm = bnn.BatchNorm(width, centered=False, bias=False)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = bnn.BcosConv2d(width, num_classes, 1)
        self.pool, self.logits = bnn.GlobalAveragePool(), bnn.Logits(bias=-1.0)

    def forward(self, x):
        """Map encoded pictures (N, in_channels, H, W) to logits (N, num_classes)."""
        x = self.norm(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.logits(self.pool(self.head(x)))


def build(num_classes, in_channels=6, width=16, depth=2):
    """What a recipe's `model`, and a saved card, name: "own_cnn:build"."""
    return Net(num_classes, in_channels, width, depth)
