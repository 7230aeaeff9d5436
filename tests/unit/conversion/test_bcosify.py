"""Laws of conversions, on small networks that have what real ones have."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from torchbcos import bcosify
from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos.conversion import apply_steps, steps_from
from torchbcos.conversion.pages import report_page
from torchbcos.conversion.replacing import blurred
from torchbcos.functional import add_inverse

MEAN, STD = (0.45, 0.4, 0.5), (0.25, 0.2, 0.3)
PIXELS = torch.rand(6, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def alive(network: nn.Module) -> nn.Module:
    """In float64 and eval mode, with biases and statistics that matter."""
    network = network.double()
    generator = torch.Generator().manual_seed(0)
    for name, t in network.state_dict().items():
        if name.endswith("running_var"):
            t.uniform_(0.5, 1.5, generator=generator)
        elif t.is_floating_point() and t.dim() == 1:
            t.normal_(0.5 if name.endswith("weight") else 0.0, 0.5, generator=generator)
    return network.eval()


class Cnn(nn.Module):
    """A residual block, squeeze and excitation, a depthwise convolution, hardswish, a norm that has no layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.dw, self.bn2, self.act = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish()
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.late, self.pool, self.head = nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.Linear(8, 5)
        self.auxiliary = nn.Linear(8, 2)  # never runs

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)), inplace=True)
        y = self.act(self.bn2(self.dw(x)))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = F.relu(self.late(x + y))
        out: Tensor = self.head(self.pool(x).mean((2, 3)))
        return out


class Transformer(nn.Module):
    """Patches, a class token, positions, attention of torch's own module, layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.cls_token, self.pos_embed = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 10, 8))
        self.norm, self.attention, self.norm2 = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)
        self.fc1, self.fc2, self.last, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        out: Tensor = self.head(self.last(x)[:, 0])
        return out


class Shared(nn.Module):
    """One layer that is called twice, a scaled weight, and a product of two signals."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.gate, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1), nn.Linear(6, 5)
        self.offset = nn.Parameter(torch.ones(6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(F.relu(self.twice(self.first(x)))) + self.offset
        x = F.relu6(self.gate(x)) * x
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Response(nn.Module):
    """Normalises by the length of all places, and adds a bias (GRN of ConvNeXt V2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        spread = x.norm(p=2, dim=(2, 3), keepdim=True)
        spread = spread / (spread.mean(1, keepdim=True) + 1e-6)
        return torch.addcmul(self.bias[:, None, None], self.weight[:, None, None], x * spread) + x


class Star(nn.Module):
    """A squared ReLU with a scale and a bias (StarReLU)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.tensor(0.9)), nn.Parameter(torch.tensor(-0.4))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x) ** 2 + self.bias


class Threshold(nn.Module):
    """A bias below a maximum (FRN with TLU): no bias of the output."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias, self.tau = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x + self.bias[:, None, None], self.tau[:, None, None])


class Shifts(nn.Module):
    """Modules of its own that add biases."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grn, self.mix = nn.Conv2d(3, 6, 3), Response(6), nn.Conv2d(6, 6, 1)
        self.star, self.most, self.head = Star(), Threshold(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.most(self.star(self.mix(self.grn(F.gelu(self.stem(x))))))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


NETWORKS: dict[str, type[nn.Module]] = {"cnn": Cnn, "transformer": Transformer, "shared": Shared, "shifts": Shifts}


def converted(network: nn.Module, **options: Any) -> tuple[nn.Module, torchbcos.conversion.Report]:  # type: ignore[name-defined]
    return bcosify(network, example=PIXELS, mean=MEAN, std=STD, **options)


def normalised(pixels: Tensor) -> Tensor:
    return (pixels - pixels.new_tensor(MEAN)[:, None, None]) / pixels.new_tensor(STD)[:, None, None]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_b_1_and_biases_kept_the_function_stays(name: str, dtype: torch.dtype) -> None:
    network = alive(NETWORKS[name]()).to(dtype)
    model, report = bcosify(network, b=1, biases="keep", example=PIXELS, mean=MEAN, std=STD)
    with torch.no_grad():
        before, after = network(normalised(PIXELS.to(dtype))), model(add_inverse(PIXELS.to(dtype)))
    span = float(before.max() - before.min())
    assert float((before - after).abs().max()) <= (1e-12 if dtype is torch.float64 else 1e-5) * span
    assert report.kept <= (1e-12 if dtype is torch.float64 else 1e-5) and not report.settings["calibrated"]


@settings(deadline=None, max_examples=24)
@given(
    name=st.sampled_from(sorted(NETWORKS)), b=st.sampled_from([1, 1.5, 2, {"conv": 2, "head": 1.5}]),
    biases=st.sampled_from(["norm", "keep", "drop"]), unit_norm=st.booleans(), antialias=st.booleans(),
    blur=st.integers(0, 2),
)  # fmt: skip
def test_every_option_is_complete(name: str, b: Any, biases: str, unit_norm: bool, antialias: bool, blur: int) -> None:
    torch.manual_seed(0)  # of one random network in 60 nothing reaches the logits
    b = {"head": 1.5} if isinstance(b, dict) and name == "transformer" else b
    b = {"*": 2} if isinstance(b, dict) and name in ("shared", "shifts") else b
    b = {"stem": 2, "head": 1.5} if isinstance(b, dict) and name == "cnn" else b
    network = alive(NETWORKS[name]())
    state = copy.deepcopy(network.state_dict())
    model, report = converted(network, b=b, biases=biases, unit_norm=unit_norm, antialias=antialias, blur=blur)
    e = torchbcos.explain(model, add_inverse(PIXELS), verify=True, products="half")
    assert float(e.residual.abs().max()) <= 1e-11 * max(1.0, float(e.values.abs().max()))
    assert all(torch.equal(t, state[key]) for key, t in network.state_dict().items())  # the given network is as it was
    if biases != "keep":
        assert set(report.kinds) <= {"position", "token"}
        assert report.share == pytest.approx(1.0, abs=1e-9) or name == "transformer"


@settings(deadline=None)
@given(
    space=st.integers(1, 3), kernel=st.integers(1, 3), passes=st.integers(0, 3), stride=st.integers(1, 3), seed=st.integers(0, 9)
)
def test_blurred_filters_give_what_the_given_ones_give_of_a_low_passed_picture(
    space: int, kernel: int, passes: int, stride: int, seed: int
) -> None:
    torch.manual_seed(seed)
    convolve = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[space]
    weight, x = (torch.randn(2, 2, *[side] * space, dtype=torch.float64) for side in (kernel, 2 * passes + 2 * kernel + 3))
    seen = x
    for axis in range(2, 2 + space):
        for _ in range(passes):
            inner = seen.shape[axis] - 2
            seen = sum(part * seen.narrow(axis, i, inner) for i, part in enumerate((0.25, 0.5, 0.25)))  # type: ignore[assignment]
    wide = blurred(weight, passes)
    assert wide.shape[2:] == (kernel + 2 * passes,) * space
    torch.testing.assert_close(convolve(x, wide, stride=stride), convolve(seen, weight, stride=stride))


@pytest.mark.parametrize("padding", ["same", "valid", 1])
def test_a_blurred_network_takes_pictures_of_the_same_sizes(padding: Any) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=padding), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    alive(network)
    plain, soft = converted(network, b=1.5)[0], converted(network, b=1.5, blur=2)[0]
    x = add_inverse(PIXELS)
    assert soft[0](x).shape == plain[0](x).shape and soft[0].weight.shape[2:] == (7, 7)  # type: ignore[index, operator]
    e = torchbcos.explain(soft, x, verify=True)
    assert float(e.residual.abs().max()) <= 1e-11 * max(1.0, float(e.values.abs().max()))
    rough = torchbcos.explain(plain, x)
    assert float(speckle(e.weights)) < 0.5 * float(speckle(rough.weights))


def test_a_strided_layer_is_blurred_by_a_rule() -> None:
    network = alive(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.ReLU(), nn.Flatten()))
    network.append(nn.Linear(network.double()(PIXELS).shape[1], 3))
    soft, report = converted(alive(network), b=1, blur={"depthwise": 1})
    assert soft[0].weight.shape[2:] == (3, 3) and soft[2].weight.shape[2:] == (5, 5)  # type: ignore[index, operator]
    assert report.settings["blur"] == {"depthwise": 1} and json.loads(json.dumps(report.to_dict()))
    assert float(torchbcos.explain(soft, add_inverse(PIXELS), verify=True).residual.abs().max()) <= 1e-11


def speckle(weights: Tensor) -> Tensor:
    """Mean size of the differences between neighbours, over that of W."""
    return weights.diff(dim=-1).abs().mean() / weights.abs().mean()


def test_what_cannot_be_blurred() -> None:
    for blur in (-1, 17, 1.0, True, "a", {"stem": 0.5}):
        with pytest.raises(InputError, match="blur is a number of low-passes, 0 to 16"):
            converted(alive(Cnn()), blur=blur)
    dilated = nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(InputError, match="blur is for convolutions without dilation"):
        converted(alive(dilated), blur=1)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * PIXELS.shape[2] * PIXELS.shape[3], 2))
    with pytest.raises(InputError, match=r"No layer of this network is 'stem'\. A rule of blur"):
        converted(alive(flat), blur=1)


def test_batch_composition_changes_nothing() -> None:
    model, _ = converted(alive(Cnn()))
    x = add_inverse(PIXELS)
    assert torch.allclose(model(x)[2:3], model(x[2:3]), atol=1e-12)


def test_norms_are_folded_gates_stay_and_names_are_kept() -> None:
    network = alive(Cnn())
    model, report = converted(network)
    kinds = {line.path: line.became for line in report.lines}
    assert type(model).__name__ == "Cnn" and isinstance(model.get_submodule("bn"), bnn.Folded)
    assert type(model.get_submodule("squeeze")) is nn.Conv2d and type(model.get_submodule("excite")) is nn.Conv2d
    assert isinstance(model.get_submodule("late"), bnn.BcosifiedBatchNorm) and kinds["late"] == "norm"
    assert isinstance(model.get_submodule("act"), bnn.Hardswish) and report.never_ran == ("auxiliary",)
    assert set(dict(model.named_parameters())) < set(dict(network.named_parameters())) | {"dw.bias", "stem.bias"}
    assert [line.fit is not None for line in report.lines if line.path in ("stem", "dw", "late", "head")] == [True] * 4


def test_a_bias_that_a_module_adds_at_its_end_becomes_a_norm_bias_behind_it() -> None:
    network = alive(Shifts())
    model, report = converted(network, b=1)
    kinds = {line.path: line.became for line in report.lines}
    assert kinds["grn"] == kinds["star"] == "norm bias behind it" and "most" not in kinds
    assert report.zeroed == ("most.bias", "most.tau") and not report.constants
    shift = model.get_submodule("grn.shift")
    assert isinstance(shift, bnn.BcosifiedShift)
    torch.testing.assert_close(shift.bias.detach(), network.get_submodule("grn").bias.detach(), rtol=1e-9, atol=1e-9)  # type: ignore[union-attr]
    lost = converted(network, b=1, biases="drop")[1]
    assert report.kept < lost.kept and "grn.bias" in lost.zeroed
    assert converted(network, b=1, biases="keep")[1].kept <= 1e-12


def test_calibration_brings_the_function_nearer() -> None:
    network = alive(Cnn())
    far, near = (converted(network, b=1.5, calibrate=fit)[1].kept for fit in (False, True))
    assert near < far


def test_a_border_that_does_nothing_is_said() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(7, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.cat([self.conv(x).mean((2, 3)), x.mean((2, 3))], 1))

    for border, said in (("repeat", True), ("mean", False)):
        _, report = converted(alive(Twice()), b=1, biases="keep", border=border)
        assert any("border='repeat' did nothing" in sentence for sentence in report.sentences()) == said


def test_the_border_is_the_given_networks_and_no_constant_or_repeats_the_edge() -> None:
    network = alive(Cnn())
    x = add_inverse(PIXELS)
    _, report = converted(network, b=1, biases="keep")
    assert report.kept < 1e-12 and "stem.mean" not in report.constants
    repeated, report = converted(network, b=1, biases="keep", border="repeat")
    assert report.kept > 1e-6
    inside = repeated.get_submodule("stem")(x)[..., 1:, 1:]
    wanted = network.get_submodule("stem")(normalised(PIXELS))[..., 1:, 1:]
    assert torch.allclose(inside, wanted, atol=1e-12)
    flat = add_inverse(torch.full_like(PIXELS, 0.3))  # of one colour a repeated edge looks like the inside
    y = repeated.get_submodule("stem")(flat)
    assert torch.allclose(y, y[..., 2:3, 2:3].expand_as(y), atol=1e-12)


# -- traps (each was met in a real network) --------------------------------------------------------------------------------


class InPlace(nn.Module):
    """1: a product in place whose result is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.gain = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x.mul_(self.gain)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Keyword(nn.Module):
    """3: the weight of a layer goes by keyword to a function; the layer itself never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.qkv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4, bias=False), nn.Linear(4, 3)
        self.v_bias = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        out: Tensor = self.head(F.linear(input=x, weight=self.qkv.weight, bias=self.v_bias))
        return out


class Encoder(nn.Module):
    """6: torch's transformer layer has a way past its own modules, where nothing requires a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.layer, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(self.patch(x).flatten(2).transpose(1, 2)).mean(1))
        return out


def head_of(*tail: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4), *tail)


class Scalars(nn.Module):
    """4: a number that is added to a signal is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(2 * self.body(x).mean((2, 3)) + 0.5)
        return out


class Branches(nn.Module):
    """9: the forward asks how large something is, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.body(x))
        if x.abs().max() > 0:
            x = x.mean((2, 3))
        out: Tensor = self.head(x)
        return out


def test_a_network_that_fx_cannot_trace_is_converted() -> None:
    with pytest.raises(torch.fx.proxy.TraceError):  # 9
        torch.fx.symbolic_trace(Branches())
    model, report = converted(alive(Branches()), b=1, biases="keep")
    assert report.kept <= 1e-12 and isinstance(model.get_submodule("body"), bnn.BcosifiedConv2d)


@pytest.mark.newest
def test_the_explanation_of_a_converted_network_is_exported_though_a_gradient_in_a_forward_cannot_be() -> None:
    """8: `torch.export` takes no forward that calls autograd, so `explanation_graph` records one without."""
    model, x = converted(alive(Cnn()))[0], add_inverse(PIXELS[:2])
    graph = torchbcos.explanation_graph(model, x)
    found = torch.export.export(graph, (x,)).module()(x)[2]
    torch.testing.assert_close(found, torchbcos.explain(model, x).weights, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "make", [InPlace, Keyword, Encoder, Scalars, lambda: head_of(nn.Tanh(), nn.Linear(4, 3))]
)  # the last is 2
def test_traps(make: Any) -> None:
    network = alive(make())
    _, report = converted(network, b=1, biases="keep")
    assert report.kept <= 1e-12
    model, report = converted(network)
    e = torchbcos.explain(model, add_inverse(PIXELS), verify=True)
    with torch.no_grad():  # where fast paths are taken
        assert torch.allclose(model(add_inverse(PIXELS)), e.outputs, atol=1e-10)
    if make is Keyword:
        assert report.zeroed == ("v_bias",) and report.elsewhere == () and not report.constants
    if make is Scalars:
        assert list(report.constants) == ["added"]


def test_a_converted_layer_that_never_runs_fails_the_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchbcos.conversion import bcosify as _  # noqa: F401
    from torchbcos.conversion import checking, planning

    network = alive(Cnn())
    recording = torchbcos.conversion.recording.record(network, normalised(PIXELS[:2]))  # type: ignore[attr-defined]
    plans = planning.plan(network, recording, torchbcos.conversion.choosing.Choices(), MEAN, STD)  # type: ignore[attr-defined]
    lost = planning.Planned(torchbcos.conversion.Step("auxiliary", "linear", {"bias": True}), "Linear")  # type: ignore[attr-defined]
    with pytest.raises(StateError, match="'auxiliary' did not run"):
        checking.check_ran(network, normalised(PIXELS[:2]), [plans[-1], lost])


# -- what is refused, in a sentence ----------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(12, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(x[:, 0])[0].mean(1))
        return out


def test_what_cannot_be_converted_is_refused_by_name() -> None:
    with pytest.raises(StateError, match="lstm"):
        converted(alive(Recurrent()))
    with pytest.raises(StateError, match="classifiers"):
        converted(nn.Sequential(nn.Conv2d(3, 4, 3)).double())
    with pytest.raises(ArgumentTypeError, match="needs a torch"):
        bcosify("resnet18")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="normalised with"):
        bcosify(Cnn(), example=PIXELS.float())
    with pytest.raises(InputError, match="pixels in"):
        bcosify(Cnn(), example=normalised(PIXELS).float(), mean=MEAN, std=STD)
    with pytest.raises(InputError, match="batch of pictures"):
        bcosify(Cnn(), example=PIXELS[:, :2].float(), mean=MEAN, std=STD)
    with pytest.raises(InputError, match="A rule of b is the name of a layer"):
        converted(alive(Cnn()), b={"layer9.*": 2})
    with pytest.raises(InputError, match="has no entries"):
        converted(alive(Cnn()), output="scores")
    with pytest.raises(InputError, match="biases is one of"):
        converted(alive(Cnn()), biases="none")


def test_grey_pictures_one_class_and_other_sizes() -> None:
    network = alive(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    )
    model, report = bcosify(network, example=PIXELS[:, :1], mean=(0.5,), std=(0.5,))
    e = torchbcos.explain(model, add_inverse(torch.rand(1, 1, 20, 9).double()))
    assert e.inputs.shape[1] == 2 and float(e.residual.abs().max()) < 1e-12 and report.constants == {}
    encoded, _ = bcosify(network, example=add_inverse(PIXELS[:, :1]), mean=(0.5,), std=(0.5,))
    assert torch.equal(encoded[0].weight, model[0].weight)  # type: ignore[index, union-attr]


def test_a_network_without_numbers_for_other_pictures_is_refused() -> None:
    network = alive(Cnn()).float()
    network.get_submodule("stem").weight.data.fill_(1e38)  # type: ignore[union-attr, operator]
    dark = torch.full((4, 3, 12, 12), 0.45)
    with pytest.raises(StateError, match="no number for pictures unlike the example"):
        bcosify(network, b=1, biases="keep", example=dark, mean=(0.45,) * 3, std=STD)


# -- what is left behind ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_make_the_same_network_again(name: str) -> None:
    model, report = converted(alive(NETWORKS[name]()), b=1.5, unit_norm=True)
    steps = steps_from(json.loads(json.dumps(report.to_dict()))["steps"])
    again = apply_steps(NETWORKS[name]().double().eval(), steps)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(add_inverse(PIXELS)), model(add_inverse(PIXELS)))
    with pytest.raises(InputError, match="no step"):
        steps_from([{"path": "stem", "kind": "exec"}])


def test_a_converted_network_trains() -> None:
    torch.manual_seed(0)
    model, _ = converted(alive(Cnn()))
    model.train()
    optimiser, labels = torch.optim.Adam(model.parameters(), 1e-2), torch.arange(6) % 5
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(add_inverse(PIXELS)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    e = torchbcos.explain(model.eval(), add_inverse(PIXELS), verify=True)
    assert float(e.residual.abs().max()) < 1e-10 and not any(bool(c.any()) for c in e.constants.values())


def test_a_conversion_that_lets_nothing_through_says_so() -> None:
    network = head_of().double()
    network.get_submodule("0").weight.data.abs_().neg_()  # type: ignore[union-attr, operator]
    network.get_submodule("0").bias.data.fill_(9.0)  # type: ignore[union-attr, operator]
    model, report = bcosify(network, b=1, biases="drop", calibrate=False, example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert not bool(model(add_inverse(PIXELS)).any()) and report.share != report.share
    assert "Nothing reaches the logits" in str(report) and report.to_dict()["share"] is None and "nan" not in str(report)
    assert "Nothing reaches the logits" in report_page(report, "dead")


def test_the_report_says_what_a_reader_asks() -> None:
    _, report = converted(alive(Transformer()))
    said = str(report)
    assert "Linear 16→8" in said and "position" in said and "align or fine-tune" in said
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["schema"] == 1
    page = report_page(report, "A <network>")
    assert "A &lt;network&gt;" in page and "pos_embed" in page and page.startswith("<!doctype html>")
    noise = bcosify(alive(Cnn()), mean=MEAN, std=STD)[1]
    assert noise.noise and any("fitted to noise" in sentence for sentence in noise.sentences())
