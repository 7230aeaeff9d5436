"""Unit-norm filters, computed once while the weights stand still."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.frozen import current
from torchbcos._core.torch_private import dispatch_mode, transformed, version
from torchbcos.functional.transform import unit_norm_weight
from torchbcos.kernels.onednn import Packed
from torchbcos.nn.layer import Layer

__all__ = ["FilterLayer", "Remembered"]


@dataclass(frozen=True)
class Remembered:
    """What was made of one version of one weight."""

    of: weakref.ref[Tensor]
    key: tuple[Any, ...]
    unit: Tensor | None
    packed: Packed


class FilterLayer(Layer):
    """A layer with filters in `weight`, which in eval mode remembers them at unit norm.

    The memory holds for one version of one tensor: optimiser steps, `load_state_dict`, in-place
    edits and `.to()` are noticed. Edits through `.data` are not: call `model.train()` or
    `model.eval()` after them, which forgets.
    """

    weight: nn.Parameter
    unit_norm: bool
    _remembered: Remembered | None = None

    def filters(self) -> tuple[Tensor, bool, Packed | None]:
        """The weight, whether it must still be brought to unit norm, and the cache for its packed form."""
        weight = self.weight
        if self.training or not _plain_tensor(weight):
            return weight, self.unit_norm, None
        state = current()
        if weight.requires_grad and (not self.unit_norm or (torch.is_grad_enabled() and (state is None or not state.detach))):
            return weight, self.unit_norm, None
        # one assignment and one reading: other threads see a whole entry or none
        remembered, key = self._remembered, (version(weight), weight.data_ptr(), weight.dtype, weight.device)
        if remembered is None or remembered.of() is not weight or remembered.key != key:
            with torch.inference_mode(False), torch.no_grad():
                unit = unit_norm_weight(weight.detach()) if self.unit_norm else None
            remembered = self._remembered = Remembered(weakref.ref(weight), key, unit, Packed())
        # packing pays over many calls; a weight that learns changes at every step
        packed = None if weight.requires_grad else remembered.packed
        return weight if remembered.unit is None else remembered.unit, False, packed

    def train(self, mode: bool = True) -> FilterLayer:
        """Set the mode, and forget the remembered filters."""
        self._remembered = None
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and deepcopy keep: everything but the remembered filters."""
        state = self.__dict__.copy()
        state.pop("_remembered", None)
        return state


def _plain_tensor(weight: Tensor) -> bool:
    """True for a weight whose version can be read: no tracing, no transform, no inference tensor."""
    if torch.compiler.is_compiling() or transformed() or version(weight) is None:
        return False
    return type(weight) in (nn.Parameter, Tensor) and not dispatch_mode()
