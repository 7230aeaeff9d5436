"""B-cos linear layer as a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import InputError
from torchbcos.functional.numbers import check_epsilon
from torchbcos.functional.transform import LINEAR_EPS
from torchbcos.nn.filters import FilterLayer, exponent, shown

__all__ = ["BcosLinear"]


class BcosLinear(FilterLayer):
    """B-cos linear layer: `|cos(x, w)|^(B-1) · ŵ·x` over the last axis (arXiv 2306.10898, eq. 3).

    Args:
        in_features: D, size of the last axis.
        out_features: O.
        b: exponent B ≥ 1.
        max_out: M rows for each output, the largest counts.
        unit_norm: rows have unit norm; otherwise they are used as they are.
        learnable_b: train B with the weights; below 1 it counts as 1.
        norm_eps: added to ‖x‖, outside the root (official: 1e-12).

    Raises:
        InputError: an argument is out of range.

    >>> BcosLinear(8, 4)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 4])
    """

    channel_dim = -1

    def __init__(
        self, in_features: int, out_features: int, *, b: float = 2.0, max_out: int = 1, unit_norm: bool = True,
        learnable_b: bool = False, norm_eps: float = LINEAR_EPS,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(in_features, out_features, max_out) < 1:
            raise InputError(f"Sizes must be positive: {in_features} in, {out_features} out, max_out {max_out}.")
        self.in_features, self.out_features, self.max_out = in_features, out_features, max_out
        self.unit_norm, self.norm_eps = unit_norm, norm_eps
        check_epsilon(norm_eps, "norm_eps")
        self.b, self._b = exponent(b, learnable_b), float(b)
        self.weight = nn.Parameter(torch.empty(out_features * max_out, in_features))
        self.reset_parameters()

    def compute(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., O)."""
        return functional.bcos_linear(
            x, self.weight, b=self.b, max_out=self.max_out, unit_norm=self.unit_norm, norm_eps=self.norm_eps
        )

    def extra_repr(self) -> str:
        """Sizes and exponent."""
        return f"{self.in_features}, {self.out_features}, b={shown(self.b)}, max_out={self.max_out}"
