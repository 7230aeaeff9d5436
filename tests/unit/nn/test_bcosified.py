from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchbcos
from tests.reference import bcosified as twin
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.nn.bcosified import BIASES
from torchbcos.nn.bcosified_norm import BcosifiedNorm

BS = (1.0, 1.25, 1.5, 2.0, 2.5)


def filled(layer: Any, seed: int = 0) -> Any:
    """A layer in float64 with numbers everywhere."""
    layer = layer.double()
    generator = torch.Generator().manual_seed(seed)
    for p in layer.parameters():
        p.data.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    if hasattr(layer, "unit"):
        layer.unit.fill_(1.7)
    return layer


def options(layer: Any) -> tuple[Any, ...]:
    return (*(None if t is None else t.detach() for t in (layer.weight, layer.bias, layer.gain)), float(layer.unit))


@settings(deadline=None, max_examples=30)
@given(
    b=st.sampled_from(BS), biases=st.sampled_from(BIASES), unit_norm=st.booleans(), stride=st.integers(1, 2),
    kernel=st.integers(1, 3), padding=st.sampled_from([0, 1, "dynamic"]), groups=st.sampled_from([1, 2]),
    repeat=st.booleans(), antialias=st.booleans(), size=st.tuples(st.integers(3, 6), st.integers(3, 6)), seed=st.integers(0, 9),
)  # fmt: skip
def test_a_converted_convolution_equals_its_twin(
    b: float, biases: str, unit_norm: bool, stride: int, kernel: int, padding: Any, groups: int, repeat: bool, antialias: bool,
    size: tuple[int, int], seed: int,
) -> None:  # fmt: skip
    mode = "replicate" if repeat else "zeros"
    layer = filled(
        bnn.BcosifiedConv2d(
            2, 4, kernel, stride, padding, groups=groups, padding_mode=mode, b=b, biases=biases, unit_norm=unit_norm,
            antialias=antialias,
        ),
        seed,
    )  # fmt: skip
    x = torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x[0, :, :2] = 0  # patches without a length
    weight, bias, gain, unit = options(layer)
    slow = twin.converted_conv(
        x, weight, bias, gain, unit, b=b, biases=biases, eps=layer.eps, stride=stride, padding=padding, groups=groups,
        repeat=repeat, antialias=antialias,
    )  # fmt: skip
    assert torch.allclose(layer(x), slow, atol=1e-12, rtol=1e-10)


@settings(deadline=None, max_examples=20)
@given(b=st.sampled_from(BS), biases=st.sampled_from(BIASES), unit_norm=st.booleans(), seed=st.integers(0, 9))
def test_a_converted_linear_layer_equals_its_twin(b: float, biases: str, unit_norm: bool, seed: int) -> None:
    layer = filled(bnn.BcosifiedLinear(3, 4, b=b, biases=biases, unit_norm=unit_norm), seed)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    slow = twin.converted_linear(x, *options(layer), b=b, biases=biases, eps=layer.eps)
    assert torch.allclose(layer(x), slow, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("biases", BIASES)
def test_converted_layer_norms_equal_their_twin(biases: str) -> None:
    token, position = (filled(kind(5, biases=biases)) for kind in (bnn.BcosifiedTokenNorm, bnn.BcosifiedPositionNorm))
    token.unit.fill_(5**0.5)
    position.unit.fill_(5**0.5)
    position.load_state_dict(token.state_dict())
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bias = torch.zeros(5) if token.bias is None else token.bias.detach()
    slow = twin.converted_norm(x.flatten(0, 1).tolist(), token.weight.detach(), bias, eps=1e-5, biases=biases)
    wanted = torch.tensor(slow, dtype=torch.float64).view_as(x)
    assert torch.allclose(token(x), wanted, atol=1e-12)
    assert torch.allclose(position(x.movedim(-1, 1)), wanted.movedim(-1, 1), atol=1e-12)


@pytest.mark.parametrize("features", [5, 1])
def test_a_shift_equals_its_twin(features: int) -> None:
    last, first = filled(bnn.BcosifiedShift(features, -1)), filled(bnn.BcosifiedShift(features))
    first.load_state_dict(last.state_dict())
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bias = last.bias.detach().expand(5)
    slow = [twin.shifted(row, bias.tolist(), float(last.unit)) for row in x.flatten(0, 1).tolist()]
    wanted = torch.tensor(slow, dtype=torch.float64).view_as(x)
    assert torch.allclose(last(x), wanted, atol=1e-12) and not torch.allclose(wanted, x, atol=1e-2)
    assert torch.allclose(first(x.movedim(-1, 1)), wanted.movedim(-1, 1), atol=1e-12)
    with pytest.raises(InputError, match="1 or -1"):
        bnn.BcosifiedShift(3, 2)


def test_of_a_layer_norm_a_norm_bias_is_the_bias_but_for_its_epsilon() -> None:
    layer, x = filled(bnn.BcosifiedTokenNorm(64)), 3 * torch.randn(7, 64, dtype=torch.float64)
    layer.unit.fill_(8.0)
    assert torch.allclose(layer(x), nn.functional.layer_norm(x, (64,), layer.weight, layer.bias), atol=1e-5)


def test_a_converted_batch_norm_is_the_given_one_once_its_mean_is_in_the_bias() -> None:
    given = nn.BatchNorm2d(4).double().eval()
    for t in (given.weight, given.bias, given.running_mean):
        nn.init.normal_(t)
    given.running_var.uniform_(0.5, 2)
    layer = bnn.BcosifiedBatchNorm(4, biases="keep").double().eval()
    layer.load_state_dict({**given.state_dict(), "unit": layer.unit}, strict=False)
    layer.bias.data -= given.running_mean * given.weight.data / (given.running_var + given.eps).sqrt()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    assert torch.allclose(layer(x), given(x), atol=1e-12)
    flat = bnn.BcosifiedBatchNorm(4).double().eval()
    assert torch.allclose(flat(x[:, :, 0, 0]), flat(x[:, :, :1, :1])[:, :, 0, 0])


@settings(deadline=None, max_examples=12)
@given(b=st.sampled_from(BS), biases=st.sampled_from(BIASES), unit_norm=st.booleans(), antialias=st.booleans())
def test_explanations_of_converted_layers_are_proved(b: float, biases: str, unit_norm: bool, antialias: bool) -> None:
    network = nn.Sequential(
        filled(bnn.BcosifiedConv2d(2, 4, 3, 2, 1, b=b, biases=biases, unit_norm=unit_norm, antialias=antialias)),
        filled(bnn.BcosifiedBatchNorm(4, biases=biases)).eval(), nn.ReLU(),
        filled(bnn.BcosifiedConv2d(4, 4, 3, groups=4, padding="dynamic", b=b, biases=biases), 1),
        filled(bnn.BcosifiedGroupNorm(4, num_groups=2, biases=biases)), bnn.GlobalAveragePool(),
        filled(bnn.BcosifiedLinear(4, 3, b=b, biases=biases), 2),
    ).double().eval()  # fmt: skip
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    e = torchbcos.explain(network, x, verify=True)
    assert float(e.residual.abs().max()) < 1e-10 * max(1.0, float(e.values.abs().max()))
    named = {"0.bias", "1.bias", "3.bias", "4.bias", "6.bias"}
    assert set(e.constants) == (named if biases == "keep" else set())


def test_a_bias_that_is_kept_is_named_where_a_network_folds_positions_into_the_batch() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = filled(bnn.BcosifiedLinear(3, 3, b=2, biases="keep"))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.map(x.transpose(1, 2).reshape(-1, 3)).view(len(x), -1, 3).sum(1)

    e = torchbcos.explain(Windows(), torch.randn(2, 3, 4, dtype=torch.float64))
    assert list(e.constants) == ["map.bias"] and float(e.residual.abs().max()) < 1e-12
    bias = Windows().map.bias[e.targets[:, 0]]
    assert torch.allclose(e.constants["map.bias"][:, 0], 4 * bias)  # it is added at four positions


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="biases is one of"):
        bnn.BcosifiedConv2d(2, 2, 1, biases="nrm")
    with pytest.raises(InputError, match="one stride for all"):
        bnn.BcosifiedConv2d(2, 2, 3, (1, 2), antialias=True)
    with pytest.raises(InputError, match="num_features"):
        bnn.BcosifiedTokenNorm(0)


def test_gradients_of_norm_biases_are_finite_at_zero_and_right_elsewhere() -> None:
    layer = filled(bnn.BcosifiedConv2d(2, 3, 3, padding=1, b=2))
    x = torch.zeros(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
    assert torch.autograd.gradcheck(layer, torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True))
    norm: BcosifiedNorm = filled(bnn.BcosifiedTokenNorm(4))
    assert torch.autograd.gradcheck(norm, torch.randn(2, 4, dtype=torch.float64, requires_grad=True))
