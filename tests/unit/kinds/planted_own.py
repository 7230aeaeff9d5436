"""Planted layers of this library that are not what they say: it does not look inside its own, so these must be seen as others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.unit.kinds.planting import ANY, Case, Planted, gated, gated_held
from torchbcos import functional
from torchbcos import nn as bnn

__all__ = ["OWN"]


class _Derived(bnn.BcosConv2d):
    """A B-cos layer by name only."""

    def forward(self, x: Tensor) -> Tensor:
        return gated(super().forward(x) * 30)


class _Layer(bnn.Layer):
    """A layer of somebody's own."""

    def forward(self, x: Tensor) -> Tensor:
        return gated(x)


def _own_layer(change: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        layer = bnn.BcosConv2d(8, 8, 1)
        change(layer)
        return layer

    return make


def _patched(layer: nn.Module) -> None:
    forward = layer.forward
    layer.forward = lambda x: gated(forward(x) * 30)  # type: ignore[method-assign]


def _own_held(layer: nn.Module, x: Tensor) -> Tensor:
    plain = bnn.BcosConv2d(8, 8, 1)
    plain.load_state_dict(nn.Module.state_dict(layer), strict=False)
    return gated_held(plain(x) * 30)


_OWN = {
    "a subclass of BcosConv2d": Case("", lambda: _Derived(8, 8, 1), _own_held),
    "a subclass of Layer": Case("", _Layer, lambda _, x: gated_held(x)),
    "a forward hook on BcosConv2d": Case(
        "", _own_layer(lambda layer: layer.register_forward_hook(lambda m, a, out: gated(out * 30))), _own_held
    ),
    "a patched forward of BcosConv2d": Case("", _own_layer(_patched), _own_held),
    "a forward pre-hook on BcosConv2d": Case(
        "", _own_layer(lambda layer: layer.register_forward_pre_hook(lambda m, a: (a[0] + a[0].sigmoid(),))), None
    ),
    "a backward hook on BcosConv2d": Case(
        "", _own_layer(lambda layer: layer.register_full_backward_hook(lambda m, into, out: tuple(3 * g for g in into))), None
    ),
    "BcosConv2d of a gate": Case("", lambda: nn.Sequential(nn.Sigmoid(), bnn.BcosConv2d(8, 8, 1)), None),
    "GELU of a gate, added": Case("", lambda: Planted(lambda x: x + bnn.GELU()(x.sigmoid())), None),
    "bcos_linear of a gate, added": Case(
        "", lambda: Planted(lambda x: x + functional.bcos_linear(x.sigmoid(), torch.eye(6))), None
    ),
}

OWN: list[Case] = [Case(name, c.make, c.held, ANY) for name, c in _OWN.items()]
