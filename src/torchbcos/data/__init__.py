"""Pictures in: safe reading, preprocessing, and finding files."""

from __future__ import annotations

from torchbcos.data.folder import Found as Found
from torchbcos.data.folder import find_images as find_images
from torchbcos.data.images import MAX_PIXELS as MAX_PIXELS
from torchbcos.data.images import ImageLike as ImageLike
from torchbcos.data.images import as_image as as_image
from torchbcos.data.images import as_images as as_images
from torchbcos.data.images import as_items as as_items
from torchbcos.data.images import check_tensor as check_tensor
from torchbcos.data.images import is_animated as is_animated
from torchbcos.data.images import read_image as read_image
from torchbcos.data.images import to_rgb as to_rgb
from torchbcos.data.labelled import Labelled as Labelled
from torchbcos.data.labelled import Split as Split
from torchbcos.data.sources import open_labelled as open_labelled
from torchbcos.data.transforms import Preprocess as Preprocess

__all__ = [
    "MAX_PIXELS",
    "Found",
    "ImageLike",
    "Labelled",
    "Preprocess",
    "Split",
    "as_image",
    "as_images",
    "as_items",
    "check_tensor",
    "find_images",
    "is_animated",
    "open_labelled",
    "read_image",
    "to_rgb",
]
