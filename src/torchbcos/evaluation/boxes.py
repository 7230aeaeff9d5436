"""Where the objects of a split's pictures are, as masks of what a network sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from torchbcos.data.annotations import find_annotations
from torchbcos.data.labelled import Split
from torchbcos.data.loading import read_example
from torchbcos.pictures import Preprocess

__all__ = ["Boxes"]


class Boxes:
    """Masks of the examples of a split, from `boxes.csv` or `masks/` beside the data; all boxes of a picture are one object.

    Attributes:
        rows: places in the split that are annotated.

    Raises:
        MissingFileError, InputError: see `torchbcos.data.annotations.find_annotations`.
    """

    def __init__(self, place: Path, split: Split) -> None:
        self._split, self._found = split, find_annotations(place, split)
        self.rows = set(self._found.used)

    def __call__(self, row: int, prepare: Preprocess) -> Tensor:
        """(H, W) bool: what of the object is left after the picture is resized and cut."""
        example = read_example(self._split, row, prepare)
        size = tuple(example.shape[-2:]) if isinstance(example, Tensor) else (example.height, example.width)
        mask = self._found(row, (int(size[0]), int(size[1]))).amax(0)
        grey = Image.fromarray((255 * mask).numpy(), "L")
        same = dataclasses.replace(prepare, encoding="none", mean=None, std=None, raw_channels=1, value_range=None)
        return torch.as_tensor(same.place(grey)[0] > 0.5)
