"""ConvNeXt.

B-cos (arXiv 2306.10898, section 4): no activations, position norm (or uncentred batch norm)
without bias, a norm and a 1×1 B-cos classifier before global pooling. The plain twin has GELUs,
biases, and a linear classifier after pooling and norm.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import parameter
from torchbcos.models.blocks import FeatureInfo, Head, StochasticDepth, Style, check_input, like
from torchbcos.models.vgg import check_size


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
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), float(layer_scale)))
        self.drop_path = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        out: Tensor = x + self.drop_path(scale_channels(self.block(x), self.layer_scale))
        return out


class ConvNeXt(nn.Module):
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
        if len(sizes.depths) != len(sizes.widths) or min(sizes.depths) < 1:
            raise InputError(f"depths {list(sizes.depths)} and widths {list(sizes.widths)} must be equally many and positive.")
        self.in_channels = in_channels
        self.smallest = 1 if style.antialias else 4 * 2 ** (len(sizes.depths) - 1)
        last = sizes.stochastic_depth if stochastic_depth is None else stochastic_depth
        layers: list[nn.Module] = [make_stem(style, in_channels, sizes.widths[0]), style.make_norm(sizes.widths[0])]
        total, done, info = sum(sizes.depths), 0, []
        for i, (depth, width) in enumerate(zip(sizes.depths, sizes.widths, strict=True)):
            if i:
                layers.append(make_downsample(style, sizes.widths[i - 1], width))
            rates = [last * (done + j) / max(1, total - 1) for j in range(depth)]
            info.append(FeatureInfo(f"features.{len(layers)}", width, 4 * 2**i))
            layers.append(nn.Sequential(*(ConvNeXtBlock(style, width, layer_scale, rate) for rate in rates)))
            done += depth
        self.features, self.feature_info = nn.Sequential(*layers), tuple(info)
        self.head = Head(style, sizes.widths[-1], num_classes, logit_bias=logit_bias, temperature=temperature)
        self.classifier = nn.Sequential(style.make_norm(sizes.widths[-1]), self.head.make_classifier())
        self.logits = self.head.make_logits()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.head.num_classes

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The features after every stage, as `feature_info` describes them."""
        check_input(x, self.in_channels)
        check_size(x, self.smallest)
        ends, stages = {info.name for info in self.feature_info}, []
        for name, layer in self.features.named_children():
            x = layer(x)
            if f"features.{name}" in ends:
                stages.append(x)
        return stages

    def forward_features(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the last feature map (N, F, h, w)."""
        return self.forward_stages(x)[-1]

    def forward_head(self, x: Tensor) -> Tensor:
        """Map the last feature map to logits (N, classes)."""
        if self.head.style.plain:  # the ordinary network pools first
            x = x.mean((2, 3), keepdim=True)
        norm, classifier = self.classifier.children()
        return self.head.run(classifier, self.logits, norm(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map encoded pictures (N, C, H, W) to logits (N, classes)."""
        return self.forward_head(self.forward_features(x))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a fresh one; logit bias and class names follow."""
        self.head = self.head.resized(num_classes)
        self.classifier[1] = like(self.head.make_classifier(), self.classifier[1])
        self.logits = self.head.make_logits().train(self.training)
        self.class_names: tuple[str, ...] | None = None


def make_stem(style: Style, inputs: int, channels: int) -> nn.Module:
    """A 4×4 convolution of stride 4; with `antialias` two 3×3 layers, each followed by the low-pass."""
    if not style.antialias:
        return style.conv(inputs, channels, 4, 4, bias=style.plain)
    half = max(1, channels // 2)
    return nn.Sequential(
        style.conv(inputs, half, 3, 1, 1, bias=style.plain), style.make_norm(half), style.activate(), bnn.LowPass(2),
        style.conv(half, channels, 3, 1, 1, bias=style.plain), bnn.LowPass(2),
    )  # fmt: skip


def make_downsample(style: Style, inputs: int, outputs: int) -> nn.Module:
    """Norm and a 2×2 convolution of stride 2; with `antialias` the low-pass and a 3×3, which keeps the centre."""
    kernel, padding = (3, 1) if style.antialias else (2, 0)
    return nn.Sequential(style.make_norm(inputs), style.conv(inputs, outputs, kernel, 2, padding, bias=style.plain))


def scale_channels(x: Tensor, scale: Tensor) -> Tensor:
    """`x * scale`: linear in x, so nothing is held."""
    return x * parameter(scale)


torch.fx.wrap("check_input")
torch.fx.wrap("check_size")
torch.fx.wrap("scale_channels")


def build(sizes: ConvNeXtSizes, style: Style, *, width_factor: float = 1.0, **options: object) -> ConvNeXt:
    """A ConvNeXt of these sizes, all its widths times `width_factor`."""
    if not width_factor > 0:
        raise InputError(f"width_factor must be positive, not {width_factor!r}.")
    widths = tuple(max(1, round(w * width_factor)) for w in sizes.widths)
    return ConvNeXt(dataclasses.replace(sizes, widths=widths), style, **options)  # type: ignore[arg-type]
