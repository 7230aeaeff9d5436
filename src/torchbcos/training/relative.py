"""Adam whose steps are relative to the size of the weights that they change: one rate suits all layers of a converted network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["RelativeAdam", "sizes_of"]

_LEAST = 0.1  # of the mean size of a parameter's channels: what a channel that is all but zero counts as
_LEAST_ALONE = 0.5  # of the mean, where each channel is one number


@torch.no_grad()
def sizes_of(parameter: Tensor) -> Tensor:
    """The size of each output channel of a weight: its root mean square, (O, 1, …); of a vector each number's magnitude.

    Small ones count as a part of the mean of all; of a parameter that is zero all count as 1.

    >>> sizes_of(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))[:, 0]
    tensor([3.5355, 0.1768])
    >>> sizes_of(torch.zeros(2))
    tensor([1., 1.])
    """
    own = parameter.detach().abs()
    if own.dim() > 1:
        own = own.square().mean(tuple(range(1, own.dim())), keepdim=True).sqrt()
    mean = own.mean()
    if not float(mean):
        return torch.ones_like(own)
    return own.clamp_min((_LEAST if parameter.dim() > 1 else _LEAST_ALONE) * mean)


class RelativeAdam(torch.optim.Adam):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1) whose step of each output channel is multiplied by its size.

    A converted network has filters of very different norms. Relative steps change each by the same part. The sizes are those of
    the weights that the optimiser is made for, and stay.

    Args:
        params: as `torch.optim.Adam` takes them.
        lr: learning rate, as a part of the size of the weights.
        betas, eps: of Adam.

    >>> p = torch.nn.Parameter(torch.tensor([[100.0, 100.0]]))
    >>> optimizer = RelativeAdam([p], lr=0.01)
    >>> p.grad = torch.tensor([[1.0, -1.0]])
    >>> optimizer.step()
    >>> p.data
    tensor([[ 99., 101.]])
    """

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-10) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps)
        self.sizes = {id(p): sizes_of(p) for group in self.param_groups for p in group["params"]}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)
        return found

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[p], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
        state["step"] += 1
        count = float(state["step"])
        assert p.grad is not None
        mean, square = state["exp_avg"].lerp_(p.grad, 1 - beta1), state["exp_avg_sq"]
        square.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
        size = self.sizes[id(p)] = self.sizes[id(p)].to(p)
        wide = (square / (1 - beta2**count)).sqrt_().add_(group["eps"])
        p.sub_((mean / wide).mul_(size), alpha=group["lr"] / (1 - beta1**count))
