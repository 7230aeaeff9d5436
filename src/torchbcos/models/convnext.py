"""ConvNeXt.

B-cos (arXiv 2306.10898, section 4): no activations, position norm (or uncentred batch norm)
without bias, a norm and a 1×1 B-cos classifier before global pooling. The plain twin has GELUs,
biases, and a linear classifier after pooling and norm.
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
from torchbcos._core.frozen import parameter
from torchbcos.models.blocks import Head, StochasticDepth, Style, check_depths, scale_widths
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network

__all__ = ["FAMILY", "POSITION_STYLE", "SIZES", "STYLES", "ConvNeXt", "ConvNeXtBlock", "ConvNeXtSizes", "build"]


@dataclass(frozen=True, kw_only=True)
class ConvNeXtSizes:
    """What tells one ConvNeXt from another.

    Attributes:
        depths: blocks of each stage.
        widths: channels of each stage.
        stochastic_depth: probability at the last block, if the caller sets none.
    """

    depths: Sequence[int] = (3, 3, 27, 3)
    widths: Sequence[int] = (96, 192, 384, 768)
    stochastic_depth: float = 0.1


_SIZES = {
    "convnext_atto": ConvNeXtSizes(depths=(2, 2, 6, 2), widths=(40, 80, 160, 320)),
    "convnext_tiny": ConvNeXtSizes(depths=(3, 3, 9, 3)),
    "convnext_small": ConvNeXtSizes(stochastic_depth=0.4),
    "convnext_base": ConvNeXtSizes(widths=(128, 256, 512, 1024), stochastic_depth=0.5),
    "convnext_large": ConvNeXtSizes(widths=(192, 384, 768, 1536), stochastic_depth=0.5),
}
SIZES = {name + end: sizes for name, sizes in _SIZES.items() for end in ("", "_bnu")}
POSITION_STYLE = Style(norm="position", norm_centered=True, norm_eps=1e-6)
STYLES = {name: Style() if name.endswith("_bnu") else POSITION_STYLE for name in SIZES}


class ConvNeXtBlock(nn.Module):
    """7×7 depth-wise convolution, norm, 1×1 to four times the channels and back; scaled, then added."""

    def __init__(self, style: Style, channels: int, layer_scale: float, stochastic_depth: float) -> None:
        super().__init__()
        bias = style.plain
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["0"] = style.conv(channels, channels, 7, 1, 3, groups=channels, bias=bias)
        layers["1"], layers["2"] = style.make_norm(channels), style.conv(channels, 4 * channels, 1, bias=bias)
        layers["act"], layers["3"] = style.activate(), style.conv(4 * channels, channels, 1, bias=bias)
        self.block = nn.Sequential(layers)
        self._scale = float(layer_scale)
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), self._scale))
        self.drop_path = StochasticDepth(stochastic_depth)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The scale of a fresh block; its layers have their own."""
        self.layer_scale.fill_(self._scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        out: Tensor = x + self.drop_path(_scale_channels(self.block(x), self.layer_scale))
        return out


class ConvNeXt(Network):
    """A ConvNeXt over encoded pictures.

    Args:
        sizes: depths and widths.
        style: how layers are made.
        num_classes, in_channels: of the classifier and of the input (6: encoded RGB).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
        stochastic_depth: probability at the last block, growing linearly from 0; None: that of the sizes.
        layer_scale: start value of the learned factors of the branches.
    """

    classifier_name = "classifier.1"

    def __init__(
        self,
        sizes: ConvNeXtSizes,
        style: Style,
        *,
        num_classes: int = 1000,
        in_channels: int = 6,
        logit_bias: float | str | None = "auto",
        temperature: float | None = None,
        stochastic_depth: float | None = None,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        check_depths(sizes.depths, sizes.widths)
        self.in_channels, self.normalize = in_channels, style.make_normalize(in_channels)
        self.smallest = 1 if style.antialias else 4 * 2 ** (len(sizes.depths) - 1)
        last = sizes.stochastic_depth if stochastic_depth is None else stochastic_depth
        layers: list[nn.Module] = [_make_stem(style, in_channels, sizes.widths[0]), style.make_norm(sizes.widths[0])]
        total, done, info = sum(sizes.depths), 0, []
        for i, (depth, width) in enumerate(zip(sizes.depths, sizes.widths, strict=True)):
            if i:
                layers.append(_make_downsample(style, sizes.widths[i - 1], width))
            rates = [last * (done + j) / max(1, total - 1) for j in range(depth)]
            info.append(FeatureInfo(f"features.{len(layers)}", width, 4 * 2**i))
            layers.append(nn.Sequential(*(ConvNeXtBlock(style, width, layer_scale, rate) for rate in rates)))
            done += depth
        self.features, self.feature_info = nn.Sequential(*layers), tuple(info)
        self.head = Head(style, sizes.widths[-1], num_classes, logit_bias=logit_bias, temperature=temperature)
        self.classifier = nn.Sequential(style.make_norm(sizes.widths[-1]), self.head.make_classifier())
        self.logits = self.head.make_logits()

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features (N, C, h, w) after every stage."""
        return self.run_children("features", x)

    def classify(self, x: Tensor) -> Tensor:
        """The norm, then the classifier."""
        if self.plain:  # the ordinary network pools before its norm
            x = x.mean((2, 3), keepdim=True)
        norm, classifier = self.classifier.children()
        return self.head.run(classifier, norm(x))


def _make_stem(style: Style, inputs: int, channels: int) -> nn.Module:
    """A 4×4 convolution of stride 4; with `antialias` two 3×3 layers, each followed by the low-pass."""
    if not style.antialias:
        return style.conv(inputs, channels, 4, 4, bias=style.plain)
    half = max(1, channels // 2)
    return nn.Sequential(
        style.conv(inputs, half, 3, 1, 1, bias=style.plain), style.make_norm(half), style.activate(), bnn.LowPass(2),
        style.conv(half, channels, 3, 1, 1, bias=style.plain), bnn.LowPass(2),
    )  # fmt: skip


def _make_downsample(style: Style, inputs: int, outputs: int) -> nn.Module:
    """Norm and a 2×2 convolution of stride 2; with `antialias` the low-pass and a 3×3, which keeps the centre."""
    kernel, padding = (3, 1) if style.antialias else (2, 0)
    return nn.Sequential(style.make_norm(inputs), style.conv(inputs, outputs, kernel, 2, padding, bias=style.plain))


def _scale_channels(x: Tensor, scale: Tensor) -> Tensor:
    """`x * scale`: linear in x, so nothing is held."""
    return x * parameter(scale)


# `parameter` asks for the frozen state: a traced network must ask when it runs, not when it is traced.
torch.fx.wrap("_scale_channels")


def build(sizes: ConvNeXtSizes, style: Style, *, width_factor: float = 1.0, **options: Any) -> ConvNeXt:
    """A ConvNeXt of these sizes, all its widths times `width_factor`."""
    return ConvNeXt(dataclasses.replace(sizes, widths=scale_widths(sizes.widths, width_factor)), style, **options)


FAMILY = Family(network=ConvNeXt, build=build, sizes=SIZES, styles=STYLES, activation="gelu")
