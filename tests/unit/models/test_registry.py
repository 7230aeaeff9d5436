"""Options of networks: each has a type, and a wrong value is one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from torchbcos._core.errors import BcosError
from torchbcos.models import build
from torchbcos.models.registry import FAMILIES

NAN, INF = float("nan"), float("inf")

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"antialias": "no"}, "antialias must be True or False, not 'no'"),  # a word that is not empty is true
    ({"antialias": 1}, "antialias must be True or False"),
    ({"norm_affine": "no"}, "norm_affine must be True or False"),
    ({"sync": "x"}, "sync must be True or False"),
    ({"plain": "x"}, "plain must be True or False"),
    ({"max_out": 2.5}, "max_out must be a whole number"),
    ({"max_out": "a"}, "max_out must be a whole number"),
    ({"max_out": True}, "max_out must be a whole number"),
    ({"b": INF}, "b must be a finite number"),
    ({"b": "x"}, "b must be a real number of at least 1"),
    ({"width_factor": INF}, "width_factor must be a finite number"),
    ({"width_factor": "a"}, "width_factor must be a finite number"),
    ({"width_factor": 1e9}, r"cifar10_resnet20 cannot be built with .*width_factor=1000000000\.0"),
    ({"norm_eps": "a"}, "norm_eps must be a finite number"),
    ({"temperature": "a"}, "temperature must be a finite number or None"),
    ({"temperature": INF}, "temperature must be a finite number or None"),
    ({"logit_bias": NAN}, "logit_bias must be a finite number"),
    ({"logit_bias": [1]}, "logit_bias must be a finite number or a word or None"),
    ({"stochastic_depth": "a"}, "stochastic_depth must be a finite number"),
    ({"norm": 1}, "norm must be a word"),
    ({"norm": []}, "norm must be a word"),
    ({"activation": "rlu"}, "activation must be one of none, relu, gelu, not 'rlu'. Did you mean 'relu'"),
    ({"normalize": "cifar"}, r"normalize must be one of none, imagenet, or means .* not 'cifar'"),
    ({"normalize": "0.5 0.5 / 0.1"}, r"spreads above 0 behind a /, not '0.5 0.5 / 0.1'"),
    ({"normalize": "0.5 0.5 1.5"}, r"means from 0 to 1"),
    ({"normalize": "0.5 / 0"}, r"spreads above 0"),
    ({"normalize": "0.5 0.4"}, r"normalize='0.5 0.4' is for \[x, 1 - x\] of 2 channels, 4 channels: in_channels is 6"),
    ({"normalize": "imagenet", "in_channels": 2}, "normalize='imagenet' is for .*, 6 channels: in_channels is 2"),
    ({"normalize": "imagenet", "plain": True}, "plain networks are given normalised pictures"),
    ({"unit_norm": 0.5}, "unit_norm must be True or False"),
    ({"num_classes": True}, "num_classes must be a positive integer, not True"),
    ({"num_classes": 10**20}, "cannot be built with num_classes=100000000000000000000"),
    ({"in_channels": "6"}, "in_channels must be a positive integer, not '6'"),
    ({"in_channels": 6.0}, r"in_channels must be a positive integer, not 6\.0"),
    ({"in_channels": True}, "in_channels must be a positive integer"),
]


@pytest.mark.parametrize(("options", "text"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_an_option_has_a_type(options: dict[str, Any], text: str) -> None:
    with torch.device("meta"), pytest.raises(BcosError, match=text) as caught:
        build("cifar10_resnet20", **options)
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


def test_numbers_of_numpy_become_those_of_python() -> None:
    with torch.device("meta"):
        made = build("cifar10_resnet20", num_classes=np.int64(3), b=np.float32(1.5), max_out=np.int32(2))  # type: ignore[arg-type]
    assert made.architecture is not None
    assert made.num_classes == 3 and made.architecture.options == {"b": 1.5, "max_out": 2}
    assert {type(value) for value in made.architecture.options.values()} == {int, float}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.network.__name__)
def test_no_option_takes_a_table_or_a_wrong_word(family: Any) -> None:
    """Of whatever option a family has: an error of ours, never one of torch or Python."""
    name = next(iter(family.sizes))
    for option in {"b", "max_out", "norm", "norm_eps", "antialias", *family.options()}:
        for value in ({}, [1, 2], b"x", 1j, "no word", NAN, object()):
            with torch.device("meta"), pytest.raises(BcosError):
                build(name, **{option: value})
