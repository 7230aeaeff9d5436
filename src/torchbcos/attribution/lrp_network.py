"""What layer-wise relevance propagation needs of a network: a copy of its own, and a rule for every step."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import batchnorm, conv, pooling

__all__ = ["LINEAR", "Relevant", "relevant_copy"]

LINEAR = (conv._ConvNd, nn.Linear)
_MEANS = (pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd)
# classes whose insides zennit's composites have a rule for, or whose gradient is the rule (maxima, what only moves numbers)
_RULED = (
    *LINEAR, batchnorm.BatchNorm1d, batchnorm.BatchNorm2d, batchnorm.BatchNorm3d, *_MEANS, pooling._MaxPoolNd,
    pooling._AdaptiveMaxPoolNd, nn.ELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.LeakyReLU, nn.LogSigmoid,
    nn.PReLU, nn.ReLU, nn.RReLU, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softshrink, nn.Softsign,
    nn.Tanh, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
# operations outside such modules whose gradient passes relevance on as it is: they move numbers, choose them or leave them alone.
# A ReLU is among them: where it is 0, what follows gives no relevance.
_NAMES = """
    view reshape flatten unflatten ravel permute transpose swapaxes swapdims movedim moveaxis squeeze unsqueeze contiguous clone to
    type float double cpu cuda getitem select narrow split split_with_sizes tensor_split chunk unbind cat concat concatenate stack
    hstack vstack dstack channel_shuffle pixel_shuffle pixel_unshuffle flip fliplr flipud rot90 roll relu max_pool1d max_pool2d
    max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d dropout dropout1d dropout2d dropout3d feature_dropout
    alpha_dropout feature_alpha_dropout register_hook
"""
_MOVES = frozenset(_NAMES.split())
