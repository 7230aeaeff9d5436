"""Planted state and memory: modules that keep what they saw, memory with two names, numbers that another thread reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.kinds.planting import ANY, Case, Planted, elsewhere, refused
from torchbcos import nn as bnn

__all__ = ["PROVED", "STATE"]

_EYE = torch.eye(8, dtype=torch.float64)[..., None, None]


def number(x: Tensor) -> float:
    """A number that moves with the signal."""
    return float(torch.sigmoid(x.detach().mean()))


def level(x: Tensor) -> Tensor:
    """(8,): how often a channel is above nought, softly; held."""
    return torch.sigmoid(x.detach()).mean((0, 2, 3))


def unwatched(f: Callable[[], Any]) -> Any:
    """What f gives while nobody watches functions of torch."""
    with torch._C.DisableTorchFunction():
        return f()


# -- modules ----------------------------------------------------------------------------------------


class _Own(nn.Module):
    """A module that owns a convolution, a norm of this library, a bias and two statistics, and writes into them."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.bias = nn.Conv2d(8, 8, 1), bnn.LayerNorm(8), nn.Parameter(torch.zeros(8))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))
        self.kept: Any = None
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def _keeps(value: Callable[[Tensor], Any]) -> Callable[[Any, Tensor], Tensor]:
    """What the first call saw is added in every call."""

    def run(m: Any, x: Tensor) -> Tensor:
        m.kept = value(x) if m.kept is None else m.kept
        out: Tensor = x + m.kept
        return out

    return run


def _initialises(write: Callable[[Any, Tensor], object]) -> Callable[[Any, Tensor], Tensor]:
    """The first call writes a bias, as data-dependent initialisation does."""

    def run(m: Any, x: Tensor) -> Tensor:
        if m.kept is None:
            with torch.no_grad():
                write(m, x)
            m.kept = True
        return F.conv2d(x, _EYE, m.bias)

    return run


def _averages(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.mean.mul_(0.9).add_(torch.tensor(level(x).tolist()), alpha=0.1)
    return x - m.mean[None, :, None, None]


def _updates(m: Any, x: Tensor) -> Tensor:
    torch.batch_norm_update_stats(x.detach(), m.mean, m.var, 0.5)
    return F.batch_norm(x, m.mean, m.var)


def _copies(write: Callable[[Any, Tensor], object]) -> Callable[[Any, Tensor], Tensor]:
    def run(m: Any, x: Tensor) -> Tensor:
        conv = copy.deepcopy(m.conv)
        with torch.no_grad():
            write(conv, x)
        out: Tensor = conv(x)
        return out

    return run


def _loads(m: Any, x: Tensor) -> Tensor:
    m.conv.load_state_dict({"weight": m.conv.weight.detach(), "bias": level(x)})
    out: Tensor = m.conv(x)
    return out


def _vectors(m: Any, x: Tensor) -> Tensor:
    vector = nn.utils.parameters_to_vector(m.conv.parameters()).detach().clone()
    vector[-8:] = torch.tensor(level(x).tolist())
    nn.utils.vector_to_parameters(vector, m.conv.parameters())
    out: Tensor = m.conv(x)
    return out


def _hooked(m: Any, x: Tensor) -> Tensor:
    hook = m.conv.register_forward_pre_hook(lambda conv, given: setattr(m, "kept", given[0].detach().sigmoid()))
    try:
        out: Tensor = m.conv(x) + m.kept
    finally:
        hook.remove()
    return out


def _norm_filled(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.norm.bias.fill_(number(x))
    out: Tensor = m.norm(x)
    return out


def _norm_filled_unwatched(m: Any, x: Tensor) -> Tensor:
    unwatched(lambda: m.norm.bias.data.copy_(level(x)))
    out: Tensor = m.norm(x)
    return out


_MODULES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "the first call's gate is kept": _keeps(lambda x: x.detach().sigmoid()),
    "the first call's number is kept": _keeps(number),
    "a bias initialised by the first call": _initialises(lambda m, x: setattr(m.bias, "data", level(x))),
    "a bias initialised by a list": _initialises(lambda m, x: m.bias.data.copy_(torch.tensor(level(x).tolist()))),
    "a bias made by the first call": _initialises(lambda m, x: setattr(m, "bias", nn.Parameter(torch.tensor(level(x).tolist())))),
    "a moving average of lists": _averages,
    "batch_norm_update_stats": _updates,
    "a copied module is written": _copies(lambda conv, x: conv.bias.data.copy_(level(x))),
    "a copied module is filled": _copies(lambda conv, x: conv.bias.fill_(number(x))),
    "load_state_dict": _loads,
    "vector_to_parameters": _vectors,
    "functional_call by a moving bias": lambda m, x: torch.func.functional_call(m.conv, {"bias": level(x)}, (x,)),
    "a hook that keeps what it sees": _hooked,
    "the bias of our norm is filled": _norm_filled,
}

# -- memory with two names --------------------------------------------------------------------------


def _fresh(write: Callable[[Tensor, Tensor], object]) -> Callable[[Tensor], Tensor]:
    """A fresh tensor of noughts, written by `write(fresh, gate)` and added."""

    def run(x: Tensor) -> Tensor:
        y = torch.zeros(2, 8, 6, 6)
        write(y, x.detach().sigmoid())
        return x + y

    return run


def _buffer(x: Tensor) -> Tensor:
    memory = bytearray(576 * 8)
    y = torch.frombuffer(memory, dtype=torch.float64)
    np.copyto(np.frombuffer(memory), x.detach().sigmoid().numpy().ravel())
    return x + y.view(2, 8, 6, 6) * 1.0


_WRITES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "aten.sigmoid.out": lambda y, g: torch.ops.aten.sigmoid.out(g, out=y),
    "aten.copy_": lambda y, g: torch.ops.aten.copy_(y, g),
    "_foreach_copy_": lambda y, g: torch._foreach_copy_([y], [g]),
    "_foreach_add_ of a number": lambda y, g: torch._foreach_add_([y], float(g.mean())),
    "map_": lambda y, g: y.map_(g, lambda a, b: b),
    "uniform_ between moving numbers": lambda y, g: y.uniform_(float(g.mean()), float(g.mean())),
    "normal_ around a moving number": lambda y, g: y.normal_(float(g.mean()), 0.0),
    "as_strided, copy_": lambda y, g: y.as_strided((2, 8, 6, 6), (288, 36, 6, 1)).copy_(g),
    "as integers": lambda y, g: y.view(torch.int64).copy_(g.view(torch.int64)),
    "mT, copy_": lambda y, g: y.mT.copy_(g),
    "row by row": lambda y, g: [a.copy_(b) for a, b in zip(y, g, strict=True)],
    "chunk by chunk": lambda y, g: [a.copy_(b) for a, b in zip(y.chunk(2), g.chunk(2), strict=True)],
    "a diagonal": lambda y, g: y.diagonal(dim1=2, dim2=3).copy_(g[..., 0]),
    "detach, copy_": lambda y, g: y.detach().copy_(g),
    "its numpy view": lambda y, g: np.copyto(y.numpy(), g.numpy()),
    "unwatched": lambda y, g: unwatched(lambda: y.copy_(g)),
    "set_ to a storage": lambda y, g: y.set_(g.untyped_storage(), 0, (2, 8, 6, 6), (288, 36, 6, 1)),
}

# -- sizes and numbers ------------------------------------------------------------------------------


def _kurtosis(a: Any) -> float:
    """Neither a shift nor a scale changes it."""
    return float(((a - a.mean()) ** 4).mean() / a.var() ** 2)


def _told(x: Tensor, ask: Callable[[Tensor, Callable[..., float]], Any]) -> float:
    """The sum of the numbers that a function of Python was told."""
    told: list[float] = []
    ask(x.detach().clone(), lambda *numbers: (told.append(numbers[0]), numbers[0])[1])
    return sum(told)


def _above(x: Tensor) -> Tensor:
    """How many are above nought."""
    return (x > 0).sum()


_ONES = torch.ones(999, dtype=torch.float64)

_SIZES: dict[str, Callable[[Tensor], Any]] = {
    "how many constants a mask takes": lambda x: _ONES[:576][(x > 0).flatten()].numel() / 1e3,
    "the same by aten": lambda x: torch.ops.aten.index.Tensor(_ONES[:576], [(x > 0).flatten()]).numel() / 1e3,
    "how many places where has": lambda x: torch.where(x > 0)[0].numel() / 1e3,
    "how long a slice is": lambda x: _ONES[: _above(x)].numel() / 1e3,
    "how long a slice is, in a tuple": lambda x: _ONES[None][..., : _above(x)].numel() / 1e3,
    "how long an expanded one is": lambda x: _ONES[:1].expand(_above(x)).numel() / 1e3,
    "how often one is repeated": lambda x: _ONES[:1].repeat_interleave(_above(x)).numel() / 1e3,
    "how often each is repeated": lambda x: _ONES[:576].repeat_interleave((x > 0).flatten().long()).numel() / 1e3,
    "how long a range is": lambda x: torch.arange(_above(x)).numel() / 1e3,
    "how long a range to a float is": lambda x: torch.arange(x.detach().abs().sum()).numel() / 1e3,
    "how many noughts": lambda x: torch.zeros((1, _above(x))).numel() / 1e3,
    "how much padding": lambda x: F.pad(_ONES[None], (_above(x), 0)).numel() / 1e3,
    "how many windows": lambda x: _ONES.unfold(0, _above(x), 1).shape[0] / 1e3,
    "how many constants are chosen": lambda x: _ONES[:576].masked_select((x > 0).flatten()).numel() / 1e3,
    "how many classes": lambda x: F.one_hot(_above(x)).numel() / 1e3,
    "how many are not nought": lambda x: F.relu(x).to_sparse().values().numel() / 1e3,
    "where it is split": lambda x: _ONES.tensor_split(_above(x).reshape(1))[0].numel() / 1e3,
    "what apply_ was told": lambda x: _told(x, lambda y, f: y.apply_(f)) / 9,
    "what map_ was told": lambda x: _told(x, lambda y, f: y.map_(y, f)) / 9,
    "how many are above nought": lambda x: (x > 0).nonzero().shape[0] / 1e3,
    "how many kinds": lambda x: x.detach().mul(9).round().unique().numel() / 1e2,
    "how many are chosen": lambda x: x.masked_select(x > 0).numel() / 1e3,
    "how many are indexed": lambda x: x[x > 0].numel() / 1e3,
    "as many ones": lambda x: torch.ones(x.masked_select(x > 0).numel()).sum() / 1e3,
    "the seed of the generator": lambda x: torch.rand(6, generator=torch.Generator().manual_seed(int((x > 0).sum()))),
    "a normalised statistic of numpy": lambda x: _kurtosis(x.detach().numpy()) / 9,
    "unwatched, washed": lambda x: unwatched(lambda: x.detach().sigmoid()) * 1.0,
    "a gate of a constant value": lambda x: (x.mean() * 0 + 1).detach() * torch.ones(6),
}

STATE: list[Case] = [
    *(Case(name, lambda run=run: _Own(run), None, ANY) for name, run in _MODULES.items()),  # type: ignore[misc]
    *(refused(f"noughts written by {name}", _fresh(write), *ANY) for name, write in _WRITES.items()),
    *(refused(f"adding {name}", lambda x, f=f: x + f(x), *ANY) for name, f in _SIZES.items()),
    refused("memory of a bytearray", _buffer, *ANY),
]

# Numbers that left where nobody watches and come back as any number of the program does. One explanation cannot tell them from
# constants; a proof, which looks at another input, can.
PROVED: list[Case] = [
    *(
        Case(name, lambda f=f: Planted(lambda x: x + f(x)), None, ANY)  # type: ignore[misc]
        for name, f in {
            "a number of another thread": lambda x: elsewhere(lambda: number(x)),
            "a list of another thread": lambda x: torch.tensor(elsewhere(lambda: level(x).tolist()))[:, None, None],
            "an array of another thread": lambda x: torch.as_tensor(elsewhere(lambda: level(x).numpy()))[:, None, None],
            "an unwatched number": lambda x: unwatched(lambda: number(x)),
            "an unwatched array": lambda x: torch.tensor(unwatched(lambda: level(x).numpy()))[:, None, None],
        }.items()
    ),
    Case("our norm, written unwatched", lambda: _Own(_norm_filled_unwatched), None, ANY),
]
