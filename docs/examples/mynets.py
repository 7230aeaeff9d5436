"""Two small B-cos networks of one's own: `signal` for signals (N, C, L), `volume` for volumes (N, C, D, H, W)."""

import math

from torch import nn

from torchbcos import nn as bnn


def signal(num_classes: int, in_channels: int, width: int = 16) -> nn.Sequential:
    """Three stages, each half as long as the one before, for signals of about 50 steps and more."""
    layers: list[nn.Module] = []
    channels = in_channels
    for outputs in (width, 2 * width, 4 * width):
        layers += [bnn.BcosConv1d(channels, outputs, 7, padding=3), _norm(outputs), bnn.LowPass(2)]
        channels = outputs
    return nn.Sequential(*layers, bnn.BcosConv1d(channels, num_classes, 1), *_end(num_classes))


def volume(num_classes: int, in_channels: int, width: int = 8) -> nn.Sequential:
    """Three stages, each with half the depth, height and width, for volumes of about 16 voxels a side and more."""
    layers: list[nn.Module] = []
    channels = in_channels
    for outputs in (width, 2 * width, 4 * width):
        layers += [bnn.BcosConv3d(channels, outputs, 3, padding=1), _norm(outputs), bnn.LowPass(2)]
        channels = outputs
    return nn.Sequential(*layers, bnn.BcosConv3d(channels, num_classes, 1), *_end(num_classes))


def _norm(channels: int) -> nn.Module:
    """The batch norm of the B-cos papers: no mean and no bias, so that nothing but the input adds to a logit."""
    return bnn.BatchNorm(channels, centered=False, bias=False)


def _end(num_classes: int) -> list[nn.Module]:
    """The mean over space, and the fixed bias with which every class begins at the probability 1 / classes."""
    return [bnn.GlobalAveragePool(), bnn.Logits(bias=-math.log(max(1, num_classes - 1)))]
