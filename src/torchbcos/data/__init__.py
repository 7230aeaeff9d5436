"""Labelled data: folders of classes, tables, tar shards and CIFAR-10 behind one interface."""

from __future__ import annotations

from torchbcos.data.labelled import Labelled as Labelled
from torchbcos.data.labelled import Split as Split
from torchbcos.data.sources import open_labelled as open_labelled

# Reading pictures moved to `torchbcos.pictures`; these names still work here until 1.0.
from torchbcos.pictures import Found as Found
from torchbcos.pictures import Preprocess as Preprocess
from torchbcos.pictures import as_image as as_image
from torchbcos.pictures import as_images as as_images
from torchbcos.pictures import find_images as find_images
from torchbcos.pictures import read_image as read_image

__all__ = [
    "Found", "Labelled", "Preprocess", "Split", "as_image", "as_images", "find_images", "open_labelled", "read_image",
]  # fmt: skip
