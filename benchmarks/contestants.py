"""Who takes part: our network in its forms, the official one, the plain twin as users run it, and post-hoc methods."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos

Work = Callable[[], object]
OFFICIAL = {
    "resnet18": "resnet18", "resnet50": "resnet50", "densenet121": "densenet121", "convnext_tiny": "convnext_tiny",
    "simple_vit_s_patch16_224": "simple_vit_s_patch16_224", "vitc_s_patch1_14": "vitc_s_patch1_14",
}  # fmt: skip


def last(x: Tensor) -> Tensor:
    """`x` in channels_last."""
    return x.contiguous(memory_format=torch.channels_last)


def ours(name: str) -> nn.Module:
    """Our network with calibrated norm statistics: without them random networks measure denormals."""
    torch.manual_seed(0)
    model = torchbcos.create_model(name)
    for key, p in model.named_parameters():
        if key.endswith("layer_scale"):
            nn.init.uniform_(p, 0.1, 1.0)
    torchbcos.recalibrate(model, [torch.rand(4, 6, 224, 224)])
    return model.eval()


def official(name: str, state: dict[str, Tensor] | None = None) -> nn.Module:
    """The official network, calibrated likewise."""
    torch.manual_seed(0)
    model: nn.Module = getattr(importlib.import_module("bcos.models.pretrained"), OFFICIAL[name])(pretrained=False)
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.momentum = 1.0  # type: ignore[assignment]
    model.train()
    with torch.no_grad():
        model(torch.rand(4, 6, 224, 224))
    return model.eval()


def plain(name: str) -> nn.Module:
    """The ordinary twin."""
    torch.manual_seed(0)
    model = torchbcos.create_model(name, plain=True)
    torchbcos.recalibrate(model, [torch.rand(4, 3, 224, 224)])
    return model.eval()


def folded(model: nn.Module) -> nn.Module:
    """A plain network as a careful user deploys it: norms folded into convolutions, channels_last."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from torchbcos import nn as bnn
    from torchbcos.deployment.pairs import pairs_of

    model = copy.deepcopy(model)
    for conv_name, norm_name in pairs_of(model, lambda c, n: isinstance(c, bnn.Conv2d) and type(n) is bnn.BatchNorm):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        usual = nn.BatchNorm2d(norm.num_features, eps=norm.eps).eval()  # type: ignore[arg-type]
        usual.load_state_dict(norm.state_dict())
        for part, new in ((conv_name, fuse_conv_bn_eval(conv, usual)), (norm_name, nn.Identity())):  # type: ignore[type-var]
            parent, _, leaf = part.rpartition(".")
            setattr(model.get_submodule(parent), leaf, new)
    return model.requires_grad_(False).to(memory_format=torch.channels_last)


def inference(model: nn.Module, x: Tensor) -> Work:
    """One prediction of the batch."""

    def work() -> object:
        with torch.inference_mode():
            return model(x)

    return work


def training(model: nn.Module, x: Tensor) -> Work:
    """One training step without the optimiser: forward, loss, backward."""
    model = model.train()
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)

    def work() -> object:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), labels).backward()
        return None

    return work


def official_explanations(model: nn.Module, x: Tensor, targets: list[int]) -> Work:
    """The official package explains one image and one class at a time."""

    def work() -> object:
        for image in x:
            for target in targets:
                cast: Any = model
                cast.explain(image[None].clone(), idx=target)
        return None

    return work


def without_pictures(model: nn.Module, x: Tensor, targets: list[int]) -> Work:
    """The official explanation mode without the picture that `explain` also draws: the fairer opponent."""

    def work() -> object:
        cast: Any = model
        for image in x:
            for target in targets:
                leaf = image[None].clone().requires_grad_()
                with cast.explanation_mode():
                    cast(leaf)[0, target].backward(inputs=[leaf])
        return None

    return work


def post_hoc(model: nn.Module, x: Tensor, layer: str) -> dict[str, Work]:
    """What users of a plain network run instead: Captum, as its documentation suggests."""
    import captum.attr as attr

    one = x[:1]
    mask = (torch.arange(224 * 224) // 224 // 32 * 7 + torch.arange(224 * 224) % 224 // 32).reshape(1, 1, 224, 224)

    def quietly(run: Callable[[], object]) -> Work:
        def work() -> object:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return run()

        return work

    return {
        "Integrated Gradients, 50 steps": quietly(
            lambda: attr.IntegratedGradients(model).attribute(one, target=0, n_steps=50, internal_batch_size=10)
        ),
        "Grad-CAM": quietly(lambda: attr.LayerGradCam(model, model.get_submodule(layer)).attribute(one, target=0)),
        "Occlusion, 32 px": quietly(
            lambda: attr.Occlusion(model).attribute(one, target=0, sliding_window_shapes=(3, 32, 32), strides=(3, 32, 32))
        ),
        "KernelSHAP, 49 patches, 100 samples": quietly(
            lambda: attr.KernelShap(model).attribute(one, target=0, feature_mask=mask, n_samples=100, perturbations_per_eval=10)
        ),
    }
