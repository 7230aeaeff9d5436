"""Planted corners of rules: every spelling of a call, options that move, parts of tensors, numbers that come back washed."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.kinds.planting import ANY, Case, Hold, factor, gate, refused, twins
from torchbcos import functional
from torchbcos._core.frozen import add_constant
from torchbcos._core.frozen import hold as held_by_hand

__all__ = ["CORNERS"]


def number(x: Tensor) -> float:
    """A number that moves with the signal."""
    return float(torch.sigmoid(x.detach().mean()))


# -- the same product, with its arguments given in every way ----------------------------------------

_BY_NAME: dict[str, Callable[[Tensor], Tensor]] = {
    "mul(input=, other=)": lambda x: torch.mul(input=x, other=gate(x)),
    "mul(other=)": lambda x: x.mul(other=gate(x)),
    "div(input=, other=)": lambda x: torch.div(input=x, other=1 / gate(x)),
    "div(other=)": lambda x: torch.div(x, other=1 / gate(x)),
    "div, no rounding": lambda x: torch.div(x, 1 / gate(x), rounding_mode=None),
    "true_divide(other=)": lambda x: x.true_divide(other=1 / gate(x)),
    "bmm(input=, mat2=)": lambda x: torch.bmm(input=x.reshape(-1, 1, 8), mat2=torch.diag_embed(gate(x).reshape(-1, 8))).view_as(
        x
    ),
    "matmul(input=, other=)": lambda x: torch.matmul(
        input=x.reshape(-1, 1, 8), other=torch.diag_embed(gate(x).reshape(-1, 8))
    ).view_as(x),
    "gate first, by name": lambda x: torch.mul(other=x, input=gate(x)),
    "addcmul by name": lambda x: torch.addcmul(input=torch.zeros(()), tensor1=x, tensor2=gate(x)),
    "addcmul, value": lambda x: torch.addcmul(torch.zeros(()), x, gate(x), value=0.5) * 2,
    "lerp by name": lambda x: torch.lerp(input=torch.zeros(()), end=x, weight=gate(x)),
    "where by name": lambda x: gate(x) * torch.where(condition=x > 0, input=x, other=x),
    "baddbmm by name": lambda x: torch.baddbmm(
        input=torch.zeros(()), batch1=x.reshape(-1, 1, 8), batch2=torch.diag_embed(gate(x).reshape(-1, 8)), beta=1, alpha=1
    ).view_as(x),
    "prelu of a product": lambda x: F.prelu(x * gate(x), torch.ones(1)),
    "mul_ by name": lambda x: x.clone().mul_(other=gate(x)),
    "div_ by name": lambda x: x.clone().div_(other=1 / gate(x)),
    "copied into a slice": lambda x: _into_slice(x * gate(x)),
    "setitem of a product": lambda x: _set(torch.empty_like(x), x * gate(x)),
    "zeros_like and add_": lambda x: torch.zeros_like(x).add_(x * gate(x)),
    "zeros_like, a list": lambda x: sum([x * gate(x)], torch.zeros_like(x)),
    "ones_like as a factor": lambda x: torch.ones_like(x) * x * gate(x),
    "new_zeros, cat": lambda x: torch.cat([x.new_zeros(2, 0, 6, 6), x * gate(x)], 1),
    "einsum of three": lambda x: torch.einsum("nchw,nchw,c->nchw", x, gate(x), torch.ones(8)),
    "scatter of a product": lambda x: torch.zeros_like(x).scatter(
        1, torch.arange(8)[None, :, None, None].expand(2, 8, 6, 6), x * gate(x)
    ),
    "split, joined": lambda x: torch.cat([a * b for a, b in zip(x.split(2, 1), gate(x).split(2, 1), strict=True)], 1),
    "unbind, stacked": lambda x: torch.stack([a * b for a, b in zip(x.unbind(1), gate(x).unbind(1), strict=True)], 1),
    "float32's multiply": lambda x: torch.multiply(input=x, other=gate(x)),
    "masked_fill by nought": lambda x: (x * gate(x)).masked_fill(torch.zeros(6) > 0, 5.0),
    "chained in place": lambda x: x.clone().mul_(gate(x)).mul_(2).div_(2).neg_().neg_(),
    "a view edited, its base used": lambda x: _edited_base(x),
    "a base edited, its view used": lambda x: _edited_view(x),
    "inner product by hand": lambda x: (x.unsqueeze(-1) * gate(x).unsqueeze(-1)).sum(-1),
    "linear by a moving diagonal": lambda x: torch.cat(
        [
            F.linear(
                x[i : i + 1].movedim(1, -1).reshape(-1, 1, 8)[:, 0] * gate(x[i : i + 1]).movedim(1, -1).reshape(-1, 8),
                torch.eye(8),
            )
            .view(1, 6, 6, 8)
            .movedim(-1, 1)
            for i in range(2)
        ]
    ),
}


def _into_slice(t: Tensor) -> Tensor:
    whole = torch.zeros(2, 10, 6, 6)
    whole[:, 1:9].copy_(t)
    return whole[:, 1:9]


def _set(whole: Tensor, t: Tensor) -> Tensor:
    whole[...] = t
    return whole


def _edited_base(x: Tensor) -> Tensor:
    y = x.clone()
    y.flatten(1).mul_(gate(x).flatten(1))
    return y


def _edited_view(x: Tensor) -> Tensor:
    y = x.clone()
    part = y.flatten(1)
    y.mul_(gate(x))
    return part.view_as(y)


# -- choices and options ----------------------------------------------------------------------------


def bounded(x: Tensor, hold: Hold) -> Tensor:
    top = x.mean(1, keepdim=True)
    return torch.where(hold(x > top), top, x)


_CHOICES = {
    "where a constant": (lambda x: torch.where(x > 0.2, x, 0.3), lambda x: torch.where(x > 0.2, x, 0.3)),
    "masked_fill a constant": (lambda x: x.masked_fill(x > 1, 0.3), lambda x: x.masked_fill(x > 1, 0.3)),
    "clamp above nought": (lambda x: x.clamp(min=0.5), lambda x: (x * ((x.clamp(min=0.5) - 0.5) / x).detach()) + 0.5),
    "maximum with a constant": (lambda x: torch.maximum(x, torch.full((6,), 0.5)), lambda x: torch.where(x > 0.5, x, 0.5)),
    "F.batch_norm by its own statistics": (
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: (
            (x - x.mean((0, 2, 3), keepdim=True).detach()) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt().detach()
        ),
    ),
    "lerp to a constant": (lambda x: torch.lerp(x, torch.ones(6), x.sigmoid()), lambda x: x + x.sigmoid().detach() * (1 - x)),
    "a constant, scaled": (lambda x: (x + 1) * gate(x), lambda x: (x + 1) * gate(x).detach()),
    "a shift taken away again": (lambda x: (x + 1) * gate(x) - gate(x), lambda x: x * gate(x).detach()),
    "two activations": (
        lambda x: F.silu(x) * F.relu(x.roll(1, 1)),
        lambda x: x * (torch.sigmoid(x) * F.relu(x.roll(1, 1))).detach(),
    ),
    "prelu by a moving slope": (
        lambda x: F.prelu(x, gate(x).mean((0, 2, 3))),
        lambda x: torch.where(x > 0, x, gate(x).mean((0, 2, 3)).detach()[:, None, None] * x),
    ),
    "leaky_relu by a number read out": (lambda x: F.leaky_relu(x, number(x)), lambda x: torch.where(x > 0, x, number(x) * x)),
    "times a number read out": (lambda x: x * number(x), lambda x: x * number(x)),
    "gelu, tanh": (lambda x: F.gelu(x, approximate="tanh"), lambda x: x * (F.gelu(x, approximate="tanh") / x).detach()),
    "bounded by a mean": (lambda x: x.clamp(max=x.mean(1, keepdim=True)), lambda x: bounded(x, torch.detach)),
    "minimum with a mean": (lambda x: torch.minimum(x, x.mean(1, keepdim=True)), lambda x: bounded(x, torch.detach)),
    "median": (
        lambda x: x - x.flatten(2).median(-1).values[..., None, None],
        lambda x: x - x.flatten(2).median(-1).values[..., None, None],
    ),
    "another branch by a comparison": (lambda x: x * 2 if x.mean() > 0 else x * 3, lambda x: x * 2 if x.mean() > 0 else x * 3),
    "bcos_linear by a moving weight": (
        lambda x: functional.bcos_linear(x, x.mean((0, 1))),
        lambda x: functional.bcos_linear(x, x.mean((0, 1)).detach()),
    ),
    "bcos_linear by a moving exponent": (
        lambda x: functional.bcos_linear(x, torch.eye(6), b=1.5 + gate(x).mean()),
        lambda x: functional.bcos_linear(x, torch.eye(6), b=(1.5 + gate(x).mean()).detach()),
    ),
    "sdpa with a scale read out": (
        lambda x: F.scaled_dot_product_attention(x, x, x, scale=number(x)),
        lambda x: (x @ x.transpose(-2, -1) * number(x)).softmax(-1).detach() @ x,
    ),
    "interpolate by a size read out": (lambda x: F.interpolate(x, size=int(6 + number(x))), lambda x: x),
    "weights by the index of the largest": (
        lambda x: x * torch.arange(1.0, 9)[x.mean((0, 2, 3)).argmax()],
        lambda x: x * torch.arange(1.0, 9)[x.mean((0, 2, 3)).argmax()],
    ),
}

# -- a gate or a number in the place of a constant --------------------------------------------------


def _one_hot_by_setitem(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    y[x > 0] = 0.3
    return y


def _marked(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    y[:, x.mean((0, 2, 3)).argmax()] = 0.3
    return y


def _gradient_of_copy(x: Tensor) -> Tensor:
    copy = x.detach().requires_grad_()
    copy.pow(4).sum().backward()
    assert copy.grad is not None
    return copy.grad * 0.01


def _optimised(x: Tensor) -> Tensor:
    shift = torch.zeros(8, 1, 1, requires_grad=True)
    ((x.detach() - shift) ** 2).mean().backward()
    optimiser = torch.optim.SGD([shift], lr=0.5)
    optimiser.step()
    return shift.detach()


def _edited_by_address(x: Tensor) -> Tensor:
    y, g = torch.zeros(2, 8, 6, 6), gate(x).detach().contiguous()
    ctypes.memmove(y.data_ptr(), g.data_ptr(), g.numel() * 8)
    return y


def _printed(x: Tensor) -> Tensor:
    found = re.search(r"-?\d+\.\d+", str(x.detach().mean()))
    assert found is not None
    return torch.tensor(float(found[0]))


def _counted(x: Tensor) -> Tensor:
    values = list(x.detach().mean((1, 2, 3)))
    return torch.tensor([float(v) for v in values]).view(2, 1, 1, 1)


@torch.no_grad()
def _filled(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    torch.nn.init.constant_(y, number(x))
    return y


_ADDED: dict[str, Callable[[Tensor], object]] = {
    "setitem by a moving mask": _one_hot_by_setitem,
    "setitem at a moving index": _marked,
    "scatter by a moving index": lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 0.3),
    "scatter_ by a moving index": lambda x: torch.zeros(2, 8, 6, 6).scatter_(1, x.argmax(1, keepdim=True), 0.3),
    "index_put by a moving mask": lambda x: torch.zeros(2, 8, 6, 6).index_put((x > 0,), torch.tensor(0.3)),
    "index_fill by a moving index": lambda x: torch.zeros(8, 6, 6).index_fill(0, x.mean((0, 2, 3)).argmax(), 0.3),
    "index_copy by a moving index": lambda x: torch.zeros(8, 6, 6).index_copy(
        0, x.mean((0, 2, 3)).argsort(), torch.arange(288.0).view(8, 6, 6) / 99
    ),
    "masked_fill of a constant": lambda x: torch.zeros(2, 8, 6, 6).masked_fill(x > 0, 0.3),
    "masked_scatter of a constant": lambda x: torch.zeros(2, 8, 6, 6).masked_scatter(x > 0, torch.ones(576)),
    "take_along_dim": lambda x: torch.take_along_dim(torch.arange(8.0).view(1, 8, 1, 1).expand(2, 8, 6, 6), x.argsort(1), 1),
    "repeat_interleave of a constant": lambda x: torch.arange(8.0).repeat_interleave((x.mean((0, 2, 3)) > 0) + 1)[:6],
    "roll of a constant by a moving number": lambda x: torch.arange(6.0).roll(int(100 * number(x))),
    "the grad of a copy": _gradient_of_copy,
    "a step of an optimiser": _optimised,
    "memory written by address": _edited_by_address,
    "a printed tensor": _printed,
    "a list of numbers": _counted,
    "init.constant_": _filled,
    "full": lambda x: torch.full((6,), number(x)),
    "a scalar tensor": lambda x: torch.scalar_tensor(number(x)),
    "tensor, times 1": lambda x: torch.tensor(number(x)) * 1.0,
    "tensor, expanded": lambda x: torch.tensor([number(x)]).expand(6),
    "numpy, times 1": lambda x: torch.from_numpy(x.detach().numpy()) * 0.5,
    "numpy, cloned": lambda x: torch.from_numpy(x.detach().numpy()).clone(),
    "a parameter, scaled": lambda x: nn.Parameter(torch.ones(6)) * number(x),
    "zeros, plus a number": lambda x: torch.zeros(6) + number(x),
    "zeros, fill_": lambda x: torch.zeros(6).fill_(number(x)),
    "zeros, fill_ by a gate": lambda x: torch.zeros(6).fill_(gate(x).mean()),
    "zeros, add_": lambda x: torch.zeros(6).add_(gate(x).mean().detach()),
    "eye, times a number": lambda x: torch.eye(6) * number(x),
    "arange from a number": lambda x: torch.arange(number(x), number(x) + 6)[:6],
    "full_like a constant": lambda x: torch.full_like(torch.zeros(6), number(x)),
    "the generator's seed": lambda x: torch.rand(6, generator=torch.Generator().manual_seed(int(1e6 * number(x)))),
    "a complex number": lambda x: abs(complex(number(x), 1.0)),
    "index, as a number": lambda x: float(x.detach().sum().int().item()) / 100,
    "len of what is left": lambda x: len(x[x > 0].tolist()) / 100,
    "held by hand": lambda x: held_by_hand(x) * 0.5,
    "weights of attention": lambda x: nn.MultiheadAttention(6, 2, batch_first=True)(*[x.flatten(1, 2)] * 3)[1][
        :, :6, :6
    ].unsqueeze(1),
    "the length of normalize": lambda x: x.norm(dim=1, keepdim=True).expand_as(x),
    "max of a gate": lambda x: gate(x).max(),
    "sort of a gate": lambda x: gate(x).sort(1).values,
    "sum of a gate": lambda x: gate(x).sum(1, keepdim=True),
    "normalize of a gate": lambda x: F.normalize(gate(x)),
    "layer_norm of a gate": lambda x: F.layer_norm(gate(x), (6, 6)),
    "relu of a gate": lambda x: F.relu(gate(x)),
    "silu of a gate": lambda x: F.silu(gate(x)),
    "conv2d of a gate": lambda x: F.conv2d(gate(x), torch.eye(8)[..., None, None], torch.ones(8)),
    "attention of a gate": lambda x: F.scaled_dot_product_attention(x, x, gate(x)),
    "a gate, cast": lambda x: gate(x).float().double(),
    "a gate, out of a list": lambda x: [gate(x)][0],
    "power of a gate": lambda x: gate(x) ** 2,
    "matmul of gates": lambda x: gate(x) @ gate(x).transpose(-2, -1),
    "product of a gate and a constant": lambda x: torch.ones(6) * gate(x),
    "quotient of constant and gate": lambda x: torch.ones(6) / gate(x),
    "quotient of a constant and a signal": lambda x: torch.ones(6) / (2 + x / 200),
    "the functional layer_norm of a gate": lambda x: functional.layer_norm(gate(x)),
    "the functional relu of a gate": lambda x: functional.relu(gate(x)),
}

_WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp by a number read out": lambda x: x.clamp(min=number(x)),
    "threshold by a number read out": lambda x: F.threshold(x, 0.1, number(x)),
    "softplus by a number read out": lambda x: F.softplus(x, beta=number(x)),
    "hardtanh by a number read out": lambda x: F.hardtanh(x, number(x), 5.0),
    "masked_fill by a number read out": lambda x: x.masked_fill(torch.eye(6) > 0, number(x)),
    "pad by a number read out": lambda x: F.pad(x, (1, 1), value=number(x)),
    "where by a number read out": lambda x: torch.where(torch.eye(6) > 0, x, number(x)),
    "cat of numbers read out": lambda x: torch.cat([x[:, :7], torch.full((2, 1, 6, 6), number(x))], 1),
    "setitem of a number read out": lambda x: _set_first(x, number(x)),
    "sub of a number read out": lambda x: x - number(x),
    "rsub of a number read out": lambda x: number(x) - x,
    "add_ of a number read out": lambda x: x.clone().add_(number(x)),
    "a bias of numbers read out": lambda x: F.conv2d(x, torch.eye(8)[..., None, None], torch.full((8,), number(x))),
    "a shift of numbers read out": lambda x: F.layer_norm(x, (6, 6), None, torch.full((6, 6), number(x))),
    "a mean of numbers read out": lambda x: F.batch_norm(x, torch.full((8,), number(x)), torch.ones(8)),
    "a variance, and its mean, read out": lambda x: (
        F.batch_norm(x, torch.ones(8), torch.full((8,), number(x))) * 1.0 + torch.full((6,), number(x))
    ),
    "maximum with a number read out": lambda x: torch.maximum(x, torch.tensor(number(x))),
    "addmm of numbers read out": lambda x: torch.baddbmm(
        torch.full((6, 6), number(x)), x.flatten(0, 1), torch.eye(6).expand(16, 6, 6)
    ).view_as(x),
    "scatter, multiplied": lambda x: x.scatter(1, torch.zeros(2, 8, 6, 6, dtype=torch.int64), x.roll(1, 1), reduce="multiply"),
    "scatter_reduce, prod": lambda x: x.scatter_reduce(1, torch.zeros(2, 8, 6, 6, dtype=torch.int64), x / 9, "prod"),
    "index_reduce, prod": lambda x: x.index_reduce(1, torch.zeros(8, dtype=torch.int64), x / 9, "prod"),
    "alpha_dropout in training": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "feature_alpha_dropout in training": lambda x: F.feature_alpha_dropout(x, 0.5, training=True),
    "divided and rounded": lambda x: torch.div(x, 0.5, rounding_mode="trunc"),
    "bits seen as integers": lambda x: x + (x.detach().view(torch.int64) & -(2**40)).view(torch.float64),
    "a quotient of gates": lambda x: gate(x) / x.abs(),
    "the whole, detached": lambda x: x.detach() * 1.0,
    "the whole, under no_grad": torch.no_grad()(lambda x: x * 2.0),
    "functional.layer_norm by a moving bias": lambda x: functional.layer_norm(x, bias=gate(x).mean((0, 2, 3))),
    "add_constant of a gate": lambda x: add_constant(x, gate(x), "shift"),
    "integers in the middle": lambda x: x.to(torch.int32).to(torch.float64),
    "half the bits": lambda x: x.view(torch.int32).view(torch.float64),
    "one image looks at another": lambda x: x * 1.0 + x.mean(0) - x.mean(0).detach(),
    "attention across the batch": lambda x: torch.einsum("mn,nchw->mchw", torch.eye(2) * 0.5 + 0.25, x),
    "the batch, sorted": lambda x: x.sort(0).values,
    "the batch, cumulated": lambda x: x.cumsum(0),
}


def _set_first(x: Tensor, v: float) -> Tensor:
    y = x.clone()
    y[:, 0] = v
    return y


CORNERS: list[Case] = [
    *twins(_BY_NAME, lambda x: x * gate(x).detach(), *ANY),
    *(c for name, (f, held) in _CHOICES.items() for c in twins({name: f}, held, *ANY, constants=True)),
    factor("a moving bound", bounded, "where"),
    *(refused(f"adding {name}", lambda x, f=f: x + f(x), *ANY) for name, f in _ADDED.items()),
    *(refused(name, f, *ANY) for name, f in _WHOLE.items()),
]
