"""The laws of exact explanations, on tiny networks of every style."""

from __future__ import annotations

import copy
import os
import pickle
import threading

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos.models import ResNet, Style
from torchbcos.models.resnet import ResNetSizes

STYLES = {
    "official": Style(),
    "antialias": Style(antialias=True),
    "max_out": Style(max_out=2, b=1.5),
    "centred": Style(norm_centered=True, norm_bias=True),
    "position": Style(norm="position", norm_centered=True, norm_bias=True),
    "all": Style(norm="all", norm_centered=True, norm_bias=True),
    "group": Style(norm="group", norm_bias=True),
    "instance": Style(norm="instance", norm_centered=True),
    "layer": Style(norm="layer"),
    "none": Style(norm="none"),
    "plain": Style().as_plain(),
    "plain gelu": Style().as_plain("gelu"),
}


def tiny(style: Style, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> ResNet:
    """A two-stage network with drawn affine parameters and calibrated statistics."""
    torch.manual_seed(seed)
    sizes = ResNetSizes(depths=(1, 1), widths=(6, 8), expansion=1, stem=6)
    net = ResNet(sizes, style, num_classes=5).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() == 1:
                p.normal_().add_(0.5)
    torchbcos.recalibrate(net, [torch.rand(8, 6, 24, 24, dtype=dtype) for _ in range(3)])
    return net.eval()


@pytest.fixture(params=STYLES, ids=lambda name: name.replace(" ", "-"))
def net(request: pytest.FixtureRequest) -> ResNet:
    return tiny(STYLES[request.param])


def pictures(n: int = 3, *, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, 6, 24, 24, dtype=dtype, generator=torch.Generator().manual_seed(1))


def incompleteness(e: torchbcos.Explanation) -> float:
    """The residual in units of the bound that DESIGN sets."""
    size = e.contributions.abs().flatten(2).sum(2) + sum(c.abs() for c in e.constants.values())
    return float((e.residual.abs() / torch.maximum(e.values.abs().clamp_min(1), 0.1 * size)).max())


@pytest.mark.parametrize("training", [False, True])
def test_complete_in_float64(net: ResNet, training: bool) -> None:
    e = torchbcos.explain(net.train(training), pictures(), top_k=3)
    assert incompleteness(e) <= 1e-9
    total = e.contributions.flatten(2).sum(2) + sum(e.constants.values())
    torch.testing.assert_close(total, e.values, rtol=1e-9, atol=1e-9)


def test_complete_in_float32(net: ResNet) -> None:
    assert incompleteness(torchbcos.explain(net.float(), pictures(dtype=torch.float32), top_k=2)) <= 1e-4


class Adds(bnn.Layer):
    """A layer, so it is believed, that adds a constant and names none."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def compute(self, x: Tensor) -> Tensor:
        return x + self.number


def test_completeness_can_fail() -> None:
    with pytest.raises(torchbcos.BcosError, match=r"does not add up: 0\.5 of .* is missing"):
        torchbcos.explain(nn.Sequential(tiny(Style()), Adds(0.5)), pictures())
    e = torchbcos.explain(nn.Sequential(tiny(Style()), Adds(8e-9)), pictures())
    assert incompleteness(e) > 1e-9  # the bound of the law above
    torch.testing.assert_close(e.residual, torch.full_like(e.residual, 8e-9), rtol=1e-3, atol=0)


def test_w_is_the_gradient_in_frozen_mode_and_not_the_ordinary_one() -> None:
    net, x = tiny(Style()), pictures(1).requires_grad_()
    with torchbcos.frozen():
        out = net(x)[0, 2]
    (w,) = torch.autograd.grad(out, x)
    e = torchbcos.explain(net, x, 2)
    torch.testing.assert_close(e.weights[0, 0], w[0])
    (ordinary,) = torch.autograd.grad(net(x)[0, 2], x)
    assert float((ordinary - w).norm() / w.norm()) > 0.1


def test_frozen_changes_no_output_and_nests(net: ResNet) -> None:
    x = pictures()
    with torchbcos.frozen(), torchbcos.frozen():
        inside = net(x)
    torch.testing.assert_close(inside, net(x), rtol=1e-12, atol=1e-12)


def test_frozen_is_restored_after_an_exception() -> None:
    net, x = tiny(Style()), pictures(1).requires_grad_()
    before = torch.autograd.grad(net(x)[0, 0], x)[0]
    with pytest.raises(ZeroDivisionError), torchbcos.frozen():
        raise ZeroDivisionError
    torch.testing.assert_close(torch.autograd.grad(net(x)[0, 0], x)[0], before)


@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_left_behind(net: ResNet, training: bool) -> None:
    net.train(training)
    x = pictures()
    state = copy.deepcopy(net.state_dict())
    rng = torch.get_rng_state()
    torchbcos.explain(net, x, top_k=2, at="layer1", contrast=0)
    assert not x.requires_grad and x.grad is None
    assert net.training is training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert torch.equal(rng, torch.get_rng_state())
    assert not any(m._forward_hooks for m in net.modules())


def test_an_exception_in_a_hook_leaves_nothing() -> None:
    net, x = tiny(Style()), pictures(1)
    handle = net.layer2.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        torchbcos.explain(net, x, at="layer1")
    handle.remove()
    assert not any(m._forward_hooks for m in net.modules())
    leaf = x.clone().requires_grad_()
    with torchbcos.frozen():
        frozen = torch.autograd.grad(net(leaf)[0, 0], leaf)[0]
    ordinary = torch.autograd.grad(net(leaf)[0, 0], leaf)[0]
    assert not torch.allclose(frozen, ordinary)


def test_batch_is_one_by_one_and_k_targets_are_k_calls(net: ResNet) -> None:
    x = pictures(3)
    e = torchbcos.explain(net, x, [[0, 3], [1, 1], [4, 2]])
    for i in range(3):
        for k in range(2):
            one = torchbcos.explain(net, x[i : i + 1], int(e.targets[i, k]))
            torch.testing.assert_close(one.weights[0, 0], e.weights[i, k], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(one.values[0, 0], e.values[i, k], rtol=1e-9, atol=1e-12)
            for name, c in one.constants.items():
                torch.testing.assert_close(c[0, 0], e.constants[name][i, k], rtol=1e-9, atol=1e-12)


def test_chunks_are_the_whole(net: ResNet) -> None:
    x = pictures(5)
    whole, parts = torchbcos.explain(net, x, top_k=2), torchbcos.explain(net, x, top_k=2, batch_size=2)
    torch.testing.assert_close(parts.weights, whole.weights, rtol=1e-9, atol=1e-12)
    assert torch.equal(parts.targets, whole.targets)
    assert len(parts) == 5 and parts.constants.keys() == whole.constants.keys()


def test_contrast_is_the_difference(net: ResNet) -> None:
    x = pictures(2)
    e = torchbcos.explain(net, x, 3, contrast=1)
    a, b = torchbcos.explain(net, x, 3), torchbcos.explain(net, x, 1)
    torch.testing.assert_close(e.weights, a.weights - b.weights, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(e.values, a.values - b.values)
    assert incompleteness(e) <= 1e-9


def test_a_feature_is_explained(net: ResNet) -> None:
    x = pictures(2)
    feature = net.forward_stages(x)[0]
    e = torchbcos.explain(net, x, 4, at="layer1", position=(1, 2))
    torch.testing.assert_close(e.values[:, 0], feature[:, 4, 1, 2])
    assert incompleteness(e) <= 1e-9
    summed = torchbcos.explain(net, x, 4, at="layer1")
    torch.testing.assert_close(summed.values[:, 0], feature[:, 4].sum((1, 2)))
    assert incompleteness(summed) <= 1e-9


def test_inference_mode_callers_and_tensors() -> None:
    net = tiny(Style())
    plain = torchbcos.explain(net, pictures(), 1)
    with torch.inference_mode():
        x = pictures()
        inside = torchbcos.explain(net, x, 1)
    torch.testing.assert_close(inside.weights, plain.weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Rounding alone: four units of the last place in the sum, eight in W."""
    x, unit = pictures(), torch.finfo(dtype).eps
    e = torchbcos.explain(tiny(Style()).to(dtype), x.to(dtype))
    assert e.weights.isfinite().all() and incompleteness(e) <= 4 * unit
    exact = torchbcos.explain(tiny(Style()), x, e.targets).weights
    assert (e.weights.double() - exact).norm() <= 8 * unit * exact.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_can_fail(dtype: torch.dtype) -> None:
    planted = nn.Sequential(tiny(Style()).to(dtype), Adds(0.06))
    assert incompleteness(torchbcos.explain(planted, pictures().to(dtype))) > 4 * torch.finfo(dtype).eps


def test_share_and_fixed_bias() -> None:
    net, x = tiny(Style()), pictures()
    e = torchbcos.explain(net, x)
    assert list(e.constants) == ["logits.bias"]
    torch.testing.assert_close(e.constants["logits.bias"], torch.full_like(e.values, -(torch.tensor(4.0)).log().item()))
    torch.testing.assert_close(e.share, torch.ones_like(e.share))
    assert torchbcos.explain(net, x, 2, contrast=2).share.isnan().all()
    assert torchbcos.explain(net, x, 2, contrast=2).to_dict()["explanations"][0][0]["share"] is None


def test_create_graph_is_the_derivative_of_w() -> None:
    """Against central differences of W in float64, for a weight of the first and of the last layer."""
    net, x = tiny(Style()), pictures(1)
    direction = torch.randn(1, 1, 6, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def score() -> Tensor:
        return (torchbcos.explain(net, x, 1, create_graph=True).weights * direction).sum()

    for p in (net.conv1.weight, net.layer2[0].conv1.weight, net.fc.weight, net.layer1[0].bn1.weight):
        (g,) = torch.autograd.grad(score(), p)
        (t,) = torch.autograd.grad((torchbcos.explain(net, x, 1, create_graph="truncated").weights * direction).sum(), p)
        step = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(3)) * 1e-7  # no kink of |y| within
        with torch.no_grad():
            p.add_(step)
            up = score().detach()
            p.sub_(2 * step)
            down = score().detach()
            p.add_(step)
        measured = float((up - down) / 2)
        assert float((g * step).sum()) == pytest.approx(measured, rel=1e-5)
        if p is net.conv1.weight:
            assert float((t * step).sum()) != pytest.approx(measured, rel=1e-2)


def test_checkpoint_explains_the_same_or_refuses() -> None:
    net, x = tiny(Style()), pictures(2)
    plain = torchbcos.explain(net, x, 1)

    class Recomputed(nn.Module):
        def __init__(self, reentrant: bool) -> None:
            super().__init__()
            self.net, self.reentrant = net, reentrant

        def forward(self, x: Tensor) -> Tensor:
            y = self.net.forward_stages(x)[0]
            z = torch.utils.checkpoint.checkpoint(self.net.layer2, y, use_reentrant=self.reentrant)
            return self.net.forward_head(z)

    again = torchbcos.explain(Recomputed(False), x, 1)
    torch.testing.assert_close(again.weights, plain.weights)
    with pytest.raises(torchbcos.BcosError, match="use_reentrant=False"):
        torchbcos.explain(Recomputed(True), x, 1)
    for reentrant in (False, True):
        with torchbcos.frozen(), pytest.raises(torchbcos.BcosError, match=r"torch.utils.checkpoint inside"):
            Recomputed(reentrant)(x.requires_grad_())


def test_tracing_explains_the_same() -> None:
    net, x = tiny(Style(antialias=True)), pictures(2)
    plain = torchbcos.explain(net, x, 1)
    traced = torch.fx.symbolic_trace(net)
    again = torchbcos.explain(traced, x, 1)
    torch.testing.assert_close(again.weights, plain.weights)
    assert again.constants.keys() == plain.constants.keys()


@pytest.mark.newest
def test_graphs_that_recorded_one_mode_are_explained_as_the_network() -> None:
    net, x = tiny(Style()), pictures(2)
    exported = torch.export.export(net, (x,)).module()
    found, expected = torchbcos.explain(exported, x, 1), torchbcos.explain(net, x, 1)
    torch.testing.assert_close(found.weights, expected.weights)
    assert incompleteness(found) <= 1e-9
    totals = [sum(e.constants.values(), torch.zeros_like(e.values)) for e in (found, expected)]
    torch.testing.assert_close(*totals)
    with pytest.raises(torchbcos.BcosError, match="explain the network it was made from"):
        torchbcos.explain(torch.export.export(net, (x,)).run_decompositions().module(), x)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(6 * 24 * 24, 3)).double()
    w = torchbcos.explain(plain, x, 1).weights
    torch.testing.assert_close(w.flatten(2), plain[1].weight.detach()[1].expand(len(x), 1, -1))


@pytest.mark.newest
def test_compiled_models_predict_explain_and_predict_again() -> None:
    net, x = tiny(Style(norm_bias=True)), pictures(2)
    logits, plain = net(x), torchbcos.explain(net, x, 1)
    whole = torch.compile(net, backend="eager", fullgraph=True)
    part = copy.deepcopy(net)
    part.compile(backend="eager")
    for model in (whole, part):
        for _ in range(2):
            torch.testing.assert_close(model(x), logits)
            e = torchbcos.explain(model, x, 1)
            torch.testing.assert_close(e.weights, plain.weights)
            assert incompleteness(e) <= 1e-9 and len(e.constants) == len(plain.constants)
    inner = copy.deepcopy(net)
    inner.layer1.compile(backend="eager")
    with pytest.raises(torchbcos.BcosError, match="'layer1' is compiled on its own"):
        torchbcos.explain(inner, x)
    leaf = x.clone().requires_grad_()
    with torchbcos.frozen():
        (w,) = torch.autograd.grad(whole(leaf)[:, 1].sum(), leaf)
    torch.testing.assert_close(w, plain.weights[:, 0])
    torch.testing.assert_close(whole(x), logits)


def test_defect_10_a_swapped_head_is_explained() -> None:
    net, x = tiny(Style()), pictures(2)
    torchbcos.explain(net, x)
    net.reset_classifier(7)
    e = torchbcos.explain(net, x, 6)
    leaf = x.clone().requires_grad_()
    with torchbcos.frozen():
        w = torch.autograd.grad(net(leaf)[:, 6].sum(), leaf)[0]
    torch.testing.assert_close(e.weights[:, 0], w)
    assert net.num_classes == 7
    assert float(e.constants["logits.bias"][0, 0]) == pytest.approx(-float(torch.tensor(6.0).log()))


def test_defect_31_models_pickle_and_copy(net: ResNet) -> None:
    x = pictures(2)
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert torch.equal(twin(x), net(x))


def test_explain_inside_a_forward_hook_of_another() -> None:
    net, other, x = tiny(Style()), tiny(Style(norm_bias=True), seed=5), pictures(2)
    plain, plain_other = torchbcos.explain(net, x, 1), torchbcos.explain(other, x, 2)
    seen: list[torchbcos.Explanation] = []
    handle = net.layer1.register_forward_hook(lambda *_: seen.append(torchbcos.explain(other, x, 2)))
    again = torchbcos.explain(net, x, 1)
    handle.remove()
    torch.testing.assert_close(again.weights, plain.weights)
    torch.testing.assert_close(seen[0].weights, plain_other.weights)
    assert again.constants.keys() == plain.constants.keys()


def test_defect_09_threads_do_not_disturb_each_other() -> None:
    net, x = tiny(Style(norm_bias=True)), pictures(2)
    expected = torchbcos.explain(net, x, 1).weights
    logits = net(x).detach()
    gradient = torch.autograd.grad(net(x).sum(), net.conv1.weight)[0]
    wrong: list[str] = []

    def work(kind: int) -> None:
        for _ in range(int(os.environ.get("TORCHBCOS_CALLS", "25"))):
            if kind % 4 in (0, 3):
                e = torchbcos.explain(net, x, 1, at=None)
                ok = torch.allclose(e.weights, expected) and incompleteness(e) <= 1e-9
            elif kind % 4 == 1:
                ok = torch.allclose(torch.autograd.grad(net(x).sum(), net.conv1.weight)[0], gradient)
            else:
                ok = torch.allclose(net(x), logits)
            if not ok:
                wrong.append(f"thread {kind}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x": torch.rand(1, 3, 24, 24).double()}, r"Expected 6 channels, got 3 .*add_inverse"),
        ({"x": torch.full((1, 6, 24, 24), float("nan")).double()}, "NaN"),
        ({"x": torch.zeros(1, 6, 24, 24, dtype=torch.uint8)}, "floating-point"),
        ({"x": torch.zeros(0, 6, 24, 24).double()}, "at least one image"),
        ({"targets": 5}, r"from 0 to 4 \(5 classes\), not 5"),
        ({"targets": -1}, r"from 0 to 4 \(5 classes\), not -1"),
        ({"targets": [1, 2, 3]}, "do not fit 2 images"),
        ({"targets": 1.5}, "must be integers"),
        ({"top_k": 6}, "top_k must be an integer from 1 to 5"),
        ({"at": "layer3"}, "no module 'layer3'.*layer"),
        ({"at": "layer1", "position": (99, 0)}, "does not lie"),
        ({"create_graph": "full"}, "create_graph must be"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_messages(arguments: dict[str, object], text: str) -> None:
    call: dict[str, object] = {"x": pictures(2), **arguments}
    with pytest.raises(torchbcos.BcosError, match=text) as caught:
        torchbcos.explain(tiny(Style()), **call)  # type: ignore[arg-type]
    assert len(str(caught.value)) <= 500


def test_layers_outside_networks() -> None:
    model = nn.Sequential(bnn.BcosConv1d(4, 6, 3, padding=1), bnn.GlobalAveragePool(), bnn.BcosLinear(6, 3)).double()
    e = torchbcos.explain(model, torch.rand(2, 4, 16).double(), top_k=3)
    assert e.weights.shape == (2, 3, 4, 16) and incompleteness(e) <= 1e-9
