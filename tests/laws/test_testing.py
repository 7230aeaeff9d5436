"""`torchbcos.testing` passes what keeps the laws and names the law that a planted fault breaks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos.testing import LawBroken, check_layer, check_model


@pytest.mark.parametrize("b", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("max_out", [1, 2])
def test_layers_keep_the_laws(b: float, max_out: int) -> None:
    check_layer(bnn.BcosConv2d(4, 6, 3, padding=1, groups=2, b=b, max_out=max_out).double(), torch.randn(2, 4, 9, 9).double())
    check_layer(bnn.BcosConv1d(4, 6, 3, padding="same", b=b, max_out=max_out).double(), torch.randn(2, 4, 9).double())
    check_layer(bnn.BcosConv3d(2, 3, 2, b=b, max_out=max_out).double(), torch.randn(1, 2, 4, 4, 4).double())
    check_layer(bnn.BcosLinear(5, 3, b=b, max_out=max_out).double(), torch.randn(2, 5).double())


class Unfrozen(nn.Module):
    """Adds an input-dependent factor that nobody holds."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(bnn.BcosConv2d(6, 3, 3), bnn.GlobalAveragePool())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * x.mean((1, 2, 3)).unsqueeze(1)


class Crosstalk(Unfrozen):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + self.net(x).detach().mean() * self.net(x)


class Counter(Unfrozen):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return self.net(x)


class Dice(Unfrozen):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * (1 + 0 * torch.rand(()))


class Loud(bnn.BcosLinear):
    def compute(self, x: Tensor) -> Tensor:
        return 9 * super().compute(x)


class Squared(bnn.BcosLinear):
    def compute(self, x: Tensor) -> Tensor:
        y = super().compute(x)
        return y * y.detach().abs() / 10


class Live(bnn.BcosLinear):
    def compute(self, x: Tensor) -> Tensor:
        y = super().compute(x)
        return y * y.abs()


@pytest.mark.parametrize(
    ("model", "law"),
    [(Unfrozen(), "Complete"), (Crosstalk(), "Batch"), (Counter(), "Nothing left"), (Dice(), "Nothing left")],
)
def test_broken_models_are_named(model: nn.Module, law: str) -> None:
    with pytest.raises(LawBroken, match=law):
        check_model(model.eval().double(), torch.rand(3, 6, 8, 8).double())


@pytest.mark.parametrize(("layer", "law"), [(Loud(4, 3), "Bounded"), (Squared(4, 3), "Homogeneous"), (Live(4, 3), "Linear")])
def test_broken_layers_are_named(layer: nn.Module, law: str) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3, 4))
    x = torch.tensor([[9.0, 0.1, 0.1, 0.1]]).double()
    with pytest.raises(LawBroken, match=law):
        check_layer(layer.double(), x)
