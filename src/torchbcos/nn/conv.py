"""B-cos convolutions as modules, and fixed low-pass down-sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import InputError
from torchbcos._core.torch_private import hook_counts
from torchbcos.functional.conv import PADDING_MODES, Options, convolve, pad_widths, spread
from torchbcos.functional.numbers import check_epsilon, check_positive
from torchbcos.functional.transform import CONV_EPS
from torchbcos.nn.filters import FilterLayer, exponent, shown
from torchbcos.nn.layer import Layer

__all__ = ["BcosConv1d", "BcosConv2d", "BcosConv3d", "LowPass"]

_Size = int | Sequence[int]


class _BcosConv(FilterLayer):
    space = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size | str = 0,
        dilation: _Size = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        *,
        b: float = 2.0,
        max_out: int = 1,
        unit_norm: bool = True,
        learnable_b: bool = False,
        scale: float | None = None,
        eps: float = CONV_EPS,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, groups, max_out) < 1 or in_channels % groups or out_channels % groups:
            raise InputError(
                f"Channels must be positive and divisible by groups: {in_channels} in, {out_channels} out, "
                f"{groups} groups, max_out {max_out}."
            )
        if padding_mode not in PADDING_MODES:
            raise InputError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, not {padding_mode!r}.")
        self.in_channels, self.out_channels, self.groups, self.max_out = in_channels, out_channels, groups, max_out
        self.kernel_size = spread(kernel_size, self.space, "kernel_size")
        self.stride, self.dilation = spread(stride, self.space, "stride"), spread(dilation, self.space, "dilation")
        widths = pad_widths(padding, self.kernel_size, self.dilation)
        self.padding = padding if isinstance(padding, str) else tuple(left for left, _ in widths)
        if padding == "same" and any(s > 1 for s in self.stride):
            raise InputError("padding='same' needs stride 1: with a larger stride the output cannot keep the input's size.")
        self.padding_mode, self.unit_norm, self.scale, self.eps = padding_mode, unit_norm, scale, eps
        check_positive(scale, "scale")
        check_epsilon(eps)
        self.b, self._b = exponent(b, learnable_b), float(b)
        self.weight = nn.Parameter(torch.empty(out_channels * max_out, in_channels // groups, *self.kernel_size))
        self.reset_parameters()

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, C, *S) to (N, O, *S')."""
        options = Options(
            self.b, self.stride, self.padding, self.dilation, self.groups, self.padding_mode, self.max_out, self.unit_norm,
            self.scale, self.eps,
        )  # fmt: skip
        watched = torch.is_grad_enabled() and any(hook_counts(self))
        return convolve(x, self.weight, options, self.packed(), watched=watched)

    def extra_repr(self) -> str:
        """Sizes and what differs from the defaults."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}", f"b={shown(self.b)}"]
        for name, usual in (
            ("stride", (1,) * self.space), ("padding", (0,) * self.space), ("dilation", (1,) * self.space), ("groups", 1),
            ("padding_mode", "zeros"), ("max_out", 1), ("unit_norm", True), ("scale", None),
        ):  # fmt: skip
            if getattr(self, name) != usual:
                parts.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(parts)


class BcosConv1d(_BcosConv):
    """B-cos convolution over (N, C, L) or (C, L); arguments as `BcosConv2d`.

    >>> BcosConv1d(4, 8, 3, padding="same")(torch.randn(1, 4, 16)).shape
    torch.Size([1, 8, 16])
    """

    space = 1


class BcosConv2d(_BcosConv):
    """B-cos convolution over (N, C, H, W) or (C, H, W) (arXiv 2306.10898, eq. 3).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode:
            as in `torch.nn.Conv2d`, "same" and "valid" included. There is no bias.
        b: exponent B ≥ 1.
        max_out: M filters for each output, the largest counts.
        unit_norm: filters have unit norm; otherwise they are used as they are.
        learnable_b: train B with the weights; below 1 it counts as 1.
        scale: divide the output by this number (B-cos v1 used k·sqrt(C)/100).
        eps: added to the squared patch norm, inside the root (official: 1e-6). Patches dimmer than
            about 1e-3 are attenuated by it.

    Raises:
        InputError: an argument is out of range.

    >>> BcosConv2d(6, 8, 3, stride=2, padding=1)(torch.rand(1, 6, 8, 8)).shape
    torch.Size([1, 8, 4, 4])
    """

    space = 2


class BcosConv3d(_BcosConv):
    """B-cos convolution over (N, C, D, H, W) or (C, D, H, W); arguments as `BcosConv2d`.

    >>> BcosConv3d(2, 3, 3)(torch.rand(1, 2, 4, 4, 4)).shape
    torch.Size([1, 3, 2, 2, 2])
    """

    space = 3


class LowPass(Layer):
    """Fixed binomial low-pass followed by a stride: anti-aliased down-sampling (arXiv 2507.16761).

    >>> LowPass()(torch.rand(1, 3, 7, 7)).shape
    torch.Size([1, 3, 4, 4])
    """

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        spread(stride, 1, "stride")
        self.stride = stride

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, C, *S) to (N, C, *ceil(S / stride))."""
        return functional.low_pass(x, self.stride)

    def extra_repr(self) -> str:
        """The stride."""
        return f"stride={self.stride}"
