"""An explanation of a two-stage network, drawn in its steps: what was selected and why, what was said and why, and what if."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from torchbcos.attribution.selected import moved_selection
from torchbcos.explanation import Explanation, explain
from torchbcos.models.two_stage import PartEvidence, TwoStage
from torchbcos.rendering import Shown, gallery, save_image, sheet
from torchbcos.rendering.draw import draw
from torchbcos.rendering.figures import Curve, curves

__all__ = ["draw_selection"]

_DIM = 0.25  # of a picture's light is left where nothing was seen


def draw_selection(model: nn.Module, e: Explanation, file: Path, k: int = 0, **view: object) -> Path | None:
    """Write a picture of both steps: the panel of `Explanation.save`, then the selection, its evidence, and other selections.

    Args:
        model: the network that was explained.
        e: of one picture.
        file: where the picture goes.
        k: which target.
        **view: arguments of `Explanation.save`.

    Returns:
        The file; None where the network has no two stages.
    """
    if not isinstance(model, TwoStage):
        return None
    e.save(file, 0, k, **view)  # type: ignore[arg-type]
    x, target = e.inputs[:1], int(e.targets[0, k])
    moved = moved_selection(model, x, target)
    with Image.open(file) as panel:
        pages = [panel.convert("RGB"), _why(model, x, moved.selection), _what_if(moved.by_size, int(moved.selection.sum()))]
    save_image(sheet(pages), file)
    return file


def _why(model: TwoStage, x: Tensor, selection: Tensor) -> Image.Image:
    """What was seen, and how each part came to be selected, of the parts that are there."""
    side = x.shape[2] // selection.shape[0]
    pixels = selection.repeat_interleave(side, 0).repeat_interleave(side, 1)
    there = model.assignment(x).argmax(-1)[0]
    parts = [k for k in range(model.sizes.parts) if bool((there == k).any())]
    light = x[0, :3] * torch.where(pixels, 1.0, _DIM)
    share = f"{int(selection.sum())} of {selection.numel()} patches"
    if not parts:
        return gallery([Shown("Nothing was selected", torch.zeros_like(light[0]))], image=light, heading=f"Seen: {share}")
    e = explain(PartEvidence(model), x, [parts])
    maps = [
        Shown(f"Why part {k} was seen", e.contributions[0, i], f"nearer than background by {float(e.values[0, i]):.2f}")
        for i, k in enumerate(parts)
    ]
    return gallery(maps, image=light, heading=f"Seen: {share}, and nothing else")


def _what_if(by_size: Tensor, own: int) -> Image.Image:
    """The logit by the number of patches that are seen."""
    x, y = list(range(len(by_size))), by_size.tolist()
    drawn = curves(
        [Curve("other selections", x, y), Curve("what it saw", [own, own], [float(np.min(y)), float(np.max(y))])],
        x_label="patches seen, the surest first", y_label="logit", label="The logit, had other patches been selected",
    )  # fmt: skip
    return draw(drawn, scale=1.5)
