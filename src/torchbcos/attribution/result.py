"""What a method gives: maps of every target, and how far to believe them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import integer
from torchbcos.functional.replace import encoded_images
from torchbcos.rendering import Shown, format_number, heatmap, save_image
from torchbcos.rendering import gallery as drawn

__all__ = ["Attribution", "gallery"]

_TITLES = {  # how papers write them; others are their names with spaces
    "deep_lift": "DeepLIFT", "grad_cam": "Grad-CAM", "gradient_shap": "GradientSHAP", "hires_cam": "HiResCAM",
    "input_x_gradient": "Input × Gradient", "kernel_shap": "KernelSHAP", "layer_cam": "Layer-CAM", "lime": "LIME", "lrp": "LRP",
    "rise": "RISE", "smooth_grad": "SmoothGrad",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Attribution:
    """Maps of N images and K targets.

    Attributes:
        method: its name in `METHODS`.
        maps: (N, K, *S) one number a pixel: what a metric takes, as `maps[:, k]`.
        values: (N, K, C, *S) one number for every channel, where the method has them; else None.
        targets: (N, K) int64.
        outputs: (N, classes) of the untouched images.
        passes: forward and backward passes for one image with all its targets.
        inputs: (N, C, *S) what was attributed to.
        delta: (N, K) what the maps lack of the sum that the method promises; None where it promises none. A method that promises
            one and misses it by much was misused, or had too few steps.
        class_names: in the order of the outputs, where they are known.
        photos: (N, C, *S) in [0, 1], what pictures show of the inputs where these cannot be shown.
    """

    method: str
    maps: Tensor
    values: Tensor | None
    targets: Tensor
    outputs: Tensor
    passes: int
    inputs: Tensor
    delta: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    photos: Tensor | None = None

    @classmethod
    def join(cls, parts: Sequence[Attribution]) -> Attribution:
        """Attributions of several batches, by one method, as one.

        Raises:
            InputError: there are none, or they are not alike.
        """
        if not parts:
            raise InputError("There is nothing to join: no image was attributed to.")
        first = parts[0]
        if any(p.method != first.method or p.maps.shape[1:] != first.maps.shape[1:] for p in parts):
            raise InputError("Attributions of different methods, sizes or numbers of targets cannot be joined.")

        def joined(tensors: list[Tensor | None]) -> Tensor | None:
            found = [t for t in tensors if t is not None]
            return torch.cat(found) if len(found) == len(tensors) else None

        return dataclasses.replace(
            first, maps=torch.cat([p.maps for p in parts]), values=joined([p.values for p in parts]),
            targets=torch.cat([p.targets for p in parts]), outputs=torch.cat([p.outputs for p in parts]),
            passes=max(p.passes for p in parts), inputs=torch.cat([p.inputs for p in parts]),
            delta=joined([p.delta for p in parts]), photos=joined([p.photos for p in parts]),
        )  # fmt: skip

    def __len__(self) -> int:
        """N.

        >>> import torch
        >>> x, none = torch.rand(2, 1, 4, 4), torch.zeros(2, 1, dtype=torch.long)
        >>> len(Attribution("saliency", x, None, none, torch.rand(2, 3), 2, x))
        2
        """
        return len(self.maps)

    def __repr__(self) -> str:
        n, k, *space = self.maps.shape
        return (
            f"Attribution({self.method!r}: maps of {n} images, {k} targets, {' x '.join(map(str, space))}; {self.passes} passes)"
        )

    def label(self, i: int = 0, k: int = 0) -> str:
        """The name of a target, or "class 3"."""
        target = int(self.targets[i, k])
        names = self.class_names
        return names[target] if names is not None and target < len(names) else f"class {target}"

    def heatmap(self, i: int = 0, k: int = 0) -> NDArray[np.float32]:
        """(H, W, 3) float32 in [0, 1]: red speaks for the target, blue against it; see `torchbcos.rendering.heatmap`."""
        self._check(i, k)
        return heatmap(self.maps[i, k])

    def panel(self, i: int = 0, k: int = 0, *, scale: float = 1) -> Image.Image:
        """The input and the map, with what it took."""
        return gallery([self], i, k, scale=scale)

    def save(self, path: str | Path, i: int = 0, k: int = 0, *, scale: float = 1) -> Path:
        """Write the panel as a picture (.png, .pdf, …)."""
        return save_image(self.panel(i, k, scale=scale), Path(path))

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as file:
            self.panel().save(file, "PNG")
            return file.getvalue()

    def _check(self, i: object, k: object) -> None:
        for name, value, size in (("i", i, self.maps.shape[0]), ("k", k, self.maps.shape[1])):
            found = integer(value)
            if found is None or not -size <= found < size:
                raise InputError(f"{name} must be an integer from 0 to {size - 1}, not {value!r}.")

    def _photo(self, i: int) -> Tensor | None:
        """What is shown of an input; None where its numbers are no shades."""
        if self.photos is not None:
            return self.photos[i]
        x = self.inputs[i].float()
        if bool(encoded_images(self.inputs[i : i + 1])[0]):
            return x[: len(x) // 2].clamp(0, 1)
        return x if x.dim() == 2 or (len(x) in (1, 3) and bool(((x >= 0) & (x <= 1)).all())) else None

    def _note(self, i: int, k: int) -> str:
        words = f"{self.passes:,} pass{'es' if self.passes > 1 else ''}"
        missing = 0.0 if self.delta is None else float(self.delta[i, k])
        return f"{words}, sum misses {format_number(missing)}" if abs(missing) >= 0.005 else words


def gallery(attributions: Sequence[Attribution], i: int = 0, k: int = 0, *, columns: int = 4, scale: float = 1) -> Image.Image:
    """Maps of one image and one target by several methods, side by side.

    Args:
        attributions: of the same images and targets.
        i, k: which image, and which of its targets.
        columns: pictures in a row.
        scale: pixels a unit; 2 is sharp in print.

    Returns:
        An RGB picture: the input, then every map in its own range, with its passes and what its sum misses.

    Raises:
        InputError: there is none, or they are of different targets.
    """
    if not attributions:
        raise InputError("A gallery needs at least one attribution.")
    for a in attributions:
        a._check(i, k)
    first = attributions[0]
    if any(int(a.targets[i, k]) != int(first.targets[i, k]) for a in attributions):
        raise InputError("The attributions of a gallery explain different targets: give all of them the same ones.")
    maps = [Shown(_title(a.method), a.maps[i, k], a._note(i, k)) for a in attributions]
    return drawn(maps, image=first._photo(i), heading=f"Why {first.label(i, k)}?", columns=columns, scale=scale)


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return _TITLES.get(name, words[:1].upper() + words[1:])
