"""ResNet, ResNeXt and Wide ResNet, for large and small pictures.

B-cos (arXiv 2306.10898, section 4): no activations, average pooling, uncentred batch norm
without bias, a 1×1 B-cos classifier before global pooling, a fixed logit bias. The plain twin
is the ordinary network (ReLU, max pooling, linear classifier after pooling).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos.models.blocks import Head, StochasticDepth, Style, check_depths, scale_widths
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network

__all__ = ["FAMILY", "ResNet", "ResNetSizes", "ResidualBlock", "build"]


@dataclass(frozen=True, kw_only=True)
class ResNetSizes:
    """What tells one ResNet from another.

    Attributes:
        depths: residual blocks in each stage.
        widths: channels of each stage before expansion.
        expansion: 1 for basic blocks, 4 for bottlenecks.
        groups, group_width: of the 3×3 convolutions of bottlenecks (ResNeXt: 32 and 4).
        small: a 3×3 stem without down-sampling, for pictures of about 32 px.
    """

    depths: Sequence[int]
    widths: Sequence[int] = (64, 128, 256, 512)
    expansion: int = 4
    groups: int = 1
    group_width: int = 64
    small: bool = False
    stem: int = 64


_SIZES = {
    "resnet18": ResNetSizes(depths=(2, 2, 2, 2), expansion=1),
    "resnet34": ResNetSizes(depths=(3, 4, 6, 3), expansion=1),
    "resnet50": ResNetSizes(depths=(3, 4, 6, 3)),
    "resnet101": ResNetSizes(depths=(3, 4, 23, 3)),
    "resnet152": ResNetSizes(depths=(3, 8, 36, 3)),
    "resnext50_32x4d": ResNetSizes(depths=(3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x8d": ResNetSizes(depths=(3, 4, 23, 3), groups=32, group_width=8),
    "wide_resnet50_2": ResNetSizes(depths=(3, 4, 6, 3), group_width=128),
    "wide_resnet101_2": ResNetSizes(depths=(3, 4, 23, 3), group_width=128),
} | {
    f"cifar10_resnet{6 * n + 2}": ResNetSizes(depths=(n,) * 3, widths=(16, 32, 64), expansion=1, small=True, stem=16)
    for n in (3, 5, 7, 9, 18)
}  # fmt: skip


class ResidualBlock(nn.Module):
    """Basic (two 3×3) or bottleneck (1×1, 3×3, 1×1) block with an identity or projected skip."""

    # of each pair the second alone reads the first's output: what `deploy` may fold
    adjacent = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(
        self, style: Style, sizes: ResNetSizes, inputs: int, width: int, stride: int, stochastic_depth: float
    ) -> None:  # fmt: skip
        super().__init__()
        outputs = width * sizes.expansion
        self.bottleneck = sizes.expansion > 1
        if self.bottleneck:
            inner = int(width * sizes.group_width / 64) * sizes.groups
            self.conv1, self.bn1 = style.conv(inputs, inner, 1), style.make_norm(inner)
            self.conv2 = style.conv(inner, inner, 3, stride, 1, groups=sizes.groups)
            self.bn2 = style.make_norm(inner)
            self.conv3, self.bn3 = style.conv(inner, outputs, 1), style.make_norm(outputs)
        else:
            self.conv1, self.bn1 = style.conv(inputs, width, 3, stride, 1), style.make_norm(width)
            self.conv2, self.bn2 = style.conv(width, outputs, 3, 1, 1), style.make_norm(outputs)
        self.act = style.activate()
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(style.conv(inputs, outputs, 1, stride), style.make_norm(outputs))
        self.drop_path = StochasticDepth(stochastic_depth) if stochastic_depth else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, H', W')."""
        y = self.act(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(self.act(y)))
        if self.drop_path is not None:
            y = self.drop_path(y)
        skip = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.act(y + skip)
        return out


class ResNet(Network):
    """A residual network over encoded pictures.

    Args:
        sizes: depths and widths.
        style: how layers are made.
        num_classes, in_channels: of the classifier and of the input (6: encoded RGB).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
        stochastic_depth: probability at the last block; grows linearly from 0.
    """

    classifier_name = "fc"
    adjacent = (("conv1", "bn1"),)

    def __init__(
        self,
        sizes: ResNetSizes,
        style: Style,
        *,
        num_classes: int = 1000,
        in_channels: int = 6,
        logit_bias: float | str | None = "auto",
        temperature: float | None = None,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        check_depths(sizes.depths, sizes.widths)
        self.in_channels, self.normalize = in_channels, style.make_normalize(in_channels)
        self.picture = (32, 32) if sizes.small else self.picture
        channels = sizes.stem
        self._make_stem(sizes, style, channels)
        total, done = sum(sizes.depths), 0
        info = []
        for i, (depth, width) in enumerate(zip(sizes.depths, sizes.widths, strict=True)):
            blocks = []
            for j in range(depth):
                rate = stochastic_depth * done / max(1, total - 1)
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(ResidualBlock(style, sizes, channels, width, stride, rate))
                channels, done = width * sizes.expansion, done + 1
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            info.append(FeatureInfo(f"layer{i + 1}", channels, (1 if sizes.small else 4) * 2**i))
        self.feature_info = tuple(info)
        self.head = Head(style, channels, num_classes, logit_bias=logit_bias, temperature=temperature)
        self.fc = self.head.make_classifier()
        self.logits = self.head.make_logits()

    def _make_stem(self, sizes: ResNetSizes, style: Style, channels: int) -> None:
        self.stem: nn.Module | None = None
        self.act = style.activate()
        if sizes.small:
            self.conv1, self.bn1 = style.conv(self.in_channels, channels, 3, 1, 1), style.make_norm(channels)
            self.pool: nn.Module = nn.Identity()
        elif style.antialias:
            half = max(1, channels // 2)
            self.stem = nn.Sequential(
                style.conv(self.in_channels, half, 3, 1, 1), style.make_norm(half), style.activate(), bnn.LowPass(2)
            )
            self.conv1, self.bn1 = style.conv(half, channels, 3, 1, 1), style.make_norm(channels)
            self.pool = bnn.LowPass(2)
        else:
            self.conv1, self.bn1 = style.conv(self.in_channels, channels, 7, 2, 3), style.make_norm(channels)
            self.pool = nn.MaxPool2d(3, 2, 1) if style.plain else style.pool(3, 2, 1)

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features (N, C, h, w) after every stage."""
        if self.stem is not None:
            x = self.stem(x)
        x = self.pool(self.act(self.bn1(self.conv1(x))))
        for info in self.feature_info:
            x = self.get_submodule(info.name)(x)
            yield x


def build(sizes: ResNetSizes, style: Style, *, width_factor: float = 1.0, **options: Any) -> ResNet:
    """A ResNet of these sizes, all its widths times `width_factor`."""
    stem, *widths = scale_widths((sizes.stem, *sizes.widths), width_factor)
    return ResNet(dataclasses.replace(sizes, widths=widths, stem=stem), style, **options)


FAMILY = Family(network=ResNet, build=build, sizes=_SIZES, classes={name: 10 for name, sizes in _SIZES.items() if sizes.small})
