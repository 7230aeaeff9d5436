"""Layers of `torch.nn` that stand under another name here, or that have no place in a B-cos network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torchbcos._core.names import hint, quote, said

__all__ = ["INSTEAD", "missing"]


_NORM = "it is {} here, for any number of space axes"
_NO_ACTIVATION = "B-cos layers need no activation: they bend by themselves. ReLU and GELU are here for ordinary networks"
_TORCH = "take it from torch.nn: it works as it is"

INSTEAD: Mapping[str, str] = {
    **said("BatchNorm1d BatchNorm2d BatchNorm3d", _NORM.format("BatchNorm(C, centered=False, bias=False)")),
    **said("SyncBatchNorm", "it is BatchNorm(sync=True) here"),
    **said("InstanceNorm1d InstanceNorm2d InstanceNorm3d", _NORM.format("InstanceNorm")),
    **said("LayerNorm2d", "it is PositionNorm here"),  # as timm and torchvision call it
    **said("RMSNorm", "TokenNorm(centered=False) is nearest to it; its variance is about the mean"),
    **said("Conv1d Conv3d", "it is BcosConv1d, BcosConv2d or BcosConv3d here; of ordinary ones there are Conv2d and Linear"),
    **said("ConvTranspose1d ConvTranspose2d ConvTranspose3d Bilinear", "there is no B-cos layer of this kind"),
    **said("MaxPool1d MaxPool2d MaxPool3d", "LowPass(2) halves a map, and torch.nn.AvgPool2d pools; maxima are not linear"),
    **said("AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d", "GlobalAveragePool is the mean over all of space"),
    **said("AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d", "GlobalAveragePool is the mean; maxima are not linear"),
    **said("MultiheadAttention", "it is Attention(dim, heads) here, on (N, *S, D)"),
    **said("TransformerEncoderLayer TransformerEncoder Transformer", "build it of Attention, TokenNorm and BcosLinear"),
    **said("Sigmoid Tanh SiLU Mish ELU CELU SELU LeakyReLU PReLU ReLU6 Hardsigmoid Softplus GLU", _NO_ACTIVATION),
    **said("Softmax LogSoftmax", "logits stay logits: the card of a classifier says how they become probabilities"),
    **said("Sequential Module ModuleList ModuleDict Parameter Identity Flatten Unflatten AvgPool1d AvgPool2d AvgPool3d", _TORCH),
    **said("Dropout Dropout1d Dropout2d Dropout3d ZeroPad2d Upsample PixelShuffle", _TORCH),
    **said("BcosConv BcosConv2dWithScale", "it is BcosConv1d, BcosConv2d or BcosConv3d here"),
    **said("BcosConvTranspose2d", "there is no B-cos layer of this kind"),
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
