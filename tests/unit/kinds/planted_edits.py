"""Planted edits: tensors that change in place, through an alias or a view, and state that a module writes and uses at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.kinds.planting import ANY, Case, gate, gated_held, refused, twins

__all__ = ["EDITS"]

# -- edits in place and aliases ---------------------------------------------------------------------


def _edit_under_no_grad(x: Tensor) -> Tensor:
    y = x.clone()
    with torch.no_grad():
        y.mul_(gate(y))
    return y


def _edit_of_detached(x: Tensor) -> Tensor:
    y = x.clone()
    y.detach().mul_(gate(y).detach())
    return y


def _edit_of_data(x: Tensor) -> Tensor:
    y = x.clone()
    y.data.mul_(gate(y).data)
    return y


def _data_set(x: Tensor) -> Tensor:
    y = x.clone()
    y.data = gate(y).data
    return y


def _edit_by_numpy(x: Tensor) -> Tensor:
    y = x.clone()
    array = y.detach().numpy()
    np.multiply(array, gate(y).detach().numpy(), out=array)
    return y


def _edit_by_apply(x: Tensor) -> Tensor:
    y = x.clone()
    y.data.apply_(lambda v: abs(v))
    return y


def _edit_of_view(x: Tensor) -> Tensor:
    y = x.clone()
    part = y[:, :4]
    with torch.no_grad():
        part.mul_(gate(y)[:, :4])
    return y


def _edit_of_base(x: Tensor) -> Tensor:
    y = x.clone()
    part = y[:, :4]
    y.sigmoid_()
    return torch.cat([part, part], 1)


def _edit_of_expanded(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    y.view(-1).copy_(gate(x).detach().reshape(-1))
    return x + y


def _edit_of_slot(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    for i in range(2):
        y[i] = gate(x)[i].detach()
    return x + y


def _edit_by_out(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    with torch.no_grad():
        torch.sigmoid(x, out=y)
    return x + y


def _edit_by_out_of_view(x: Tensor) -> Tensor:
    y = torch.zeros(3, 2, 8, 6, 6)
    torch.mul(gate(x).detach(), 0.5, out=y[1])
    return x + y.sum(0)


def _edit_by_set(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    y.set_(gate(x).detach())
    return x + y


def _edit_by_swap(x: Tensor) -> Tensor:
    y, z = torch.zeros(2, 8, 6, 6), gate(x).detach()
    torch.utils.swap_tensors(y, z)
    return x + y


def _edit_by_storage(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    y.untyped_storage().copy_(gate(x).detach().clone().untyped_storage())
    return x + y


def _edit_by_foreach(x: Tensor) -> Tensor:
    y = [torch.zeros(2, 8, 6, 6)]
    torch._foreach_add_(y, [gate(x).detach()])
    return x + y[0]


def _product_by_foreach(x: Tensor) -> Tensor:
    return torch._foreach_mul([x], [gate(x)])[0]


def _scratch_written_before(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    z = y.flatten()  # a view of y
    z += gate(x).detach().flatten()
    return x + y


def _dlpack_alias(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    torch.from_dlpack(y).copy_(gate(x).detach())
    return x + y


def _numpy_alias(x: Tensor) -> Tensor:
    array = np.zeros((2, 8, 6, 6))
    y = torch.from_numpy(array)
    torch.from_numpy(array).copy_(gate(x).detach())
    return x + y


# -- state of the module ----------------------------------------------------------------------------


class _State(nn.Module):
    """A module that writes into what belongs to it, and uses it in the same call."""

    def __init__(self, write: Callable[[_State, Tensor], None], use: Callable[[_State, Tensor], Tensor]) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(8, 1, 1))
        self.weight, self.bias = nn.Parameter(torch.eye(8)[..., None, None] + 0.1), nn.Parameter(torch.zeros(8))
        self.kept: list[Tensor] = []
        self.memory: Tensor
        self.write, self.use = write, use

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.write(self, x)
        return self.use(self, x)


def level(x: Tensor) -> Tensor:
    """(8,): how often a channel is above nought, softly."""
    return torch.sigmoid(x).mean((0, 2, 3))


def _into_parts(s: _State, x: Tensor) -> None:
    for i in range(8):
        s.memory[i] = level(x)[i]


def _exchange(s: _State, x: Tensor) -> None:
    s.memory = level(x)[:, None, None]


_WRITE: dict[str, tuple[Callable[[_State, Tensor], Any], Callable[[_State, Tensor], Tensor]]] = {
    "a buffer, copy_": (lambda s, x: s.memory.copy_(level(x)[:, None, None]), lambda s, x: x + s.memory),
    "a buffer, setitem": (_into_parts, lambda s, x: x + s.memory),
    "a buffer, exchanged": (_exchange, lambda s, x: x + s.memory),
    "a buffer, fill_": (lambda s, x: s.memory.fill_(x.std()), lambda s, x: x + s.memory),
    "a buffer, fill_ of a number": (lambda s, x: s.memory.fill_(x.std().item()), lambda s, x: x + s.memory),
    "a buffer, lerp_": (lambda s, x: s.memory.lerp_(level(x)[:, None, None], 0.5), lambda s, x: x + s.memory),
    "a buffer, through a view": (lambda s, x: s.memory.view(-1).copy_(level(x)), lambda s, x: x + s.memory),
    "a buffer, through data": (lambda s, x: s.memory.data.copy_(level(x)[:, None, None]), lambda s, x: x + s.memory),
    "a buffer, through numpy": (
        lambda s, x: np.copyto(s.memory.numpy(), level(x).numpy()[:, None, None]),
        lambda s, x: x + s.memory,
    ),
    "a buffer, out=": (lambda s, x: torch.mul(level(x)[:, None, None], 1.0, out=s.memory), lambda s, x: x + s.memory),
    "a buffer, used by a view": (
        lambda s, x: s.memory.copy_(level(x)[:, None, None]),
        lambda s, x: x + s.memory.view(1, 8, 1, 1),
    ),
    "a bias, through data": (lambda s, x: s.bias.data.copy_(level(x)), lambda s, x: F.conv2d(x, s.weight, s.bias)),
    "a bias, copy_": (lambda s, x: s.bias.copy_(level(x)), lambda s, x: F.conv2d(x, s.weight, s.bias)),
    "a bias, its data set": (lambda s, x: setattr(s.bias, "data", level(x)), lambda s, x: F.conv2d(x, s.weight, s.bias)),
    "a bias, made anew": (lambda s, x: setattr(s, "bias", nn.Parameter(level(x))), lambda s, x: F.conv2d(x, s.weight, s.bias)),
    "a bias, add_ of a number": (lambda s, x: s.bias.add_(float(x.std())), lambda s, x: F.conv2d(x, s.weight, s.bias)),
    "a running mean": (
        lambda s, x: s.memory.copy_(level(x)[:, None, None]),
        lambda s, x: F.batch_norm(x, s.memory.flatten(), torch.ones(8)),
    ),
    "a list": (lambda s, x: s.kept.append(level(x)[:, None, None]), lambda s, x: x + s.kept.pop()),
    "a list of numbers": (
        lambda s, x: s.kept.append(level(x).tolist()),
        lambda s, x: x + torch.tensor(s.kept.pop())[:, None, None],
    ),
}


EDITS: list[Case] = [
    *twins(
        {
            "edit under no_grad": _edit_under_no_grad,
            "edit of a detached alias": _edit_of_detached,
            "edit of data": _edit_of_data,
            "edit by numpy": _edit_by_numpy,
            "_foreach_mul": _product_by_foreach,
        },
        gated_held,
        *ANY,
    ),
    *twins(
        {"edit of a view under no_grad": _edit_of_view},
        lambda x: torch.cat([x[:, :4] * gate(x)[:, :4].detach(), x[:, 4:]], 1),
        *ANY,
    ),
    *(
        refused(name, f, *ANY)
        for name, f in {
            "data set": _data_set,
            "edit by apply_": _edit_by_apply,
            "edit of a base": _edit_of_base,
            "copy_ into a view": _edit_of_expanded,
            "setitem into a fresh tensor": _edit_of_slot,
            "out=": _edit_by_out,
            "out= a view": _edit_by_out_of_view,
            "set_": _edit_by_set,
            "swap_tensors": _edit_by_swap,
            "a copied storage": _edit_by_storage,
            "_foreach_add_": _edit_by_foreach,
            "+= into a view": _scratch_written_before,
            "dlpack alias": _dlpack_alias,
            "numpy alias": _numpy_alias,
        }.items()
    ),
    *(Case(name, lambda w=w, u=u: _State(w, u), None, ANY) for name, (w, u) in _WRITE.items()),
]
