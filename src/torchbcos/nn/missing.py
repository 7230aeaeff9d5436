"""Layers of `torch.nn` that stand under another name here, or that have no place in a B-cos network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torchbcos._core.names import hint, quote

__all__ = ["INSTEAD", "missing"]


def _all(names: str, sentence: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), sentence)


_NORM = "it is {} here, for any number of space axes"
_NO_ACTIVATION = "B-cos layers need no activation: they bend by themselves. ReLU and GELU are here for ordinary networks"
_TORCH = "take it from torch.nn: it works as it is"

INSTEAD: Mapping[str, str] = {
    **_all("BatchNorm1d BatchNorm2d BatchNorm3d", _NORM.format("BatchNorm(C, centered=False, bias=False)")),
    **_all("SyncBatchNorm", "it is BatchNorm(sync=True) here"),
    **_all("InstanceNorm1d InstanceNorm2d InstanceNorm3d", _NORM.format("InstanceNorm")),
    **_all("LayerNorm2d", "it is PositionNorm here"),  # as timm and torchvision call it
    **_all("RMSNorm", "TokenNorm(centered=False) is nearest to it; its variance is about the mean"),
    **_all("Conv1d Conv3d", "it is BcosConv1d, BcosConv2d or BcosConv3d here; of ordinary ones there are Conv2d and Linear"),
    **_all("ConvTranspose1d ConvTranspose2d ConvTranspose3d Bilinear", "there is no B-cos layer of this kind"),
    **_all("MaxPool1d MaxPool2d MaxPool3d", "LowPass(2) halves a map, and torch.nn.AvgPool2d pools; maxima are not linear"),
    **_all("AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d", "GlobalAveragePool is the mean over all of space"),
    **_all("AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d", "GlobalAveragePool is the mean; maxima are not linear"),
    **_all("MultiheadAttention", "it is Attention(dim, heads) here, on (N, *S, D)"),
    **_all("TransformerEncoderLayer TransformerEncoder Transformer", "build it of Attention, TokenNorm and BcosLinear"),
    **_all("Sigmoid Tanh SiLU Mish ELU CELU SELU LeakyReLU PReLU ReLU6 Hardswish Hardsigmoid Softplus GLU", _NO_ACTIVATION),
    **_all("Softmax LogSoftmax", "logits stay logits: the card of a classifier says how they become probabilities"),
    **_all("Sequential Module ModuleList ModuleDict Parameter Identity Flatten Unflatten AvgPool1d AvgPool2d AvgPool3d", _TORCH),
    **_all("Dropout Dropout1d Dropout2d Dropout3d ZeroPad2d Upsample PixelShuffle", _TORCH),
    **_all("BcosConv BcosConv2dWithScale", "it is BcosConv1d, BcosConv2d or BcosConv3d here"),
    **_all("BcosConvTranspose2d", "there is no B-cos layer of this kind"),
}  # fmt: skip


def missing(name: str, known: Iterable[str]) -> str:
    """That `torchbcos.nn` has no such layer, and what stands in its place.

    >>> missing("BatchNorm2d", [])
    "torchbcos.nn has no 'BatchNorm2d': it is BatchNorm(C, centered=False, bias=False) here, for any number of space axes."
    """
    instead = INSTEAD.get(name)
    if instead is None and re.fullmatch(r"Lazy\w+", name):
        instead = INSTEAD.get(name.removeprefix("Lazy"), "layers are not lazy here: give the sizes")
    return f"torchbcos.nn has no {quote(name)}{f': {instead}.' if instead else '.' + hint(name, known)}"
