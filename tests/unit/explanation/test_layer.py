"""Contribution maps at an inner layer."""

from __future__ import annotations

import pytest
import torch

import torchbcos
from torchbcos._core.errors import InputError
from torchbcos.explanation.layer import contribution_maps
from torchbcos.models import build


def test_maps_of_tokens_have_one_number_a_token() -> None:
    """Tokens keep their channels last: the sum is over those, and is the logit without what comes after as a constant."""
    torch.manual_seed(0)
    model = build("simple_vit_ti_patch16_224", num_classes=3).eval().double()
    x, y = torch.rand(2, 6, 48, 32, dtype=torch.float64), torch.tensor([2, 0])
    maps = contribution_maps(model, x, y, wrt="transformer.encoder_3")
    assert maps.shape == (2, 3, 2)
    e = torchbcos.explain(model, x, y)
    torch.testing.assert_close(maps.sum((1, 2)), (e.values - e.constants["logits.bias"])[:, 0])  # the embedding came before


@pytest.mark.parametrize(
    ("targets", "text"), [(torch.tensor([0, 3]), "from 0 to 2"), (torch.tensor([[0, 1], [1, 2]]), "one class an image, not 2")]
)
def test_targets_that_do_not_fit_are_named(targets: torch.Tensor, text: str) -> None:
    with pytest.raises(InputError, match=text):
        contribution_maps(build("cifar10_resnet20", num_classes=3), torch.rand(2, 6, 16, 16), targets, wrt="layer2")
