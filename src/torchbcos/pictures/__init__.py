"""Pictures in: finding files, reading them safely, and preparing them for a network."""

from __future__ import annotations

from torchbcos.pictures.arrays import check_tensor as check_tensor
from torchbcos.pictures.cortex import Cortex as Cortex
from torchbcos.pictures.cortex import encode_cortex as encode_cortex
from torchbcos.pictures.cortex import fsaverage5 as fsaverage5
from torchbcos.pictures.cortex import read_gifti as read_gifti
from torchbcos.pictures.find import SUFFIXES as SUFFIXES
from torchbcos.pictures.find import Found as Found
from torchbcos.pictures.find import Walked as Walked
from torchbcos.pictures.find import find_images as find_images
from torchbcos.pictures.find import walk as walk
from torchbcos.pictures.form import Form as Form
from torchbcos.pictures.given import title_of as title_of
from torchbcos.pictures.items import ImageLike as ImageLike
from torchbcos.pictures.items import as_image as as_image
from torchbcos.pictures.items import as_images as as_images
from torchbcos.pictures.items import as_items as as_items
from torchbcos.pictures.items import named_items as named_items
from torchbcos.pictures.preprocess import IMAGENET_MEAN as IMAGENET_MEAN
from torchbcos.pictures.preprocess import IMAGENET_STD as IMAGENET_STD
from torchbcos.pictures.preprocess import Preprocess as Preprocess
from torchbcos.pictures.read import MAX_PIXELS as MAX_PIXELS
from torchbcos.pictures.read import decode_image as decode_image
from torchbcos.pictures.read import is_animated as is_animated
from torchbcos.pictures.read import read_image as read_image
from torchbcos.pictures.read import take_note as take_note
from torchbcos.pictures.read import to_rgb as to_rgb
from torchbcos.pictures.samples import Range as Range
from torchbcos.pictures.samples import check_range as check_range
from torchbcos.pictures.scan import Scan as Scan
from torchbcos.pictures.scans import is_scan as is_scan
from torchbcos.pictures.scans import read_scan as read_scan
from torchbcos.pictures.seen import Placed as Placed
from torchbcos.pictures.seen import Seen as Seen

__all__ = [
    "Cortex", "Form", "Found", "IMAGENET_MEAN", "IMAGENET_STD", "ImageLike", "MAX_PIXELS", "Placed", "Preprocess", "Range",
    "SUFFIXES", "Scan", "Seen", "Walked", "as_image", "as_images", "as_items", "check_range", "check_tensor", "decode_image",
    "encode_cortex", "find_images", "fsaverage5", "is_animated", "is_scan", "named_items", "read_gifti", "read_image",
    "read_scan", "take_note", "title_of", "to_rgb", "walk",
]  # fmt: skip
