"""How an operation is planted in a network, and how an explanation of that network is judged.

A case is one operation, a module or a function of a signal (2, 8, 6, 6) in float64. It stands between two B-cos layers, and a
second time between two ordinary convolutions. Where its output is a linear map of the signal once some factors are held, the
case has a twin: the same output with those factors detached by hand. Its gradient is W, without any table of rules.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import Explanation, functional
from torchbcos import nn as bnn
from torchbcos._core.errors import StateError
from torchbcos._core.frozen import frozen

__all__ = [
    "ANY", "HOSTS", "Between", "Case", "Form", "Held", "Planted", "alive", "build", "doubles", "elsewhere", "factor",
    "first_silent", "gate", "gated", "gated_held", "judge", "off", "picture", "refused", "same", "twin_of", "twins",
]  # fmt: skip

Hold = Callable[[Tensor], Tensor]
Form = Callable[[Tensor, Hold], Tensor]
Held = Callable[[nn.Module, Tensor], Tensor]
HOSTS = ("bcos", "conv")
# words of a refusal: any will do, where nobody can say more than that something cannot be watched
ANY = ("",)
CLOSE = 1e-6  # W of an explanation against W of the twin, relative
EXACT = 1e-9  # what rounding leaves of a sum, relative


class Planted(nn.Module):
    """A function of a signal as a module."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


@dataclass(frozen=True)
class Case:
    """One planted operation.

    Attributes:
        name: what is planted.
        make: gives the module, the same numbers each time.
        held: its twin, given the module and the signal; None where only a refusal is right.
        says: words, one of which a refusal has.
        constants: True where the twin adds constants of its own.
        expect: "explained" or "refused" where the one that happens is part of what is promised; "" leaves both.
    """

    name: str
    make: Callable[[], nn.Module]
    held: Held | None = None
    says: tuple[str, ...] = ()
    constants: bool = False
    expect: str = ""
    hosts: tuple[str, ...] = field(default=HOSTS)


def gate(x: Tensor) -> Tensor:
    """A factor of degree 0."""
    return torch.sigmoid(x / x.std(1, keepdim=True))


def gated(x: Tensor) -> Tensor:
    """A function of degree 1, which all plain gradients are wrong about."""
    return x * gate(x)


def gated_held(x: Tensor) -> Tensor:
    """Its twin."""
    return x * gate(x).detach()


def elsewhere(f: Callable[[], Any]) -> Any:
    """What f gives in another thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(f()))
    thread.start()
    thread.join()
    return found[0]


def same(t: Tensor) -> Tensor:
    """The tensor, alive."""
    return t


def alive(form: Form) -> Callable[[Tensor], Tensor]:
    """A form as the network has it: nothing is held."""
    return lambda x: form(x, same)


def factor(name: str, form: Form, *says: str, constants: bool = False, expect: str = "") -> Case:
    """A case of one form `form(x, hold)`: the network holds nothing, the twin detaches."""
    return Case(name, lambda: Planted(alive(form)), lambda _, x: form(x, torch.detach), says, constants, expect)


def twins(
    spellings: dict[str, Callable[[Tensor], Tensor]], held: Callable[[Tensor], Tensor], *says: str, constants: bool = False,
    expect: str = "",
) -> list[Case]:  # fmt: skip
    """Cases that spell one operation differently and share a twin."""
    return [
        Case(name, lambda f=f: Planted(f), lambda _, x: held(x), says, constants, expect)  # type: ignore[misc]
        for name, f in spellings.items()
    ]


def refused(name: str, f: Callable[[Tensor], Tensor], *says: str) -> Case:
    """A case without a factor form."""
    return Case(name, lambda: Planted(f), None, says)


class Between(nn.Module):
    """A planted module between two layers: B-cos layers, or ordinary convolutions with their biases."""

    def __init__(self, planted: nn.Module, host: str) -> None:
        super().__init__()
        layer = bnn.BcosConv2d if host == "bcos" else nn.Conv2d
        self.first, self.planted, self.last = layer(6, 8, 3, padding=1), planted, layer(8, 5, 3, padding=1)
        self.gain = 30.0 if host == "bcos" else 4.0

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.planted(self.before(x)))

    def before(self, x: Tensor) -> Tensor:
        """The signal that the planted module sees."""
        return self.first(x) * self.gain

    def after(self, x: Tensor) -> Tensor:
        """The outputs (N, 5) of what the planted module made."""
        return self.last(x).mean((2, 3)) * self.gain


@contextlib.contextmanager
def doubles() -> Iterator[None]:
    """Inside this block new tensors are float64."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def build(case: Case, host: str) -> Between:
    """The network of a case, the same one each time."""
    torch.manual_seed(7)
    return Between(case.make(), host).eval()


def picture() -> Tensor:
    """Two encoded pictures (2, 6, 6, 6)."""
    generator = torch.Generator().manual_seed(3)
    return functional.add_inverse(torch.rand(2, 3, 6, 6, dtype=torch.float64, generator=generator))


def twin_of(case: Case, model: Between, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """W (N, C, H, W) and the outputs (N, 5) of a case's twin: frozen B-cos layers around factors detached by hand."""
    assert case.held is not None
    leaf = x.clone().requires_grad_()
    with frozen():
        outputs = model.after(case.held(model.planted, model.before(leaf)))
    (weights,) = torch.autograd.grad(outputs.gather(1, targets).sum(), leaf)
    return weights, outputs.detach()


def off(a: Tensor, b: Tensor) -> float:
    """How far a is from b, relative to the largest number of b; infinite where a is not finite."""
    worst = float(((a - b).abs().max() / b.abs().max().clamp_min(1e-300)).detach())
    return worst if worst == worst else float("inf")


def judge(explain: Callable[[nn.Module, Tensor], Explanation], case: Case, host: str) -> str:
    """What happened: "explained" rightly, "refused" by name, or "silent: …", which nothing may be."""
    with doubles():
        model, x = build(case, host), picture()
        try:
            e = explain(model, x)
        except StateError as error:
            text = str(error)
            named = case.says == ANY or ("planted" in text and any(word in text for word in case.says or (case.name,)))
            return "refused" if named else f"silent: a refusal that does not name the operation and the module: {text}"
        if case.held is None:
            return "silent: explained, and no factor form exists"
        return _compare(e, *twin_of(case, build(case, host), x, e.targets))


def _compare(e: Explanation, weights: Tensor, outputs: Tensor) -> str:
    """An explanation against W and the outputs of a twin."""
    if not off(e.outputs, outputs) <= EXACT:
        return f"silent: other outputs, {off(e.outputs, outputs):.1e}"
    if not off(e.weights[:, 0], weights) <= CLOSE:
        return f"silent: W is off by {off(e.weights[:, 0], weights):.1e}"
    constants = sum(e.constants.values(), torch.zeros(()))
    size = e.contributions.abs().flatten(2).sum(2) + sum(c.abs() for c in e.constants.values())
    missed = (e.values - e.contributions.flatten(2).sum(2) - constants).abs() / torch.maximum(e.values.abs(), size)
    return "explained" if float(missed.max()) <= EXACT else f"silent: the sum misses the value by {float(missed.max()):.1e}"


def first_silent(explain: Callable[[nn.Module, Tensor], Explanation], cases: Iterable[Case]) -> str | None:
    """The first case that `explain` neither explains rightly nor refuses by name, with host and reason; None where all are."""
    for case in cases:
        for host in case.hosts:
            found = judge(explain, case, host)
            if found.startswith("silent"):
                return f"{case.name} ({host}): {found}"
    return None
