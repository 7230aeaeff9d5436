"""`kinds.trace` lists what an explanation meets, of any network, and says what is in the way."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import torchbcos
from tests.planted import Between
from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos.kinds import Kind, Met, trace


class Does(nn.Module):
    """A convolution, and a function behind it."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.conv(x))


def pictures(n: int = 2) -> Tensor:
    return torch.rand(n, 3, 8, 8)


def test_what_is_met_in_order_and_how_often() -> None:
    act = nn.SiLU()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.Conv2d(4, 4, 3), act, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    found = trace(network, pictures())
    assert list(found) == [
        Met("conv2d", "0", "Conv2d", Kind.LINEAR, "map_with_bias", 1), Met("silu", "1", "SiLU", Kind.LINEAR, "activation", 2),
        Met("conv2d", "2", "Conv2d", Kind.LINEAR, "map_with_bias", 1),
        Met("adaptive_avg_pool2d", "4", "AdaptiveAvgPool2d", Kind.LINEAR, "linear_map", 1),
        Met("flatten", "5", "Flatten", Kind.LINEAR, "view", 1),
    ]  # fmt: skip
    assert found.explained and found.constants == ("0.bias", "2.bias") and len(found[1:3]) == 2 and found[0].count == 1
    assert found.verdict == "Explained: the outputs are a linear map of the input, once factors are held, and 2 named constants."
    lines = str(found).splitlines()
    assert lines[0].split() == ["operation", "module", "class", "kind", "rule", "count"] and len(lines) == 7
    assert lines[2].split() == ["silu", "1", "SiLU", "linear", "activation", "2"] and lines[-1] == found.verdict
    assert repr(found) == str(found) and not any(line.endswith(" ") for line in lines)


def test_one_of_ours_is_one_step() -> None:
    found = trace(Between().eval(), torch.rand(1, 6, 12, 12))
    assert [(met.module, met.rule) for met in found] == [
        ("first", "atom"),
        ("second", "atom"),
        ("pool", "atom"),
    ] and found.explained


REFUSED: dict[str, tuple[Any, str, str]] = {
    "bent": (lambda y: y.cumprod(1).mean((2, 3)), "cumprod", "'cumprod' in the forward of Does is not linear"),
    "a product": (lambda y: (y * y.flip(1)).mean((2, 3)), "mul", "a product of two signals"),
    "a gate": (lambda y: y.mean((2, 3)).softmax(1), "softmax", "they are values that are held"),
    "a gate that is added": (lambda y: (y + y.sigmoid()).mean((2, 3)), "add", "and is held, is added to a signal"),
    "numpy": (lambda y: torch.from_numpy(np.asarray(y.detach()) + 1).mean((2, 3)), "", "numbers left torch by"),
    "no_grad": (torch.no_grad()(lambda y: y.mean((2, 3)) * 2), "mul", "they are values that are held"),
    "an error": (lambda y: y.exp().reshape(7, 7, 7), "", "The forward pass ended here with RuntimeError: shape"),
    "another error": (lambda y: {}["\x1b[31m"], "", r"The forward pass ended here with KeyError: '\x1b[31m'"),
    "nothing": (lambda y: None, "", "It gave NoneType, and no tensor"),
    "complex": (lambda y: torch.fft.fft(y).real.mean((2, 3)), "fft_fft", "'fft_fft' in the forward of Does"),
}  # fmt: skip


# the network's own errors are its own
OWN: dict[str, tuple[type[Exception], str]] = {"an error": (RuntimeError, "shape"), "another error": (KeyError, "31m")}


@pytest.mark.parametrize("what", REFUSED)
def test_a_network_that_is_refused_is_listed_as_far_as_it_goes(what: str) -> None:
    function, here, said = REFUSED[what]
    network = Does(function).eval()
    error, words = OWN.get(what, (StateError, "This network|The model's|The outputs|Expected the model"))
    with pytest.raises(error, match=words):
        torchbcos.explain(network, pictures())
    found = trace(network, pictures())
    assert found[0].operation == "conv2d" and not found.explained
    assert found.verdict.startswith("Not explained. ") and said in found.verdict and "kinds.trace" not in found.verdict
    assert [met.operation for met in found if met.here] == ([here] if here else [])
    assert sum(line.endswith("<- here") for line in str(found).splitlines()) == bool(here) and "\x1b" not in str(found)


def test_a_factor_may_be_bent_and_is_not_in_the_way() -> None:
    found = trace(Does(lambda y: (y * y.square().sum(1, keepdim=True).rsqrt()).mean((2, 3))).eval(), pictures())
    assert found.explained and not any(met.here for met in found) and Kind.BENT in {met.kind for met in found}
    assert {met.rule for met in found if met.operation == "rsqrt"} == {"no rule"}


@dataclasses.dataclass
class Output:
    logits: Tensor
    features: Tensor
    loss: Tensor | None = None


def test_each_entry_of_several_is_told() -> None:
    for give in (lambda y: Output(y.mean((2, 3)), y.exp()), lambda y: {"logits": y.mean((2, 3)), "features": y.exp()}):
        found = trace(Does(give).eval(), pictures())
        first, second = found.verdict.splitlines()
        assert not found.explained and "the output 'features' depend" in first and "'exp'" in first
        assert second == "A linear map of the input: the output 'logits'."
    both = trace(Does(lambda y: (y.mean((2, 3)), [y.amax(1)])).eval(), pictures())
    assert both.explained and "the output 0, output 1 are a linear map" in both.verdict


def test_products_are_as_in_explain() -> None:
    network = Does(lambda y: (y * y.flip(1)).mean((2, 3))).eval()
    assert not trace(network, pictures()).explained and trace(network, pictures(), products="half").explained
    with pytest.raises(InputError, match="products must be"):
        trace(network, pictures(), products="both")
    with pytest.raises(ArgumentTypeError, match=r"trace needs a torch\.nn.Module and a tensor, not function and Tensor"):
        trace(F.relu, pictures())  # type: ignore[arg-type]


def test_it_says_what_explain_says() -> None:
    """Of each network here, and of parts that nobody can watch."""
    networks = [Does(function) for function, _, _ in REFUSED.values()]
    networks += [Does(lambda y: y.mean((2, 3))), Does(lambda y: (y.transpose(0, 1) + 1).transpose(0, 1).mean((2, 3)))]
    scripted = nn.Sequential(torch.jit.trace(nn.Conv2d(3, 4, 3).eval(), pictures()), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    compiled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    compiled[0].compile(backend="eager")
    edits = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())
    said = []
    for network in [*networks, scripted, compiled, edits]:
        try:
            torchbcos.explain(network.eval(), pictures(3))
            explained = True
        except Exception:  # whatever a forward of somebody raises
            explained = False
        said.append(explained)
        assert trace(network, pictures(3)).explained == explained, trace(network, pictures(3))
    assert said == [False] * len(REFUSED) + [True, True] + [False] * 3


def test_constants_that_must_be_looked_at_are_named() -> None:
    scale = np.float64(2.0)
    found = trace(Does(lambda y: (y + torch.from_numpy(np.full(1, scale, np.float32))).mean((2, 3))).eval(), pictures())
    assert found.explained and "On condition that 'added' is the same for another input" in found.verdict


def test_nothing_is_left_behind() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x, before = pictures(), {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.get_rng_state()
    trace(network, x)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()) and x.grad is None
    assert torch.equal(generator, torch.get_rng_state()) and all(p.grad is None for p in network.parameters())
    with pytest.raises(StateError):
        torchbcos.explain(nn.Sequential(network, nn.Softmax(1)), x)


def test_rich_draws_the_same_words() -> None:
    found = trace(Does(lambda y: y.cumprod(1).mean((2, 3))).eval(), pictures())
    with io.StringIO() as written:
        Console(file=written, width=200).print(found)
        drawn = written.getvalue()
    assert drawn.split() == str(found).split()
    odd = Met("[red]x[/red]", "a", "b", Kind.BENT, "c", 1)
    with io.StringIO() as written:
        Console(file=written, width=200).print(torchbcos.kinds.Trace([odd], False, "[bold]no[/bold]", ()))
        assert "[red]x[/red]" in written.getvalue() and "[bold]no[/bold]" in written.getvalue()
