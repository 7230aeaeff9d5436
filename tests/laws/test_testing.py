"""`torchbcos.testing` passes what keeps the laws and names the law that a planted fault breaks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import torchbcos
from tests.planted import ADDS_UP, KNOWN, SLIGHTLY, WRONG, WRONG_RULES, Between
from torchbcos import nn as bnn
from torchbcos._core.frozen import add_constant
from torchbcos.functional import norm
from torchbcos.testing import LawBroken, check_layer, check_model


@pytest.mark.parametrize("b", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("max_out", [1, 2])
def test_layers_keep_the_laws(b: float, max_out: int) -> None:
    check_layer(bnn.BcosConv2d(4, 6, 3, padding=1, groups=2, b=b, max_out=max_out).double(), torch.randn(2, 4, 9, 9).double())
    check_layer(bnn.BcosConv1d(4, 6, 3, padding="same", b=b, max_out=max_out).double(), torch.randn(2, 4, 9).double())
    check_layer(bnn.BcosConv3d(2, 3, 2, b=b, max_out=max_out).double(), torch.randn(1, 2, 4, 4, 4).double())
    check_layer(bnn.BcosLinear(5, 3, b=b, max_out=max_out).double(), torch.randn(2, 5).double())


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(bnn.BcosConv2d(6, 3, 3), bnn.GlobalAveragePool())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class Crosstalk(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + self.net(x).detach().mean() * self.net(x)


class Counter(Small):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        out: Tensor = self.net(x)
        return out


class Dice(Small):
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
    [(Crosstalk(), "Batch"), (Counter(), "Nothing left"), (Dice(), "Nothing left")],
)
def test_broken_models_are_named(model: nn.Module, law: str) -> None:
    with pytest.raises(LawBroken, match=law):
        check_model(model.eval().double(), torch.rand(3, 6, 8, 8).double())


DTYPES = [torch.float64, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", WRONG)
def test_sums_that_do_not_add_up_are_named(what: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    with pytest.raises(LawBroken, match=r"^Complete: .* miss the value by"):
        check_model(WRONG[what]().eval().to(dtype), torch.rand(2, 6, 12, 12, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", SLIGHTLY)
def test_sums_that_miss_by_little_are_named(what: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = SLIGHTLY[what](dtype).eval().to(dtype), torch.rand(2, 6, 12, 12, dtype=dtype)
    with pytest.raises(LawBroken, match=r"^Complete: .* miss the value by .* happens in 'behind' \((Says|Hides)\)"):
        check_model(model, x)
    check_model(model, x, tolerance=1e-2)  # as the caller wants it


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", ADDS_UP)
def test_sums_that_add_up_prove_nothing(what: str, dtype: torch.dtype) -> None:
    """Of degree 1 with a factor that lives: pixels and constants are the value, and W is another."""
    torch.manual_seed(0)
    make, law = ADDS_UP[what]
    model, x = make().eval().to(dtype), torch.rand(2, 6, 12, 12, dtype=dtype)
    assert torchbcos.explain(model, x, [0, 1]).complete.all()
    with pytest.raises(LawBroken, match=law):
        check_model(model, x)


@pytest.mark.parametrize("what", WRONG_RULES)
def test_wrong_rules_are_named(what: str) -> None:
    torch.manual_seed(0)
    function, law = WRONG_RULES[what]
    with pytest.raises(torchbcos.BcosError, match=law):
        check_model(Between(function).eval().double(), torch.rand(2, 6, 12, 12).double())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", KNOWN)
def test_what_is_right_passes(what: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = KNOWN[what]().eval().to(dtype), torch.rand(2, 6, 12, 12, dtype=dtype)
    check_model(model, x)
    one, two = torchbcos.explain(model, x, 1), torchbcos.explain(model, x, 1, create_graph=True)
    # held by other steps of autograd, which differentiate their factors later
    torch.testing.assert_close(one.weights, two.weights.detach(), rtol=1e-4 if dtype is torch.float32 else 1e-9, atol=1e-6)


def test_products_and_outputs_are_as_in_explain() -> None:
    class Several(Between):
        def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            first = self.first(x)
            return {"features": first, "logits": self.pool(self.second(first[:, :4] * first[:, 4:]))}

    model, x = Several().eval().double(), torch.rand(2, 6, 12, 12).double()
    model.second = bnn.BcosConv2d(4, 3, 3).double()
    for refused in ({}, {"output": "logits"}, {"products": "first"}, {"products": "first", "output": "features"}):
        with pytest.raises(torchbcos.BcosError):
            check_model(model, x, **refused)  # type: ignore[arg-type]
    for products in ("half", "first", "second"):
        check_model(model, x, products=products, output="logits")


@pytest.mark.parametrize(("layer", "law"), [(Loud(4, 3), "Bounded"), (Squared(4, 3), "Homogeneous"), (Live(4, 3), "Linear")])
def test_broken_layers_are_named(layer: nn.Module, law: str) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3, 4))
    x = torch.tensor([[9.0, 0.1, 0.1, 0.1]]).double()
    with pytest.raises(LawBroken, match=law):
        check_layer(layer.double(), x)


class Maps(nn.Module):
    """A layer of somebody else: a function and nothing more."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def drawn(layer: nn.Module) -> nn.Module:
    """With parameters and running means that are not zero."""
    for tensor in [*layer.parameters(), *(b for n, b in layer.named_buffers() if n.endswith("running_mean"))]:
        nn.init.normal_(tensor)
    return layer


MAPS, TOKENS = (2, 4, 5, 5), (2, 6, 4)
NORMS = [
    make(centered=centered, affine=affine)
    for centered in (True, False)
    for affine in (True, False)
    for make in (
        partial(bnn.BatchNorm, 4), partial(bnn.AllNorm, 4), partial(bnn.LayerNorm, 4), partial(bnn.InstanceNorm, 4),
        partial(bnn.PositionNorm, 4), partial(bnn.GroupNorm, 2, 4),
    )
]  # fmt: skip
LINEAR_ONCE_HELD: list[tuple[nn.Module, tuple[int, ...]]] = [
    *((norm, MAPS) for norm in NORMS),
    *((copy.deepcopy(norm).eval(), MAPS) for norm in NORMS),
    *((bnn.TokenNorm(4, centered=centered), TOKENS) for centered in (True, False)),
    (bnn.Attention(4, 2, head_dim=4, norm=bnn.TokenNorm(4)), TOKENS),
    (bnn.Attention(4, 2, head_dim=4, norm=bnn.TokenNorm(4), to_out=bnn.Linear(8, 4)), TOKENS),
    (bnn.ReLU(), MAPS), (bnn.GELU(), MAPS), (bnn.LowPass(), MAPS), (bnn.GlobalAveragePool(), MAPS),
    (bnn.Logits(-1.0, 2.0), (2, 3)), (bnn.SinCosPosition2d(4), (2, 3, 3, 4)),
    (bnn.Linear(4, 3), TOKENS), (bnn.Conv2d(4, 3, 3), MAPS), (nn.Linear(4, 3), TOKENS), (nn.Conv2d(4, 3, 3), MAPS),
    (nn.AvgPool2d(2), MAPS), (nn.MaxPool2d(2), MAPS), (nn.Dropout(0.5), MAPS), (nn.BatchNorm2d(4, affine=False).eval(), MAPS),
    (bnn.BcosConv2d(4, 3, 3), MAPS[1:]), (Maps(lambda x: x * x.abs().detach()), MAPS),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape"), LINEAR_ONCE_HELD, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layers_that_are_linear_once_held_pass(layer: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = layer if isinstance(layer, nn.BatchNorm2d) else drawn(copy.deepcopy(layer))
    layer, x, before = layer.to(dtype), torch.randn(shape, dtype=dtype), torch.get_rng_state()
    buffers = copy.deepcopy(list(layer.buffers()))
    check_layer(layer, x)
    assert torch.equal(before, torch.get_rng_state()) and all(map(torch.equal, buffers, layer.buffers()))


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0]  # W·x is the output, and W depends on x


BENT: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (Maps(lambda x: x * x.abs()), MAPS, "W depends on the input"),
    (Maps(lambda x: x + 1e-3 * x * x), MAPS, "W depends on the input"),
    (Maps(lambda x: x / x.norm()), MAPS, "W depends on the input"),
    (nn.LayerNorm(4), TOKENS, "W depends on the input"),
    (nn.GroupNorm(2, 4), MAPS, "W depends on the input"),
    (nn.InstanceNorm2d(4), MAPS, "W depends on the input"),
    (nn.BatchNorm2d(4), MAPS, "W depends on the input"),
    (nn.GELU(), MAPS, "W depends on the input"),
    (nn.SiLU(), MAPS, "W depends on the input"),
    (nn.Sigmoid(), MAPS, "W depends on the input"),
    (nn.Softmax(-1), TOKENS, "W depends on the input"),
    (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), TOKENS, "W depends on the input"),
    (Maps(Once.apply), MAPS, "no second derivative"),
    (Maps(lambda x: x + (x.round() - x).detach()), MAPS, "miss the output"),  # straight-through: a gradient that is not its own
    (Maps(torch.round), MAPS, "miss the output"),
    (Maps(lambda x: x + 0.5), MAPS, "miss the output"),  # a constant that nobody names
    (drawn(nn.BatchNorm2d(4)).eval(), MAPS, "miss the output"),  # its running mean is another
    (Maps(lambda x: x.detach()), MAPS, "no gradient flows"),
    (Maps(lambda x: x / x.std(1, keepdim=True) * x.abs().amax(1, keepdim=True)), MAPS, "W depends on the input"),  # of degree 1
]


@pytest.mark.parametrize(("layer", "shape", "text"), BENT)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layers_that_are_not_are_named(layer: nn.Module, shape: tuple[int, ...], text: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    with pytest.raises(LawBroken, match=f"Linear once held.*{text}") as caught:
        check_layer(layer.to(dtype), torch.randn(shape, dtype=dtype))
    assert len(str(caught.value)) <= 500


MOVING: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.detach().mean(), "channel": lambda x: x.detach()[:, :1].abs(),
    "read out": lambda x: x.new_ones(len(x), 1, 1, 1) * float(x.detach().amax()),
}  # fmt: skip


@pytest.mark.parametrize("constant", MOVING.values(), ids=MOVING)
def test_a_constant_that_moves_is_named(constant: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(LawBroken, match="Constants are constant: what is added as 'added' depends on the input"):
        check_layer(Maps(lambda x: add_constant(x, constant(x), "added")), torch.randn(MAPS).double())
    check_layer(Maps(lambda x: add_constant(x, torch.ones_like(x), "added")), torch.randn(MAPS).double())


def test_a_norm_of_ours_that_forgets_to_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = bnn.PositionNorm(4).double(), torch.randn(MAPS).double()
    check_layer(layer, x)
    monkeypatch.setattr(norm, "hold", lambda tensor: tensor)
    with pytest.raises(LawBroken, match="W depends on the input"):
        check_layer(layer, x)


def test_an_explanation_of_its_own_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that explanations take alone, planted wrong: frozen() does not show it."""
    layer, x = bnn.TokenNorm(4).double(), torch.randn(TOKENS).double()
    monkeypatch.setattr(norm, "frozen_layer_norm", lambda x, weight, eps: torch.nn.functional.layer_norm(x, x.shape[-1:]))
    with pytest.raises(LawBroken, match="in an explanation W differs"):
        check_layer(layer, x)


def test_what_is_no_layer_of_one_tensor_is_refused() -> None:
    with pytest.raises(torchbcos.BcosError, match=r"Maps gave tuple"):
        check_layer(Maps(lambda x: (x, x)), torch.rand(MAPS))  # type: ignore[arg-type, return-value]
    with pytest.raises(torchbcos.BcosError, match=r"floating-point input, got torch\.int64"):
        check_layer(nn.Identity(), torch.ones(2, 3, dtype=torch.int64))
