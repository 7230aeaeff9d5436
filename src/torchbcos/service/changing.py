"""What if a part of the picture were gone: what the explanation predicts, beside what the network then says.

Shapes: C channels, H W space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchbcos._core.errors import BcosError
from torchbcos.explanation import Explanation
from torchbcos.functional.replace import replacement
from torchbcos.pictures import Placed, decode_image
from torchbcos.service.refusals import Refused
from torchbcos.zoo import Classifier

__all__ = ["Step", "changed", "steps_of"]

_WAYS = ("grey", "blur", "mean")
_MOST = 12  # steps of one request
_STEP = re.compile(rf"({'|'.join(_WAYS)}):(remove|keep)")


@dataclass(frozen=True, eq=False)
class Step:
    """One change of a picture.

    Attributes:
        mask: (H, W) bool, what was brushed.
        way: what removed pixels become.
        keep: remove everything but the mask.
    """

    mask: Tensor
    way: str
    keep: bool

    def of(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The picture (C, H, W) afterwards, and (H, W) bool: what was removed."""
        removed = ~self.mask if self.keep else self.mask
        filled = replacement(pixels[None], self.way)[0]
        return torch.where(removed, filled, pixels), removed


def steps_of(words: str, fields: Mapping[str, bytes], size: Sequence[int]) -> list[Step]:
    """The steps of a request: `words` names them ("grey:remove,blur:keep"), the fields "mask1", "mask2", … are their masks.

    Args:
        words: of the parameter "steps".
        fields: of the form: pictures, white where they were brushed.
        size: (H, W) of the network's picture.

    Raises:
        Refused: 422, they do not fit.
    """
    parts = words.split(",")
    if len(parts) > _MOST:
        raise Refused(422, f"At most {_MOST} steps are taken.")
    steps = []
    for i, part in enumerate(parts, start=1):
        found = _STEP.fullmatch(part.strip())
        if found is None:
            raise Refused(422, f"A step is one of {', '.join(_WAYS)} with :remove or :keep, as in steps=grey:remove,blur:keep.")
        data = fields.get(f"mask{i}")
        if data is None:
            raise Refused(422, f'Step {i} has no mask: send it as the field "mask{i}" of the form.')
        steps.append(Step(_mask(data, f"mask{i}", size), found[1], found[2] == "keep"))
    return steps


def _mask(data: bytes, name: str, size: Sequence[int]) -> Tensor:
    height, width = size
    try:
        image = decode_image(data, f"The field {name}", most=4 * height * width)
    except BcosError as error:
        raise Refused(422, str(error)) from None
    if image.size != (width, height):
        raise Refused(422, f"{name} has {image.width} x {image.height} pixels; the network's picture has {width} x {height}.")
    return torch.from_numpy(np.asarray(image.convert("L")) > 127)


def changed(
    classifier: Classifier, picture: Placed, steps: Sequence[Step], target: int | None
) -> tuple[Explanation, dict[str, Any]]:
    """The explanation after the last step, and what that step changed.

    "predicted": minus the sum of the contributions of what was removed. "held": what W of before says of the new
    pixels, `Σ W · (x' - x)`. "real": the network run again. They need not agree: W belongs to the picture before, and grey or
    blurred pixels say something, too.

    Raises:
        BcosError: it cannot be explained.
    """
    pixels, removed = picture.pixels, torch.zeros(picture.pixels.shape[1:], dtype=torch.bool)
    before = pixels
    for step in steps:
        before, (pixels, removed) = pixels, step.of(pixels)
    first = classifier.explain([replace(picture, pixels=before)], None if target is None else [[target]])
    explained = int(first.targets[0, 0])
    second = classifier.explain([replace(picture, pixels=pixels)], [[explained]])
    inside = removed.to(first.contributions.device)
    moved = (first.weights[0, 0] * (second.inputs - first.inputs)[0]).double().sum()
    facts = {
        "predicted": -float(first.contributions[0, 0].double()[inside].sum()), "held": float(moved),
        "real": float(second.values[0, 0].double() - first.values[0, 0].double()),
        "before": float(first.values[0, 0]), "after": float(second.values[0, 0]), "removed": float(removed.double().mean()),
        "label": first.label(explained), "index": explained,
    }  # fmt: skip
    return second, facts
