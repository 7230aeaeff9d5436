"""B-cos linear layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.atoms import atom
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import check_mode, parameter
from torchbcos.functional.numbers import check_epsilon
from torchbcos.functional.transform import LINEAR_EPS, bcos_transform, held_wide, layer_weight
from torchbcos.kernels.linear import linear
from torchbcos.kernels.maxout import largest, maxout_linear
from torchbcos.kernels.usable import usable

__all__ = ["bcos_linear"]


@atom()
def bcos_linear(
    x: Tensor,
    weight: Tensor,
    *,
    b: float | Tensor = 2.0,
    max_out: int = 1,
    unit_norm: bool = True,
    eps: float = 0.0,
    norm_eps: float = LINEAR_EPS,
) -> Tensor:
    """B-cos linear map: `|cos(x, w)|^(B-1) · ŵ·x` (arXiv 2306.10898, eq. 3).

    Args:
        x: (..., D).
        weight: (O·M, D).
        b: exponent B ≥ 1, a number or a tensor.
        max_out: M; each output is the largest of M consecutive rows, chosen before scaling.
        unit_norm: divide each row by its norm.
        eps: added to ‖x‖², inside the root (convolutions use 1e-6 here).
        norm_eps: added to ‖x‖, outside the root.

    Returns:
        (..., O).

    Raises:
        InputError: shapes do not fit.

    >>> import torch
    >>> bcos_linear(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]]))
    tensor([[1.8000]])
    """
    if weight.dim() != 2 or x.dim() < 1 or x.shape[-1] != weight.shape[1]:
        first = x.dim() > 2 and x.shape[1] == weight.shape[-1]
        others = (
            " Channels come second in it: for maps (N, C, *S) take bcos_conv, BcosConv2d with a kernel of 1." if first else ""
        )
        raise InputError(f"Expected (..., {weight.shape[-1]}), got shape {tuple(x.shape)}.{others}")
    if not x.is_floating_point():
        raise InputError(f"Expected a floating-point tensor, got {x.dtype}: convert it with .float().")
    check_epsilon(eps)
    check_epsilon(norm_eps, "norm_eps")
    if max_out < 1 or weight.shape[0] % max_out:
        raise InputError(f"{weight.shape[0]} rows cannot be divided into MaxOut groups of {max_out}.")
    if eps == 0 and usable(x, b, 1):
        check_mode()
        if max_out > 1:
            return maxout_linear(x, parameter(weight), norm_eps, max_out=max_out, unit=unit_norm)
        return linear(x, parameter(weight), norm_eps, unit=unit_norm)
    out = F.linear(x, layer_weight(weight, unit_norm))
    if max_out > 1:
        out = largest(out, max_out)
    return bcos_transform(out, held_wide(x).square().sum(-1, keepdim=True), b, eps=eps, norm_eps=norm_eps)
