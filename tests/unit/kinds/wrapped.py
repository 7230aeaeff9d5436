"""Ordinary networks of a few layers, written in two ways: whatever stands around one, its W is that of the plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import torchbcos

__all__ = ["Written", "check_same", "network", "pair", "pictures", "pooled", "seeded"]

Forward = Callable[[Any, Tensor], Tensor]


class Written(nn.Module):
    """A network whose forward is a function of its parts and the input."""

    conv: nn.Module
    norm: nn.Module
    second: nn.Module
    head: nn.Module

    def __init__(self, function: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def seeded(make: Callable[[], nn.Module]) -> Any:
    """A network in float64 with drawn parameters, whose running statistics are no standard ones: the same at every call."""
    generator = torch.Generator().manual_seed(0)
    net = make().double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.4 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        for name, b in net.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(torch.randn(b.shape, generator=generator, dtype=b.dtype))
            if name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=generator, dtype=b.dtype))
    return net


def network() -> nn.Sequential:
    """Convolution, norm, GELU, convolution, SiLU, mean, linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.GELU(), nn.Conv2d(6, 6, 3, padding=1), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip


def written(function: Callable[[Any, Tensor], Any]) -> Any:
    """A network with four parts, and what it does with them."""
    return seeded(
        lambda: Written(
            function, conv=nn.Conv2d(3, 6, 3, padding=1), norm=nn.BatchNorm2d(6), second=nn.Conv2d(6, 6, 3, padding=1),
            head=nn.Linear(6, 4),
        )
    )  # fmt: skip


def pair(function: Forward, plain: Forward) -> tuple[Any, Any]:
    """Two networks of the same numbers, written in two ways."""
    return written(function), written(plain)


def pooled(s: Any, x: Tensor) -> Tensor:
    """Mean over positions, then the linear layer."""
    y: Tensor = s.head(x.mean((2, 3)))
    return y


def pictures(n: int = 2, seed: int = 1) -> Tensor:
    """(n, 3, 8, 8) in float64."""
    return torch.rand(n, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check_same(net: nn.Module, plain: nn.Module, x: Tensor | None = None, **options: Any) -> torchbcos.Explanation:
    """The same outputs, W and sum of constants as the plain network, and everything adds up."""
    x = pictures() if x is None else x
    found, expected = torchbcos.explain(net, x, 1, **options), torchbcos.explain(plain, x.double().detach(), 1)
    close = {"rtol": 0.0, "atol": 1e-10}
    torch.testing.assert_close(found.outputs, expected.outputs, **close)
    torch.testing.assert_close(found.weights, expected.weights, **close)
    totals = [sum(e.constants.values(), torch.zeros_like(e.values)) for e in (found, expected)]
    torch.testing.assert_close(*totals, **close)
    assert float(found.residual.detach().abs().max()) <= 1e-10
    return found
