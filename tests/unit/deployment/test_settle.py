"""Networks whose weights are made of other tensors: explained as they are, and deployed with plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import torchbcos
from torchbcos import nn as bnn
from torchbcos.deployment import is_deployed


class LowRank(nn.Module):
    """`w + a b`."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(0.1 * torch.randn(*shape)) for shape in ((len(weight), 2), (2, weight[0].numel())))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.a @ self.b).view_as(weight)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = bnn.BcosConv2d(6, 8, 3, padding=1), bnn.BatchNorm(8, centered=False, bias=False), bnn.BcosConv2d(8, 5, 1)
    model = nn.Sequential(*layers, bnn.GlobalAveragePool(), bnn.BcosLinear(5, 4, learnable_b=True))
    torchbcos.recalibrate(model, [torch.rand(4, 6, 8, 8)])
    return model.eval()


def each(make: Callable[[nn.Module], object]) -> Callable[[nn.Sequential], object]:
    return lambda model: [make(model[k]) for k in (0, 2, 4)]


MADE: dict[str, Callable[[nn.Sequential], object]] = {
    "LoRA": each(lambda m: parametrize.register_parametrization(m, "weight", LowRank(m.weight))),
    "weight norm": each(parametrizations.weight_norm),
    "weight norm, twice made": each(
        lambda m: parametrize.register_parametrization(parametrizations.weight_norm(m), "weight", LowRank(m.weight))
    ),
    "spectral norm": each(parametrizations.spectral_norm),
    "orthogonal": each(parametrizations.orthogonal),
    "old spectral norm": each(spectral_norm),
    "pruned": each(lambda m: prune.l1_unstructured(m, "weight", 0.5)),
    "pruned twice": each(lambda m: (prune.l1_unstructured(m, "weight", 0.2), prune.ln_structured(m, "weight", 0.3, 2, 0))),
    "pruned norm": lambda model: prune.random_unstructured(model[1], "weight", 0.3),
    "norm of positive weight": lambda model: parametrize.register_parametrization(model[1], "weight", nn.Softplus()),
    "statistics": lambda model: parametrize.register_parametrization(model[1], "running_var", nn.Softplus()),
    "exponent": lambda model: parametrize.register_parametrization(model[4], "b", nn.Softplus()),
}  # fmt: skip
X = torch.rand(2, 6, 8, 8, generator=torch.Generator().manual_seed(1))


def check(model: nn.Sequential, tmp_path: Path) -> None:
    before = torchbcos.explain(model, X, 1)
    assert float(before.residual.abs().max()) < 1e-5
    twin = torchbcos.deploy(model)
    found, after = torchbcos.explain(twin, X, 1), torchbcos.explain(model, X, 1)
    torch.testing.assert_close(after.weights, before.weights)  # the network that it was made from is as it was
    torch.testing.assert_close(found.weights, before.weights, rtol=1e-3, atol=1e-6)
    assert is_deployed(twin) and not parametrize.is_parametrized(twin) and not prune.is_pruned(twin)
    plain = network()
    names = {name for name in plain.state_dict() if not name.startswith("1.")}
    assert {name for name in twin.state_dict() if not name.startswith("1.")} == names
    assert type(twin[0]) is bnn.BcosConv2d


@pytest.mark.parametrize("made", MADE)
def test_deploy_makes_weights_plain_in_its_copy(made: str, tmp_path: Path) -> None:
    model = network()
    MADE[made](model)
    with torch.no_grad():
        model.eval()(X)  # old hooks make the weight at the first call
    check(model, tmp_path)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_the_old_weight_norm(tmp_path: Path) -> None:
    model = network()
    each(weight_norm)(model)
    check(model, tmp_path)


def test_after_a_training_step_too(tmp_path: Path) -> None:
    model = network()
    MADE["pruned"](model)
    model.train()(X).sum().backward()
    assert model[0].weight.grad_fn is not None  # what Python's deepcopy refuses
    check(model.eval(), tmp_path)


def test_one_that_cannot_be_made_plain_is_refused_in_a_sentence() -> None:
    class Stubborn(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            if self.training or getattr(self, "made", False):
                return weight
            raise RuntimeError("not today")

    model = network().train()
    parametrize.register_parametrization(model[2], "weight", Stubborn())
    with pytest.raises(torchbcos.BcosError, match=r"weights of '2' .* cannot be made plain \(not today\).*Remove"):
        torchbcos.deploy(model)
