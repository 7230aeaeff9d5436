"""Augmentation of training pictures, and how whole ones are prepared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from torchbcos.functional import add_inverse
from torchbcos.pictures import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from torchbcos.training.recipe import Recipe

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD


def preprocess_of(recipe: Recipe, channels: int = 3) -> Preprocess:
    """How whole pictures, or arrays of as many channels as a plain network takes, are prepared, for judging and for the card."""
    resize = recipe.test_resize or recipe.side
    moments: dict[str, Any] = {"encoding": "normalize", "mean": MEAN, "std": STD} if recipe.plain else {}
    moments = {"encoding": "none"} if recipe.plain and channels != 3 else moments
    return Preprocess(resize=resize, crop=recipe.side, **moments)


def geometry(recipe: Recipe, size: int) -> list[v2.Transform]:
    """Crops of one size, and mirroring."""
    flips = [v2.RandomHorizontalFlip(recipe.flip)] if recipe.flip else []
    if recipe.crop == "random":
        return [v2.RandomResizedCrop(size, scale=recipe.crop_scale, antialias=True), *flips]
    if recipe.crop == "pad":
        return [v2.Resize((size, size), antialias=True), v2.RandomCrop(size, padding=recipe.crop_padding), *flips]
    return [v2.Resize(recipe.test_resize or size, antialias=True), v2.CenterCrop(size), *flips]


class Augment:
    """Training pictures: crop, flip, policy, brightness, erasing, encoding, in the order of the official recipes."""

    def __init__(self, recipe: Recipe) -> None:
        self.crop_size = recipe.crop_size
        sizes = {recipe.crop_size(epoch) for epoch in range(recipe.epochs)}
        self.geometry = {size: v2.Compose(geometry(recipe, size)) for size in sizes}
        policies = {
            "": v2.Identity(), "augmix": v2.AugMix(), "trivialaugment": v2.TrivialAugmentWide(),
            "randaugment": v2.RandAugment(recipe.augment_ops, recipe.augment_magnitude),
        }  # fmt: skip
        self.policy = policies[recipe.augment]
        self.erase = v2.RandomErasing(recipe.erasing) if recipe.erasing else None
        self.brightness, self.plain = recipe.brightness, recipe.plain

    def __call__(self, picture: Any, mask: Tensor | None = None, epoch: int = 0) -> tuple[Tensor, Tensor | None]:
        """An encoded picture (C, H, W), and its mask (1, H, W) cut and turned likewise."""
        crop = self.geometry[self.crop_size(epoch)]
        if mask is None:
            picture = crop(v2.functional.to_image(picture))
        else:
            picture, mask = crop(v2.functional.to_image(picture), tv_tensors.Mask(mask))
        pixels = self.policy(picture).as_subclass(Tensor)
        x = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        if self.brightness:
            x = (x * (1 + self.brightness * (2 * torch.rand(()) - 1))).clamp(0, 1)
        x = normalized(x) if self.plain else x
        x = self.erase(x) if self.erase is not None else x
        return (x if self.plain else add_inverse(x, dim=0)), mask


def normalized(x: Tensor) -> Tensor:
    """Pixels (..., C, H, W) in [0, 1] as plain networks take them; other counts of channels than three as they are."""
    return (x - x.new_tensor(MEAN).view(3, 1, 1)) / x.new_tensor(STD).view(3, 1, 1) if x.shape[-3] == 3 else x


def pixels_of(x: Tensor, plain: bool) -> Tensor:
    """The pixels (N, C, H, W) in [0, 1] of encoded pictures.

    >>> x = torch.rand(2, 3, 4, 4)
    >>> torch.equal(pixels_of(add_inverse(x), False), x), torch.allclose(pixels_of(normalized(x), True), x, atol=1e-6)
    (True, True)
    """
    if not plain:
        return x[:, : x.shape[1] // 2]
    return x * x.new_tensor(STD).view(3, 1, 1) + x.new_tensor(MEAN).view(3, 1, 1) if x.shape[1] == 3 else x
