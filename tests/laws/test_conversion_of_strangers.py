"""Networks and arguments that `bcosify` was not made for: they are converted by the same laws, or refused in a sentence."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos import bcosify
from torchbcos._core.errors import InputError, StateError
from torchbcos.conversion import apply_steps, steps_from
from torchbcos.conversion.pages import report_page
from torchbcos.functional import add_inverse

MEAN, STD = (0.45, 0.4, 0.5), (0.25, 0.2, 0.3)
PIXELS = torch.rand(6, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]


def sequence(*modules: nn.Module, channels: int = 6) -> nn.Sequential:
    """Of these modules behind a convolution, in float64, with biases that matter."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), *modules, nn.ReLU(), *head(channels)).double().eval()
    for name, t in network.state_dict().items():
        if t.is_floating_point() and t.dim() == 1:
            t.uniform_(0.5, 1.5) if name.endswith(("var", "weight")) else t.normal_(0.0, 0.3)
    return network


def converted(network: nn.Module, **options: Any) -> tuple[nn.Module, torchbcos.conversion.Report]:  # type: ignore[name-defined]
    moments: dict[str, Any] = {"mean": MEAN, "std": STD}
    return bcosify(network, **{"example": PIXELS, **moments, **options})


class Added(nn.Module):
    """Adds a bias, and may hold another module."""

    scale = 2.0

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.bias, self.inner = nn.Parameter(torch.ones(6, 1, 1)), inner

    def forward(self, x: Tensor) -> Tensor:
        return (x if self.inner is None else self.inner(x)) * self.scale + self.bias


class Asking(nn.Module):
    """Reads something of a module beside its output."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stem, self.added, self.name, self.head = nn.Conv2d(3, 6, 3), Added(), name, nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.added(self.stem(x))
        x = x * getattr(self.added, self.name)
        out: Tensor = self.head(F.relu(x).mean((2, 3)))
        return out


class Masked(Added):
    """Is handed two tensors."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return (x if mask is None else x * mask) + self.bias


class Handing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.added, self.head = nn.Conv2d(3, 6, 3), Masked(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.added(self.stem(x), torch.ones(()).to(x))).mean((2, 3)))
        return out


@pytest.mark.parametrize(
    ("make", "zeroed"),
    [
        (lambda: sequence(Added(Added())), ("1.bias",)), (lambda: Asking("scale"), ("added.bias",)),
        (lambda: Asking("bias"), ("added.bias",)), (Handing, ("added.bias",)), (lambda: sequence(Added()), ()),
    ],
    ids=["nested", "attribute", "bias", "two", "plain"],
)  # fmt: skip
def test_a_norm_bias_stands_behind_a_module_only_where_the_network_runs_with_it(make: Any, zeroed: tuple[str, ...]) -> None:
    network = make().double().eval()
    model, report = converted(network, b=1.5)
    assert report.zeroed == zeroed and report.constants == {}
    again = apply_steps(copy.deepcopy(network), steps_from([step.to_dict() for step in report.steps]))
    again.load_state_dict(model.state_dict())
    x = add_inverse(PIXELS)
    assert torch.equal(again.eval()(x), model(x))
    assert float(torchbcos.explain(model, x, verify=True).residual.abs().max()) < 1e-10


def test_an_instance_norm_with_running_statistics_is_a_batch_norm() -> None:
    network = sequence(nn.InstanceNorm2d(6, affine=True, track_running_stats=True))
    model, report = converted(network, b=1.5)
    assert report.constants == {} and report.share == pytest.approx(1.0)
    assert type(model[1]).__name__ == "Folded"  # type: ignore[index]


def test_weights_that_are_made_of_others_are_plain_in_the_network_that_steps_make_again() -> None:
    weight_norm = nn.utils.parametrizations.weight_norm
    network = sequence(weight_norm(nn.Conv2d(6, 6, 1)), weight_norm(nn.ConvTranspose2d(6, 6, 2)))
    model, report = converted(network, b=1.5)
    again = apply_steps(copy.deepcopy(network), report.steps)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(add_inverse(PIXELS)), model(add_inverse(PIXELS)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_converted_as_what_it_stands_for(dtype: torch.dtype) -> None:
    network = sequence(nn.BatchNorm2d(6)).to(dtype)
    model, report = converted(network, b=1, biases="keep", example=PIXELS.float())
    assert [line.path for line in report.lines] == ["0", "5"] and report.kept < 1e-5 and report.settings["calibrated"] is False
    mean, std = (torch.tensor(t).reshape(1, 3, 1, 1) for t in (MEAN, STD))
    given, made = network(((PIXELS - mean) / std).to(dtype)), model(add_inverse(PIXELS).to(dtype))
    assert made.dtype == dtype == next(network.parameters()).dtype and {t.dtype for t in model.parameters()} == {dtype}
    assert bool(((given - made).abs() < 0.05 * given.abs().max()).all())
    assert converted(network, example=PIXELS.float())[1].constants == {}


class Own(nn.Module):
    """A convolution that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(6).reshape(6, 6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


class Elsewhere(nn.Module):
    """Weights of one layer are used by other code, those of another only say what a tensor is to be like."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.type_as(self.stem.weight).to(self.stem.weight))
        return F.linear(F.relu(x).mean((2, 3)), self.head.weight, self.head.bias)


class Functions(nn.Module):
    """No layer at all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).mean((2, 3)) @ self.weight


class Centring(Elsewhere):
    """Normalises its input itself."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.stem(2 * x - 1)).mean((2, 3)))
        return out


def test_what_stays_as_it_was_is_told() -> None:
    own = converted(sequence(Own(), nn.ReLU(), nn.ConvTranspose2d(6, 6, 2)))[1]
    assert own.stayed == ("1", "3") and "stayed linear: no layer of ours" in str(own) and "no layer of ours" in report_page(own)
    elsewhere = converted(Elsewhere().double())[1]
    assert elsewhere.elsewhere == ("head",) and elsewhere.stayed == () and [line.path for line in elsewhere.lines] == ["stem"]
    assert "No layer was replaced" in str(converted(Functions().double())[1])
    centring = converted(Centring().double(), mean=(0.0,) * 3, std=(1.0,) * 3)[1]
    assert "no layer of ours could take over: network.added." in str(centring)
    plain = converted(sequence())[1]
    assert not plain.stayed and not plain.elsewhere and "take over" not in str(plain)
    one = converted(sequence(), example=PIXELS[:1])[1]
    assert "(one example)" in str(one) and "layers were fitted to these" in str(one) and "The function is" not in str(one)
    kept = converted(sequence(), b=1, biases="keep")[1]
    assert "The function is the given network's" in str(kept)
    assert "< -999" in str(replace(one, lines=(replace(one.lines[0], fit=-1e9),)))


class Said(NamedTuple):
    logits: Tensor


class Entries(Elsewhere):
    def forward(self, x: Tensor) -> Any:
        return Said(super().forward(x))


class Undefined(Elsewhere):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).mean((2, 3))) * float("nan")  # type: ignore[no-any-return]


def test_networks_that_cannot_be_converted_are_refused_in_a_sentence() -> None:
    with pytest.raises(StateError, match="scripted or traced code"):
        converted(sequence(torch.jit.script(nn.ReLU())))
    with pytest.raises(StateError, match=r"'0\.weight' has no numbers yet"):
        converted(sequence().to("meta"))
    with pytest.raises(StateError, match=r"'0\.weight' has no numbers yet"):
        converted(nn.Sequential(nn.LazyConv2d(6, 3), *head(6)))
    with pytest.raises(StateError, match="given network gives no number"):
        converted(Undefined().double())
    with pytest.raises(InputError, match="was converted already"):
        converted(converted(sequence())[0])
    with pytest.raises(StateError, match="output='logits' or output=0"):
        converted(Entries().double())
    assert converted(Entries().double(), output="logits")[1].constants == {}
    asking = Asking("scale").double()
    asking.added = nn.BatchNorm2d(6).double()
    asking.name = "momentum"
    with pytest.raises(StateError, match="does not run: 'Folded' object has no attribute 'momentum'"):
        converted(asking.eval())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"example": PIXELS[:, :, :2, :2]}, r"does not run on examples of shape \(3, 2, 2\)"),
        ({"example": PIXELS[:, :, :0]}, "batch of pictures"), ({"b": {3: 2}}, "A rule of b is a name"),
        ({"mean": (123.0,) * 3}, "divide mean and std"), ({"unit_norm": "yes"}, "unit_norm is True or False"),
        ({"antialias": 2}, "antialias is True or False"), ({"calibrate": "no"}, "calibrate is None, True or False"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        converted(sequence(), **options)
    assert len(str(caught.value)) < 500
