"""Planted faults: networks whose explanation says something wrong, each in a way that the watch must believe.

`explain` takes a `torchbcos.nn.Layer` at its word, and a rule that was registered for an operation. So the faults stand there:
layers that say they hold their factors and name their constants and do not, and operations of the tests' own with a wrong rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.frozen import add_constant
from torchbcos.explanation.complete import usual_tolerance
from torchbcos.kinds import Call, rules
from torchbcos.kinds.call import Outcome
from torchbcos.kinds.named import Part

__all__ = ["ADDS_UP", "KNOWN", "SLIGHTLY", "WRONG", "WRONG_RULES", "Between", "Hides", "Says", "ratio"]


class Between(nn.Module):
    """B-cos layers with something between them, and something behind."""

    def __init__(self, between: Callable[[Tensor], Tensor] | None = None, behind: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.between = bnn.BcosConv2d(6, 8, 3), between or nn.Identity()
        self.second, self.pool = bnn.BcosConv2d(8, 3, 3), bnn.GlobalAveragePool()
        self.behind = behind or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.behind(self.pool(self.second(self.between(self.first(x)))))
        return out


class Says(bnn.Layer):
    """A layer that computes a function, and says by its class that it is linear once held."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def compute(self, x: Tensor) -> Tensor:
        return self.function(x)


class Hides(bnn.Layer):
    """An affine map that names no constant: `bias` to twice as much."""

    def __init__(self, size: int, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.eye(size)), nn.Parameter(torch.linspace(bias, 2 * bias, size))

    def compute(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)


# -- operations that the table does not have, and rules for them ------------------------------------------------------------


_LIBRARY = torch.library.Library("torchbcos_tests", "DEF")


def _with_rule(name: str, rule: Callable[[Call], Outcome], function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An operation of `torch.library` that computes a function, with this rule."""
    _LIBRARY.define(f"{name}(Tensor x) -> Tensor")
    _LIBRARY.impl(name, function, "CompositeImplicitAutograd")
    operation = getattr(torch.ops.torchbcos_tests, name).default
    torchbcos.register_rule(operation, rule)
    return lambda x: operation(x)  # a function, which copies as itself


def ratio(x: Tensor) -> Tensor:
    """`x·|x| / ||x||`: of degree 1, so any explanation of it adds up."""
    return x * x.abs() / x.norm(dim=1, keepdim=True)


softplus = _with_rule("softplus", rules.linear_map, lambda x: 30 * F.softplus(x))
degree_one = _with_rule("degree_one", rules.linear_map, ratio)


def _live(call: Call) -> Outcome:
    """A gate that lives: of degree 0, so that the sum says nothing."""
    x = call.signal
    return call.linear(x * (x.abs() / x.norm(dim=1, keepdim=True)))


def _unheld_norm(call: Call) -> Outcome:
    """A norm whose spread lives, and that is multiplied by a length."""
    x = call.signal
    return call.linear(F.normalize(x, dim=1) * x.abs().amax((2, 3), keepdim=True))


def _square(call: Call) -> Outcome:
    """`x·|x|` as if it were a map."""
    x = call.signal
    return call.linear(x * x.abs())


def _detached(call: Call) -> Outcome:
    """A branch that is cut: what it gives is neither pixel nor constant."""
    x = call.signal
    return call.linear(x + x.detach())


def _unnamed(call: Call) -> Outcome:
    """A constant without a name."""
    return call.linear(call.signal + 1)


def _moving(call: Call) -> Outcome:
    """What is named as a constant depends on the input."""
    x = call.signal
    return call.linear(call.naming.added(x + x.detach().mean(), [Part(x.detach().mean(), "added")]))


def _other(call: Call) -> Outcome:
    """Linear, complete, and another output than the network's."""
    return call.linear(call.signal * 2)


class _Once(torch.autograd.Function):
    """`x·|x|`, with the right gradient where the gate is held, and a backward pass that has none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.abs()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0].abs()


WRONG_RULES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "an unheld norm": (
        _with_rule("unheld", _unheld_norm, lambda x: F.normalize(x, dim=1) * x.abs().amax((2, 3), keepdim=True)),
        "Linear once held: W depends on the input",
    ),
    "x|x|": (_with_rule("square", _square, lambda x: x * x.abs()), "Complete"),
    "a gate that lives": (_with_rule("live", _live, ratio), "Linear once held: W depends on the input"),
    "a constant without a name": (_with_rule("unnamed", _unnamed, lambda x: x + 1), "Complete"),
    "a constant that moves": (_with_rule("moving", _moving, lambda x: x + x.mean()), "depends on its input in a way"),
    "a detached branch": (_with_rule("detached", _detached, lambda x: x * 2), "Complete"),
    "another output": (_with_rule("other", _other, lambda x: x * 3), "Outputs unchanged"),
}
"""Operations whose rule is wrong, and what is said of each."""


def _moving_constant(x: Tensor) -> Tensor:
    return add_constant(x, x.detach().mean(), "mean")


WRONG: dict[str, Callable[[], Between]] = {
    "a norm": lambda: Between(Says(lambda x: F.group_norm(x, 2) + 0.5)), "a bias": lambda: Between(behind=Hides(3, 0.5)),
    "gelu": lambda: Between(Says(lambda x: F.gelu(30 * x))), "softplus": lambda: Between(softplus),
    "a number": lambda: Between(behind=Says(lambda x: x + 0.25)),
    "layer norm": lambda: Between(behind=Says(lambda x: F.layer_norm(x, x.shape[1:]))),
    "a cut": lambda: Between(Says(lambda x: x + x.detach())),
}  # fmt: skip
"""Networks that are refused: their explanation does not add up by far."""

SLIGHTLY: dict[str, Callable[[torch.dtype], Between]] = {
    "a number": lambda dtype: Between(behind=Says(lambda x: x + 5 * usual_tolerance(dtype))),
    "a bias": lambda dtype: Between(behind=Hides(3, 3 * usual_tolerance(dtype))),
    "an edit": lambda dtype: Between(behind=Says(lambda x: x + (x.detach() * 0 + 5 * usual_tolerance(dtype)))),
}  # fmt: skip
"""Networks whose explanation misses a value by a few times the bound: explained, and not complete."""

ADDS_UP: dict[str, tuple[Callable[[], Between], str]] = {
    "a factor in a layer": (lambda: Between(Says(ratio)), "W depends on the input"),
    "a factor in an operation": (lambda: Between(degree_one), "W depends on the input"),
    "a norm of degree 0 and its size": (
        lambda: Between(Says(lambda x: F.normalize(x, dim=1) * x.mean((2, 3), keepdim=True))), "W depends on the input"),
    "two gates": (lambda: Between(Says(lambda x: x * torch.sigmoid(x / x.std(1, keepdim=True)))), "W depends on the input"),
    "no second derivative": (lambda: Between(Says(_Once.apply)), "no second derivative"),
    "a constant that moves": (lambda: Between(Says(_moving_constant)), "Constants are constant"),
}  # fmt: skip
"""Networks whose explanation adds up, and is not proved: the law that each breaks."""

KNOWN: dict[str, Callable[[], Between]] = {
    "nothing": Between, "relu": lambda: Between(torch.relu), "no bias": lambda: Between(behind=nn.Linear(3, 3, bias=False)),
    "our norm": lambda: Between(bnn.BatchNorm(8)), "our bias": lambda: Between(behind=bnn.Logits(bias=-2.0)),
    "a norm": lambda: Between(_shifted_norm()), "a bias": lambda: Between(behind=nn.Linear(3, 3)),
    "gelu": lambda: Between(nn.GELU()), "softplus": lambda: Between(F.softplus),
    "layer norm": lambda: Between(behind=nn.LayerNorm(3)),
}  # fmt: skip
"""Networks that are explained."""


def _shifted_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(8)
    nn.init.constant_(norm.bias, 0.5)
    return norm
