"""How an explanation starts, which layer names a constant, which constant is fixed, and which module is meant."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import functional
from torchbcos import nn as bnn
from torchbcos._core import frozen
from torchbcos._core.errors import StateError
from torchbcos.explanation import engine
from torchbcos.explanation.layer import contribution_maps as maps
from torchbcos.models import build


def network(last: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(bnn.BcosConv2d(6, 4, 3), bnn.GlobalAveragePool(), *([last] if last else []))


# -- fixed constants -----------------------------------------------------------------------------------------------


class Tempered(bnn.Logits):
    """Logits of a kind of its own."""


class Wrapped(nn.Module):
    """Logits inside something else, as a converted network may have them."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = bnn.Logits(-2.0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.logits(x)
        return out


class FixedElsewhere(bnn.Layer):
    """No Logits at all, but a fixed bias."""

    def compute(self, x: Tensor) -> Tensor:
        return frozen.add_constant(x, x.new_tensor(-2.0), "logits.bias", fixed=True)


@pytest.mark.parametrize("last", [bnn.Logits(-2.0), Tempered(-2.0, 3.0), Wrapped(), FixedElsewhere()])
def test_the_share_leaves_out_a_fixed_bias_of_any_class(last: nn.Module) -> None:
    e = torchbcos.explain(network(last), torch.rand(2, 6, 8, 8), top_k=2)
    assert len(e.fixed) == 1 and e.fixed == tuple(e.constants)
    torch.testing.assert_close(e.constants[e.fixed[0]], torch.full((2, 2), -2.0))
    torch.testing.assert_close(e.share, torch.ones(2, 2), rtol=1e-3, atol=1e-3)


def test_a_bias_of_the_same_name_that_is_not_fixed_stays_in_the_share() -> None:
    class Logits(bnn.Layer):
        """A class of that very name, with a bias for each class."""

        def compute(self, x: Tensor) -> Tensor:
            return frozen.add_constant(x, torch.arange(4.0), "bias")

    e = torchbcos.explain(network(Logits()), torch.rand(2, 6, 8, 8), 3)
    assert list(e.constants) == ["2.bias"] and e.fixed == () and not (e.share > 0.9).any()


def test_a_name_that_is_used_twice_is_fixed_only_if_both_uses_are() -> None:
    class Twice(bnn.Layer):
        def compute(self, x: Tensor) -> Tensor:
            x = frozen.add_constant(x, x.new_tensor(1.0), "bias", fixed=True)
            return frozen.add_constant(x, x.new_tensor(1.0), "bias")

    assert torchbcos.explain(network(Twice()), torch.rand(1, 6, 8, 8)).fixed == ()


# -- who names a constant ------------------------------------------------------------------------------------------


class Outer(bnn.Layer):
    """A layer of layers, with a constant before, within and after the inner one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = bnn.TokenNorm(4)

    def compute(self, x: Tensor) -> Tensor:
        x = frozen.add_constant(x, torch.ones(4), "before")
        x = functional.token_norm(self.inner(x), None, torch.ones(4))
        return frozen.add_constant(x, torch.ones(4), "after")


class Loose(nn.Module):
    """An ordinary module that calls an equation by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.token_norm(x, torch.ones(4), torch.ones(4))


def test_constants_are_named_after_the_innermost_layer_that_runs() -> None:
    model = nn.Sequential(*network(), Outer(), Loose(), bnn.Linear(4, 3), bnn.Logits(1.0)).eval()
    names = list(torchbcos.explain(model, torch.rand(2, 6, 8, 8)).constants)
    assert names == ["2.before", "2.inner.bias", "2.bias", "2.after", "bias", "4.bias", "5.bias"]
    assert frozen._layer.get() is None


def test_an_explanation_within_a_layer_names_its_own_constants() -> None:
    other, seen = nn.Sequential(*network(), Loose()), []

    class Nosy(bnn.Layer):
        def compute(self, x: Tensor) -> Tensor:
            seen.append(torchbcos.explain(other, torch.rand(1, 6, 8, 8)))
            return frozen.add_constant(x, torch.ones(4), "label")

    e = torchbcos.explain(network(Nosy()), torch.rand(1, 6, 8, 8))
    assert list(seen[0].constants) == ["bias"] and list(e.constants) == ["2.label"]


def test_a_layer_that_fails_is_no_longer_the_one_that_runs() -> None:
    class Failing(bnn.Layer):
        def compute(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError

    class Caught(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.failing = Failing()

        def forward(self, x: Tensor) -> Tensor:
            with pytest.raises(ZeroDivisionError):
                self.failing(x)
            return functional.token_norm(x, None, torch.ones(4))

    assert list(torchbcos.explain(network(Caught()), torch.rand(1, 6, 8, 8)).constants) == ["bias"]


class Recomputed(nn.Module):
    """A network whose middle runs again in the backward pass."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle = network(), middle

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.utils.checkpoint.checkpoint(self.middle, self.first(x), use_reentrant=False)
        return out


def test_constants_of_recomputed_layers_keep_their_names_on_many_threads() -> None:
    models = [Recomputed(nn.Sequential(Outer(), bnn.Linear(4, 3), bnn.Logits(1.0))) for _ in range(2)]
    expected = ["middle.0.before", "middle.0.inner.bias", "middle.0.bias", "middle.0.after", "middle.1.bias", "middle.2.bias"]
    x, found = torch.rand(2, 6, 8, 8), []

    def work(model: nn.Module) -> None:
        for _ in range(5):
            e = torchbcos.explain(model, x, [[0, 2]] * 2)
            found.append((list(e.constants), float(e.residual.abs().max())))

    threads = [threading.Thread(target=work, args=(model,)) for model in models * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and all(names == expected and residual < 1e-5 for names, residual in found)


# -- which module is meant -----------------------------------------------------------------------------------------


def plain() -> nn.Module:
    """A plain twin, whose blocks run one ReLU twice."""
    torch.manual_seed(0)
    return build("cifar10_resnet20", num_classes=3, plain=True).eval()


def test_a_module_that_runs_twice_is_refused() -> None:
    model, x = plain(), torch.rand(1, 3, 16, 16)
    text = r"'layer1\.0\.act' ran 2 times .* name a module around one of its runs, such as 'layer1\.0'"
    for call in (lambda at: torchbcos.explain(model, x, 0, at=at), lambda at: maps(model, x, torch.tensor([0]), wrt=at)):
        with pytest.raises(StateError, match=text) as caught:
            call("layer1.0.act")  # type: ignore[no-untyped-call]
        assert len(str(caught.value)) <= 500
        call("layer1.0")  # type: ignore[no-untyped-call]


def test_a_module_counts_where_this_explanation_runs_it_and_nowhere_else() -> None:
    """Not in an explanation inside this one, and not in the second pass of a checkpoint."""
    net, x = network(bnn.Logits(1.0)), torch.rand(2, 6, 8, 8)
    expected = torchbcos.explain(net, x, 1, at="0").values
    deep = [False, True]

    def explain_again(*_: object) -> None:
        if deep.pop():
            torchbcos.explain(net, x, 0, at="0")

    handle = net[1].register_forward_hook(explain_again)
    torch.testing.assert_close(torchbcos.explain(net, x, 1, at="0").values, expected)
    handle.remove()
    again = Recomputed(nn.Sequential(bnn.Linear(4, 3), bnn.Logits(1.0)))
    assert torchbcos.explain(again, x, 1, at="middle.0").values.shape == (2, 1)


class Odd(nn.Module):
    """Modules that are no place to explain."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.two, self.fixed, self.idle = network(), Pair(), Ones(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.two(self.net(x))
        out: Tensor = y * self.fixed(y)
        return out


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Ones(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(x.shape)


@pytest.mark.parametrize(
    ("at", "text"), [("two", "gave a tuple, not a tensor"), ("fixed", "does not depend on the input"), ("idle", "did not run")]
)
def test_modules_that_cannot_be_explained_are_named(at: str, text: str) -> None:
    with pytest.raises(StateError, match=f"'{at}' .*{text}"):
        torchbcos.explain(Odd(), torch.rand(1, 6, 8, 8), 0, at=at)


def test_outputs_without_a_gradient_are_refused() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                out: Tensor = self.net(x)
            return out

    with pytest.raises(StateError, match=r"torch\.no_grad"):
        torchbcos.explain(Cut(), torch.rand(1, 6, 8, 8))


# -- every way to start ----------------------------------------------------------------------------------------------


def recorded(model: nn.Module, x: Tensor) -> Tensor:
    """Contributions by the graph of an explanation."""
    targets = torch.ones(len(x), 1, dtype=torch.long)
    with torch.no_grad():
        found: Tensor = torchbcos.explanation_graph(model, x, targets)(x, targets)[3]
    return found


STARTS: dict[str, Callable[[nn.Module, Tensor, bool | str], Tensor]] = {
    "explain": lambda model, x, create_graph: torchbcos.explain(model, x, 1, create_graph=create_graph).contributions,
    "at": lambda model, x, create_graph: torchbcos.explain(model, x, 1, at="0", create_graph=create_graph).contributions,
    "maps": lambda model, x, create_graph: maps(model, x, torch.ones(len(x), dtype=torch.long), create_graph=create_graph),
    "inner maps": lambda model, x, create_graph: maps(
        model, x, torch.ones(len(x), dtype=torch.long), wrt="0", create_graph=create_graph
    ),
    "graph": lambda model, x, _: recorded(model, x),
}


@pytest.mark.newest
@pytest.mark.parametrize(
    ("start", "create_graph"),
    [(start, order) for start in STARTS for order in (False, True, "truncated") if start != "graph" or not order],
)
def test_every_start_takes_compiled_models_and_inference_tensors(start: str, create_graph: bool | str) -> None:
    model, x, run = network(bnn.Logits(-1.0)).eval(), torch.rand(2, 6, 8, 8), STARTS[start]
    expected = run(model, x, create_graph)
    whole, part = torch.compile(model, backend="eager"), network(bnn.Logits(-1.0)).eval()
    part.compile(backend="eager")
    for compiled in (whole, part):
        compiled(x)
        torch.testing.assert_close(run(compiled, x, create_graph), expected)
    with torch.inference_mode():
        seen = x.clone()
    torch.testing.assert_close(run(model, seen, create_graph), expected)
    with torch.inference_mode():
        torch.testing.assert_close(run(model, seen, create_graph), expected)
    assert expected.requires_grad is bool(create_graph) and seen.is_inference() and not x.requires_grad


@pytest.mark.parametrize("wrt", [None, "0"])
def test_the_input_of_maps_keeps_its_graph_where_one_is_wanted(wrt: str | None) -> None:
    model, x = network(), torch.rand(2, 6, 8, 8, requires_grad=True)
    found = maps(model, x, torch.tensor([0, 1]), wrt=wrt, create_graph=True)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert slope.abs().sum() > 0
    assert not maps(model, x, torch.tensor([0, 1]), wrt=wrt).requires_grad


# -- what is explained together -----------------------------------------------------------------------------------


def test_many_targets_at_once_are_the_targets_one_by_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(bnn.BcosConv2d(6, 8, 3), bnn.BcosConv2d(8, 8, 3), bnn.GlobalAveragePool(), bnn.BcosLinear(8, 5)).eval()
    x = torch.rand(2, 6, 9, 9)
    together = torchbcos.explain(model, x, [[0, 3, 4], [1, 1, 2]])
    for k, targets in enumerate(([0, 1], [3, 1], [4, 2])):
        alone = torchbcos.explain(model, x, targets)
        torch.testing.assert_close(together.weights[:, k], alone.weights[:, 0], atol=1e-7, rtol=1e-5)


def test_the_usual_batch_keeps_to_the_pixels() -> None:
    model = nn.Sequential(bnn.BcosConv2d(6, 8, 3)).eval()
    assert engine.usual_batch(model, torch.rand(9, 3, 224, 224), False) == 4
    assert engine.usual_batch(model, torch.rand(2, 3, 2000, 2000), False) == 1
    assert engine.usual_batch(model, torch.rand(9, 3, 224, 224), True) == 9
    assert engine.usual_batch(model.train(), torch.rand(9, 3, 224, 224), False) == 9
