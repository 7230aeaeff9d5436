"""What users call images: paths, Pillow images, arrays and tensors, alone or many, as upright RGB pictures.

Shapes: N images, H W space, 3 channels (red, green, blue).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.pictures.arrays import check_tensor, from_array
from torchbcos.pictures.read import mark, read_image, take_note, to_rgb
from torchbcos.pictures.samples import Range, check_range, warn_once

__all__ = ["ImageLike", "RangedPath", "as_image", "as_images", "as_items", "named_items"]

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor
_EMPTY = "images is empty: give at least one picture."


def as_items(images: object) -> list[ImageLike]:
    """Split what a user calls images into single ones; files are not read yet, so a long list costs nothing.

    Args:
        images: a path, a Pillow image, an (H, W[, 3]) uint8 array, a (3, H, W) float tensor in [0, 1], a sequence of
            these, an (N, H, W, 3) uint8 array or an (N, 3, H, W) float tensor.

    Raises:
        ArgumentTypeError: something else came.
        InputError: the sequence or batch is empty.

    >>> as_items(["a.jpg", "b.jpg"])
    ['a.jpg', 'b.jpg']
    """
    if isinstance(images, (str, os.PathLike, Image.Image)):
        return [images]
    if isinstance(images, (np.ndarray, Tensor)):
        items: list[ImageLike] = list(images) if images.ndim == 4 else [images]
    elif isinstance(images, Sequence) and not isinstance(images, (bytes, bytearray, memoryview)):
        items = list(images)
    else:
        raise ArgumentTypeError(
            "images must be a path, a PIL image, an (H, W[, 3]) uint8 array, a (3, H, W) float tensor, "
            f"or a list of these; got {type(images).__name__}."
        )
    if not items:
        raise InputError(_EMPTY)
    return items


def as_image(item: object, name: str = "image", *, value_range: Range | None = None) -> Image.Image | Tensor:
    """One picture as an RGB Pillow image, or as a (3, H, W) float32 tensor if it is a tensor.

    Args:
        item: one element of `as_items`.
        name: what error messages call it.
        value_range: the numbers of black and white, see `read_image`; with it arrays and tensors of any real dtype are taken.

    A picture that is all but black, or white, as 12 bits in 16 are, is warned of, once for its range.

    Raises:
        ArgumentTypeError: `item` is no picture.
        InputError: wrong dtype, shape or values; for files and Pillow images see `read_image` and `to_rgb`.

    >>> as_image(np.zeros((2, 3), np.uint8)).size
    (3, 2)
    """
    if isinstance(item, Tensor):
        return check_tensor(item, name, check_range(value_range))
    if isinstance(item, RangedPath):
        image = read_image(item.path, value_range=item.value_range)
    elif isinstance(item, (str, os.PathLike)):
        image = read_image(item, value_range=value_range)
    elif isinstance(item, Image.Image):
        image = to_rgb(item, value_range=value_range)
    elif isinstance(item, np.ndarray):
        picture, note = from_array(item, name, check_range(value_range))
        image = mark(picture, False, note, ranged=value_range is not None)
    else:
        image = None
    if image is not None:
        warn_once(take_note(image))
        return image
    raise ArgumentTypeError(
        f"{name} must be a path, a PIL image, an (H, W[, 3]) uint8 array or a (3, H, W) float tensor; got {type(item).__name__}."
    )


def as_images(images: object, *, value_range: Range | None = None) -> list[Image.Image | Tensor]:
    """Read what a user calls images: a list of RGB Pillow images and (3, H, W) float32 tensors.

    Args:
        images: see `as_items`.
        value_range: see `as_image`.

    Raises:
        ArgumentTypeError, InputError, MissingFileError: see `as_items` and `as_image`; element i is called `images[i]`.

    >>> [image.size for image in as_images(np.zeros((2, 5, 4, 3), np.uint8))]
    [(4, 5), (4, 5)]
    """
    return [as_image(item, name, value_range=value_range) for name, item in named_items(images)]


def named_items(images: object, *, value_range: Range | None = None) -> Iterator[tuple[str, ImageLike]]:
    """What a user calls images, one at a time, each with the name that messages call it; nothing is read yet.

    Args:
        images: see `as_items`; or an iterator of single ones, which is taken only as far as is asked for.
        value_range: see `as_image`, which then need not be told it.

    Raises:
        ArgumentTypeError, InputError: see `as_items`; at once, not at the first step.

    >>> list(named_items("a.jpg")), next(named_items(f"{i}.jpg" for i in range(10)))
    ([('image', 'a.jpg')], ('images[0]', '0.jpg'))
    """
    limits = check_range(value_range)
    if isinstance(images, Iterator):
        first = list(itertools.islice(images, 1))
        if not first:
            raise InputError(_EMPTY)
        named = ((f"images[{i}]", item) for i, item in enumerate(itertools.chain(first, images)))
    else:
        items = as_items(images)
        alone = len(items) == 1 and items[0] is images
        named = (("image" if alone else f"images[{i}]", item) for i, item in enumerate(items))
    return named if limits is None else ((name, _ranged(item, name, limits)) for name, item in named)


class RangedPath(os.PathLike[str]):
    """A file that is to be read within a range."""

    def __init__(self, path: str | os.PathLike[str], value_range: Range) -> None:
        self.path, self.value_range = path, value_range

    def __fspath__(self) -> str:
        return os.fspath(self.path)


def _ranged(item: ImageLike, name: str, value_range: Range) -> ImageLike:
    """A picture within a range: read already if it is in memory, else when its turn comes."""
    if isinstance(item, (str, os.PathLike)):
        return RangedPath(item, value_range)
    return as_image(item, name, value_range=value_range)
