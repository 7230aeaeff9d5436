"""Pruned networks: what was cut contributes nothing, explanations stay exact, files hold them, and repairs repair."""

from __future__ import annotations

import copy
import functools
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, InputError
from torchbcos.conversion import pruned_of
from torchbcos.functional import unit_norm_weight
from torchbcos.models import build
from torchbcos.models.calibration import recalibrate
from torchbcos.nn.filters import FilterLayer
from torchbcos.search import Pruner, count_flops
from torchbcos.search.reconstruction import fit

FAMILIES: dict[str, tuple[str, dict[str, Any], int]] = {
    "resnet": ("resnet18", {"antialias": True, "width_factor": 0.125}, 32),
    "maxout": ("resnet18", {"max_out": 2, "width_factor": 0.125}, 32),
    "plain": ("resnet18", {"plain": True, "width_factor": 0.125}, 32),
    "vgg": ("vgg11_bnu", {"width_factor": 0.125, "b": 1.25}, 32),
    "convnext": ("convnext_tiny", {"width_factor": 0.125}, 32),
    "bvt": ("bvt_tiny_patch8", {"depth": 2}, 16),
    "two_stage": ("two_stage_nano", {"depth": 1, "depth_where": 1}, 32),
}
ALL = pytest.mark.parametrize("family", FAMILIES)


def pictures(family: str, count: int, seed: int = 0) -> Tensor:
    """Encoded pictures of smooth spots, as wide as the network is; plain networks take them as they are."""
    _, options, side = FAMILIES[family]
    generator = torch.Generator().manual_seed(seed)
    x = nn.functional.interpolate(torch.rand(count, 3, 8, 8, generator=generator), size=(side, side), mode="bilinear")
    return x if options.get("plain") else torchbcos.functional.add_inverse(x)


@functools.cache
def made(family: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network whose norms know such pictures, and whose first stage selects some patches."""
    name, options, _ = FAMILIES[family]
    torch.manual_seed(0)
    network: Any = build(name, num_classes=4, **options).eval()
    x = pictures(family, 16)
    with torch.no_grad():
        for name_, parameter in network.named_parameters():
            if name_.endswith("layer_scale"):
                parameter.fill_(0.5)  # a fresh one hides the branch
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.bias is not None:
                nn.init.normal_(module.bias, 0.2, 0.3)  # what is cut would leave more than a zero behind
        if family == "two_stage":
            tokens = network.tokens(x).flatten(0, 2)
            network.where.parts.vectors.copy_(tokens[torch.randperm(len(tokens))[: len(network.where.parts.vectors)]] * 0.9)
    if any(isinstance(m, bnn.BatchNorm) for m in network.modules()):
        recalibrate(network, [x])
    out: nn.Module = network.to(dtype).requires_grad_(False)
    return out


@functools.cache
def pruner_of(family: str, dtype: torch.dtype = torch.float32, **options: Any) -> Pruner:
    return Pruner(made(family, dtype), pictures(family, 24).to(dtype), **options)


def drawn(pruner: Pruner, seed: int) -> list[int]:
    """Steps, of which one at least is small."""
    steps = random.Random(seed).choices(range(1, 9), k=len(pruner.groups))
    steps[seed % len(steps)] = 2
    return steps


@functools.cache
def built(family: str, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    pruner = pruner_of(family, dtype, **options)
    return pruner.build(drawn(pruner, seed)).requires_grad_(False)


def loaded(path: Path) -> nn.Module:
    """As it was saved; what learns nothing is computed by the same kernels."""
    network: nn.Module = torchbcos.load(path, deploy=False).model.requires_grad_(False)
    return network


def of_free_filters(network: nn.Module) -> nn.Module:
    """The same, with filters that are used as they are, so that what is left of them is not made longer."""
    network = copy.deepcopy(network)
    for layer in network.modules():
        if isinstance(layer, FilterLayer) and layer.unit_norm:
            layer.weight.data = unit_norm_weight(layer.weight.data)
            layer.unit_norm = False
    return network


def zeroed(network: nn.Module, pruner: Pruner, steps: Sequence[int]) -> nn.Module:
    """A copy in which what is cut is multiplied by zero where it is read."""
    network = copy.deepcopy(network)
    for group, kept in pruner.kept(steps):
        for name in group.readers:
            layer: Any = network.get_submodule(name)
            size = layer.weight.shape[1]
            stays = torch.zeros(group.size)
            stays[kept] = 1
            stays = stays.repeat_interleave(size // group.size)
            mask = stays if isinstance(layer, nn.Linear | bnn.BcosLinear) else stays[:, None, None]
            layer.register_forward_pre_hook(lambda _, args, mask=mask: (args[0] * mask.to(args[0].dtype), *args[1:]))
    return network


# -- what was cut --------------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_cut_contributes_exactly_nothing(family: str, seed: int) -> None:
    network = of_free_filters(made(family, torch.float64))
    x = pictures(family, 4).double()
    pruner = Pruner(network, x, repair="none")
    steps = drawn(pruner, seed)
    small, twin = pruner.build(steps), zeroed(network, pruner, steps)
    torch.testing.assert_close(small(x), twin(x), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(small(x), network(x), rtol=1e-6, atol=1e-9)
    targets = [[0, 1]] * 4
    one, other = (torchbcos.explain(net, x, targets) for net in (small, twin))
    torch.testing.assert_close(one.contributions, other.contributions, rtol=1e-7, atol=1e-11)


@ALL
def test_what_is_left_is_as_large_as_was_said(family: str) -> None:
    pruner, small = pruner_of(family), built(family)
    for group, kept in pruner.kept(drawn(pruner, 0)):
        maker: Any = small.get_submodule(group.name)
        assert 1 <= len(kept) <= group.size and kept == sorted(set(kept))
        size = maker.heads if group.heads else maker.weight.shape[0] // getattr(maker, "max_out", 1)
        assert size == len(kept)
    x = pictures(family, 1)
    assert count_flops(small, x) == pruner.flops(drawn(pruner, 0)) < pruner.flops() == count_flops(made(family), x)


@ALL
def test_the_given_network_stays_as_it_is(family: str) -> None:
    network = copy.deepcopy(made(family)).train()
    before = copy.deepcopy(network.state_dict())
    pruner = Pruner(network, pictures(family, 4), ranking="contribution")
    first, again = (pruner.build(drawn(pruner, 1)) for _ in range(2))
    assert {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])} == set()
    assert pruned_of(network) is None and not [m for m in network.modules() if not m.training]
    assert not [m for m in first.modules() if m.training]
    assert [name for name, value in first.state_dict().items() if not torch.equal(value, again.state_dict()[name])] == []


# -- what the network is then --------------------------------------------------------------------------------------------------


@ALL
def test_explanations_of_pruned_networks_are_exact(family: str) -> None:
    for dtype, most in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        x = pictures(family, 2, seed=1).to(dtype)
        e = torchbcos.explain(built(family, dtype=dtype), x, [[0, 1, 2, 3]] * 2)
        assert float(e.residual.abs().max()) <= most
        assert float(e.contributions.abs().max()) > 1e-6 and bool(e.complete.all())


@ALL
def test_pruned_networks_are_saved_and_loaded(family: str, tmp_path: Path) -> None:
    small, x = copy.deepcopy(built(family)).eval(), pictures(family, 3, seed=1)  # as fresh as what is loaded, its kernels, too
    torchbcos.save(small, tmp_path / "m")
    again = loaded(tmp_path / "m")
    assert torch.equal(again(x), small(x)) and pruned_of(again) == pruned_of(small) != {}
    twin = torchbcos.load(tmp_path / "m").model
    torch.testing.assert_close(twin(x), small(x), rtol=1e-4, atol=1e-5)
    assert float(torchbcos.explain(twin, x, [[0]] * 3).residual.abs().max()) <= 1e-5
    torchbcos.save(torchbcos.deploy(small), tmp_path / "twin")
    torch.testing.assert_close(torchbcos.load(tmp_path / "twin").model(x), twin(x), rtol=1e-5, atol=1e-6)


@ALL
def test_a_pruned_network_is_pruned_again(family: str, tmp_path: Path) -> None:
    x = pictures(family, 12)
    pruner = Pruner(built(family, seed=1), x)
    small = pruner.build([4] * len(pruner.groups))
    assert count_flops(small, x[:1]) < count_flops(built(family, seed=1), x[:1])
    torchbcos.save(small, tmp_path / "m")
    assert torch.equal(loaded(tmp_path / "m")(x), small.requires_grad_(False)(x))
    e = torchbcos.explain(small, x[:1], [[0, 1]])
    assert float(e.residual.abs().max()) <= 1e-5


@ALL
def test_the_rest_of_a_batch_does_not_matter(family: str) -> None:
    small, x = built(family), pictures(family, 3, seed=2)
    x[1] *= 0.1
    whole = small(x)
    for i in range(3):
        torch.testing.assert_close(small(x[i : i + 1])[0], whole[i], rtol=1e-4, atol=1e-5)


def test_a_sequence_is_pruned_saved_and_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [bnn.BcosConv2d(6, 16, 3, padding=1), bnn.BatchNorm(16, centered=False, bias=False), bnn.BcosConv2d(16, 12, 3)]
    network = nn.Sequential(*layers, bnn.BcosConv2d(12, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = torchbcos.functional.add_inverse(torch.rand(20, 3, 8, 8))
    small: Any = Pruner(network, x).build((4, 4))
    torchbcos.save(small, tmp_path / "m")
    again: Any = torchbcos.load(tmp_path / "m", deploy=False).model
    assert torch.equal(again(x), small.requires_grad_(True)(x)) and pruned_of(again) == pruned_of(small)
    assert [layer.unit_norm for layer in again if isinstance(layer, FilterLayer)] == [True, False, False]  # no norm follows those
    before = small(x).detach()
    optimizer = torch.optim.SGD(small.train().parameters(), 0.1)
    small(x).square().sum().backward()
    optimizer.step()
    assert not torch.allclose(small.eval()(x), before)


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_a_plain_network_is_pruned_first_and_then_converted(name: str, tmp_path: Path) -> None:
    """As the refusal of converted networks says."""
    torch.manual_seed(0)
    x = torch.rand(16, 3, 32, 32)
    pruner = Pruner(build(name, plain=True, width_factor=0.125, num_classes=3).eval(), x)
    converted, _ = torchbcos.bcosify(
        pruner.build([4] * len(pruner.groups)), example=x[:4], mean=(0.5,) * 3, std=(0.2,) * 3
    )  # fmt: skip
    torchbcos.save(converted, tmp_path / "m")
    encoded = torchbcos.functional.add_inverse(x[:3])
    assert torch.equal(torchbcos.load(tmp_path / "m", deploy=False).model(encoded), converted(encoded))


# -- repairs -------------------------------------------------------------------------------------------------------------------


def redundant(bcos: bool, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network as training leaves them, whose channels say nearly the same several times; pictures, and others."""
    torch.manual_seed(seed)
    sizes = [(6, 16, 3), (16, 16, 3), (16, 8, 1)]
    layers: list[nn.Module] = []
    for i, o, k in sizes:
        conv: Any = bnn.BcosConv2d(i, o, k, padding=k // 2) if bcos else nn.Conv2d(i, o, k, padding=k // 2, bias=False)
        few = torch.einsum("or,rckl->ockl", torch.randn(o, 6), torch.randn(6, i, k, k)) / 6
        conv.weight.data = few + 0.1 * torch.randn(o, i, k, k)
        layers += [conv, bnn.BatchNorm(o, centered=False, bias=False) if bcos else nn.BatchNorm2d(o)]
        layers += [nn.Identity() if bcos else nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x, other = (torchbcos.functional.add_inverse(torch.rand(64, 3, 10, 10)) for _ in range(2))
    recalibrate(network, [x])
    return network, x, other


def away(small: nn.Module, network: nn.Module, x: Tensor, at: str = "") -> float:
    """Mean squared error of what a layer, or the network, gives; relative."""
    found = []
    for net in (small, network):
        hook = net.get_submodule(at).register_forward_hook(lambda _, args, out: found.append(out.detach()))
        net(x)
        hook.remove()
    return float((found[0] - found[1]).square().mean() / found[1].square().mean())


@pytest.mark.parametrize("bcos", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_least_squares_repairs_more_than_norms_and_norms_more_than_nothing(bcos: bool, seed: int) -> None:
    network, x, other = redundant(bcos, seed)
    for steps, reader in (((4, 8), "4"), ((8, 4), "7"), ((5, 5), "7"), ((5, 5), "")):
        repaired = [Pruner(network, x, repair=repair).build(steps) for repair in ("least_squares", "norms", "none")]
        for pictures_ in (x, other):
            errors = [away(small, network, pictures_, reader) for small in repaired]
            assert errors[0] < 0.8 * min(errors[1:]) and errors[1] < 1.05 * errors[2]
            assert reader or errors[1] < 0.9 * errors[2]  # of the logits


@pytest.mark.parametrize("seed", [0, 1])
def test_without_its_gain_a_layer_of_no_norm_is_worse(seed: int) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(bnn.BcosLinear(12, 64), bnn.BcosLinear(64, 32), bnn.BcosLinear(32, 8)).eval()
    x = torch.randn(300, 12)
    whole, without = (Pruner(network, x, free_gain=free).build((4, 8)) for free in (True, False))
    assert away(whole, network, x) < 0.4 * away(without, network, x)
    assert [layer.unit_norm for layer in whole] == [True, False, True]  # type: ignore[union-attr]
    assert [layer.unit_norm for layer in without] == [True, True, True]  # type: ignore[union-attr]


def test_without_its_gain_a_block_of_a_transformer_is_worse() -> None:
    network, x = made("bvt"), pictures("bvt", 24)
    steps = [3 if group.heads else 4 for group in pruner_of("bvt").groups]
    whole, without = (pruner_of("bvt", free_gain=free).build(steps) for free in (True, False))
    for at in ("transformer.encoder_0", "transformer.encoder_1.ff"):
        assert away(whole, network, x, at) < 0.8 * away(without, network, x, at)


def test_filters_before_a_norm_keep_their_lengths_and_repaired_ones_their_norms() -> None:
    network, x, _ = redundant(True, 0)
    small: Any = Pruner(network, x).build((4, 4))
    assert small[3].unit_norm and small[6].unit_norm
    rows = Pruner(network, x).kept((4, 4))[1][1]
    cut: Any = Pruner(network, x, repair="none").build((4, 4))
    assert torch.equal(cut[3].weight, network[3].weight[rows][:, Pruner(network, x).kept((4, 4))[0][1]])  # type: ignore[index]
    for i in (3, 6):
        lengths = [one[i].weight.detach().flatten(1).norm(dim=1) for one in (small, cut)]
        torch.testing.assert_close(lengths[0], lengths[1])
        assert not torch.allclose(small[i].weight, cut[i].weight)
    plain, x, _ = redundant(False, 0)
    for repair in ("least_squares", "norms"):
        again = Pruner(plain, x, repair=repair).build((4, 4))
        before = copy.deepcopy(again)
        recalibrate(again, torch.split(x, 32))
        for one, other in zip(again.buffers(), before.buffers(), strict=True):
            torch.testing.assert_close(one, other)
    nothing: Any = Pruner(plain, x, repair="none").build((4, 8))
    kept = Pruner(plain, x).kept((4, 8))[0][1]
    assert torch.equal(nothing[1].running_var, plain[1].running_var[kept])  # type: ignore[index]
    assert torch.equal(nothing[3].weight, plain[3].weight[:, kept])  # type: ignore[index]


def test_fitted_weights_and_biases_stand_where_they_belong() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    pruner = Pruner(network, torch.randn(50, 6))
    small: Any = pruner.build((4, 3))
    (_, first), (_, second) = pruner.kept((4, 3))
    for name, kept, rows in (("2", first, second), ("4", second, [0, 1, 2])):
        weight, bias = fit(network.get_submodule(name), pruner.samples[name], kept)
        assert bias is not None and torch.equal(small[int(name)].weight, weight[rows])
        assert torch.equal(small[int(name)].bias, bias[rows])
    attention = nn.Sequential(bnn.Attention(8, 4, head_dim=2), Mean(1)).eval()
    pruner = Pruner(attention, torch.randn(40, 5, 8))
    small = pruner.build([4])[0]  # type: ignore[index]
    channels = [2 * h + i for h in pruner.kept([4])[0][1] for i in range(2)]
    weight, _ = fit(attention[0].to_out, pruner.samples["0.to_out"], channels)  # type: ignore[union-attr]
    assert torch.equal(small.to_out.weight, weight) and not small.to_out.unit_norm
    # arms of MaxOut are compared by their lengths: those are kept although a norm follows
    readers = [name for group in pruner_of("maxout").groups for name in group.readers]
    assert readers and {built("maxout").get_submodule(name).unit_norm for name in readers} == {False}


def test_where_nothing_is_cut_nothing_changes() -> None:
    for repair in ("least_squares", "none"):
        network, x, _ = redundant(True, 1)
        small = Pruner(network, x, repair=repair).build((8, 8))
        assert pruned_of(small) == {}
        torch.testing.assert_close(small(x), network(x), rtol=1e-2, atol=1e-2)
        assert [p for p, q in zip(small.parameters(), network.parameters(), strict=True) if not torch.equal(p, q)] == []


@pytest.mark.parametrize("which", [0, 2])
def test_weights_that_are_made_of_others_are_pruned_or_refused(which: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    nn.utils.parametrizations.weight_norm(network[which])
    x = torch.randn(40, 6)
    try:
        small: Any = Pruner(network, x).build([4])
    except BcosError:
        return
    assert small[0].weight.shape == (8, 6) and small[2].weight.shape == (3, 8) and away(small, network, x) < 1


def test_a_network_may_carry_more_than_tensors_in_its_state() -> None:
    class Own(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"epoch": 3}

        def set_extra_state(self, state: object) -> None:
            pass

    network = nn.Sequential(Own(6, 6), nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    assert Pruner(network, torch.randn(40, 6)).build([4])(torch.randn(2, 6)).shape == (2, 3)


# -- which channels go first ---------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), bcos=st.booleans(), tokens=st.booleans())
def test_rankings_are_those_of_their_equations(seed: int, bcos: bool, tokens: bool) -> None:
    """On two layers, where a channel's share of a logit can be written down."""
    torch.manual_seed(seed)
    x = torch.randn(5, 3, 4, dtype=torch.float64) if tokens else torch.randn(5, 4, 3, 1, dtype=torch.float64)
    if tokens:
        layers: list[nn.Module] = [nn.Linear(4, 6), nn.Identity(), bnn.BcosLinear(6, 3) if bcos else nn.Linear(6, 3)]
        network = nn.Sequential(*layers, Mean(1)).double().eval()
    else:
        layers = [nn.Conv2d(4, 6, 1), nn.Identity(), bnn.BcosConv2d(6, 3, 1) if bcos else nn.Conv2d(6, 3, 1)]
        network = nn.Sequential(*layers, Mean((2, 3))).double().eval()
    weight = layers[2].weight.detach().flatten(1)  # type: ignore[union-attr, operator]
    w = unit_norm_weight(weight) if bcos else weight
    with torch.no_grad():
        read = layers[1](layers[0](x))
        rows = read if tokens else read.flatten(2).transpose(1, 2)  # (N, T, 6)
        first = network(x).argmax(1)
    total, activity = [0.0] * 6, [0.0] * 6
    for n in range(5):
        for c in range(6):
            share = 0.0
            for row in rows[n]:
                factor = float((row @ w[first[n]]).abs() / row.norm().clamp_min(1e-30)) if bcos else 1.0
                share += float(row[c] * w[first[n], c]) * factor
                activity[c] += float(row[c].abs())
            total[c] += abs(share)
    size = [activity[c] * float(weight[:, c].norm()) for c in range(6)]
    for ranking, scores in (("contribution", total), ("magnitude", size)):
        ranked = Pruner(network, x, ranking=ranking).ranks["0"].tolist()
        assert sorted(ranked) == list(range(6))
        if ranking == "magnitude":  # of places that are drawn
            drawn_ = Pruner(network, x, ranking=ranking).samples["2"].activity.double() * weight.norm(dim=0)
            scores = drawn_.tolist()
            assert sum(size) > 0 and ranked == sorted(range(6), key=lambda c: -scores[c])
        assert [scores[c] for c in ranked] == pytest.approx(sorted(scores, reverse=True), rel=1e-3)


class Mean(nn.Module):
    def __init__(self, axes: int | tuple[int, int]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes)


def test_silent_channels_go_first_whatever_the_ranking() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        network[0].weight[[1, 4, 6]] = 0  # type: ignore[index]
        network[0].bias[[1, 4, 6]] = -1  # type: ignore[index]
    x = torch.randn(20, 3, 4, 4)
    for ranking in ("magnitude", "contribution"):
        pruner = Pruner(network, x, repair="none", ranking=ranking)
        assert set(pruner.ranks["0"][-3:].tolist()) == {1, 4, 6}
        torch.testing.assert_close(pruner.build([5])(x), network(x))


def test_heads_are_ranked_as_a_whole() -> None:
    torch.manual_seed(0)
    attention = bnn.Attention(8, 4, head_dim=2)
    with torch.no_grad():
        attention.to_out.weight[:, 2:4] = 0  # type: ignore[index]
        attention.to_out.weight[:, 6:] *= 50  # type: ignore[index]
    network = nn.Sequential(attention, Mean(1)).eval()
    x = torch.randn(30, 5, 8)
    for ranking in ("magnitude", "contribution"):
        pruner = Pruner(network, x, ranking=ranking)
        order = pruner.ranks["0"].tolist()
        assert sorted(order) == [0, 1, 2, 3] and order[0] == 3 and order[-1] == 1
        small: Any = pruner.build([4])[0]  # type: ignore[index]
        kept = sorted(order[:2])
        rows = [third * 8 + 2 * h + i for third in range(3) for h in kept for i in range(2)]
        assert small.heads == 2 and torch.equal(small.to_qkv.weight, attention.to_qkv.weight[rows])  # type: ignore[index]


# -- sizes and refusals --------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(share=st.floats(0, 1.2))
def test_uniform_widths_are_the_widest_that_are_cheap_enough(share: float) -> None:
    pruner = pruner_of("resnet")
    steps = pruner.uniform(share)
    count = len(pruner.groups)
    assert len(set(steps)) == 1 and len(steps) == count
    assert steps[0] == 1 or pruner.flops(steps) <= share * pruner.flops()
    assert steps[0] == 8 or pruner.flops((steps[0] + 1,) * count) > share * pruner.flops()


def test_shares_are_eighths_and_nested() -> None:
    pruner = Pruner(nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(9, 3))
    kept = [set(pruner.kept([steps])[0][1]) for steps in range(1, 9)]
    assert [len(one) for one in kept] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert [one <= other for one, other in itertools.pairwise(kept)] == [True] * 7
    one = Pruner(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3)), torch.randn(9, 3))
    assert [len(one.kept([steps])[0][1]) for steps in (1, 8)] == [1, 2]  # one stays always


@pytest.mark.parametrize("steps", [(), (4,), (4, 4, 4), (0, 4), (9, 4), (4.0, 4), ("4", 4)])
def test_wrong_steps_are_refused(steps: tuple[Any, ...]) -> None:
    pruner = Pruner(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 3)), torch.randn(9, 3))
    for ask in (pruner.build, pruner.flops, pruner.kept):
        with pytest.raises(InputError, match="Give 2 whole numbers from 1 to 8, one a group, not"):
            ask(steps)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"repair": "norm"}, "repair must be one of least_squares, norms, none, not 'norm'. Did you mean 'norms'"),
        ({"ranking": "random"}, "ranking must be one of magnitude, contribution, not 'random'"),
    ],
)
def test_unknown_words_are_refused(options: dict[str, str], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Pruner(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 3)), torch.randn(9, 3), **options)  # type: ignore[arg-type]


def test_networks_that_cannot_be_pruned_are_refused() -> None:
    x = pictures("vgg", 4)
    with pytest.raises(InputError, match="A deployed twin is not pruned, its norms are folded"):
        Pruner(torchbcos.deploy(made("vgg")), x)
    plain = build("vgg11", plain=True, width_factor=0.125, num_classes=3).eval()
    converted, _ = torchbcos.bcosify(plain, example=x[:, :3], mean=(0.5,) * 3, std=(0.2,) * 3)
    with pytest.raises(InputError, match=r"A converted network is not pruned: .* Prune first, then bcosify"):
        Pruner(converted, x)
    with pytest.raises(InputError, match="Nothing of this network can be cut: '0': its channels leave the network"):
        Pruner(nn.Sequential(nn.Linear(3, 2)), torch.randn(4, 3))
    with pytest.raises(InputError, match="Nothing of this network can be cut: 'the network': it has no linear layers"):
        Pruner(nn.ReLU(), torch.randn(4, 3))
