"""Layers of torch that are not here, and shapes that belong to the namesake of a layer: each error names the right one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from torchbcos import functional
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, StateError
from torchbcos.nn.missing import INSTEAD


@pytest.mark.parametrize("name", INSTEAD)
def test_a_layer_of_torch_is_answered_with_one_of_ours(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(bnn, name)
    assert str(caught.value) == f"torchbcos.nn has no {name!r}: {INSTEAD[name]}." and name not in bnn.__all__


def test_what_the_answers_name_is_there() -> None:
    named = {word for text in INSTEAD.values() for word in text.replace("(", " ").replace(",", " ").split() if word in vars(bnn)}
    assert {"BatchNorm", "BcosConv1d", "PositionNorm", "TokenNorm", "GlobalAveragePool", "LowPass", "Attention"} <= named
    for name, text in INSTEAD.items():
        if "torch.nn: it works" in text:
            assert callable(getattr(torch.nn, name))


def test_lazy_layers_slips_and_strangers() -> None:
    with pytest.raises(AttributeError, match="'LazyBatchNorm2d': it is BatchNorm"):
        _ = bnn.LazyBatchNorm2d  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"'LazyLinear': layers are not lazy here"):
        _ = bnn.LazyLinear  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"'Tokenorm'\. Did you mean 'TokenNorm'"):
        _ = bnn.Tokenorm  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"torchbcos.nn has no 'xyzzy'\.$"):
        _ = bnn.xyzzy  # type: ignore[attr-defined]
    assert not hasattr(bnn, "Conv3d")


TOKENS, MAPS = torch.rand(2, 5, 8), torch.rand(2, 8, 5, 6)
WRONG: list[tuple[Callable[[], Any], str]] = [
    *[
        (
            lambda norm=norm: norm(8)(TOKENS),
            r"Expected 8 channels, got 5 \(shape \(2, 5, 8\)\)\. Tokens.*nn\.TokenNorm",
        )
        for norm in (bnn.LayerNorm, bnn.BatchNorm, bnn.InstanceNorm, bnn.PositionNorm, bnn.AllNorm)
    ],
    (lambda: bnn.GroupNorm(2, 8)(torch.rand(2, 4, 4, 8)), r"TokenNorm"),
    (lambda: bnn.BatchNorm(8)(torch.rand(2, 8)), r"at least one space axis, got shape \(2, 8\)\. For \(N, D\) .*TokenNorm"),
    (lambda: bnn.TokenNorm(8)(MAPS), r"Expected \(\.\.\., 8\), got shape \(2, 8, 5, 6\)\. .*PositionNorm"),
    (lambda: bnn.BcosLinear(8, 3)(MAPS), r"got shape \(2, 8, 5, 6\)\. .*BcosConv2d with a kernel of 1"),
    (lambda: bnn.Attention(8, 2)(MAPS), r"Channels come last in tokens: x\.movedim\(1, -1\)"),
    (lambda: bnn.SinCosPosition2d(8)(MAPS), r"Channels come last in tokens"),
    (lambda: bnn.LayerNorm((8, 5, 6)), r"a whole number of channels, not \(8, 5, 6\)"),  # type: ignore[arg-type]
    (lambda: bnn.BatchNorm(8.0), r"a whole number of channels, not 8\.0"),  # type: ignore[arg-type]
    (lambda: bnn.TokenNorm("8"), r"a whole number of channels, not '8'"),  # type: ignore[arg-type]
    (lambda: bnn.GroupNorm(2.0, 8), r"8 channels cannot be divided into 2\.0 groups"),  # type: ignore[arg-type]
    (lambda: bnn.BcosConv1d(4, 8, 3)(torch.rand(1, 2, 9)), r"Expected 4 channels, got 2 .* Input is encoded first"),
    (lambda: bnn.BcosConv3d(2, 8, 3)(torch.rand(1, 1, 4, 4, 4)), r"Expected 2 channels, got 1 .* Input is encoded first"),
    (lambda: functional.bcos_linear(MAPS, torch.rand(3, 8)), r"BcosConv2d with a kernel of 1"),
]


@pytest.mark.parametrize(("call", "text"), WRONG)
def test_a_shape_of_the_namesake_is_told_where_it_belongs(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        call()
    assert len(str(caught.value)) <= 500


def test_a_wrong_number_deep_inside_is_not_called_an_encoding() -> None:
    with pytest.raises(InputError) as caught:
        bnn.BcosConv2d(64, 8, 1)(torch.rand(1, 32, 4, 4))
    assert "encoded" not in str(caught.value)
    with pytest.raises(InputError) as caught:
        bnn.LayerNorm(8)(torch.rand(2, 5, 6))
    assert "TokenNorm" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # torch says that scripting itself is old
@pytest.mark.parametrize("name", ["Logits", "ReLU", "GlobalAveragePool", "LowPass"])
def test_scripting_is_refused_in_one_sentence(name: str) -> None:
    layer = getattr(bnn, name)()
    for module in (layer, torch.nn.Sequential(torch.nn.Identity(), layer)):
        with pytest.raises(StateError, match=r"^torch\.jit\.script does not take layers of torchbcos\. torch\.export\.export"):
            torch.jit.script(module)
