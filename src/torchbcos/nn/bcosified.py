"""Layers that a converted network has in place of its own: the same weights under the same names, and a rule for the bias.

Shapes: N images, C channels in, O channels out, *S space, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import parameter
from torchbcos._core.names import hint
from torchbcos.functional.conv import check_conv, check_extent, pad, pad_widths, spread
from torchbcos.functional.length import patch_length, vector_length
from torchbcos.functional.transform import CONV_EPS, COSINE_EPS, LINEAR_EPS
from torchbcos.kernels.biased import biased, channel_squares, trains
from torchbcos.kernels.converted import converted
from torchbcos.kernels.geometry import Geometry
from torchbcos.kernels.lengths import overflow_shown
from torchbcos.kernels.patches import patch_sums
from torchbcos.kernels.usable import steps_fit
from torchbcos.nn.conv import BcosConv1d, BcosConv2d, BcosConv3d
from torchbcos.nn.filters import FilterLayer
from torchbcos.nn.layer import run_layer
from torchbcos.nn.linear import BcosLinear

__all__ = ["BIASES", "BcosifiedConv1d", "BcosifiedConv2d", "BcosifiedConv3d", "BcosifiedLinear", "Biased", "check_biases"]

BIASES = ("norm", "keep", "drop")
_Size = int | Sequence[int]


def check_biases(biases: str) -> None:
    """Raise InputError unless `biases` is one of the three rules."""
    if biases not in BIASES:
        raise InputError(f"biases is one of {', '.join(map(repr, BIASES))}, not {biases!r}.{hint(str(biases), BIASES)}")


class Biased(FilterLayer):
    """What the converted layers share: a bias by one of three rules, and a gain where filters have unit norm.

    Attributes:
        biases: "norm": `bias · ‖patch‖ / unit`, linear in the input once the direction is held, so no constant; "keep": a named
            constant; "drop": there is none.
        bias: (O,) or None.
        gain: (O,) or None: what the output is multiplied by, of layers whose filters have unit norm: the norms that they had.
        unit: (), the usual length of a patch, which gives the bias the unit that it had.
    """

    space: int  # axes behind that of channels
    biases: str
    bias: nn.Parameter | None
    gain: nn.Parameter | None
    unit: Tensor

    def _begin(self, outputs: int, biases: str, bias: bool, unit_norm: bool) -> None:
        check_biases(biases)
        self.biases = biases
        kept = bias and biases != "drop"
        self.bias = nn.Parameter(torch.zeros(outputs)) if kept else None
        self.gain = nn.Parameter(torch.ones(outputs)) if unit_norm else None
        self.register_buffer("unit", torch.ones(()))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh filters, no bias, and a gain and a unit of one."""
        super().reset_parameters()
        for name, fresh in (("bias", 0.0), ("gain", 1.0), ("unit", 1.0)):
            values: Tensor | None = getattr(self, name, None)  # while the layer is made it has none yet
            if values is not None:
                values.fill_(fresh)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output without its bias, and the lengths that a norm bias is multiplied by; None with another rule."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The B-cos map, and the bias by its rule; a bias that is kept is added here, where whoever watches names it."""
        y = run_layer(self, x)
        if self.bias is None or self.biases != "keep":
            return y
        axis = y.dim() + self.channel_dim if self.channel_dim < 0 else self.channel_dim + y.dim() - 2 - self.space
        return y + self.bias.reshape(-1, *[1] * (y.dim() - 1 - axis)).to(y.dtype)

    def compute(self, x: Tensor) -> Tensor:
        """The B-cos map with its norm bias."""
        y, lengths = self.parts(x)
        if self.bias is None or lengths is None:
            return y
        bias = parameter(self.bias).to(y.dtype).reshape(-1, *[1] * self.space)
        return y + bias * (lengths / parameter(self.unit).to(y.dtype))

    def _gained(self, y: Tensor, space: int) -> Tensor:
        return y if self.gain is None else y * parameter(self.gain).to(y.dtype).reshape(-1, *[1] * space)

    def _rule(self) -> str:
        return f"biases={self.biases!r}" if self.bias is not None else "no bias"


class _BcosifiedConv(Biased):
    # with one of BcosConv1d, 2d, 3d
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...] | str
    groups: int
    padding_mode: str
    scale: float | None
    eps: float

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: _Size, stride: _Size = 1, padding: _Size | str = 0,
        dilation: _Size = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", *, b: float = 2.0,
        biases: str = "norm", unit_norm: bool = False, learnable_b: bool = False, antialias: bool = False,
        eps: float = CONV_EPS,
    ) -> None:  # fmt: skip
        dynamic = padding == "dynamic"
        super().__init__(
            in_channels, out_channels, kernel_size, 1 if antialias else stride, 0 if dynamic else padding, dilation, groups,
            padding_mode, b=b, unit_norm=unit_norm, learnable_b=learnable_b, eps=eps,
        )  # type: ignore[call-arg]  # fmt: skip
        self.dynamic, self.strides = dynamic, spread(stride, self.space, "stride")
        self.antialias = antialias and max(self.strides) > 1
        if antialias and len(set(self.strides)) > 1:
            raise InputError(f"antialias needs one stride for all space axes, not {self.strides}.")
        self._begin(out_channels, biases, bias, unit_norm)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, O, *S') and (N, 1, *S') of (N, C, *S)."""
        lone = x.dim() == self.space + 1
        x, sides = self._padded(x.unsqueeze(0) if lone else x)
        weight, scale = self.weight, self.scale
        y = functional.bcos_conv(
            x, weight, b=self.b, stride=self.stride, padding=sides, dilation=self.dilation, groups=self.groups,
            unit_norm=self.unit_norm, scale=scale, eps=self.eps,
        )  # fmt: skip
        y, lengths = self._gained(y, self.space), None
        if self.bias is not None and self.biases == "norm":
            lengths = patch_length(x, self.kernel_size, stride=self.stride, padding=sides, dilation=self.dilation, eps=self.eps)
        if lone:
            y, lengths = y.squeeze(0), None if lengths is None else lengths.squeeze(0)
        return y, lengths

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, C, *S) to (N, O, *S'), but for a bias that is kept."""
        if x.dim() == self.space + 1:
            return self.compute(x.unsqueeze(0)).squeeze(0)
        y = self._in_one(x) if self._fuses(x) else super().compute(x)
        return functional.low_pass(y, max(self.strides)) if self.antialias else y

    def _fuses(self, x: Tensor) -> bool:
        """Whether the layer is as it usually is: then factor and bias are one step of autograd."""
        if isinstance(self.b, Tensor) or self.gain is not None or self.scale is not None or self.unit_norm:
            return False
        return (self.groups == 1 or self.b == 1) and self.eps > 0 and steps_fit(x)

    def _in_one(self, x: Tensor) -> Tensor:
        """The map with its norm bias, where `_fuses`."""
        assert not isinstance(self.b, Tensor)
        check_conv(x, self.weight, self.groups, 1, self.padding_mode)
        x, sides = self._padded(x)
        check_extent(x, self.kernel_size, self.dilation, sides)
        geometry = Geometry(self.kernel_size, self.stride, tuple(sides), self.dilation, self.groups)
        bias, b = self.bias if self.biases == "norm" else None, float(self.b)
        tiny = 0.0 if b == 2 else COSINE_EPS
        if trains(x):
            return self._trained(x, bias, geometry, b, tiny)
        each = None if bias is None else parameter(bias) / parameter(self.unit)
        return converted(x, parameter(self.weight), each, geometry, b, self.eps, tiny, self.packed())

    def _trained(self, x: Tensor, bias: Tensor | None, geometry: Geometry, b: float, tiny: float) -> Tensor:
        y = geometry.convolve(x, self.weight)
        if b == 1 and bias is None:
            return y
        squares = patch_sums(channel_squares(x), replace(geometry, groups=1))
        norms = (overflow_shown(squares) + self.eps).sqrt()
        lengths = None if bias is None else squares / norms / self.unit
        return biased(y, norms if b > 1 else None, lengths, bias, b, tiny)

    def _padded(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """The input with what zero padding of equal sides cannot give, and the widths that are left to it."""
        widths = self._widths(x)
        if self.padding_mode != "zeros" or any(left != right for left, right in widths):
            x, widths = pad(x, widths, self.padding_mode), [(0, 0)] * self.space
        return x, [left for left, _ in widths]

    def _widths(self, x: Tensor) -> list[tuple[int, int]]:
        """How far to pad before and after every space axis."""
        if not self.dynamic:
            return pad_widths(self.padding, self.kernel_size, self.dilation)
        found = []
        for size, k, s, d in zip(x.shape[2:], self.kernel_size, self.strides, self.dilation, strict=True):
            total = max((math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size, 0)
            found.append((total // 2, total - total // 2))
        return found

    def extra_repr(self) -> str:
        """Sizes, B and the rule of the bias."""
        more = [super().extra_repr(), self._rule()]
        more += ["padding='dynamic'"] if self.dynamic else []
        more += [f"antialias, stride={self.strides}"] if self.antialias else []
        return ", ".join(more)


class BcosifiedConv1d(_BcosifiedConv, BcosConv1d):
    """A converted convolution over (N, C, L); arguments as `BcosifiedConv2d`.

    >>> BcosifiedConv1d(2, 4, 3, padding=1)(torch.rand(1, 2, 8)).shape
    torch.Size([1, 4, 8])
    """


class BcosifiedConv2d(_BcosifiedConv, BcosConv2d):
    """A converted convolution over (N, C, H, W): `‖w‖^(B-1) |cos(p, w)|^(B-1) w·p`, and the bias by its rule.

    With B = 1 and `biases="keep"` it is `torch.nn.Conv2d`. (B-cosification, Arya et al. 2024, arXiv 2411.00715, whose filters
    keep their norms and whose biases are dropped.)

    Args:
        in_channels, out_channels, kernel_size, stride, dilation, groups, bias, padding_mode: as in `torch.nn.Conv2d`.
        padding: as there, or "dynamic": TensorFlow's "same", which depends on the size of the input where strides do.
        b: exponent B ≥ 1.
        biases: "norm": `bias · ‖patch‖ / unit`, the patch over all channels: linear in the input with the direction held, so
            that explanations have no constant; "keep": a named constant; "drop": none.
        unit_norm: filters have unit norm, and `gain` multiplies each output.
        learnable_b: train B with the weights; below 1 it counts as 1.
        antialias: with a stride, convolve at every position and down-sample by a binomial low-pass (arXiv 2507.16761).
        eps: added to the squared norm of a patch, inside the root.

    Raises:
        InputError: an argument is out of range.

    >>> BcosifiedConv2d(3, 8, 3, stride=2, padding="dynamic")(torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 8, 4, 4])
    """


class BcosifiedConv3d(_BcosifiedConv, BcosConv3d):
    """A converted convolution over (N, C, D, H, W); arguments as `BcosifiedConv2d`.

    >>> BcosifiedConv3d(1, 2, 3)(torch.rand(1, 1, 4, 4, 4)).shape
    torch.Size([1, 2, 2, 2, 2])
    """


class BcosifiedLinear(Biased, BcosLinear):
    """A converted linear layer over the last axis; arguments as `BcosifiedConv2d`.

    >>> BcosifiedLinear(8, 4, b=1.5)(torch.rand(2, 5, 8)).shape
    torch.Size([2, 5, 4])
    """

    space = 0

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, b: float = 2.0, biases: str = "norm",
        unit_norm: bool = False, learnable_b: bool = False, norm_eps: float = LINEAR_EPS, eps: float = CONV_EPS,
    ) -> None:  # fmt: skip
        super().__init__(in_features, out_features, b=b, unit_norm=unit_norm, learnable_b=learnable_b, norm_eps=norm_eps)
        self.eps = eps
        self._begin(out_features, biases, bias, unit_norm)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(..., O) and (..., 1) of (..., D)."""
        y = functional.bcos_linear(x, self.weight, b=self.b, unit_norm=self.unit_norm, norm_eps=self.norm_eps)
        lengths = vector_length(x, -1, eps=self.eps) if self.bias is not None and self.biases == "norm" else None
        return self._gained(y, 0), lengths

    def extra_repr(self) -> str:
        """Sizes, B and the rule of the bias."""
        return f"{super().extra_repr()}, {self._rule()}"
