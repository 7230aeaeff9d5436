"""The six norms of the paper as modules, centred and uncentred, for any number of space axes.

Shapes: N images, C channels, *S space, G groups.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import InputError, shorten
from torchbcos._core.frozen import current, hold, mode, parameter
from torchbcos._core.numbers import positive_integer
from torchbcos._core.torch_private import hook_counts
from torchbcos.functional.norm import affine, batch_statistics, check_images, normalize, shift
from torchbcos.functional.numbers import check_epsilon, check_rate
from torchbcos.kernels.batchnorm import fused_batch_norm, uncentered_batch_norm
from torchbcos.kernels.lengths import overflow_shown
from torchbcos.kernels.usable import steps_fit
from torchbcos.nn.layer import Layer

__all__ = ["AllNorm", "BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "Norm", "PositionNorm", "TokenNorm"]


class Norm(Layer):
    """What all norms share: sizes, eps and the affine parameters.

    Args:
        num_features: C.
        eps: added to the variance.
        centered: subtract the mean. The variance is about the mean either way.
        affine: learn a weight (and a bias) for every channel.
        bias: with `affine`, learn a bias; it is a named constant of explanations.
    """

    parameters_per_norm: int | None = None  # None: one for every feature

    def __init__(
        self, num_features: int, *, eps: float = 1e-5, centered: bool = True, affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__()
        if positive_integer(num_features) is None:
            raise InputError(
                f"A norm needs num_features ≥ 1, a whole number of channels, not {shorten(repr(num_features), 80)}; space may "
                "have any size."
            )
        check_epsilon(eps)
        self.num_features, self.eps, self.centered = num_features, eps, centered
        size = self.parameters_per_norm or num_features
        self.weight = nn.Parameter(torch.ones(size)) if affine else None
        self.bias = nn.Parameter(torch.zeros(size)) if affine and bias else None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Weight one, bias zero, as a fresh norm has them."""
        if self.weight is not None:
            self.weight.fill_(1)
        if self.bias is not None:
            self.bias.zero_()

    def extra_repr(self) -> str:
        """Sizes and switches."""
        return (
            f"{self.num_features}, eps={self.eps:g}, centered={self.centered}, "
            f"affine={self.weight is not None}, bias={self.bias is not None}"
        )


class BatchNorm(Norm):
    """Statistics over images and positions for every channel; running ones in eval mode.

    Uncentred, it is the batch norm of the official networks: `x / sqrt(var + eps) · weight`. The
    running variance is then the biased one (torch's, for the centred norm, is not), as in the
    official code. The running mean (centred only) and the bias are named constants.

    Args:
        num_features, eps, centered, affine, bias: as in `Norm`.
        momentum: weight of the newest batch in the running statistics, 0 to 1; None averages all batches.
        sync: take statistics over all processes of `torch.distributed`. `SyncBatchNorm` conversion
            leaves this layer alone.

    >>> BatchNorm(8, centered=False, bias=False)(torch.randn(4, 8, 5, 5)).shape
    torch.Size([4, 8, 5, 5])
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, num_features: int, *, eps: float = 1e-5, centered: bool = True, affine: bool = True, bias: bool = True,
        momentum: float | None = 0.1, sync: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps=eps, centered=centered, affine=affine, bias=bias)
        check_rate(momentum, "momentum")
        self.momentum, self.sync = momentum, sync
        size = self.parameters_per_norm or num_features
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def axes(self, x: Tensor) -> list[int]:
        """The axes that statistics are taken over."""
        return [0, *range(2, x.dim())]

    def compute(self, x: Tensor) -> Tensor:
        """Normalise (N, C, *S)."""
        check_images(x, self.num_features)
        check_epsilon(self.eps)
        check_rate(self.momentum, "momentum")
        if self.native(x):
            if self.training:
                self.num_batches_tracked.add_(1)
            return fused_batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum or 0.0, self.eps
            )
        if self.training and self.fast(x):
            y, mean, var = uncentered_batch_norm(x, self.weight, self.eps, watched=any(hook_counts(self)))
            self.track(mean, var, x.numel() // self.num_features)
            return y if self.bias is None else affine(y, None, self.bias, 1)
        shape = [1, -1] + [1] * (x.dim() - 2)
        if not self.training:
            mean, var, label = self.running_mean.reshape(shape), self.running_var.reshape(shape), "running_mean"
        else:
            wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            mean, var, count = batch_statistics(hold(wide), self.axes(x), sync=self.sync)
            label = "batch_mean"
            if not mode():
                self.track(mean.detach(), var.detach(), count)
        if self.centered:
            x = shift(x, mean, label)
        if self.training:
            return affine(normalize(x, (), eps=self.eps, centered=False, var=var), self.weight, self.bias, 1)
        return affine(x * self.running_scale().reshape(shape).to(x.dtype), None, self.bias, 1)

    def alone(self) -> bool:
        """True where every channel has statistics of its own, of this process."""
        synchronised = self.sync and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        return self.parameters_per_norm is None and not synchronised

    def native(self, x: Tensor) -> bool:
        """True where torch's own batch norm is the same: centred, outside explanations."""
        several = not self.training or (self.momentum is not None and x.numel() > x.shape[1])
        return self.centered and several and self.alone() and not mode() and current() is None

    def fast(self, x: Tensor) -> bool:
        """True where an uncentred training step is one autograd step."""
        return not self.centered and self.alone() and steps_fit(x) and not mode()

    def running_scale(self) -> Tensor:
        """`weight / sqrt(running_var + eps)` (C,): what eval mode multiplies with."""
        inverse = overflow_shown(self.running_var + self.eps).rsqrt()
        return inverse if self.weight is None else inverse * parameter(self.weight)

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch."""
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1.0 / self.num_batches_tracked.to(var.dtype)
        if self.centered:
            self.running_mean.lerp_(mean.flatten().to(self.running_mean.dtype), rate)
            var = var * (count / max(1, count - 1))
        self.running_var.lerp_(var.flatten().to(self.running_var.dtype), rate)

    def reset_parameters(self) -> None:
        """Weight one, bias zero, statistics of no batch."""
        super().reset_parameters()
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()


class AllNorm(BatchNorm):
    """One mean and one variance for the whole batch: over images, channels and positions.

    >>> AllNorm(8)(torch.randn(4, 8, 5, 5)).shape
    torch.Size([4, 8, 5, 5])
    """

    parameters_per_norm = 1

    def axes(self, x: Tensor) -> list[int]:
        """All axes."""
        return list(range(x.dim()))


class LayerNorm(Norm):
    """Statistics over all channels and positions of an image: one mean and one variance an image, unlike `torch.nn.LayerNorm`.

    That of transformers, over the channels of each token, is `TokenNorm`; over those of each position of a map, `PositionNorm`.

    >>> LayerNorm(8)(torch.randn(4, 8, 5)).shape
    torch.Size([4, 8, 5])
    """

    def compute(self, x: Tensor) -> Tensor:
        """Normalise (N, C, *S)."""
        check_images(x, self.num_features)
        return functional.layer_norm(x, self.weight, self.bias, eps=self.eps, centered=self.centered)


class InstanceNorm(Norm):
    """Statistics over the positions of every channel of an image.

    >>> InstanceNorm(8)(torch.randn(4, 8, 5, 5)).shape
    torch.Size([4, 8, 5, 5])
    """

    def compute(self, x: Tensor) -> Tensor:
        """Normalise (N, C, *S)."""
        check_images(x, self.num_features)
        return functional.instance_norm(x, self.weight, self.bias, eps=self.eps, centered=self.centered)


class PositionNorm(Norm):
    """Statistics over the channels at every position.

    >>> PositionNorm(8)(torch.randn(4, 8, 5, 5)).shape
    torch.Size([4, 8, 5, 5])
    """

    def compute(self, x: Tensor) -> Tensor:
        """Normalise (N, C, *S)."""
        check_images(x, self.num_features)
        return functional.position_norm(x, self.weight, self.bias, eps=self.eps, centered=self.centered)


class GroupNorm(Norm):
    """Statistics over each group of channels and all positions of an image.

    Args:
        num_groups: G; divides `num_features`.
        num_features, eps, centered, affine, bias: as in `Norm`.

    Raises:
        InputError: `num_features` is not divisible by `num_groups`.

    >>> GroupNorm(2, 8)(torch.randn(4, 8, 5, 5)).shape
    torch.Size([4, 8, 5, 5])
    """

    def __init__(
        self, num_groups: int, num_features: int, *, eps: float = 1e-5, centered: bool = True, affine: bool = True,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps=eps, centered=centered, affine=affine, bias=bias)
        if positive_integer(num_groups) is None or num_features % num_groups:
            raise InputError(f"{num_features} channels cannot be divided into {num_groups} groups.")
        self.num_groups = num_groups

    def compute(self, x: Tensor) -> Tensor:
        """Normalise (N, C, *S)."""
        check_images(x, self.num_features)
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps, centered=self.centered)


class TokenNorm(Norm):
    """Statistics over the last axis (..., D): the layer norm of transformers.

    >>> TokenNorm(8)(torch.randn(4, 5, 8)).shape
    torch.Size([4, 5, 8])
    """

    channel_dim = -1

    def compute(self, x: Tensor) -> Tensor:
        """Normalise (..., D)."""
        if x.shape[-1] != self.num_features:
            first = x.dim() > 2 and x.shape[1] == self.num_features
            others = " Channels come second in it: PositionNorm is this norm for (N, C, *S)." if first else ""
            raise InputError(f"Expected (..., {self.num_features}), got shape {tuple(x.shape)}.{others}")
        return functional.token_norm(x, self.weight, self.bias, eps=self.eps, centered=self.centered)
