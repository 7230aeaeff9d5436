"""Every layer with parameters of its own begins again by `reset_parameters`: what randomisation checks call."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import StateError
from torchbcos.models import build

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "AllNorm": lambda: bnn.AllNorm(4), "Attention": lambda: bnn.Attention(8, 2), "BatchNorm": lambda: bnn.BatchNorm(4),
    "BcosConv1d": lambda: bnn.BcosConv1d(2, 3, 3),
    "BcosConv2d": lambda: bnn.BcosConv2d(2, 3, 3, max_out=2, learnable_b=True, b=1.5),
    "BcosConv3d": lambda: bnn.BcosConv3d(2, 3, 3, unit_norm=False), "BcosLinear": lambda: bnn.BcosLinear(4, 3, learnable_b=True),
    "Conv2d": lambda: bnn.Conv2d(2, 3, 3), "GroupNorm": lambda: bnn.GroupNorm(2, 4), "InstanceNorm": lambda: bnn.InstanceNorm(4),
    "LayerNorm": lambda: bnn.LayerNorm(4), "Linear": lambda: bnn.Linear(3, 4), "PositionNorm": lambda: bnn.PositionNorm(4),
    "TokenNorm": lambda: bnn.TokenNorm(4, bias=False), "Norm": lambda: bnn.Norm(4), "GELU": bnn.GELU, "ReLU": bnn.ReLU,
    "AddInverse": bnn.AddInverse, "Normalize": lambda: bnn.Normalize([0.5], [0.2]),
    "BcosifiedConv1d": lambda: bnn.BcosifiedConv1d(2, 3, 3),
    "BcosifiedConv2d": lambda: bnn.BcosifiedConv2d(2, 3, 3, unit_norm=True),
    "BcosifiedConv3d": lambda: bnn.BcosifiedConv3d(2, 3, 3, biases="keep", learnable_b=True),
    "BcosifiedLinear": lambda: bnn.BcosifiedLinear(3, 4, biases="drop"), "BcosifiedTokenNorm": lambda: bnn.BcosifiedTokenNorm(4),
    "BcosifiedPositionNorm": lambda: bnn.BcosifiedPositionNorm(4, affine=False),
    "BcosifiedGroupNorm": lambda: bnn.BcosifiedGroupNorm(4, num_groups=2), "Hardswish": bnn.Hardswish,
    "BcosifiedBatchNorm": lambda: bnn.BcosifiedBatchNorm(4), "BcosifiedShift": lambda: bnn.BcosifiedShift(4),
    "Decode": lambda: bnn.Decode([0.5], [0.2]),
    "NormalizeEncoded": lambda: bnn.NormalizeEncoded([0.5], [0.2]),
    "LowPass": bnn.LowPass, "GlobalAveragePool": bnn.GlobalAveragePool,
    "Logits": lambda: bnn.Logits(-1.0),
    "Residual": lambda: bnn.Residual(bnn.Linear(3, 3)),
    "Prototypes": lambda: bnn.Prototypes(4, 2), "Similarity": lambda: bnn.Similarity(4, 3),
    "WindowAttention": lambda: bnn.WindowAttention(8, 2, window=2),
    "SinCosPosition2d": lambda: bnn.SinCosPosition2d(4), "Folded": lambda: bnn.Folded("a"), "Layer": bnn.Layer,
}  # fmt: skip
NETWORKS = (
    "cifar10_resnet20",
    "densenet121",
    "vgg11_bnu",
    "convnext_atto",
    "simple_vit_ti_patch16_224",
    "vitc_ti_patch1_14",
    "bvt_tiny_patch16",
    "bwin_tiny",
)


def own(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def test_every_layer_is_in_the_list() -> None:
    assert set(LAYERS) == set(bnn.__all__)


def begins_again(make: Callable[[], nn.Module]) -> bool:
    torch.manual_seed(5)
    layer = make()
    torch.manual_seed(5)
    fresh = make()
    if not own(layer):
        return False
    with torch.no_grad():
        for tensor in layer.state_dict().values():
            tensor.add_(1)
    others = [t.clone() for child in layer.children() for t in child.state_dict().values()]
    torch.manual_seed(5)
    layer.reset_parameters()  # type: ignore[operator]
    for found, expected in zip(own(layer), own(fresh), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    after = [t for child in layer.children() for t in child.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(others, after, strict=True))  # a layer resets itself alone
    return True


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_begins_again(name: str) -> None:
    assert begins_again(LAYERS[name]) == bool(own(LAYERS[name]()))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_module_of_a_network_that_owns_parameters_has_it(name: str, plain: bool) -> None:
    with torch.device("meta"):
        model = torchbcos.create_model(name, num_classes=3, plain=plain)
    owners = {type(m) for m in model.modules() if list(m.parameters(recurse=False))}
    assert owners and [kind.__name__ for kind in owners if not callable(getattr(kind, "reset_parameters", None))] == []


def test_a_block_of_convnext_resets_its_scale_alone() -> None:
    block = next(m for m in build("convnext_atto", num_classes=3).modules() if type(m).__name__ == "ConvNeXtBlock")
    before, scale = [t.clone() for t in block.block.state_dict().values()], block.layer_scale.detach().clone()
    block.layer_scale.data.mul_(3)
    block.reset_parameters()
    assert torch.equal(block.layer_scale.detach(), scale)
    assert all(torch.equal(a, b) for a, b in zip(before, block.block.state_dict().values(), strict=True))


@pytest.mark.parametrize("deployed", [False, True])
def test_a_randomised_network_predicts_and_explains_by_its_new_weights(deployed: bool) -> None:
    torch.manual_seed(0)
    model, x = build("cifar10_resnet20", num_classes=3).eval(), torch.rand(2, 6, 12, 12)
    torchbcos.recalibrate(model, [torch.rand(8, 6, 12, 12)])
    model = torchbcos.deploy(model) if deployed else model
    before = torchbcos.explain(model, x, 0)
    torch.manual_seed(1)
    for module in model.modules():
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()
    expected = copy.deepcopy(model)
    e, wanted = torchbcos.explain(model, x, 0), torchbcos.explain(expected, x, 0)
    assert torch.equal(e.weights, wanted.weights)
    assert not torch.allclose(e.weights / e.weights.norm(), before.weights / before.weights.norm(), atol=1e-3)
    if deployed:  # filters of unit norm, as those of a fresh twin
        torch.manual_seed(1)
        fresh = build("cifar10_resnet20", num_classes=3).eval()
        wanted = torchbcos.deploy(fresh)(x)
        torch.testing.assert_close(e.outputs, wanted, rtol=0, atol=1e-2 * float(wanted.abs().max()))


def test_a_weight_made_of_others_is_refused() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(bnn.BcosLinear(4, 3))
    with pytest.raises(StateError, match=r"made of other tensors .*remove_parametrizations"):
        layer.reset_parameters()
