"""One input of a classifier, whatever it is given as: files, Pillow images, arrays, tensors and scans.

Shapes: C channels, *S space: (L,) of a signal, (H, W) of a picture, (D, H, W) of a volume.
"""

from __future__ import annotations

import dataclasses
import io
import os
import tempfile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError
from torchbcos._core.foreign import foreign
from torchbcos._core.names import quote
from torchbcos.pictures.arrays import array_note, as_numbers
from torchbcos.pictures.form import Form
from torchbcos.pictures.items import RangedPath, as_image
from torchbcos.pictures.kinds import ARRAYS, NUMPY, SUFFIXES, ends_with, scan_suffix
from torchbcos.pictures.npy import load_array
from torchbcos.pictures.read import MAX_BYTES, decode_image, was_ranged
from torchbcos.pictures.samples import OUT_OF_RANGE, Range, warn_once
from torchbcos.pictures.scan import Scan
from torchbcos.pictures.scans import is_scan, read_scan

__all__ = ["is_array", "is_file", "read_input"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, by which Pillow makes a picture grey


def read_input(
    item: object, name: str, form: Form, value_range: Range | None = None, *, said: bool = True
) -> Image.Image | Tensor | Scan:
    """One item as a classifier of that form takes it: an upright picture, RGB or grey, or numbers (C, *S) in [0, 1].

    Pictures of more than 8 bits are read to 8, in training as here; arrays and scans keep what they have.

    Args:
        item: a path, a binary file object (read from where it stands, which it then has again), a Pillow image, a numpy array, a
            tensor or a Scan.
        name: what messages call it, where it has no name of its own.
        form: channels and axes of the classifier.
        value_range: the stored numbers that become 0 and 1; what lies outside is cut to these ends. None: floats and truth
            values lie in [0, 1] and bytes (uint8) are divided by 255. The numbers of a Scan are in [0, 1] already.
        said: whether the range was said for this very item; that of a card is not set again on a picture that was read with one.

    Returns:
        A picture; a tensor; or a Scan, where a file or a range says what the numbers mean. What was returned may be given again.

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
        return dataclasses.replace(item, pixels=form.fit(as_numbers(item.pixels, name), name))
    if is_array(item):
        item = np.asarray(item)
    if isinstance(item, (np.ndarray, Tensor)):
        return _numbers(item, name, form, value_range)
    if isinstance(item, Image.Image):
        _check_pictured(form, name)
        ready = not said and was_ranged(item)
        if ready and item.mode == ("L" if form.channels == 1 else "RGB"):
            return item  # it was returned before
        return _coloured(as_image(item, name, value_range=None if ready else value_range), form)
    if isinstance(item, (str, os.PathLike)):
        return _file(item, form, value_range)
    if is_file(item):
        return _stream(item, name, form, value_range)
    fix = " Numbers are given as an array: numpy.array(x)." if isinstance(item, (list, tuple, int, float)) else ""
    raise ArgumentTypeError(
        f"{name} must be a path, a PIL image, a numpy array, a tensor, a Scan or an open binary file; got {type(item).__name__}."
        f"{fix} This classifier takes {form.words}."
    )


def is_file(item: object) -> bool:
    """Whether an item is an open file, of whatever library: something that can be read."""
    return callable(getattr(item, "read", None))


def is_array(item: object) -> bool:
    """Whether an item is another library's array (of h5py, zarr, pandas, …), which numpy can read."""
    ours = isinstance(item, (np.ndarray, Tensor, Image.Image))
    return not ours and callable(getattr(item, "__array__", None)) and isinstance(getattr(item, "ndim", None), int)


def _check_pictured(form: Form, name: str) -> None:
    if not form.takes_pictures:
        raise InputError(f"This classifier takes {form.words}: {name} is a picture.")


def _coloured(picture: Image.Image | Tensor, form: Form) -> Image.Image | Tensor:
    """RGB as it is; grey for networks of one channel."""
    return picture.convert("L") if form.channels == 1 and isinstance(picture, Image.Image) else picture


def _file(path: str | os.PathLike[str], form: Form, value_range: Range | None) -> Image.Image | Tensor | Scan:
    if ends_with(path, ARRAYS):
        return _numbers(load_array(path), quote(path), form, value_range, stored=True)
    if not ends_with(path, SUFFIXES) and os.path.exists(path) and is_scan(path):
        return _scan(path, quote(path), form, value_range)
    if not form.takes_pictures and os.path.isfile(path):
        _check_pictured(form, quote(path))
    return _coloured(as_image(path, value_range=value_range), form)


def _scan(path: str | os.PathLike[str], name: str, form: Form, value_range: Range | None) -> Scan:
    if not form.takes_scans:
        raise InputError(f"This classifier takes {form.words}: {name} is a scan.")
    scan = read_scan(path, axes=form.axes, value_range=value_range)
    for note in scan.facts.get("notes", ()):
        if OUT_OF_RANGE in note:
            warn_once(f"{name}: {note}")
    return dataclasses.replace(scan, pixels=form.fit(scan.pixels, name))


def _stream(file: Any, name: str, form: Form, value_range: Range | None) -> Image.Image | Tensor | Scan:
    """What an open file holds: an array, a scan or a picture, told by its first bytes."""
    called = getattr(file, "name", None)
    where = quote(called) if isinstance(called, str) else name
    with foreign(f"{where} cannot be read"):
        start = file.tell() if file.seekable() else None
        data = file.read(MAX_BYTES + 1)
        if start is not None:
            file.seek(start)  # so that it can be explained after it was predicted
    if not isinstance(data, bytes):
        raise ArgumentTypeError(f"{where} is a text file for Python: open it with mode 'rb'.")
    if not data and start:
        raise InputError(f"{where} stands at its end, where nothing can be read: use file.seek(0).")
    if data.startswith(NUMPY):
        return _numbers(load_array(io.BytesIO(data), where), where, form, value_range, stored=True)
    suffix = scan_suffix(data)
    if suffix is None:
        _check_pictured(form, where)
        return _coloured(as_image(decode_image(data, where, value_range=value_range)), form)
    with tempfile.TemporaryDirectory() as folder:  # the readers of scans take files
        copy = os.path.join(folder, f"scan{suffix}")
        with open(copy, "wb") as target:
            target.write(data)
        try:
            return _scan(copy, where, form, value_range)
        except BcosError as error:  # nobody knows the copy
            raise type(error)(str(error).replace(quote(copy), where)) from None


def _numbers(
    values: NDArray[Any] | Tensor, name: str, form: Form, value_range: Range | None, *, stored: bool = False
) -> Image.Image | Tensor | Scan:
    """Numbers of the form, a Scan where they have a range; or the picture, where they are laid out as one of bytes is."""
    shape = tuple(values.shape)
    last = len(shape) == 3 and shape[2] == 3 and form.takes_pictures  # colours come last, as in Pillow
    if last and shape[0] == 3 and (stored or isinstance(values, Tensor)):
        last = False
    if last or (form.is_rgb and len(shape) == 2):
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        if array.dtype == np.uint8 or (value_range is not None and array.dtype.kind in "uif"):
            return _coloured(as_image(array, name, value_range=value_range), form)
    numbers = as_numbers(values, name, value_range)
    if last:
        if shape[0] == 3:
            raise InputError(f"{name} of shape {shape} may have its channels first or last: give a tensor (3, H, W).")
        numbers = numbers.permute(2, 0, 1).contiguous()
        numbers = numbers if form.is_rgb else torch.tensordot(numbers.new_tensor(_LUMA), numbers, 1)
    fitted = form.fit(numbers, name)
    warn_once(array_note(values, name, value_range, stored=stored))
    if value_range is None:
        return fitted
    return Scan(pixels=fitted, facts={"window": list(value_range)})
