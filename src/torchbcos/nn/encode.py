"""Input encodings as modules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchbcos import functional
from torchbcos._core.errors import InputError, shorten
from torchbcos._core.frozen import add_constant
from torchbcos.nn.layer import Layer

__all__ = ["AddInverse", "Decode", "Normalize", "NormalizeEncoded"]

_DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class AddInverse(Layer):
    """Append `1 - x` along the channels: pictures in [0, 1] become the network's input.

    Inside a network the explained input is x, and the one is a constant of this layer: "inverse".

    >>> AddInverse()(torch.rand(2, 3, 4, 4)).shape
    torch.Size([2, 6, 4, 4])
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, C, *S) to (N, 2C, *S)."""
        return functional.add_inverse(x, self.dim)


class Normalize(Layer):
    """`(x - mean) / std`, a number a channel: what ordinary networks take instead of pixels.

    The numbers are those of `torchbcos.pictures.Preprocess.encode`, bit for bit. Inside a network the explained input is x; what
    the subtracted mean gives is a constant of this layer: "mean".

    Args:
        mean: a number a channel.
        std: a number above 0 a channel.
        dtype: of the output, or its name, "bfloat16", where a network computes in another than its pixels are in; None: as
            the input.

    Raises:
        InputError: they are not.

    >>> Normalize(mean=(0.5,), std=(0.25,))(torch.ones(1, 1, 2, 2)).unique()
    tensor([2.])
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, dtype: torch.dtype | str | None = None) -> None:
        super().__init__()
        self.dtype = None if dtype is None else str(dtype).removeprefix("torch.")
        if self.dtype not in (None, *_DTYPES):
            raise InputError(f"dtype is one of {', '.join(_DTYPES)}, not {shorten(repr(dtype), 80)}.")
        self.mean, self.std = _moments(mean, std)

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, C, *S) to the same shape.

        Raises:
            InputError: x has other channels.
        """
        if x.dim() < 2 or x.shape[1] != len(self.mean):
            raise InputError(f"Normalize has a mean and std for {len(self.mean)} channels; got x of shape {tuple(x.shape)}.")
        shape = (-1, *[1] * (x.dim() - 2))
        mean, std = x.new_tensor(self.mean).reshape(shape), x.new_tensor(self.std).reshape(shape)
        y = add_constant(x, -mean, "mean") / std
        return y if self.dtype is None else y.to(_DTYPES[self.dtype])

    def extra_repr(self) -> str:
        """Its arguments."""
        return f"mean={self.mean}, std={self.std}{f', dtype={self.dtype!r}' if self.dtype else ''}"


def _moments(mean: Sequence[float], std: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A mean and a standard deviation a channel."""
    means, stds = _numbers("mean", mean), _numbers("std", std)
    if len(means) != len(stds) or min(stds) <= 0:
        raise InputError(f"mean and std are as many numbers, std above 0; got {shorten(f'{means} and {stds}', 200)}.")
    return means, stds


def _numbers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """One finite number a channel."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise InputError(f"{name} is a finite number a channel, not {shorten(repr(values), 80)}.")
    return found


class Decode(Layer):
    """(N, 2C, *S) to (N, C, *S): `((1 - mean) x⁺ - mean x⁻) / std`, which of [x, 1 - x] is `(x - mean) / std`.

    The two halves of a pixel add up to 1, so that what the mean takes away is a part of each: there is no constant. It stands
    before a converted network whose first layer cannot take [x, 1 - x] itself.

    Args:
        mean, std: a number a channel.

    >>> Decode((0.5,), (0.25,))(torch.tensor([[[1.0], [0.0]]]))
    tensor([[[2.]]])
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))

    def compute(self, x: Tensor) -> Tensor:
        """A weighted difference."""
        return _decoded(x, self.mean, self.std)


class NormalizeEncoded(Layer):
    """[x, 1 - x] to [(x - mean) / std, (mean - x) / std]: what a six-channel network takes that was made of an ordinary one.

    `z = ((1 - mean) x⁺ - mean x⁻) / std`, and `-z`. Of a picture, whose two halves add up to 1, that is each of the six channels
    less its mean, (mean, 1 - mean), over its spread, (std, std), as B-cosification has it (Arya et al. 2024, arXiv 2411.00715).
    Written so, it is linear and leaves no constant.

    Args:
        mean: a number a channel of x.
        std: a number above 0 a channel of x.

    Raises:
        InputError: they are not; or the input has other channels.

    >>> NormalizeEncoded((0.5,), (0.25,))(torch.tensor([[[1.0], [0.0]]])).flatten()
    tensor([ 2., -2.])
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = _moments(mean, std)

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, 2C, *S) to the same shape."""
        if x.dim() < 2 or x.shape[1] != 2 * len(self.mean):
            raise InputError(
                f"NormalizeEncoded takes [x, 1 - x], {2 * len(self.mean)} channels; got x of shape {tuple(x.shape)}."
            )
        z = _decoded(x, self.mean, self.std)
        return torch.cat([z, -z], 1)

    def extra_repr(self) -> str:
        """Its arguments."""
        return f"mean={self.mean}, std={self.std}"


def _decoded(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`(x - mean) / std` of [x, 1 - x], without a constant."""
    shape, channels = (-1, *[1] * (x.dim() - 2)), len(mean)
    middle, spread = (x.new_tensor(values).reshape(shape) for values in (mean, std))
    return (x[:, :channels] * (1 - middle) - x[:, channels:] * middle) / spread
