"""DenseNet-BC, for large and small pictures.

B-cos (arXiv 2306.10898, section 4): norm and 1×1, norm and 3×3 convolution without activations,
average pooling, a 1×1 B-cos classifier before global pooling. The plain twin has ReLUs after
its norms, max pooling and a linear classifier after pooling.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.models.blocks import Head, Style, scale_widths
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network

__all__ = ["FAMILY", "SIZES", "STYLES", "DenseBlock", "DenseLayer", "DenseNet", "DenseNetSizes", "build"]


@dataclass(frozen=True, kw_only=True)
class DenseNetSizes:
    """What tells one DenseNet from another.

    Attributes:
        depths: layers of each dense block.
        growth: channels that a layer adds.
        stem: channels before the first block.
        bottleneck: channels of the 1×1 convolution of a layer, as a multiple of `growth`.
        small: a 3×3 stem without norm and pooling, for pictures of about 32 px.
    """

    depths: Sequence[int]
    growth: int = 32
    stem: int = 64
    bottleneck: int = 4
    small: bool = False


SIZES = {
    "densenet121": DenseNetSizes(depths=(6, 12, 24, 16)),
    "densenet161": DenseNetSizes(depths=(6, 12, 36, 24), growth=48, stem=96),
    "densenet169": DenseNetSizes(depths=(6, 12, 32, 32)),
    "densenet201": DenseNetSizes(depths=(6, 12, 48, 32)),
} | {
    f"cifar10_densenet{depth}": DenseNetSizes(depths=((depth - 4) // 6,) * 3, growth=k, stem=2 * k, small=True)
    for depth, k in ((52, 12), (100, 12), (190, 40), (250, 24))
}  # fmt: skip
STYLES = {name: Style() for name in SIZES}


class DenseLayer(nn.Module):
    """The channels a layer adds: norm, 1×1 convolution, norm, 3×3 convolution."""

    # the norm alone reads the convolution's output: what `deploy` may fold
    adjacent = (("conv1", "norm2"),)

    def __init__(self, style: Style, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        inner = bottleneck * growth
        self.norm1, self.conv1 = style.make_norm(inputs), style.conv(inputs, inner, 1)
        self.norm2, self.conv2 = style.make_norm(inner), style.conv(inner, growth, 3, 1, 1)
        self.act = style.activate()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, growth, H, W)."""
        y = self.conv1(self.act(self.norm1(x)))
        out: Tensor = self.conv2(self.act(self.norm2(y)))
        return out


class DenseBlock(nn.Module):
    """Layers that each see the outputs of all layers before them."""

    def __init__(self, style: Style, depth: int, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        for i in range(depth):
            self.add_module(f"denselayer{i + 1}", DenseLayer(style, inputs + i * growth, growth, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + depth · growth, H, W)."""
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseNet(Network):
    """A densely connected network over encoded pictures.

    Args:
        sizes: depths and growth.
        style: how layers are made.
        num_classes, in_channels: of the classifier and of the input (6: encoded RGB).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
    """

    classifier_name = "classifier"

    def __init__(
        self,
        sizes: DenseNetSizes,
        style: Style,
        *,
        num_classes: int = 1000,
        in_channels: int = 6,
        logit_bias: float | str | None = "auto",
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        if not sizes.depths or min(sizes.depths) < 1:
            raise InputError(f"depths must be positive, not {list(sizes.depths)}.")
        self.in_channels, self.normalize = in_channels, style.make_normalize(in_channels)
        self.picture = (32, 32) if sizes.small else self.picture
        if not style.antialias:  # what is left after the stem is halved between the blocks
            halvings = 2 ** (len(sizes.depths) - 1)
            self.smallest = halvings if sizes.small else 4 * halvings - 3
        layers, channels, info = _make_stem(sizes, style, in_channels), sizes.stem, []
        for i, depth in enumerate(sizes.depths, 1):
            layers[f"denseblock{i}"] = DenseBlock(style, depth, channels, sizes.growth, sizes.bottleneck)
            channels += depth * sizes.growth
            info.append(FeatureInfo(f"features.denseblock{i}", channels, (1 if sizes.small else 4) * 2 ** (i - 1)))
            if i < len(sizes.depths):
                layers[f"transition{i}"] = _make_transition(style, channels)
                channels //= 2
        layers["norm5"] = style.make_norm(channels)
        info[-1] = dataclasses.replace(info[-1], name="features.norm5")
        self.features, self.feature_info = nn.Sequential(layers), tuple(info)
        self.act = style.activate()
        self.head = Head(style, channels, num_classes, logit_bias=logit_bias, temperature=temperature)
        self.classifier = self.head.make_classifier()
        self.logits = self.head.make_logits()

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features (N, C, h, w) after every dense block (the last: after its norm)."""
        return self.run_children("features", x)

    def classify(self, x: Tensor) -> Tensor:
        """The activation of the last norm, then the classifier."""
        return self.head.run(self.classifier, self.act(x))


def _make_stem(sizes: DenseNetSizes, style: Style, inputs: int) -> OrderedDict[str, nn.Module]:
    """The layers before the first block, by name."""
    channels, half = sizes.stem, max(1, sizes.stem // 2)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if sizes.small:
        layers["conv0"] = style.conv(inputs, channels, 3, 1, 1)
        return layers
    if style.antialias:  # the 7×7 layer becomes two 3×3 layers, each with its low-pass
        layers["stem"] = nn.Sequential(style.conv(inputs, half, 3, 1, 1), style.make_norm(half), style.activate(), bnn.LowPass(2))
        layers["conv0"] = style.conv(half, channels, 3, 1, 1)
    else:
        layers["conv0"] = style.conv(inputs, channels, 7, 2, 3)
    layers["norm0"], layers["act0"] = style.make_norm(channels), style.activate()
    max_pool = style.plain and not style.antialias
    layers["pool0"] = nn.MaxPool2d(3, 2, 1) if max_pool else style.pool(3, 2, 1)
    return layers


def _make_transition(style: Style, channels: int) -> nn.Module:
    """Norm, 1×1 convolution to half the channels, pooling by 2."""
    return nn.Sequential(
        OrderedDict(
            norm=style.make_norm(channels), act=style.activate(), conv=style.conv(channels, channels // 2, 1),
            pool=style.pool(2, 2),
        )
    )  # fmt: skip


def build(sizes: DenseNetSizes, style: Style, *, width_factor: float = 1.0, **options: Any) -> DenseNet:
    """A DenseNet of these sizes, stem and growth times `width_factor`."""
    (stem,), (growth,) = scale_widths((sizes.stem,), width_factor, least=2), scale_widths((sizes.growth,), width_factor)
    return DenseNet(dataclasses.replace(sizes, stem=stem, growth=growth), style, **options)


FAMILY = Family(
    network=DenseNet, build=build, sizes=SIZES, styles=STYLES,
    classes={name: 10 for name, sizes in SIZES.items() if sizes.small},
)  # fmt: skip
