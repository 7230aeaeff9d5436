"""The laws of exact explanations, and a referee, over ordinary networks that are drawn step by step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference.held import Held, explain
from tests.reference.ordinary import drawn
from tests.reference.steps import AROUND, LEAVES, SIDE, Step, build, twin

BOUND = 1e-9
SIMPLE = st.sampled_from(sorted(LEAVES))
INSIDE = st.one_of(SIMPLE, st.tuples(st.sampled_from(AROUND), st.lists(SIMPLE, min_size=1, max_size=2)))
STEPS = st.lists(
    st.one_of(SIMPLE, st.tuples(st.sampled_from(AROUND), st.lists(INSIDE, min_size=1, max_size=3))), min_size=1, max_size=4
)
SEEDS = st.integers(0, 1000)
ALL = sorted(LEAVES)


def network(steps: list[Step], seed: int) -> tuple[nn.Module, Tensor]:
    """A network with drawn parameters and statistics, and two pictures."""
    torch.manual_seed(seed)
    net = drawn(build(steps))
    return net, torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)


def sizes(e: torchbcos.Explanation) -> Tensor:
    """What a residual is measured in, law 1 (N, K)."""
    size = e.contributions.abs().flatten(2).sum(2) + sum(c.abs() for c in e.constants.values())
    return torch.maximum(e.values.abs().clamp_min(1), 0.1 * size)


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    return float((a - b).abs().max()) / max(float(b.abs().max()), 1e-300)


def numbers(e: torchbcos.Explanation) -> dict[str, Tensor]:
    return {"outputs": e.outputs, "values": e.values, "weights": e.weights, **e.constants}


def check(net: nn.Module, x: Tensor) -> None:
    """Complete, outputs untouched, a batch as one by one, the same numbers again."""
    with torch.no_grad():
        outputs = net(x)
    e = torchbcos.explain(net, x, top_k=2)
    assert float((e.residual.abs() / sizes(e)).max()) <= BOUND
    assert apart(e.outputs, outputs) <= 1e-12
    again = numbers(torchbcos.explain(net, x, e.targets))
    assert list(again) == list(numbers(e)) and all(torch.equal(again[name], n) for name, n in numbers(e).items())
    for n in range(len(x)):
        alone = torchbcos.explain(net, x[n : n + 1], e.targets[n : n + 1])
        assert set(alone.constants) == set(e.constants)
        worst = max((float((c - e.constants[name][n]).abs().max()) for name, c in alone.constants.items()), default=0.0)
        found = max(apart(alone.weights, e.weights[n : n + 1]), worst / float(sizes(e).max()))
        assert found <= BOUND or found <= shaken(net, x[n : n + 1], e.targets[n : n + 1])


# The same networks at every run: among others some multiply signals of signals until no digit of float64 is left to compare.
def shaken(net: nn.Module, x: Tensor, targets: Tensor) -> float:
    """How far W moves with the last bits of the input, twenty times: where products of products meet a softmax, that is far."""
    e, moved = torchbcos.explain(net, x, targets), 0.0
    for seed in range(3):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        moved = max(moved, apart(torchbcos.explain(net, x * (1 + noise * 2**-52), targets).weights, e.weights))
    return 20 * moved


@given(STEPS, SEEDS)
@settings(max_examples=12, derandomize=True)
@example([("add_", ["softplus", "batch"]), ("cat", [("add", ["attention"]), "conv relu_"])], 0)
@example(["prelu", "max", "layer", "swiglu"], 1)
def test_laws(steps: list[Step], seed: int) -> None:
    check(*network(steps, seed))


class Changing(nn.Module):
    """Another bias at every call; or a signal that comes from the images beside it."""

    def __init__(self, net: nn.Module, mixes: bool) -> None:
        super().__init__()
        self.net, self.mixes, self.calls = net, mixes, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.net(x)
        return y + y.mean(0) if self.mixes else y + 1e-3 * self.calls


@pytest.mark.parametrize("mixes", [False, True])
def test_the_laws_can_fail(mixes: bool) -> None:
    net, x = network(["silu"], 0)
    with pytest.raises((AssertionError, torchbcos.BcosError)):
        check(Changing(net, mixes), x)


@given(STEPS, SEEDS)
@settings(max_examples=30, derandomize=True)
@example(["attention", "batch", "tokens"], 0)  # tokens of one picture become a map: see torchbcos.kernels.batchnorm
@example(ALL[: len(ALL) // 2], 0)
@example(ALL[len(ALL) // 2 :], 0)
def test_equal_to_the_referee(steps: list[Step], seed: int) -> None:
    compare(steps, *network(steps, seed))


def test_another_network_is_not_equal() -> None:
    with pytest.raises(AssertionError):
        compare(["silu"], *network(["gelu"], 0))


def compare(steps: list[Step], net: nn.Module, x: Tensor) -> None:
    """W and each constant, with the weights of `net`, as the referee has them for these steps."""
    e = torchbcos.explain(net, x[:1], torch.arange(3)[None])
    answer = explain(twin(steps), Held(net.state_dict()), x[:1])
    found = [apart(e.weights[0], answer.weights)]
    for name in {*e.constants, *answer.constants}:
        mine, theirs = (c.get(name, torch.zeros(1, 3)) for c in (e.constants, answer.constants))
        found.append(float((mine - theirs).abs().max()) / float(sizes(e).max()))
    assert max(found) <= BOUND or max(found) <= shaken(net, x[:1], torch.arange(3)[None])


@given(STEPS, SEEDS)
@settings(max_examples=12, derandomize=True)
@example(["batch", "attention", "instance running"], 0)
@example(["batch", "tokens"], 0)
def test_complete_in_training(steps: list[Step], seed: int) -> None:
    """With the statistics of the batch, as the network computes; its own are not touched."""
    net, x = network(steps, seed)
    net.train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    if "tokens" in str(steps):
        with pytest.raises(torchbcos.BcosError, match="cannot be told apart"):
            torchbcos.explain(net, x)
        return
    e = torchbcos.explain(net, x, top_k=2)
    assert float((e.residual.abs() / sizes(e)).max()) <= BOUND
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    with torch.no_grad():
        assert apart(e.outputs, net(x)) <= 1e-12


@pytest.mark.parametrize("steps", [ALL[i::9] for i in range(9)], ids=lambda words: words[0])
def test_the_derivative_of_w(steps: list[Step]) -> None:
    """`create_graph=True`, against central differences of W, along a drawn line through input and parameters."""
    net, x = network(steps, 1)
    along = [torch.randn_like(t) for t in (x, *net.parameters())]
    weigh = torch.randn(2, 1, 3, SIDE, SIDE, dtype=torch.float64)

    def score(how_far: float) -> Tensor:
        moved = [t.detach() + how_far * a for t, a in zip((x, *net.parameters()), along, strict=True)]
        there = build(steps).double().eval()
        there.load_state_dict(net.state_dict() | dict(zip(dict(net.named_parameters()), moved[1:], strict=True)))
        return (torchbcos.explain(there, moved[0], 1).weights * weigh).sum()

    e = torchbcos.explain(net, x, 1, create_graph=True)
    found = torch.autograd.grad((e.weights * weigh).sum(), [e.inputs, *net.parameters()], allow_unused=True)
    slope = float(sum((g * a).sum() for g, a in zip(found, along, strict=True) if g is not None))
    measured = float(score(1e-6) - score(-1e-6)) / 2e-6
    assert slope == pytest.approx(measured, rel=1e-5, abs=1e-5)


def bends(e: torchbcos.Explanation, inputs: Tensor) -> float:
    """The largest gradient of W with respect to the input, relative to W."""
    if not e.weights.requires_grad:
        return 0.0
    torch.manual_seed(0)
    found = torch.autograd.grad((e.weights * torch.randn_like(e.weights)).sum(), inputs, allow_unused=True)[0]
    return 0.0 if found is None else float(found.abs().max()) / max(float(e.weights.detach().abs().max()), 1e-300)


@given(STEPS, SEEDS)
@settings(max_examples=12, derandomize=True)
@example(["attention", "plain attention", "tokens"], 0)
def test_held_means_linear(steps: list[Step], seed: int) -> None:
    net, x = network(steps, seed)
    e = torchbcos.explain(net, x, create_graph="truncated")
    assert bends(e, e.inputs) == 0.0


def test_a_factor_that_lives_is_seen() -> None:
    """The plain gradient of SiLU depends on the input."""
    net, x = network(["silu"], 0)
    e = torchbcos.explain(net, x, create_graph="truncated")
    leaf = x.clone().requires_grad_()
    gradient = torch.autograd.grad(net(leaf).gather(1, e.targets).sum(), leaf, create_graph=True)[0]
    assert bends(dataclasses.replace(e, weights=gradient[:, None]), leaf) > 1e-3


@pytest.mark.parametrize("word", ALL)
def test_every_step_is_one_that_the_referee_knows(word: str) -> None:
    """Its own sums: what it says of a step is that step."""
    net, x = network([word], 0)
    answer = explain(twin([word]), Held(net.state_dict()), x[:1])
    with torch.no_grad():
        logits = net(x)[0]
    total = (answer.weights * x[0]).flatten(1).sum(1) + sum(answer.constants.values())
    assert apart(answer.logits, logits) <= 1e-12 and apart(total, logits) <= 1e-11
