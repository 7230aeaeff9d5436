"""The recipes that come with the package: functions that return frozen values.

The ImageNet and CIFAR-10 recipes are those of the official configurations (B-cos v2; arXiv 2306.10898, section 4 and
appendix); the numbers are facts of that code. `batch_size` counts all devices: the official 64 on four of them are 256 here.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Mapping
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.names import hint, natural_key
from torchbcos.training.recipe.value import Recipe

__all__ = ["bcos_final", "find_recipe", "folder", "list_recipes", "registry"]

_NORMS = {
    "bn": "batch", "an": "all", "ln": "layer", "in": "instance", "pn": "position", "gn": "group",
}  # fmt: skip
_FORMS: dict[str, dict[str, Any]] = {"": {"norm_bias": True}, "-nobias": {}, "-unaffine": {"norm_affine": False}}
_DEPTHS = (20, 32, 44, 56)
_FINAL = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "densenet121", "densenet161",
    "densenet169", "densenet201", "vgg11_bnu",
)  # fmt: skip
_LONG = ("resnet50", "resnet152", "densenet121", "convnext_tiny", "convnext_base", "convnext_tiny_bnu", "convnext_base_bnu")
_ALIGNED = (
    *(f"{kind}_{size}_patch{patch}" for kind in ("bvt", "vit") for size in ("tiny", "small") for patch in (8, 16)), "bwin_tiny",
    "swin_tiny",
)  # fmt: skip
_VITS = (
    *(f"simple_vit_{size}_patch16_224" for size in ("ti", "s", "b", "l")),
    *(f"vitc_{size}_patch1_14" for size in ("ti", "s", "b", "l")),
)


def _cifar10(depth: int = 20, *, norm: str = "", form: str = "", max_out: int = 2, plain: bool = False) -> Recipe:
    """CIFAR-10 ResNets of the norm ablation: 100 epochs, Adam 1e-3, cosine, BCE.

    Args:
        depth: 20, 32, 44 or 56.
        norm: "bnu", "anu", "lnu", "inu", "pnu", "gnu" (uncentred), the same without "u" (centred), or "" for none.
        form: "" (with weight and bias), "-nobias", "-unaffine".
        max_out: filters of which the largest counts, 2 or 1.
        plain: the ordinary twin, with the same recipe.

    >>> _cifar10(20, norm="bnu", form="-nobias").options["norm"]
    'batch'
    """
    options: dict[str, Any] = {"max_out": max_out} if max_out != 1 else {}
    if norm:
        options |= {"norm": _NORMS[norm.removesuffix("u")], "norm_centered": not norm.endswith("u"), **_FORMS[form]}
    else:
        options["norm"] = "none"
    name = f"cifar10_resnet{depth}{'-' + norm if norm else ''}{form}{'-nomaxout' if max_out == 1 else ''}"
    return Recipe(
        name=f"cifar10_resnet{depth}-plain" if plain else name, about="CIFAR-10, norm ablation: 100 epochs",
        model=f"cifar10_resnet{depth}", options={} if plain else options, plain=plain, image_size=32, crop="pad",
        epochs=100, batch_size=64, schedule_by="epoch", export="best",
    )  # fmt: skip


def bcos_final(model: str) -> Recipe:
    """ImageNet, 90 epochs (ResNeXt 100): Adam 1e-3, five epochs of warm-up, adaptive clipping, uniform off-labels BCE."""
    return Recipe(
        name=f"bcos_final-{model}", about="ImageNet, B-cos convolutional networks: 90 epochs", model=model,
        epochs=100 if model.startswith("resnext") else 90, batch_size=256, warmup_epochs=5, schedule_by="epoch",
        loss="bce_uniform", clip="agc", selection_share=0.0, export="last", test_resize=256,
    )  # fmt: skip


def _bcos_final_long(model: str) -> Recipe:
    """ImageNet, 600 epochs at 176 px: TrivialAugment, erasing, Mixup or CutMix, repeated augmentation, averaged weights."""
    options: dict[str, Any] = {}
    if model.startswith(("resnet", "convnext_tiny")):
        options["stochastic_depth"] = 0.1
    elif model.startswith("convnext_base"):
        options["stochastic_depth"] = 0.5
    heavy = model in ("resnet152", "convnext_base", "convnext_base_bnu")
    return bcos_final(model).changed(
        name=f"bcos_final_long-{model}", about="ImageNet, B-cos convolutional networks: 600 epochs at 176 px",
        options=options, epochs=600, batch_size=1024, accumulate=2 if heavy else 1, image_size=176,
        test_size=224, test_resize=232,
        augment="trivialaugment", erasing=0.1, mixup=0.2, cutmix=1.0, repeats=1 if "densenet" in model else 4,
        ema_decay=0.99998, ema_every=32, ema_from_epoch=5, ema_scaled=True, precision="16", export="ema",
    )  # fmt: skip


def _vit_final(model: str, *, plain: bool = False) -> Recipe:
    """ImageNet, vision transformers, 90 epochs: RandAugment, Mixup, 10,000 steps of warm-up (50,000 for large ones)."""
    slow = "_l_" in model or "simple_vit_b" in model
    shared = Recipe(
        name=f"vit_final-{model}", about="ImageNet, vision transformers: 90 epochs", model=model, epochs=90, batch_size=1024,
        warmup_steps=50_000 if slow else 10_000, augment="randaugment", mixup=0.2, loss="bce_uniform", clip="agc",
        selection_share=0.0, export="last", test_resize=256,
    )  # fmt: skip
    if not plain:
        return shared
    return shared.changed(name=f"vit_final-standard_{model}", plain=True, optimizer="adamw", weight_decay=1e-4,
                          loss="cross_entropy", clip="norm", clip_value=1.0)  # fmt: skip


def _aligned(model: str) -> Recipe:
    """B-cos aligned transformers and their plain twins (arXiv 2401.08868, appendix): AdamW, cosine, ten epochs, six of Swin.

    The loss, augmentation and `normalize` are ours: the paper's were not to be had.
    """
    plain, swin = model.startswith(("vit", "swin")), "win_" in model
    epochs = 6 if swin else 10
    return Recipe(
        name=f"aligned-{model}", about=f"B-cos aligned transformers: {epochs} epochs, as on NCT-CRC-HE-100K", model=model,
        normalize="" if plain else "imagenet", epochs=epochs,
        batch_size=32 if swin else 16 if "small" in model else 64, optimizer="adamw", lr=1e-4 if plain else 1e-3,
        weight_decay=1e-4, test_resize=256, crop_scale=(0.35, 1.0), export="last",
    )  # fmt: skip


def _baseline(model: str) -> Recipe:
    """ImageNet, ordinary convolutional networks, 90 epochs: SGD 0.1, a tenth every 30 epochs."""
    return Recipe(
        name=f"baseline-{model}", about="ImageNet, ordinary convolutional networks: 90 epochs", model=model, plain=True,
        epochs=90, batch_size=256, optimizer="sgd", lr=0.1, weight_decay=1e-4, schedule="step", schedule_by="epoch",
        loss="cross_entropy", selection_share=0.0, export="last", test_resize=256,
    )  # fmt: skip


def _imagenette() -> Recipe:
    """The embedded ten-class network: anti-aliased, three quarters of ResNet-18's width, from scratch.

    Filters have unit norm, so a step counts relative to their length: Adam at 4e-4 with clipped gradients did best
    (decision 002).
    """
    return Recipe(
        name="imagenette", about="Imagenette at 128 px: the network that comes with the package", model="resnet18",
        options={"width_factor": 0.75, "antialias": True}, image_size=128, grow_from=64, test_size=160, crop_scale=(0.25, 1.0),
        brightness=0.3, epochs=60, batch_size=64, lr=4e-4, warmup_epochs=0.5, clip="norm", clip_value=1.0, cutmix=1.0,
        mix_chance=0.25, ema_decay=0.998, workers=2, compile=True,
    )  # fmt: skip


def folder() -> Recipe:
    """A folder of one's own pictures, from scratch: a small anti-aliased network that trains on a laptop."""
    return Recipe(
        name="folder", about="your own pictures, from scratch, on one machine", model="resnet18",
        options={"width_factor": 0.5, "antialias": True}, image_size=128, crop_scale=(0.35, 1.0), brightness=0.2, epochs=30,
        batch_size=32, lr=4e-4, warmup_epochs=1, clip="norm", clip_value=1.0, ema_decay=0.99, workers=2,
    )  # fmt: skip


def _surface() -> Recipe:
    """Surfaces: arrays (3, V) of features in [0, 1] on fsaverage5's vertices, 0 off the cortex (decision 045)."""
    return Recipe(
        name="surface", about="surfaces: features of a cortex on fsaverage5, as arrays (features, vertices)",
        model="surface_vit_nano", axes=1, crop="none", flip=0.0, epochs=12, batch_size=16, optimizer="adamw", lr=1e-3,
        weight_decay=1e-4, warmup_epochs=1, loss="bce", export="last", workers=1,
    )  # fmt: skip


def _two_stage() -> Recipe:
    """Two stages: the first selects, the second sees nothing else, on one's own pictures (decision 046)."""
    return Recipe(
        name="two-stage", about="your own pictures: a network that selects what it sees, and sees nothing else",
        model="two_stage_nano", options={"patch": 16}, normalize="imagenet", image_size=128, crop_scale=(0.35, 1.0),
        brightness=0.2, epochs=60, batch_size=32, optimizer="adamw", lr=1e-3, weight_decay=1e-4, warmup_epochs=2, clip="norm",
        clip_value=1.0, parts=1.0, ema_decay=0.99, workers=2,
    )  # fmt: skip


def _finetune() -> Recipe:
    """A pretrained B-cos network on one's own pictures: first the new classifier alone, then everything (decision 007)."""
    return Recipe(
        name="finetune", about="your own pictures, from a pretrained network", model="", pretrained="imagenette", freeze_epochs=3,
        image_size=128, test_size=160, crop_scale=(0.35, 1.0), brightness=0.2, epochs=12, batch_size=32, lr=2e-4, head_lr=50,
        warmup_epochs=1, clip="norm", clip_value=1.0, ema_decay=0.99, workers=2,
    )  # fmt: skip


def _align() -> Recipe:
    """A network of one's own, converted and aligned to what it was, without labels; its teacher is still to be named.

    The weights of the three losses, the rate and the exponents are those of a trial on EfficientNet-Lite0 (decision 040).
    """
    return Recipe(
        name="align", about="a network of yours as a B-cos network, from pictures without labels (--teacher SOURCE)", model="",
        options={}, loss="none", teacher_features=7.0, teacher_pooled=3.0,
        teacher_weight=1.0, teacher_temperature=1.5, optimizer="relative_adam", lr=1e-3, lr_end=2e-5, warmup_steps=60, epochs=1,
        batch_size=16, image_size=160, grow_from=128, test_size=224, test_resize=256, crop_scale=(0.4, 1.0),
        selection_share=0.02, report_share=0.0, ema_decay=0.99, export="ema", calibrate=False, checkpoint_steps=200,
        watch_every=500, workers=1,
    )  # fmt: skip


def _cifar10_recipes() -> dict[str, Callable[[], Recipe]]:
    """All CIFAR-10 recipes by name."""
    found: dict[str, Callable[[], Recipe]] = {}
    kinds = [("", "")] + [(norm + u, form) for norm in _NORMS for u in ("u", "") for form in _FORMS]
    for depth in _DEPTHS:
        for norm, form in kinds:
            for max_out in (2, 1):
                make = functools.partial(_cifar10, depth, norm=norm, form=form, max_out=max_out)
                found[make().name] = make
        found[f"cifar10_resnet{depth}-plain"] = functools.partial(_cifar10, depth, plain=True)
    return found


@functools.cache
def registry() -> Mapping[str, Callable[[], Recipe]]:
    """All recipes by name."""
    found: dict[str, Callable[[], Recipe]] = {
        "folder": folder, "finetune": _finetune, "align": _align, "imagenette": _imagenette, "surface": _surface,
        "two-stage": _two_stage,
    }  # fmt: skip
    families = (
        ("bcos_final", bcos_final, _FINAL), ("bcos_final_long", _bcos_final_long, _LONG), ("vit_final", _vit_final, _VITS),
        ("baseline", _baseline, _FINAL), ("aligned", _aligned, _ALIGNED),
    )  # fmt: skip
    for family, make, models in families:
        found |= {f"{family}-{m}": functools.partial(make, m) for m in models}
    found |= {f"vit_final-standard_{m}": functools.partial(_vit_final, m, plain=True) for m in _VITS}
    return found | _cifar10_recipes()


def list_recipes(pattern: str = "*") -> list[str]:
    """Names of recipes, in natural order.

    >>> list_recipes("vit_final-vitc_*")[0]
    'vit_final-vitc_b_patch1_14'
    """
    return sorted(fnmatch.filter(registry(), pattern), key=natural_key)


def find_recipe(name: str) -> Recipe:
    """A recipe by name; `bcos_final` alone is its ResNet-50.

    Raises:
        InputError: there is no such recipe; the nearest are named.

    >>> find_recipe("folder").model
    'resnet18'
    """
    usual = {"bcos_final": "bcos_final-resnet50", "bcos_final_long": "bcos_final_long-resnet50",
             "vit_final": "vit_final-simple_vit_s_patch16_224", "baseline": "baseline-resnet50"}  # fmt: skip
    found = registry().get(usual.get(name, name))
    if found is None:
        raise InputError(f"There is no recipe {name!r}.{hint(name, [*registry(), *usual])} 'torchbcos train --list' names all.")
    return found()
