"""Augmentation of training pictures, and how whole ones are prepared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.optional import require
from torchbcos.models.blocks import moments_of
from torchbcos.pictures import Preprocess
from torchbcos.pictures.form import Form
from torchbcos.training.recipe import PictureSettings, Recipe

__all__ = ["RGB", "Augment", "preprocess_of"]

RGB = Form(3, 2)


def preprocess_of(recipe: Recipe, form: Form = RGB, pretrained: Preprocess | None = None) -> Preprocess:
    """How whole examples are prepared and encoded, for judging and for the card.

    Args:
        recipe: says how large they are, and whether the network is an ordinary one.
        form: channels and axes of space: ordinary networks of other channels than three take them as they are.
        pretrained: how the network that is trained on was fed.
    """
    sizes = {"resize": recipe.test_resize or recipe.side, "crop": recipe.side} if form.axes == 2 else {}
    limits = recipe.value_range if recipe.value_range != (0, 0) else pretrained.value_range if pretrained is not None else None
    shared: dict[str, Any] = {**sizes, "raw_channels": form.channels, "axes": form.axes, "value_range": limits}
    if not recipe.ordinary:
        return Preprocess(**shared)
    moments = moments_of(recipe.normalize or ("imagenet" if form.is_rgb else "none"))
    if moments is None:
        return Preprocess(**shared, encoding="none")
    mean, std = moments
    if len(mean) != form.channels:
        raise InputError(f"normalize={recipe.normalize!r} is for {len(mean)} channels, the data has {form.channels}.")
    return Preprocess(**shared, encoding="normalize", mean=mean, std=std)


def _transforms() -> Any:
    """torchvision's transforms of pictures."""
    return require("torchvision.transforms.v2", extra="train", why="changing training pictures")


def _geometry(recipe: PictureSettings, size: int) -> list[Any]:
    """Crops of one size, and mirroring."""
    v2 = _transforms()
    flips = [v2.RandomHorizontalFlip(recipe.flip)] if recipe.flip else []
    if recipe.crop == "random":
        return [v2.RandomResizedCrop(size, scale=recipe.crop_scale, antialias=True), *flips]
    if recipe.crop == "pad":
        return [v2.Resize((size, size), antialias=True), v2.RandomCrop(size, padding=recipe.crop_padding), *flips]
    return [v2.Resize(recipe.test_resize or size, antialias=True), v2.CenterCrop(size), *flips]


class Augment:
    """Training pictures: crop, flip, policy, brightness, erasing, encoding, in the order of the official recipes.

    Args:
        recipe: says how much of each.
        prepare: encodes.
    """

    def __init__(self, recipe: Recipe, prepare: Preprocess) -> None:
        self.encode = prepare.encode
        # an ordinary network sees erased pixels as 0, the mean; a B-cos network as black, whose inverse is white
        self.encode_first = prepare.encoding == "normalize"
        self.crop_size = recipe.crop_size
        v2 = _transforms()
        self.to_image = v2.functional.to_image
        sizes = {recipe.crop_size(epoch) for epoch in range(recipe.epochs)}
        self.geometry = {size: v2.Compose(_geometry(recipe, size)) for size in sizes}
        policies = {
            "": v2.Identity(), "augmix": v2.AugMix(), "trivialaugment": v2.TrivialAugmentWide(),
            "randaugment": v2.RandAugment(recipe.augment_ops, recipe.augment_magnitude),
        }  # fmt: skip
        self.policy = policies[recipe.augment]
        self.erase = v2.RandomErasing(recipe.erasing) if recipe.erasing else None
        self.brightness = recipe.brightness

    def __call__(self, picture: Any, mask: Tensor | None = None, epoch: int = 0) -> tuple[Tensor, Tensor | None]:
        """An encoded picture (C, H, W), and its mask (1, H, W) cut and turned likewise."""
        crop = self.geometry[self.crop_size(epoch)]
        picture = self.to_image(picture)
        if mask is None:
            picture = crop(picture)
        else:
            masks = require("torchvision.tv_tensors", extra="train", why="changing training pictures")
            picture, mask = crop(picture, masks.Mask(mask))
        pixels = self.policy(picture).as_subclass(Tensor)
        x = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        if self.brightness:
            x = (x * (1 + self.brightness * (2 * torch.rand(()) - 1))).clamp(0, 1)
        if self.encode_first:
            x = self.encode(x)
        x = self.erase(x) if self.erase is not None else x
        return (x if self.encode_first else self.encode(x)), mask
