"""One input of a classifier, whatever it is given as: files, Pillow images, arrays, tensors and scans.

Shapes: C channels, *S space: (L,) of a signal, (H, W) of a picture, (D, H, W) of a volume.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.pictures.arrays import as_numbers
from torchbcos.pictures.form import Form
from torchbcos.pictures.items import RangedPath, as_image
from torchbcos.pictures.npy import load_array
from torchbcos.pictures.samples import Range
from torchbcos.pictures.scan import Scan

__all__ = ["read_input"]


def read_input(item: object, name: str, form: Form, value_range: Range | None = None) -> Image.Image | Tensor | Scan:
    """One item as a classifier of that form takes it: an upright picture, RGB or grey, or numbers (C, *S) in [0, 1].

    Args:
        item: a path, a Pillow image, a numpy array, a tensor or a Scan.
        name: what messages call it, where it has no name of its own.
        form: channels and axes of the classifier.
        value_range: the stored numbers that become 0 and 1; what lies outside is cut to these ends. None: floats and truth
            values lie in [0, 1] and bytes (uint8) are divided by 255. The numbers of a Scan are in [0, 1] already.

    Raises:
        ArgumentTypeError: it is nothing of this.
        InputError: it cannot be read, or has another form; the message says which one is taken.
        MissingFileError: there is no such file.

    >>> read_input(np.zeros((2, 9), np.uint8), "image", Form(2, 1)).shape
    torch.Size([2, 9])
    """
    if isinstance(item, RangedPath):
        return read_input(item.path, name, form, item.value_range)
    if isinstance(item, Scan):
        return dataclasses.replace(item, pixels=form.fit(item.pixels, name))
    if isinstance(item, (str, os.PathLike)) and os.fspath(item).lower().endswith(".npy"):
        return _numbers(load_array(item), str(item), form, value_range, stored=True)
    if isinstance(item, (np.ndarray, Tensor)):
        return _numbers(item, name, form, value_range)
    if not isinstance(item, (str, os.PathLike, Image.Image)):
        raise ArgumentTypeError(
            f"{name} must be a path, a PIL image, a numpy array, a tensor or a Scan; got {type(item).__name__}. "
            f"This classifier takes {form.words}."
        )
    if form.axes != 2 or form.channels not in (1, 3):
        raise InputError(f"This classifier takes {form.words}: {_called(item, name)} is a picture file or image.")
    picture = as_image(item, name, value_range=value_range)
    return picture.convert("L") if form.channels == 1 and isinstance(picture, Image.Image) else picture


def _called(item: object, name: str) -> str:
    return repr(os.fspath(item)) if isinstance(item, (str, os.PathLike)) else name


def _numbers(
    values: NDArray[Any] | Tensor, name: str, form: Form, value_range: Range | None, *, stored: bool = False
) -> Image.Image | Tensor:
    """Numbers of the form; or the picture, where they are integers laid out as a colour picture is."""
    shape = tuple(values.shape)
    last = len(shape) == 3 and shape[2] == 3 and form.axes == 2 and form.channels in (1, 3)  # colours come last, as in Pillow
    if last and shape[0] == 3 and (stored or isinstance(values, Tensor)):
        last = False
    if form.axes == 2 and (last or (form.is_rgb and len(shape) == 2)) and not _is_float(values):
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        if array.dtype == np.uint8 or (value_range is not None and array.dtype.kind in "ui"):
            picture = as_image(array, name, value_range=value_range)
            return picture.convert("L") if form.channels == 1 and isinstance(picture, Image.Image) else picture
    numbers = as_numbers(values, name, value_range)
    if last and form.is_rgb:
        if shape[0] == 3:
            raise InputError(f"{name} of shape {shape} may have its channels first or last: give a tensor (3, H, W).")
        numbers = numbers.permute(2, 0, 1).contiguous()
    return form.fit(numbers, name)


def _is_float(values: NDArray[Any] | Tensor) -> bool:
    return values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"
