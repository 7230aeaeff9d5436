"""An ordinary network of one's own for docs/how-to/any-network.md: nothing in it knows of torchbcos but the last lines.

python plain_net.py own.pth
"""

import sys

import torch
from torch import nn

from torchbcos import Classifier


class Block(nn.Module):
    """Convolution, batch norm and GELU, weighted by squeeze-and-excitation, and a way around them."""

    def __init__(self, width):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.squeeze, self.excite = nn.Linear(width, width // 4), nn.Linear(width // 4, width)

    def forward(self, x):
        """Map (N, width, H, W) to the same shape."""
        y = nn.functional.gelu(self.norm(self.conv(x)))
        gate = self.excite(self.squeeze(y.mean((2, 3))).relu()).sigmoid()
        return x + y * gate[:, :, None, None]


class Net(nn.Module):
    """A stem, two blocks, a linear classifier."""

    def __init__(self, classes=3, width=16):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, stride=4, padding=3)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        """Map normalised pictures (N, 3, H, W) to logits (N, classes)."""
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def build():
    """The network with what a picture goes through before it, and the names of its classes."""
    preprocess = {"resize": 72, "crop": 64, "encoding": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    return Classifier(Net(), preprocess=preprocess, class_names=["cat", "dog", "fox"], probability="softmax")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Net().state_dict(), sys.argv[1])  # in earnest: what your training wrote
