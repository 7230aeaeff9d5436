"""Norms of converted networks where biases change: a bias grows with the length of what it is added to.

Shapes: N images, C channels, *S space, D features, G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import hold, mode, parameter
from torchbcos.functional.length import vector_length
from torchbcos.functional.norm import batch_statistics
from torchbcos.nn.bcosified import check_biases
from torchbcos.nn.layer import Layer, run_layer

__all__ = [
    "BcosifiedBatchNorm", "BcosifiedGroupNorm", "BcosifiedNorm", "BcosifiedPositionNorm", "BcosifiedShift", "BcosifiedTokenNorm",
]  # fmt: skip


class BcosifiedNorm(Layer):
    """What they share: `weight · x̂ + bias · ‖x̂‖ / unit`, where x̂ is what is normalised, and its length that of one position.

    Args:
        num_features: C or D.
        eps: added to the variance.
        affine: with a weight.
        bias: with a bias.
        biases: "norm", "keep" (a named constant) or "drop".
    """

    unit: Tensor

    def __init__(
        self, num_features: int, *, eps: float = 1e-5, affine: bool = True, bias: bool = True, biases: str = "norm"
    ) -> None:
        super().__init__()
        check_biases(biases)
        if num_features < 1:
            raise InputError(f"A norm needs num_features ≥ 1, not {num_features}.")
        self.num_features, self.eps, self.biases = num_features, eps, biases
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if bias and biases != "drop" else None
        self.register_buffer("unit", torch.tensor(num_features**0.5))
        self.act: nn.Module | None = None  # of norms that are followed by an activation in one module

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Weight one, bias zero, the unit of a fresh norm."""
        if self.weight is not None:
            self.weight.fill_(1.0)
        if self.bias is not None:
            self.bias.zero_()
        self.unit.fill_(self.num_features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the norm, a bias that is kept, and the activation that belongs to it."""
        y = run_layer(self, x)
        if self.bias is not None and self.biases == "keep":
            y = y + self._along(self.bias, y)
        found: Tensor = y if self.act is None else self.act(y)
        return found

    def normalised(self, x: Tensor) -> Tensor:
        """x̂, like x."""
        raise NotImplementedError

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output without its bias, and the lengths that a norm bias is multiplied by; None with another rule."""
        y, lengths = self.normalised(x), None
        if self.bias is not None and self.biases == "norm":
            lengths = vector_length(y, self.channel_dim, eps=0.0)
        return (y if self.weight is None else y * self._along(parameter(self.weight), y)), lengths

    def compute(self, x: Tensor) -> Tensor:
        """The norm with its norm bias."""
        y, lengths = self.parts(x)
        if self.bias is None or lengths is None:
            return y
        return y + self._along(parameter(self.bias), y) * (lengths / parameter(self.unit).to(y.dtype))

    def _along(self, values: Tensor, y: Tensor) -> Tensor:
        after = 0 if self.channel_dim < 0 else y.dim() - 2
        return values.to(y.dtype).reshape(-1, *[1] * after)

    def extra_repr(self) -> str:
        """Sizes and the rule of the bias."""
        rule = f"biases={self.biases!r}" if self.bias is not None else "no bias"
        return f"{self.num_features}, eps={self.eps:g}, affine={self.weight is not None}, {rule}"


class BcosifiedTokenNorm(BcosifiedNorm):
    """A converted layer norm over the last axis (..., D): the length of what it normalises is √D but for `eps`.

    So `bias · ‖x̂‖ / √D` is, to that epsilon, the bias itself.

    >>> BcosifiedTokenNorm(8)(torch.rand(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    channel_dim = -1

    def normalised(self, x: Tensor) -> Tensor:
        """Zero mean, unit variance over the last axis."""
        return functional.token_norm(x, eps=self.eps)


class BcosifiedPositionNorm(BcosifiedNorm):
    """A converted layer norm over the channels of every position (N, C, *S).

    >>> BcosifiedPositionNorm(8)(torch.rand(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def normalised(self, x: Tensor) -> Tensor:
        """Zero mean, unit variance over the channels."""
        return functional.position_norm(x, eps=self.eps)


class BcosifiedGroupNorm(BcosifiedNorm):
    """A converted group norm (N, C, *S); the length is that of all channels of a position.

    >>> BcosifiedGroupNorm(8, num_groups=2)(torch.rand(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(
        self, num_features: int, *, num_groups: int = 1, eps: float = 1e-5, affine: bool = True, bias: bool = True,
        biases: str = "norm",
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps=eps, affine=affine, bias=bias, biases=biases)
        self.num_groups = num_groups

    def normalised(self, x: Tensor) -> Tensor:
        """Zero mean, unit variance over groups of channels and space."""
        return functional.group_norm(x, self.num_groups, eps=self.eps)


class BcosifiedBatchNorm(BcosifiedNorm):
    """A converted batch norm (N, C, *S) or (N, C), without a mean: `x / sqrt(running_var + eps)` is what it normalises.

    The running mean belongs to the bias: `bias - mean · weight / sqrt(running_var + eps)` of the norm it came from. In training
    mode the variance is the batch's.

    >>> BcosifiedBatchNorm(8).eval()(torch.rand(2, 8)).shape
    torch.Size([2, 8])
    """

    running_var: Tensor

    def __init__(
        self, num_features: int, *, eps: float = 1e-5, affine: bool = True, bias: bool = True, biases: str = "norm",
        momentum: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps=eps, affine=affine, bias=bias, biases=biases)
        self.momentum = momentum
        self.register_buffer("running_var", torch.ones(num_features))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Also statistics of no batch."""
        super().reset_parameters()
        self.running_var.fill_(1.0)

    def normalised(self, x: Tensor) -> Tensor:
        """Unit variance a channel."""
        variance = self.running_var
        if self.training:
            dims = [0, *range(2, x.dim())]
            _, variance, _ = batch_statistics(hold(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x), dims)
            variance = variance.flatten()
            if not mode():
                with torch.no_grad():
                    self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        return x * (variance + self.eps).rsqrt().to(x.dtype).reshape(-1, *[1] * (x.dim() - 2))


class BcosifiedShift(BcosifiedNorm):
    """What a converted network has behind a module that added a bias of its own: `x + bias · ‖x‖ / unit`, no constant.

    Args:
        num_features: C or D; 1 where all channels have one bias.
        channel_dim: 1 (N, C, *S) or -1 (..., D): the axis along which the length is that of a vector.

    >>> BcosifiedShift(8)(torch.ones(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(self, num_features: int, channel_dim: int = 1) -> None:
        if channel_dim not in (1, -1):
            raise InputError(f"channel_dim is 1 or -1, not {channel_dim!r}.")
        super().__init__(num_features, eps=0.0, affine=False)
        self.channel_dim = channel_dim

    def normalised(self, x: Tensor) -> Tensor:
        """x itself: the module before it has normalised what it wanted to."""
        return x

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.num_features}, channel_dim={self.channel_dim}"
