"""What cannot be explained as it was asked is refused in one sentence, never with torch's own words, never in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos.explanation.layer import contribution_maps

X = torch.rand(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))


def network(*middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(bnn.BcosConv2d(6, 4, 3), *middle, bnn.BcosConv2d(4, 3, 1), bnn.GlobalAveragePool()).eval()


class Around(nn.Module):
    """A network, and what somebody does around it."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = network(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner, x)


# -- numbers and options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"create_graph": 1}, "create_graph must be False, True or 'truncated', not 1"),
        ({"create_graph": torch.ones(3)}, "create_graph must be"),
        ({"create_graph": np.bool_(True)}, "create_graph must be"),
        ({"batch_size": True}, "batch_size must be a positive integer or None, not True"),
        ({"batch_size": 1.0}, "batch_size must be"),
        ({"top_k": True}, "top_k must be"),
        ({"position": (0, 0)}, "needs at=: it is a place in the output"),
        ({"targets": 0, "at": "0", "position": (True, 1)}, r"one integer a space axis, not \(True, 1\)"),
        ({"targets": 0, "at": "0", "position": torch.tensor(1.0)}, "one integer a space axis"),
        ({"targets": [[0, 1, 2]] * 2, "contrast": [[0, 1]] * 2}, r"contrast of shape \(2, 2\) does not fit .* \(2, 3\)"),
        ({"targets": 0, "contrast": [[0, 1]] * 2, "batch_size": 1}, "does not fit"),
        ({"targets": 0, "contrast": [0, 1, 2], "batch_size": 1}, r"contrast of shape \(3,\) do not fit 2 images"),
        ({"at": ["0"]}, "no module"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        torchbcos.explain(network(), X, **options)


def test_integers_of_numpy_are_integers() -> None:
    model = network()
    e = torchbcos.explain(model, X, top_k=np.int64(2), batch_size=np.int32(1))  # type: ignore[arg-type]
    plain = torchbcos.explain(model, X, top_k=2)
    assert torch.equal(e.targets, plain.targets)
    for position in ((np.int64(1), torch.tensor(2)), np.array([1, 2]), torch.tensor([1, 2])):
        at = torchbcos.explain(model, X, np.uint8(3), at="0", position=position)
        torch.testing.assert_close(at.values, torchbcos.explain(model, X, 3, at="0", position=(1, 2)).values)
    assert torch.equal(e[np.int64(1)].targets, plain[1].targets)  # type: ignore[index]
    assert np.array_equal(e.rgba(np.int64(1), np.int8(0), np.int64(3)), e.rgba(1, 0, 3))
    with pytest.raises(InputError, match="True is not one of them"):
        e[True]
    with pytest.raises(InputError, match="there is no"):
        e.rgba(1.0)  # type: ignore[arg-type]
    assert torch.equal(bnn.BcosConv2d(6, 4, np.int64(3), np.array([1, 2])).weight.isfinite().any(), torch.tensor(True))
    with pytest.raises(InputError, match="stride must be"):
        bnn.BcosConv2d(6, 4, 3, True)
    assert type(torchbcos.create_model("cifar10_resnet20", num_classes=np.int64(3)).num_classes) is int


# -- inputs and outputs --------------------------------------------------------------------------------------------

INPUTS = {
    "sparse": X.to_sparse(), "meta": X.to("meta"), "float8": X.to(torch.float8_e5m2),
    "complex": torch.complex(X, X),
}  # fmt: skip


@pytest.mark.parametrize("kind", INPUTS)
def test_tensors_that_hold_no_ordinary_numbers(kind: str) -> None:
    starts: list[Callable[[], object]] = [
        lambda: torchbcos.explain(network(), INPUTS[kind]),
        lambda: contribution_maps(network(), INPUTS[kind], torch.tensor([0, 0]), wrt="0"),
        lambda: torchbcos.explanation_graph(network(), INPUTS[kind]),
    ]
    for start in starts:
        with pytest.raises(InputError, match="Expected"):
            start()


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "int": Tensor.long, "truth": lambda y: y > 0, "complex": lambda y: torch.complex(y, y), "sparse": Tensor.to_sparse,
}  # fmt: skip


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_that_are_no_ordinary_numbers(kind: str) -> None:
    with pytest.raises(StateError, match=r"outputs are .*: dense floating-point numbers are expected"):
        torchbcos.explain(Around(lambda net, x: OUTPUTS[kind](net(x))), X)


def doubled_without_gradients(net: nn.Module, x: Tensor) -> Any:
    with torch.no_grad():
        x.mul_(2)
    return net(x)


EDITS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "in place": lambda net, x: net(x.mul_(2)), "relu_": lambda net, x: net(x.relu_()),
    "one channel": lambda net, x: net(x.index_fill_(1, torch.tensor([0]), 0.0)),
    "a view": lambda net, x: (x[0].mul_(2), net(x))[1],
    "without gradients": doubled_without_gradients, "afterwards": lambda net, x: (net(x), x.detach().zero_())[0],
}  # fmt: skip


@pytest.mark.parametrize("create_graph", [False, True, "truncated"])
@pytest.mark.parametrize("edit", EDITS)
def test_a_network_that_edits_its_input_is_refused(edit: str, create_graph: bool | str) -> None:
    with pytest.raises(StateError, match="edits its input in place"):
        torchbcos.explain(Around(EDITS[edit]), X.clone(), create_graph=create_graph)


# -- what stands around the call -----------------------------------------------------------------------------------

TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor]], object]] = {
    "vmap": lambda f: torch.vmap(lambda t: f(t[None])[0])(X), "grad": lambda f: torch.func.grad(lambda t: f(t).sum())(X),
    "jacrev": lambda f: torch.func.jacrev(f)(X), "jvp": lambda f: torch.func.jvp(f, (X,), (X,)),
    "functionalize": lambda f: torch.func.functionalize(f)(X),
}  # fmt: skip


@pytest.mark.newest
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_inside_a_transform_explain_says_that_it_cannot(transform: str) -> None:
    model = network()
    for f in (lambda t: torchbcos.explain(model, t, 0).weights, lambda t: contribution_maps(model, t, 0, wrt="0")):
        with pytest.raises(StateError, match=r"cannot run inside torch\.func"):
            TRANSFORMS[transform](f)
    torchbcos.explain(model, X)


def packed(change: Callable[[Tensor], Tensor], least: int = 0) -> Any:
    """Hooks that store what is saved in another form, where it has at least so many numbers."""
    return torch.autograd.graph.saved_tensors_hooks(
        lambda t: (t.dtype, change(t) if t.numel() >= least else t), lambda pair: pair[1].to(pair[0])
    )


@pytest.mark.parametrize("least", [0, 1000])
@pytest.mark.parametrize("change", [Tensor.half, Tensor.bfloat16, lambda t: (t * 256).round() / 256])
def test_hooks_that_change_what_autograd_keeps_are_refused(change: Callable[[Tensor], Tensor], least: int) -> None:
    with packed(change, least), pytest.raises(StateError, match="Hooks on saved tensors"):
        torchbcos.explain(network(), X)
    with (
        torch.autograd.graph.saved_tensors_hooks(Tensor.half, lambda t: t),  # another dtype comes back
        pytest.raises(BcosError, match="Hooks on saved tensors"),
    ):
        torchbcos.explain(network(), X)


def test_hooks_that_keep_everything_explain_the_same() -> None:
    model = network()
    expected = torchbcos.explain(model, X, 1).weights
    for hooks in (torch.autograd.graph.save_on_cpu(), packed(Tensor.clone)):
        with hooks:
            assert torch.equal(torchbcos.explain(model, X, 1).weights, expected)


def test_a_module_that_runs_twice_is_named_by_neither_run() -> None:
    model = network(shared := bnn.BcosConv2d(4, 4, 1), shared)
    for start in (
        lambda: torchbcos.explain(model, X, 0, at="1"),
        lambda: torchbcos.explain(model, X, 0, at="1", create_graph=True),
        lambda: torchbcos.explain(model, X, 0, at="1", batch_size=1),
        lambda: contribution_maps(model, X, torch.tensor([0, 0]), wrt="1"),
    ):
        with pytest.raises(StateError, match=r"'1' ran 2 times"):
            start()


@pytest.mark.parametrize("space", [1, 2, 3])
@pytest.mark.parametrize("channels", [4, 8])
def test_one_picture_without_a_batch(space: int, channels: int) -> None:
    """The second layer's words were reported, or the shape of the outputs: the first layer takes one picture alone."""
    kind = (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d)[space - 1]
    model = nn.Sequential(kind(4, channels, 3, padding=1), bnn.BatchNorm(channels), kind(channels, 4, 1), bnn.GlobalAveragePool())
    x = torch.rand(4, *[8] * space)
    for several in (False, True):
        with pytest.raises(InputError, match=rf"x must be \(N, C, \*S\), and this network has {space} axes of space, not \(4, 8"):
            torchbcos.explain(model, x, create_graph=several)
    assert torchbcos.explain(model.eval(), x[None]).values.shape == (1, 1)


def test_a_network_that_gives_its_layers_one_picture_at_a_time() -> None:
    """It is explained: its layers see no picture of the shape of the batch."""

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = bnn.BcosConv2d(4, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.conv(picture).mean((1, 2)) for picture in x])

    e = torchbcos.explain(Alone(), torch.rand(2, 4, 8, 8), 1)
    assert float(e.residual.abs().max()) < 1e-5
