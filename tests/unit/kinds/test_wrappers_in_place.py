"""Networks that edit tensors in place are explained as the same networks without edits, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchbcos
from tests.unit.kinds.wrapped import Forward, check_same, pair, pictures, pooled, written
from torchbcos._core.errors import StateError


def edit(change: Callable[[Any, Tensor], Any], plain: Callable[[Any, Tensor], Tensor]) -> tuple[Forward, Forward]:
    """A network that edits a feature, and the plain one that computes it anew."""

    def edited(s: Any, x: Tensor) -> Tensor:
        y = s.norm(s.conv(x))
        changed = change(s, y)
        return pooled(s, y if changed is None else changed)

    return edited, lambda s, x: pooled(s, plain(s, s.norm(s.conv(x))))


def into(fill: float, write: Callable[[Any, Tensor, Tensor], Any]) -> Callable[[Any, Tensor], Tensor]:
    """A feature is written into a tensor of equal numbers."""

    def change(s: Any, y: Tensor) -> Tensor:
        z = torch.full_like(y, fill)
        write(s, z, y)
        return z

    return change


def put(y: Tensor, rows: slice, what: Tensor) -> Tensor:
    """Other channels in some places."""
    return torch.cat([y[:, : rows.start], what, y[:, rows.stop :]], 1)


def _rows(y: Tensor) -> Tensor:
    return torch.arange(5, -1, -1)[None, :, None, None].expand_as(y)


def _halves(s: Any, y: Tensor) -> Tensor:
    z = torch.zeros(len(y), 6, 8, 8, dtype=y.dtype)
    z[:, ::2] = y[:, :3]
    z[:, 1::2] = y[:, 3:].relu()
    return z


def _through_views(s: Any, y: Tensor) -> Tensor:
    z = torch.ones_like(y)
    z[:, :2].copy_(y[:, :2])
    z[:, 2] += y[:, 2]
    z[:, 3:].add_(y[:, 3:])
    return z


def _own_bias(s: Any, y: Tensor) -> None:
    y[:, :3] += s.norm.bias[:3, None, None]


FIRST = slice(0, 3)
EDITS: dict[str, tuple[Callable[[Any, Tensor], Any], Callable[[Any, Tensor], Tensor]]] = {
    "relu_": (lambda s, y: y.relu_(), lambda s, y: y.relu()),
    "F.relu by place": (lambda s, y: F.relu(y[:, :3], True) is None or y, lambda s, y: put(y, FIRST, y[:, :3].relu())),
    "gelu of a clone": (lambda s, y: F.silu(y.clone(), inplace=True), lambda s, y: F.silu(y)),
    "silu": (lambda s, y: F.silu(y, inplace=True), lambda s, y: y * y.sigmoid().detach()),
    "hardswish": (lambda s, y: F.hardswish(y, inplace=True), lambda s, y: y * F.hardsigmoid(y).detach()),
    "leaky_relu_": (lambda s, y: F.leaky_relu_(y, 0.1), lambda s, y: torch.where(y > 0, y, 0.1 * y)),
    "clamp_ with f(0)": (lambda s, y: y.clamp_(min=0.1), lambda s, y: y.clamp(min=0.1)),
    "+= a signal": (lambda s, y: y.__iadd__(y.clone().relu()), lambda s, y: y + y.relu()),
    "chain": (lambda s, y: y.mul_(2).sub_(0.5).div_(3).neg_().add_(1, alpha=2), lambda s, y: 2 - (2 * y - 0.5) / 3),
    "mul_ by a gate": (lambda s, y: y.mul_(s.second(y.detach()).sigmoid()), lambda s, y: y * s.second(y).sigmoid().detach()),
    "mul_ of a view": (
        lambda s, y: _gated_view(y),
        lambda s, y: put(y, FIRST, y[:, :3] * y[:, 3:].sigmoid().detach()),
    ),
    "a gate times a signal": (lambda s, y: y.sigmoid().mul_(y), lambda s, y: y * y.sigmoid().detach()),
    "a constant times a signal": (into(2.0, lambda s, z, y: z.mul_(y)), lambda s, y: 2 * y),
    "a gate edited before use": (lambda s, y: y * y.sigmoid().mul_(2).add_(1), lambda s, y: y * (2 * y.sigmoid() + 1).detach()),
    "copy_ into zeros": (into(0.0, lambda s, z, y: z.copy_(y)), lambda s, y: y),
    "halves into zeros": (_halves, lambda s, y: torch.stack([y[:, :3], y[:, 3:].relu()], 2).flatten(1, 2)),
    "views of a constant": (_through_views, lambda s, y: torch.cat([y[:, :2], y[:, 2:] + 1], 1)),
    "+= a parameter in a view": (_own_bias, lambda s, y: put(y, FIRST, y[:, :3] + s.norm.bias[:3, None, None])),
    "a number in a place": (
        lambda s, y: y.__setitem__((slice(None), 0), 1.0), lambda s, y: torch.cat([torch.ones_like(y[:, :1]), y[:, 1:]], 1),
    ),
    "masked_fill_ with zero": (lambda s, y: y.masked_fill_(y < 0, 0), lambda s, y: y.relu()),
    "masked_fill_ with a number": (lambda s, y: y.masked_fill_(y < 0, -0.3), lambda s, y: torch.where(y < 0, -0.3, y)),
    "masked_fill_ of a view": (
        lambda s, y: y[:, :3].masked_fill_(y[:, :3] < 0, -0.3) is None or y,
        lambda s, y: put(y, FIRST, torch.where(y[:, :3] < 0, -0.3, y[:, :3])),
    ),
    "a mask set to a number": (lambda s, y: y.__setitem__(y < 0, -0.3), lambda s, y: torch.where(y < 0, -0.3, y)),
    "fill_ and zero_": (
        lambda s, y: (y[:, :3].fill_(0.5), y[:, 4].zero_()) and y,
        lambda s, y: torch.cat([torch.full_like(y[:, :3], 0.5), y[:, 3:4], 0 * y[:, 4:5], y[:, 5:]], 1),
    ),
    "lerp_": (lambda s, y: y.lerp_(y.clone().relu(), 0.3), lambda s, y: 0.7 * y + 0.3 * y.relu()),
    "addcmul_": (
        lambda s, y: y.addcmul_(y.clone().relu(), s.norm.weight[:, None, None], value=0.5),
        lambda s, y: y + 0.5 * y.relu() * s.norm.weight[:, None, None],
    ),
    "index_add_": (
        into(1.0, lambda s, z, y: z.index_add_(1, torch.tensor([5, 4, 3, 2, 1, 0]), y)), lambda s, y: y.flip(1) + 1,
    ),
    "index_copy_": (into(1.0, lambda s, z, y: z.index_copy_(1, torch.arange(6), y)), lambda s, y: y),
    "index_put_": (into(1.0, lambda s, z, y: z.index_put_((torch.arange(len(y)),), y)), lambda s, y: y),
    "scatter_": (into(0.0, lambda s, z, y: z.scatter_(1, _rows(y), y)), lambda s, y: y.flip(1)),
    "scatter_add_": (into(1.0, lambda s, z, y: z.scatter_add_(1, _rows(y), y)), lambda s, y: y.flip(1) + 1),
    "transpose_": (lambda s, y: y.clone().transpose_(2, 3), lambda s, y: y.transpose(2, 3)),
    "a dropped result": (lambda s, y: y.clone().mul_(3) is None or y.mul_(2), lambda s, y: 2 * y),
}  # fmt: skip


def _gated_view(y: Tensor) -> Tensor:
    y[:, :3] *= y[:, 3:].sigmoid()
    return y


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_in_place_is_explained_as_a_new_tensor(name: str) -> None:
    check_same(*pair(*edit(*EDITS[name])))


def _later(s: Any, y: Tensor) -> Tensor:
    out = y * 1
    y.detach().mul_(0)
    return out + y


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "the square of a signal": (lambda s, y: y.__imul__(y), "two signals"),
    "square_ of a view": (lambda s, y: y[:, :3].square_() is None or y, "'square'"),
    "exp_ of a view": (lambda s, y: y[:, :3].exp_() is None or y, "'exp'"),
    "sigmoid_ of a view": (lambda s, y: y[:, :3].sigmoid_() is None or y, "shares its memory"),
    "a gate written into a signal": (lambda s, y: y.__setitem__((slice(None), 0), y.sigmoid()[:, 1]), "held"),
    "a gate plus a signal": (lambda s, y: y.sigmoid().add_(y), "is added to a signal"),
    "an alias without gradient": (_later, "shares its memory"),
    "renorm_": (lambda s, y: y.renorm_(2, 1, 1.0), "'renorm'"),
    "after its gradient needs it": (lambda s, y: y.mul_(2).add_(s.second(y)), "edits a tensor in place"),
    "an output of chunk": (lambda s, y: torch.cat([y.chunk(2, 1)[0], y.chunk(2, 1)[1].relu_()], 1), "without gradients only"),
    "out=": (lambda s, y: torch.add(y, y, out=torch.empty_like(y)), "without gradients only"),
    "a signal aliased": (into(0.0, lambda s, z, y: z.detach().copy_(y)), "held"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused(name: str) -> None:
    change, message = REFUSED[name]
    net = written(edit(change, lambda s, y: y)[0])
    with pytest.raises(StateError, match=message):
        torchbcos.explain(net, pictures(), 1)


def test_edits_without_gradients_are_refused() -> None:
    def quiet(s: Any, y: Tensor) -> None:
        with torch.no_grad():
            y.mul_(2)

    with pytest.raises(StateError, match="without gradients"):
        torchbcos.explain(written(edit(quiet, lambda s, y: y)[0]), pictures(), 1)


@pytest.mark.parametrize("write", [lambda b, y: b.copy_(y), lambda b, y: b[0].add_(y[0]), lambda b, y: b.detach().copy_(y)])
def test_a_signal_in_the_networks_own_buffer_is_refused_and_the_buffer_brought_back(
    write: Callable[[Tensor, Tensor], Any],
) -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        y = s.conv(x)
        write(s.kept, y.mean((0, 2, 3)))
        return pooled(s, y + s.kept[:, None, None])

    net = written(forward)
    net.register_buffer("kept", torch.ones(6, dtype=torch.float64))
    with pytest.raises(StateError, match="into its own 'kept'"):
        torchbcos.explain(net, pictures(), 1)
    assert torch.equal(net.kept, torch.ones(6, dtype=torch.float64)) and not net.kept.requires_grad


def test_counters_and_caches_of_the_network_are_as_before() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        s.calls += 1
        s.cache = s.conv.bias.detach() * 2
        return pooled(s, s.conv(x) + s.cache[:, None, None])

    net = written(forward)
    net.register_buffer("calls", torch.zeros((), dtype=torch.long))
    net.register_buffer("cache", torch.zeros(6, dtype=torch.float64))
    before = net.cache
    check_same(net, written(lambda s, x: pooled(s, s.conv(x) + 2 * s.conv.bias[:, None, None])))
    assert int(net.calls) == 0 and net.cache is before
