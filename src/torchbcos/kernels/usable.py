"""Where a kernel may stand in for the operations that autograd records by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbcos._core.frozen import current, mode
from torchbcos._core.torch_private import transformed

__all__ = ["steps_fit", "usable"]


def usable(x: Tensor, b: float | Tensor, max_out: int) -> bool:
    """True where the fused B-cos steps give what the plain ones give: b = 2, without MaxOut."""
    if isinstance(b, Tensor) or b != 2 or max_out != 1:
        return False
    return steps_fit(x)


def steps_fit(x: Tensor) -> bool:
    """True where steps of our own may stand in for those that autograd records, whatever they compute."""
    if torch.compiler.is_compiling():
        return False
    if x.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(x.device.type):
        return False
    if transformed():
        return False
    state = current()
    if state is not None:
        return state.detach
    # inside `frozen()` autograd would differentiate the factor that must be constant
    return not mode() or not torch.is_grad_enabled()
