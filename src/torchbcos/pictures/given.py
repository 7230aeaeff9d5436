"""What a caller gives a classifier, one input at a time: single ones, batches, sequences, iterators, folders and patterns.

Shapes: N inputs, C channels, *S space.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import quote
from torchbcos.pictures.find import find_images, is_pattern
from torchbcos.pictures.form import Form
from torchbcos.pictures.inputs import is_array, is_file
from torchbcos.pictures.scan import Scan
from torchbcos.pictures.seen import Placed

__all__ = ["each_input", "title_of"]

_EMPTY = "images is empty: give at least one picture."
_LITTLE = 2  # letters of a name that tell no series from another
_BYTES = "of a file? Then give io.BytesIO(data)"


def each_input(images: object, form: Form) -> Iterator[tuple[str, object]]:
    """What a caller gives, one input at a time, each with the name that messages call it; no file is read yet.

    Args:
        images: one item (a path, a binary file object, a Pillow image, a Scan, an array or tensor of one input), a batch
            (N, C, *S), a folder or a pattern, whose files are taken in natural order, or an iterable of any of these, which
            is taken only as far as is asked for.
        form: channels and axes of the classifier: they tell a batch from one input.

    Raises:
        ArgumentTypeError: it is something else, or has no order.
        InputError: it is empty, or a folder holds nothing.
        MissingFileError: nothing matches a pattern.

    >>> [name for name, _ in each_input(np.zeros((2, 3, 50)), Form(3, 1))]
    ['images[0]', 'images[1]']
    >>> [name for name, _ in each_input(np.zeros((3, 50)), Form(3, 1))]
    ['image']
    """
    if is_array(images) and getattr(images, "ndim", 0) != form.axes + 2:  # a batch on a disk is read part by part, below
        images = np.asarray(images)
    if isinstance(images, np.ndarray) and images.dtype.kind in "UO" and images.ndim == 1:  # names of files
        images = images.tolist()
    if _is_item(images):
        named = _expanded("image", images, form)
    elif isinstance(images, (bytes, bytearray, memoryview, Mapping, Set)) or not isinstance(images, Iterable):
        data = isinstance(images, (bytes, bytearray, memoryview))
        why = f" (the bytes {_BYTES})" if data else ", which has no order: give a list" if isinstance(images, Set) else ""
        raise ArgumentTypeError(
            "images must be a path, a PIL image, an array, a tensor, a Scan, an open binary file, a folder or pattern, or an "
            f"iterable of these; got {type(images).__name__}{why}. This classifier takes {form.words}."
        )
    else:
        named = (part for i, item in enumerate(images) for part in _expanded(f"images[{i}]", item, form))
    first = list(itertools.islice(named, 1))
    if not first:
        raise InputError(_EMPTY)
    return itertools.chain(first, named)


def title_of(item: object) -> str:
    """The file's name of an item; "" where it is no file.

    Of a series, which is a folder, the folder above stands before it where its own name is a number or a letter or two.

    >>> title_of(Path("photos/a.jpg")), title_of(Image.new("L", (1, 1)))
    ('a.jpg', '')
    """
    if isinstance(item, (str, os.PathLike)):
        path = Path(os.fspath(item))
        if (len(path.name) <= _LITTLE or path.name.isdecimal()) and os.path.isdir(path):
            return "/".join(Path(os.path.abspath(path)).parts[-2:])
        return path.name
    name = getattr(item, "name", None) if is_file(item) else None
    return Path(name).name if isinstance(name, str) else ""


def _is_item(images: object) -> bool:
    return isinstance(images, (str, os.PathLike, Image.Image, np.ndarray, Tensor, Scan, Placed)) or is_file(images)


def _expanded(name: str, item: object, form: Form) -> Iterator[tuple[str, object]]:
    """The inputs that one item stands for: those of a batch, the files of a folder or pattern, or itself."""
    if isinstance(item, (np.ndarray, Tensor)) and item.ndim == form.axes + 2:
        part = "images" if name == "image" else name
        yield from ((f"{part}[{i}]", one) for i, one in enumerate(item))
    elif isinstance(item, (str, os.PathLike)) and (os.path.isdir(item) or is_pattern(item)):
        yield from ((quote(found.path), found.path) for found in find_images(item, form=form))
    else:
        yield name, item
