"""An explanation of a surface network, drawn on the template cortex."""

from __future__ import annotations

import functools
from pathlib import Path

from torch import nn

from torchbcos._core.errors import MissingPackageError
from torchbcos.explanation import Explanation
from torchbcos.models.surface import SurfaceViT
from torchbcos.pictures import Cortex, fsaverage5
from torchbcos.rendering import cortex_picture, format_number, save_image

__all__ = ["draw_cortex"]


def draw_cortex(model: nn.Module, e: Explanation, file: Path, k: int = 0, *, hemisphere: str = "left") -> Path | None:
    """Write a picture of the contributions of each vertex, beside the first feature less its mean over the cortex.

    Args:
        model: the network that was explained.
        e: of one subject.
        file: where the picture goes.
        k: which target.
        hemisphere: of the template that is drawn on.

    Returns:
        The file; None where the network is no surface network on fsaverage5, or the template's packages are not installed.
    """
    if not isinstance(model, SurfaceViT) or (cortex := _template(hemisphere)) is None or model.vertices != len(cortex.labels):
        return None
    contributions, there = e.contributions[0, k], cortex.mask
    feature = e.inputs[0, 0] - e.inputs[0, 0][there].mean()
    label = e.class_names[int(e.targets[0, k])] if e.class_names else f"class {int(e.targets[0, k])}"
    rows = [
        (
            f"{label}: logit {format_number(float(e.values[0, k]))}, vertices {format_number(float(contributions.sum()))}, "
            f"residual {float(e.residual[0, k]):.0e}",
            contributions,
        ),
        ("The first feature, less its mean", feature * there),
    ]
    drawn = cortex_picture(
        cortex.surfaces, cortex.faces, rows, hemisphere=hemisphere, sulc=cortex.features["sulc"], mask=there
    )  # fmt: skip
    save_image(drawn, file)
    return file


@functools.cache
def _template(hemisphere: str) -> Cortex | None:
    try:
        return fsaverage5(hemisphere)
    except MissingPackageError:
        return None
