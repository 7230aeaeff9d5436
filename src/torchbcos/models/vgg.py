"""VGG 11, 13, 16 and 19.

B-cos (arXiv 2306.10898, section 4): no activations, average pooling, a fully convolutional
classifier before global pooling. The plain twin is the ordinary network: ReLU, max pooling,
biases, and a classifier with dropout over a 7×7 map.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchbcos.models.blocks import Head, Style, check_depths, scale_widths
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network

__all__ = ["FAMILY", "SIZES", "STYLES", "VGG", "VGGSizes", "build"]


@dataclass(frozen=True, kw_only=True)
class VGGSizes:
    """What tells one VGG from another.

    Attributes:
        depths: 3×3 convolutions of each stage; a pooling by 2 ends each.
        widths: channels of each stage.
        hidden: channels of the two hidden layers of the classifier.
    """

    depths: Sequence[int]
    widths: Sequence[int] = (64, 128, 256, 512, 512)
    hidden: int = 4096


_SIZES = {
    "vgg11": VGGSizes(depths=(1, 1, 2, 2, 2)),
    "vgg13": VGGSizes(depths=(2, 2, 2, 2, 2)),
    "vgg16": VGGSizes(depths=(2, 2, 3, 3, 3)),
    "vgg19": VGGSizes(depths=(2, 2, 4, 4, 4)),
}
SIZES = {name + end: sizes for name, sizes in _SIZES.items() for end in ("", "_bnu")}
STYLES = {name: Style(norm="batch" if name.endswith("_bnu") else "none") for name in SIZES}


class VGG(Network):
    """A VGG over encoded pictures.

    Args:
        sizes: depths and widths.
        style: how layers are made.
        num_classes, in_channels: of the classifier and of the input (6: encoded RGB).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
    """

    # The number is the official one, whatever stands between the layers.
    classifier_name = "classifier.2"

    def __init__(
        self,
        sizes: VGGSizes,
        style: Style,
        *,
        num_classes: int = 1000,
        in_channels: int = 6,
        logit_bias: float | str | None = "auto",
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_depths(sizes.depths, sizes.widths)
        self.in_channels, self.normalize = in_channels, style.make_normalize(in_channels)
        self.smallest = 1 if style.antialias else 2 ** len(sizes.depths)
        self._make_features(sizes, style)
        self.head = Head(style, sizes.hidden, num_classes, logit_bias=logit_bias, temperature=temperature)
        self.classifier = nn.Sequential(_make_hidden(sizes, style))
        self.classifier.add_module("2", self.head.make_classifier())
        self.logits = self.head.make_logits()

    def _make_features(self, sizes: VGGSizes, style: Style) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels, index, info = self.in_channels, 0, []
        for stage, (depth, width) in enumerate(zip(sizes.depths, sizes.widths, strict=True)):
            for _ in range(depth):
                layers[f"{index}"] = style.conv(channels, width, 3, 1, 1, bias=style.plain)
                layers[f"{index + 1}"] = style.make_norm(width)
                if style.activation != "none":
                    layers[f"act{index}"] = style.activate()
                channels, index = width, index + 2
            layers[f"{index}"] = nn.MaxPool2d(2, 2) if style.plain and not style.antialias else style.pool(2, 2)
            info.append(FeatureInfo(f"features.{index}", channels, 2 ** (stage + 1)))
            index += 1
        self.features, self.feature_info = nn.Sequential(layers), tuple(info)

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features (N, C, h, w) after every pooling."""
        return self.run_children("features", x)

    def classify(self, x: Tensor) -> Tensor:
        """The hidden layers, then the last one."""
        *hidden, last = self.classifier.children()
        for layer in hidden:
            x = layer(x)
        return self.head.run(last, x)


def _make_hidden(sizes: VGGSizes, style: Style) -> OrderedDict[str, nn.Module]:
    """The hidden layers of the classifier, as convolutions."""
    features, hidden = sizes.widths[-1], sizes.hidden
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if not style.plain:
        for i, (inputs, kernel) in enumerate(((features, 7), (hidden, 1))):
            layers[f"{i}"] = style.conv(inputs, hidden, kernel, 1, kernel // 2)
            if style.activation != "none":
                layers[f"act{i}"] = style.activate()
        return layers
    layers["pool"] = nn.AdaptiveAvgPool2d(7)
    layers["0"] = style.conv(features, hidden, 7, bias=True)
    layers["act0"], layers["drop0"] = style.activate(), nn.Dropout()
    layers["1"] = style.conv(hidden, hidden, 1, bias=True)
    layers["act1"], layers["drop1"] = style.activate(), nn.Dropout()
    return layers


def build(sizes: VGGSizes, style: Style, *, width_factor: float = 1.0, **options: Any) -> VGG:
    """A VGG of these sizes, all its widths times `width_factor`."""
    hidden, *widths = scale_widths((sizes.hidden, *sizes.widths), width_factor)
    return VGG(dataclasses.replace(sizes, widths=widths, hidden=hidden), style, **options)


FAMILY = Family(network=VGG, build=build, sizes=SIZES, styles=STYLES)
