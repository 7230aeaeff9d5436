"""Ordinary networks as people build and wrap them: parametrisations, checkpoints, dtypes, layouts, outputs of several things."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import torchbcos
from tests.unit.kinds.wrapped import check_same, network, pair, pictures, pooled, seeded, written
from torchbcos._core.errors import BcosError, InputError, StateError

PLAIN = seeded(network)


def by_hand(net: nn.Sequential, x: Tensor, target: int, *, training: bool = False) -> Tensor:
    """W of `network()`, its gates and statistics written out and held."""
    x = x.detach().requires_grad_()
    y, norm = net[0](x), net[1]
    mean, var = norm.running_mean, norm.running_var
    if training:
        mean, var = y.mean((0, 2, 3)).detach(), y.var((0, 2, 3), correction=0).detach()
    scale = norm.weight * (var + norm.eps).rsqrt()
    y = (y - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    y = y * (0.5 * (1 + torch.erf(y / 2**0.5))).detach()
    y = net[3](y)
    y = y * y.sigmoid().detach()
    (w,) = torch.autograd.grad(net[7](y.mean((2, 3)))[:, target].sum(), x)
    return w


def test_the_plain_network_has_the_w_that_is_written_out() -> None:
    x = pictures()
    torch.testing.assert_close(torchbcos.explain(PLAIN, x, 1).weights[:, 0], by_hand(PLAIN, x, 1), rtol=0, atol=1e-12)
    fault = by_hand(PLAIN, x * 1.01, 1)  # the comparison can fail
    assert float((fault - by_hand(PLAIN, x, 1)).abs().max()) > 1e-7


# -- parametrisations, modules used twice ------------------------------------------------------------------------------


class LowRank(nn.Module):
    """`W + A B`, as in LoRA."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(4, 2).double()), nn.Parameter(torch.linspace(-1, 1, 12).reshape(2, 6).double())

    def forward(self, w: Tensor) -> Tensor:
        return w + self.a @ self.b


def _low_rank(net: nn.Sequential) -> None:
    parametrize.register_parametrization(net[7], "weight", LowRank())
    parametrize.register_parametrization(net[7], "bias", nn.Tanh())


PARAMETRISED: dict[str, Callable[[Any], Any]] = {
    "weight norm": lambda net: parametrizations.weight_norm(net[0]),
    "old weight norm": lambda net: nn.utils.weight_norm(net[3]),
    "spectral norm": lambda net: parametrizations.spectral_norm(net[0]),
    "old spectral norm": lambda net: nn.utils.spectral_norm(net[3]).eval(),
    "orthogonal": lambda net: parametrizations.orthogonal(net[7]),
    "pruned": lambda net: prune.l1_unstructured(net[0], "weight", 0.5),
    "low rank": _low_rank,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", PARAMETRISED)
def test_parametrised_weights_are_the_weights_they_make(name: str) -> None:
    net, plain, x = seeded(network), seeded(network), pictures()
    PARAMETRISED[name](net)
    net.eval()(x)
    with torch.no_grad():
        for i in (0, 3, 7):
            plain[i].weight.copy_(net[i].weight)
            plain[i].bias.copy_(net[i].bias)
    check_same(net, plain)
    with parametrize.cached():
        check_same(net, plain)


def test_power_iterations_of_training_are_taken_back() -> None:
    net = seeded(network)
    parametrizations.spectral_norm(net[0])
    net.train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    torchbcos.explain(net, pictures(), 1)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_modules_used_twice_and_tied_weights() -> None:
    def twice(s: Any, x: Tensor) -> Tensor:
        y = F.gelu(s.norm(s.second(F.gelu(s.norm(s.second(s.conv(x)))))))
        return pooled(s, F.linear(s.head(y.movedim(1, -1)), s.head.weight.T).movedim(-1, 1))

    def apart(s: Any, x: Tensor) -> Tensor:
        y = s.conv(x)
        for _ in range(2):
            y = F.batch_norm(
                F.conv2d(y, s.second.weight, s.second.bias, padding=1), s.norm.running_mean, s.norm.running_var, s.norm.weight,
                s.norm.bias,
            )  # fmt: skip
            y = y * (0.5 * (1 + torch.erf(y / 2**0.5))).detach()
        y = y.mean((2, 3)) @ s.head.weight.T + s.head.bias
        return (y @ s.head.weight) @ s.head.weight.T + s.head.bias

    check_same(*pair(twice, apart))


# -- torch.utils.checkpoint --------------------------------------------------------------------------------------------

CHECKPOINTS: dict[str, Callable[[Any, Tensor, bool], Tensor]] = {
    "inside": lambda s, x, again: s[4:](checkpoint(s[1:4], s[0](x), use_reentrant=again)),
    "around": lambda s, x, again: checkpoint(s, x, use_reentrant=again),
    "of a linear part": lambda s, x, again: s[1:](checkpoint(s[0], x, use_reentrant=again)),
    "in a row": lambda s, x, again: checkpoint_sequential(s, 3, x, use_reentrant=again),
    "one in another": lambda s, x, again: checkpoint(
        lambda y: s[5:](checkpoint(s[2:5], s[:2](y), use_reentrant=again)), x, use_reentrant=again
    ),
}


class Checkpointed(nn.Module):
    def __init__(self, net: nn.Module, run: Callable[[Any, Tensor, bool], Tensor], again: bool) -> None:
        super().__init__()
        self.net, self.run, self.again = net, run, again

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.net, x, self.again)


@pytest.mark.parametrize("create_graph", [False, True, "truncated"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_change_nothing(name: str, create_graph: bool | str) -> None:
    check_same(Checkpointed(PLAIN, CHECKPOINTS[name], False), PLAIN, create_graph=create_graph)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_reentrant_checkpoints_are_refused_by_name(name: str) -> None:
    with pytest.raises(StateError, match=r"torch\.utils\.checkpoint .*use_reentrant=False.*set_grad_checkpointing\(False\)"):
        torchbcos.explain(Checkpointed(PLAIN, CHECKPOINTS[name], True), pictures(), 1)


def test_an_edit_inside_a_checkpoint_is_noticed() -> None:
    def late(s: Any, x: Tensor) -> Tensor:
        def part(y: Tensor) -> Tensor:
            z = s.second(y)
            y.mul_(2)
            return z + y

        return pooled(s, checkpoint(part, s.conv(x), use_reentrant=False))

    with pytest.raises(StateError, match="edits a tensor in place"):
        torchbcos.explain(written(late), pictures(), 1)


def test_checkpoints_of_timm() -> None:
    timm = pytest.importorskip("timm")
    net = seeded(lambda: timm.create_model("test_vit", num_classes=5))
    x = torch.rand(1, 3, 160, 160, dtype=torch.float64)
    plain = torchbcos.explain(net, x, 1)
    net.set_grad_checkpointing(True)
    again = torchbcos.explain(net, x, 1)
    torch.testing.assert_close(again.weights, plain.weights)
    assert list(again.constants) == list(plain.constants) and {"cls_token", "pos_embed"} <= set(plain.constants)


# -- dtypes, memory formats, layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_give_w_within_their_tolerance(dtype: torch.dtype) -> None:
    x, expected = pictures(), torchbcos.explain(PLAIN, pictures(), 1)
    found = [torchbcos.explain(seeded(network).to(dtype), x.to(dtype), 1)]
    if dtype is torch.bfloat16:
        with torch.autocast("cpu", dtype):
            found.append(torchbcos.explain(seeded(network).float(), x.float(), 1))
    scale = float(expected.weights.abs().max())
    for e in found:
        assert bool(e.complete.all()) and e.tolerance == 5e-2
        assert float((e.weights.double() - expected.weights).abs().max()) <= 5e-2 * scale


def test_channels_last_and_a_single_image() -> None:
    net = seeded(network).to(memory_format=torch.channels_last)
    check_same(net, PLAIN, pictures().to(memory_format=torch.channels_last))
    check_same(net, PLAIN, pictures(1))


class Sequence(nn.Module):
    """Four tokens through a transformer's layer, as (T, N, C) or (N, T, C)."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.first, self.patches, self.places = batch_first, nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(4, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=batch_first)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        t = self.patches(x).flatten(2).permute(2, 0, 1) + self.places
        y: Tensor = self.head((self.layer(t.transpose(0, 1)).transpose(0, 1) if self.first else self.layer(t)).mean(0))
        return y


def _windows(s: Any, x: Tensor, axis: int) -> Tensor:
    y = s.conv(x)
    parts = torch.stack([y[:, :, i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4)], axis)
    return s.head(s.norm(parts.flatten(0, 1)).unflatten(0, parts.shape[:2]).mean((axis, 3, 4)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_images_on_other_axes_keep_their_own_constants(n: int) -> None:
    x = pictures(n, seed=n)
    nets = [
        (seeded(lambda: Sequence(False)), seeded(lambda: Sequence(True))),
        pair(lambda s, x: _windows(s, x, 0), lambda s, x: pooled(s, s.norm(s.conv(x)))),
        pair(lambda s, x: _windows(s, x, 1), lambda s, x: pooled(s, s.norm(s.conv(x)))),
    ]
    for net, plain in nets:
        found, expected = check_same(net, plain, x), torchbcos.explain(plain, x, 1)
        for i in range(n):  # image by image, as alone
            alone = torchbcos.explain(plain, x[i : i + 1], 1)
            torch.testing.assert_close(found.weights[i], alone.weights[0], rtol=0, atol=1e-10)
            for name, value in alone.constants.items():
                torch.testing.assert_close(expected.constants[name][i], value[0], rtol=0, atol=1e-10)
                torch.testing.assert_close(found.constants[name][i], value[0], rtol=0, atol=1e-10)


# -- outputs of several things -----------------------------------------------------------------------------------------


class Both(NamedTuple):
    hidden: Tensor
    logits: Tensor


@dataclasses.dataclass
class Result:
    logits: Tensor
    hidden: Tensor | None = None


@dataclasses.dataclass
class ModelOutput(collections.OrderedDict):  # type: ignore[type-arg]
    """A dataclass that is a mapping, too, as in the library transformers."""

    logits: Tensor | None = None
    hidden: Tensor | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self[field.name] = getattr(self, field.name)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.keys()))


OUTPUTS: dict[str, tuple[Callable[[Tensor, Tensor], Any], str | int]] = {
    "dict": (lambda y, x: {"hidden": x, "logits": y}, "logits"),
    "tuple": (lambda y, x: (x, y), 1),
    "last of a tuple": (lambda y, x: (x, y), -1),
    "list": (lambda y, x: [y], 0),
    "named tuple": (lambda y, x: Both(x, y), "logits"),
    "dataclass": (lambda y, x: Result(y, x), "logits"),
    "dataclass and mapping": (lambda y, x: ModelOutput(y, x), "logits"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_one_of_several_outputs_is_explained(name: str) -> None:
    gives, wanted = OUTPUTS[name]

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(network)

        def forward(self, x: Tensor) -> Any:
            return gives(self.net(x), x)

    check_same(Several(), PLAIN, output=wanted)
    with pytest.raises(StateError, match="Say which entry holds the logits: output="):
        torchbcos.explain(Several(), pictures())
    with pytest.raises(InputError, match="is no entry of what the network gives"):
        torchbcos.explain(Several(), pictures(), output="nothing")


@pytest.mark.parametrize("wanted", ["hidden", 5])
def test_an_entry_that_is_no_logits_is_refused(wanted: object) -> None:
    net = written(lambda s, x: {"hidden": s.conv(x), "logits": pooled(s, s.conv(x))})
    with pytest.raises(BcosError, match=r"\(2, classes\)|is no entry"):
        torchbcos.explain(net, pictures(), output=wanted)  # type: ignore[arg-type]
