"""Ordinary layers for plain twins: they name their biases and hold their gates.

With them the ordinary network has an explanation too: contributions of its input, plus the
contribution of every bias by name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.frozen import add_constant, current, parameter
from torchbcos.nn.layer import Layer, run_layer

__all__ = ["GELU", "Conv2d", "Hardswish", "Linear", "ReLU"]


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` whose bias is a named constant of explanations.

    >>> Conv2d(3, 4, 3)(torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 4, 6, 6])
    """

    channel_dim = 1

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, H', W')."""
        return run_layer(self, input)  # type: ignore[arg-type]

    def compute(self, x: Tensor) -> Tensor:
        """The convolution, then the bias."""
        if current() is None:
            out: Tensor = self._conv_forward(x, self.weight, self.bias)
            return out
        y = self._conv_forward(x, parameter(self.weight), None)
        return y if self.bias is None else add_constant(y, parameter(self.bias).reshape(-1, 1, 1), "bias")

    __fx_create_arg__ = Layer.__fx_create_arg__


class Linear(nn.Linear):
    """`torch.nn.Linear` whose bias is a named constant of explanations.

    >>> Linear(3, 4)(torch.rand(2, 3)).shape
    torch.Size([2, 4])
    """

    channel_dim = -1

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., D) to (..., O)."""
        return run_layer(self, input)  # type: ignore[arg-type]

    def compute(self, x: Tensor) -> Tensor:
        """The linear map, then the bias."""
        if current() is None:
            return F.linear(x, self.weight, self.bias)
        y = F.linear(x, parameter(self.weight))
        return y if self.bias is None else add_constant(y, parameter(self.bias), "bias")

    __fx_create_arg__ = Layer.__fx_create_arg__


class ReLU(Layer):
    """ReLU with a held gate.

    >>> ReLU()(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def compute(self, x: Tensor) -> Tensor:
        """`x · [x > 0]`."""
        return functional.relu(x)


class GELU(Layer):
    """Exact GELU with a held gate.

    >>> GELU()(torch.zeros(1))
    tensor([0.])
    """

    def compute(self, x: Tensor) -> Tensor:
        """`x · Φ(x)`."""
        return functional.gelu(x)


class Hardswish(Layer):
    """Hardswish with a held gate, in compiled code as well, where nobody sees `F.hardswish`.

    >>> Hardswish()(torch.tensor([-4.0, 3.0]))
    tensor([-0., 3.])
    """

    def compute(self, x: Tensor) -> Tensor:
        """`x · relu6(x + 3) / 6`."""
        return functional.hardswish(x)


torch.fx.wrap("run_layer")
