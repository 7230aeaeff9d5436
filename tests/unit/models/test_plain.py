"""Plain twins are the ordinary networks: torchvision's weights give torchvision's numbers."""

from __future__ import annotations

import pytest
import torch

import torchbcos

torchvision = pytest.importorskip("torchvision", reason="plain twins are compared with torchvision")


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("resnet18", "resnet18"), ("resnext50_32x4d", "resnext50_32x4d"), ("wide_resnet50_2", "wide_resnet50_2"),
     ("densenet121", "densenet121"), ("convnext_tiny", "convnext_tiny")],
)  # fmt: skip
def test_torchvision_weights_give_torchvision_numbers(name: str, theirs: str) -> None:
    torch.manual_seed(0)
    official = torchvision.models.get_model(theirs, weights=None)
    with torch.no_grad():
        for key, p in official.named_parameters():
            if key.endswith("layer_scale"):
                p.uniform_(0.1, 1)
    x = torch.randn(2, 3, 64, 64)
    official.train()(x)
    official.eval()
    ours = torchbcos.create_model(name, plain=True).eval()
    ours_state, theirs_state = ours.state_dict(), official.state_dict()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in official.parameters())
    if set(ours_state) != set(theirs_state):  # other names, same order
        theirs_state = {k: v.reshape(ours_state[k].shape) for k, v in zip(ours_state, theirs_state.values(), strict=True)}
    ours.load_state_dict(theirs_state)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), official(x), rtol=1e-4, atol=1e-5)
