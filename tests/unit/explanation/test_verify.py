"""`explain(verify=True)` proves one explanation, and refuses what it cannot prove by the name of the law."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.planted import ADDS_UP, KNOWN, WRONG, WRONG_RULES, Between, Says, ratio
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, StateError
from torchbcos.explanation.engine import explain_through
from torchbcos.explanation.verify import dice, drawn, moved_constant, unheld


def pictures(n: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, 6, 12, 12, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("what", KNOWN)
def test_what_is_proved_is_what_is_given_without_proof(what: str) -> None:
    torch.manual_seed(0)
    model, x = KNOWN[what]().eval().double(), pictures()
    plain, proved = torchbcos.explain(model, x, [0, 1]), torchbcos.explain(model, x, [0, 1], verify=True)
    assert torch.equal(plain.weights, proved.weights) and torch.equal(plain.values, proved.values)
    assert {k: v.tolist() for k, v in plain.constants.items()} == {k: v.tolist() for k, v in proved.constants.items()}


LAWS = {
    **{f"sum: {what}": (make, "Complete") for what, make in WRONG.items()},
    **{f"adds up: {what}": planted for what, planted in ADDS_UP.items()},
    **{f"rule: {what}": ((lambda f=f: Between(f)), law) for what, (f, law) in WRONG_RULES.items()},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("what", LAWS)
def test_planted_faults_are_refused_by_the_name_of_the_law(what: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    make, law = LAWS[what]
    with pytest.raises(StateError, match=law) as caught:
        torchbcos.explain(make().eval().to(dtype), pictures(dtype=dtype), verify=True)
    assert len(str(caught.value)) <= 500


def test_each_kind_of_call_is_proved_as_it_was_asked() -> None:
    """`at`, contrasts, several targets, graphs, parts of a batch, something before the network: right passes, wrong does not."""
    torch.manual_seed(0)
    x = pictures(3)
    asked: list[dict[str, Any]] = [
        {"targets": [[0, 1]] * 3}, {"targets": 0, "contrast": 2}, {"at": "first"}, {"at": "between", "position": (1, 2)},
        {"create_graph": True}, {"create_graph": "truncated"}, {"batch_size": 2}, {"top_k": 3},
    ]  # fmt: skip
    right = Between(nn.Sequential(nn.BatchNorm2d(8), nn.GELU())).eval().double()
    wrong = Between(Says(ratio)).eval().double()
    for more in asked:
        torchbcos.explain(right, x, verify=True, **more)
        if more.get("at") != "first":  # what lies comes later
            with pytest.raises(StateError, match="Linear once held: W depends on the input"):
                torchbcos.explain(wrong, x, verify=True, **more)
    encode, rgb = bnn.AddInverse(), x[:, :3]
    assert explain_through(right, encode, rgb, verify=True).weights.shape[2] == 3
    with pytest.raises(StateError, match="Linear once held"):
        explain_through(wrong, encode, rgb, verify=True)


def test_entries_and_products() -> None:
    class Pair(Between):
        def forward(self, x: Tensor) -> Any:
            y = self.first(x)
            z: Tensor = self.pool(self.second(y * y.flip(1)))
            return z, y

    model = Pair().eval().double()
    torchbcos.explain(model, pictures(), products="second", output=0, verify=True)
    with pytest.raises(StateError, match="a product of two signals"):
        torchbcos.explain(model, pictures(), output=0, verify=True)


class Folds(nn.Module):
    """Windows in the image axis, with a constant added there: each image is explained alone."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.between, self.bias = nn.Conv2d(6, 4, 3), between, nn.Parameter(torch.randn(7, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        n = len(y)
        t = self.between(y).flatten(2).permute(2, 0, 1).reshape(-1, 4)  # (100·n, 4), images not first
        t = t[: 7 * n] + self.bias.repeat(n, 1)
        return t.reshape(7, n, 4).sum(0)


class Turns(Folds):
    """Channels first where a constant is added: four rows, which are not those of three images."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.between(self.first(x)).transpose(0, 1) + 0.5).transpose(0, 1).mean((2, 3))


def test_images_that_are_explained_one_by_one() -> None:
    torch.manual_seed(0)
    torchbcos.testing.check_model(Turns(F.gelu).eval().double(), pictures(3))
    with pytest.raises(torchbcos.testing.LawBroken, match="Linear once held"):
        torchbcos.testing.check_model(Turns(Says(ratio)).eval().double(), pictures(3))
    right, wrong = Folds(F.gelu).eval().double(), Folds(Says(ratio)).eval().double()
    torchbcos.testing.check_model(right, pictures())
    torchbcos.explain(right, pictures(), verify=True)
    with pytest.raises(torchbcos.testing.LawBroken, match="Linear once held"):
        torchbcos.testing.check_model(wrong, pictures())


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm2d(8), lambda: bnn.BatchNorm(8), lambda: bnn.BatchNorm(8, centered=False)])
def test_networks_that_train_keep_their_statistics(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = Between(nn.Sequential(make(), nn.ReLU(), nn.Dropout(0.5))).double()
    before, generator = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    torchbcos.explain(model, pictures(), verify=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.set_rng_state(generator)
    one = torchbcos.explain(model, pictures())
    after = torch.get_rng_state()
    torch.set_rng_state(generator)
    two = torchbcos.explain(model, pictures(), verify=True)  # a proof draws no number of the caller's
    assert torch.equal(one.weights, two.weights) and torch.equal(after, torch.get_rng_state())
    with pytest.raises(StateError, match="Linear once held"):
        torchbcos.explain(Between(nn.Sequential(Says(ratio), nn.Dropout(0.5))).double(), pictures(), verify=True)


def test_other_outputs_while_they_are_explained() -> None:
    class Looks(Between):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * (2.0 if x.requires_grad else 1.0))

    with pytest.raises(StateError, match="Outputs unchanged: while they are explained, outputs differ by"):
        torchbcos.explain(Looks().eval(), pictures(dtype=torch.float32), verify=True)


def test_a_network_that_listens_to_its_gradients() -> None:
    class Listens(Between):
        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            y.register_hook(lambda g: 3 * g)  # asks for gradients, also when nobody watches
            out: Tensor = self.pool(self.second(F.silu(y)))
            return out

    model, x = Listens().eval().double(), pictures()
    model.first, model.second = nn.Conv2d(6, 8, 3).double(), nn.Conv2d(8, 3, 3).double()
    torchbcos.explain(model, x, verify=True)
    torchbcos.testing.check_model(model, x)


def test_verify_is_yes_or_no() -> None:
    with pytest.raises(InputError, match="verify must be True or False, not 'full'"):
        torchbcos.explain(Between(), pictures(dtype=torch.float32), verify="full")  # type: ignore[arg-type]


# -- the measure --------------------------------------------------------------------------------------------------------------


def by_differences(f: Callable[[Tensor], Tensor], x: Tensor, d: Tensor, m: Tensor) -> float:
    """How far `Σ m · ∇(Σ d · f)` moves, in units of its size, when x moves by its own: by central differences."""

    def g(t: Tensor) -> Tensor:
        t = t.detach().requires_grad_()
        (found,) = torch.autograd.grad((f(t) * d).sum(), t)
        return (found * m).sum()

    h, moved = 1e-5, 0.0
    size = float((torch.autograd.grad((f(t := x.clone().requires_grad_()) * d).sum(), t)[0] * m).abs().sum())
    for i in range(x.numel()):
        step = torch.zeros_like(x).flatten()
        step[i] = h
        step = step.reshape(x.shape)
        slope = float(g(x + step) - g(x - step)) / (2 * h)
        moved += abs(slope) * max(abs(float(x.flatten()[i])), float(x.abs().mean()))
    return moved / size


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), power=st.sampled_from([1.5, 2.0, 3.0]), size=st.floats(1e-3, 1e3))
def test_how_far_w_moves_is_what_differences_say(seed: int, power: float, size: float) -> None:
    torch.manual_seed(seed)
    x = torch.randn(1, 4, dtype=torch.float64)
    mix = torch.randn(4, 3, dtype=torch.float64)

    def f(t: Tensor) -> Tensor:
        return size * (t * t.abs().add(0.1).pow(power - 1) / t.norm()) @ mix

    leaf = x.clone().requires_grad_()
    out = f(leaf)
    said = unheld(out, [leaf], 1e-9, "layer")
    generator = dice()
    wanted = by_differences(f, x, drawn(out, generator), drawn(x, generator))
    assert said is not None and float(said.split("by ")[1].split(" ")[0]) == pytest.approx(wanted, rel=0.06)


def test_what_is_linear_moves_by_nothing() -> None:
    leaf = torch.randn(2, 5, requires_grad=True)
    assert unheld(torch.relu(leaf @ torch.randn(5, 3)) * leaf.detach().norm(), [leaf], 0.0, "layer") is None
    assert unheld(leaf.amax(1, keepdim=True), [leaf], 0.0, "layer") is None


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (3, 6)])
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_an_input_of_a_usual_seed_hides_nothing(shape: tuple[int, ...], seed: int) -> None:
    """W(x)·x is f(x): a mixture that is the input would show nothing of a W that moves."""
    torch.manual_seed(seed)
    leaf = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = leaf / leaf.std(1, keepdim=True) * leaf.abs().amax(1, keepdim=True)
    assert "W depends on the input" in (unheld(out, [leaf], 1e-9, "layer") or "")


def test_pixels_that_are_zero_count() -> None:
    """Half of the input is black, and the factor is made of that half alone."""
    leaf = torch.cat([torch.rand(1, 4), torch.zeros(1, 4)], 1).double().requires_grad_()
    assert "W depends" in (unheld(leaf[:, :4] * (1 + leaf[:, 4:].sum(1, keepdim=True)), [leaf], 1e-9, "layer") or "")


def test_constants_are_compared_by_name_and_turn() -> None:
    one, two = torch.ones(2), torch.zeros(2)
    assert moved_constant([("a", one), ("a", two)], [("a", one), ("a", two)]) is None
    assert "'a'" in (moved_constant([("a", one), ("a", two)], [("a", two), ("a", one)]) or "")
    assert "'b'" in (moved_constant([("a", one), ("b", one)], [("a", one), ("b", one[:1])]) or "")
    assert moved_constant([("a", one)], [("b", one)]) is None  # another branch was taken: a choice is held
    assert moved_constant([("n.batch_mean", one)], [("n.batch_mean", two)]) is None  # of its batch, by definition
