"""The B-cos transform: the one place where a linear output is multiplied by its cosine.

Shapes: N images, C channels, *S space, G groups, B the exponent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.atoms import atom
from torchbcos._core.frozen import check_mode, hold, parameter
from torchbcos._core.torch_private import transformed
from torchbcos.functional.numbers import at_least_one, check_epsilon, check_exponent
from torchbcos.kernels.lengths import never_zero, overflow_shown
from torchbcos.kernels.unitnorm import filter_norms, unit_norm

__all__ = ["CONV_EPS", "COSINE_EPS", "LINEAR_EPS", "bcos_transform", "held_wide", "layer_weight", "unit_norm_weight"]

CONV_EPS = 1e-6  # inside the root, official BcosConv2d
LINEAR_EPS = 1e-12  # added to the norm, official BcosLinear
COSINE_EPS = 1e-6  # added to |cos| where B is not 2, both official layers


@atom()
def bcos_transform(
    linear: Tensor,
    squared_norm: Tensor,
    b: float | Tensor = 2.0,
    *,
    eps: float = CONV_EPS,
    norm_eps: float = 0.0,
) -> Tensor:
    """Scale a linear output by its cosine: `|cos|^(B-1) · ŵᵀx` (arXiv 2306.10898, eq. 3).

    With `cos = linear / (sqrt(squared_norm + eps) + norm_eps)`. In frozen mode the factor
    `|cos|^(B-1)` is a constant for autograd.

    Args:
        linear: output of the linear map, any shape.
        squared_norm: squared norm of the patch that each output saw, broadcastable to `linear`.
        b: exponent B ≥ 1; a Python number takes the fast paths, a tensor (learnable B) never does. A tensor below 1
            counts as 1.
        eps: added to the squared norm, inside the root.
        norm_eps: added to the norm, outside the root.

    Returns:
        A tensor like `linear`.

    Raises:
        InputError: `b` is a number below 1, or no finite number; an epsilon is negative or not finite.

    >>> bcos_transform(torch.tensor([3.0]), torch.tensor([36.0]), eps=0.0)
    tensor([1.5000])
    """
    check_epsilon(eps)
    check_epsilon(norm_eps, "norm_eps")
    if not isinstance(b, Tensor):
        check_exponent(b)
        if b == 1:
            check_mode()
            return linear
    y = hold(linear)
    # float16 squares overflow at 256: norms and cosines are taken in float32
    if y.dtype in (torch.float16, torch.bfloat16):
        y = y.float()
    if eps <= 0:
        squared_norm = never_zero(squared_norm)
    squared_norm = overflow_shown(hold(squared_norm))
    norm = (squared_norm + eps).sqrt() if eps > 0 else squared_norm.sqrt()
    if norm_eps:
        norm = norm + norm_eps
    if not isinstance(b, Tensor) and b == 2:
        factor = y.abs() / norm
    else:
        exponent = hold(at_least_one(parameter(b))) - 1 if isinstance(b, Tensor) else b - 1
        factor = ((y / norm).abs() + COSINE_EPS) ** exponent
    return linear * factor.to(linear.dtype)


def unit_norm_weight(weight: Tensor) -> Tensor:
    """Filters with unit Euclidean norm: `ŵ = w / ‖w‖` over all but the first axis.

    A zero filter stays zero, with a finite gradient.

    >>> unit_norm_weight(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    if not torch.compiler.is_compiling() and not transformed():
        return unit_norm(weight)
    return weight / filter_norms(weight)


def layer_weight(weight: Tensor, unit_norm: bool) -> Tensor:
    """The weight as a layer applies it (without its graph while an explanation runs)."""
    weight = parameter(weight)
    return unit_norm_weight(weight) if unit_norm else weight


def held_wide(x: Tensor) -> Tensor:
    """The held input, in float32 for half precision, whose squares would overflow."""
    x = hold(x)
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
