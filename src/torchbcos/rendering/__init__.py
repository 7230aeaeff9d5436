"""Pictures from plain tensors; knows nothing of models."""

from __future__ import annotations

from torchbcos.rendering.caption import Caption as Caption
from torchbcos.rendering.caption import missing_words as missing_words
from torchbcos.rendering.caption import undrawable as undrawable
from torchbcos.rendering.cortex import cortex_picture as cortex_picture
from torchbcos.rendering.cortex import cortex_view as cortex_view
from torchbcos.rendering.files import FORMATS as FORMATS
from torchbcos.rendering.files import save_image as save_image
from torchbcos.rendering.files import save_png as save_png
from torchbcos.rendering.files import to_uint8 as to_uint8
from torchbcos.rendering.gallery import Shown as Shown
from torchbcos.rendering.gallery import gallery as gallery
from torchbcos.rendering.heatmap import heat_limit as heat_limit
from torchbcos.rendering.heatmap import heatmap as heatmap
from torchbcos.rendering.overlay import numbers as numbers
from torchbcos.rendering.overlay import over as over
from torchbcos.rendering.overlay import overlay as overlay
from torchbcos.rendering.overlay import photo as photo
from torchbcos.rendering.panel import panel as panel
from torchbcos.rendering.panel import sheet as sheet
from torchbcos.rendering.rgba import rgba as rgba
from torchbcos.rendering.slices import slice_indices as slice_indices
from torchbcos.rendering.slices import telling_slices as telling_slices
from torchbcos.rendering.text import format_number as format_number
from torchbcos.rendering.text import format_share as format_share
from torchbcos.rendering.whole import Whole as Whole

__all__ = [
    "FORMATS",
    "Caption",
    "Shown",
    "Whole",
    "cortex_picture",
    "cortex_view",
    "format_number",
    "format_share",
    "gallery",
    "heat_limit",
    "heatmap",
    "missing_words",
    "numbers",
    "over",
    "overlay",
    "panel",
    "photo",
    "rgba",
    "save_image",
    "save_png",
    "sheet",
    "slice_indices",
    "telling_slices",
    "to_uint8",
    "undrawable",
]
