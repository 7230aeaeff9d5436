"""The weight of a B-cos layer: how it begins, and its packed form while it stands still."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from torchbcos._core.errors import StateError
from torchbcos._core.torch_private import dispatch_mode, transformed
from torchbcos.functional.numbers import check_exponent
from torchbcos.functional.transform import unit_norm_weight
from torchbcos.kernels.onednn import Packed
from torchbcos.nn.layer import Layer

__all__ = ["FilterLayer", "exponent", "shown"]


def exponent(b: float, learnable: bool) -> float | nn.Parameter:
    """B as a layer stores it: a number, or a parameter where it is learned."""
    check_exponent(b)
    return nn.Parameter(torch.tensor(float(b))) if learnable else float(b)


def shown(b: float | Tensor) -> str:
    """B as `repr` shows it: as it is used, for a learned one below 1 counts as 1."""
    return f"{float(b.detach().clamp_min(1) if isinstance(b, Tensor) else b):g}"


class FilterLayer(Layer):
    """A layer with filters in `weight`, which in eval mode are kept in oneDNN's order too.

    Nothing is kept of a weight that learns. What is kept of another belongs to one state of it: `kernels/seal.py` says
    which changes are noticed, docs/how-to/change-weights.md what a user should know. `train()` and `eval()` forget it.
    """

    weight: nn.Parameter
    unit_norm: bool
    b: float | nn.Parameter
    deployed = False  # a deployed twin: the filters were brought to unit norm once, or took in a norm
    _b: float | None = None  # where `b` began
    _packed: Packed | None = None

    def __init__(self) -> None:
        super().__init__()
        self._packed = Packed()

    def packed(self) -> Packed | None:
        """Where the weight is kept in oneDNN's order; None for one that learns or that is no plain tensor."""
        weight, packed = self.weight, self._packed
        if self.training or packed is None or torch.compiler.is_compiling():
            return None
        if weight.requires_grad:
            packed.forget()
            return None
        plain = type(weight) is nn.Parameter and not transformed() and not dispatch_mode()
        return packed if plain else None

    def train(self, mode: bool = True) -> FilterLayer:
        """Set the mode, and forget the packed weight."""
        self._packed = Packed()
        super().train(mode)
        return self

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh filters, uniform as `torch.nn.Linear` has them, and the exponent of the beginning.

        In a deployed twin they are brought to unit norm, as it had them.

        Raises:
            StateError: the weight is made of others (parametrised or pruned), which would bring it back.
        """
        if type(weight := self.weight) is not nn.Parameter:
            raise StateError(
                f"reset_parameters: the weight of this {type(self).__name__} is made of other tensors (a parametrisation or "
                "pruning). Remove that first: torch.nn.utils.parametrize.remove_parametrizations, torch.nn.utils.prune.remove."
            )
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        if self.deployed:
            weight.copy_(unit_norm_weight(weight))
        if isinstance(self.b, nn.Parameter) and self._b is not None:
            self.b.fill_(self._b)
