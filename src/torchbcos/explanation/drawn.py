"""Pictures of explanations: which input stands beside the map, what a caption says, how files are called.

Shapes: N images, K targets, C channels, *S space.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.names import disk_key, file_parts, panel_name, quote
from torchbcos.pictures import Seen, as_image
from torchbcos.rendering import FORMATS, Caption, Whole, numbers, panel, rgba, save_image, sheet, undrawable

if TYPE_CHECKING:
    from torchbcos.explanation.result import Explanation

__all__ = [
    "caption_of", "notebook", "original_of", "panel_of", "photos_of", "save", "save_all", "summary"
]  # fmt: skip

_MOST_PANELS = 6  # in a notebook
_PAIRED = 0.01  # how far x and 1 - x may be from 1 in half precision
_KINDS = {1: ("signal", "samples"), 2: ("picture", "pixels"), 3: ("volume", "voxels")}
_SHARP = 200  # dots an inch: from here on letters are drawn larger


def panel_of(e: Explanation, i: int, k: int, **options: Any) -> Image.Image:
    """The panel of one image and one target; options as `torchbcos.rendering.panel` takes them."""
    contributions = e.contributions[i, k].detach()
    image, axes = _input_of(e, i), contributions.ndim
    encoded = axes == 2 and (e.inputs.shape[1] == 6 or (e.inputs.shape[1] == 2 and _paired(e.inputs[i])))
    return panel(
        caption_of(e, i, k), contributions, image=image, picture=rgba(e.weights[i, k].detach(), e.inputs[i].detach()) if encoded
        else None, by_channel=_by_channel(e, i, k, image) if axes == 1 else None, facts=e.seen[i].scan if e.seen else None,
        whole=e.originals[i] if e.originals else None, **options,
    )  # fmt: skip


def _input_of(e: Explanation, i: int) -> Tensor | None:
    """(C, *S), what a panel shows of the input; None where its numbers are no shades."""
    x, axes = e.inputs[i].detach(), e.inputs.ndim - 2
    if e.photos is not None:
        return e.photos[i]
    if (axes == 2 and len(x) == 6) or _paired(x):  # the network saw x, 1 - x
        return x[: len(x) // 2].float().clamp(0, 1)
    coloured = axes == 2 and len(x) == 3  # the pixels of an ordinary network
    shades = (len(x) == 1 or coloured) and bool((x >= 0).all() & (x <= 1).all())
    return x.float() if axes == 1 or shades else None


def _paired(x: Tensor) -> bool:
    """Whether the second half of the channels is one minus the first."""
    if len(x) % 2 or x.is_meta:
        return False
    first, second = x.detach().float().chunk(2)
    return bool(((first + second - 1).abs() <= _PAIRED).all())


def _by_channel(e: Explanation, i: int, k: int, image: Tensor | None) -> Tensor | None:
    """(C, L): what each channel of the shown signal contributes, a channel and its inverse together."""
    parts = (e.weights[i, k] * e.inputs[i]).detach()
    count = 0 if image is None else len(image)
    if len(parts) == 2 * count:
        return parts[:count] + parts[count:]
    return parts if len(parts) == count else None


def caption_of(e: Explanation, i: int, k: int) -> Caption:
    """The words and numbers of one image and one target."""
    chances = e.probabilities()[i]
    best = e.outputs[i].detach().topk(min(3, len(chances))).indices.tolist()  # above 17 all probabilities round to 1
    target, other = int(e.targets[i, k]), None if e.contrast is None else int(e.contrast[i, k])
    asked = [c for c in (target, other) if c is not None and e.at is None and 0 <= c < len(chances)]
    listed = list(dict.fromkeys([*best, *asked]))  # the classes of the question, however improbable they are
    classes = dataclasses.replace(e, at=None)
    bad = undrawable([classes.label(c) for c in listed])

    complete = bool(e.complete[i, k])

    def name(c: int) -> str:
        return f"class {c} (name not drawable)" if classes.label(c) in bad else classes.label(c)

    def of_question(c: int) -> str:
        return name(c) if c in asked else e.label(c)

    return Caption(
        title=e.titles[i] if e.titles else "", predictions=tuple((name(c), float(chances[c])) for c in listed),
        explained=of_question(target), contrast=None if other is None else of_question(other),
        value=float(e.values[i, k]), contribution=float(e.total[i, k]),
        constants=sum(float(c[i, k]) for c in e.constants.values()),
        share=float(e.share[i, k]) if complete else math.nan, residual=float(e.residual[i, k]),
        note=e.seen[i].note if e.seen else "", parts=_KINDS.get(e.inputs.ndim - 2, _KINDS[2])[1],
        complete=complete, aside=float(e.aside[i, k]), size=float(e.contributions[i, k].detach().abs().sum()),
    )  # fmt: skip


def photos_of(e: Explanation, photos: Tensor | Sequence[Any]) -> Tensor:
    """N photos as (N, C, *S) float32 in [0, 1], which fit the explained inputs."""
    shown = photos if isinstance(photos, Tensor) else _stacked(photos, e.inputs.ndim - 2)
    space = e.inputs.shape[2:]
    if shown.ndim != e.inputs.ndim or shown.shape[2:] != space or not shown.shape[1] or not shown.is_floating_point():
        size, axes = " x ".join(map(str, space)), {1: "L", 2: "H, W", 3: "D, H, W"}.get(len(space), "*S")
        raise InputError(
            f"photos must be floats (N, C, {axes}) of the explained size, {size}, as the network saw them, resized and "
            f"cropped; got {tuple(shown.shape)} of {shown.dtype}."
        )
    return shown.detach().to(device=e.inputs.device, dtype=torch.float32).clamp(0, 1)


def _stacked(photos: Sequence[Any], axes: int) -> Tensor:
    """PIL images, arrays with their channels last or tensors with their channels first as one (N, C, *S) in [0, 1]."""
    shown = [numbers(_with_channels(np.asarray(p.convert("RGB")) if isinstance(p, Image.Image) else p, axes)) for p in photos]
    sizes = sorted({tuple(p.shape[1:]) for p in shown})
    if len(sizes) > 1:
        raise InputError(f"photos must have one size, that of the explained inputs; these differ: {sizes[0]} and {sizes[1]}.")
    counts = sorted({len(p) for p in shown})
    if len(counts) > 1:
        raise InputError(f"photos must have equally many channels; these differ: {counts[0]} and {counts[1]}.")
    return torch.stack(shown)


def _with_channels(photo: Any, axes: int) -> Any:
    """An array or tensor of one channel may leave its axis out."""
    if isinstance(photo, Tensor) and photo.ndim == axes:
        return photo[None]
    return photo[..., None] if isinstance(photo, np.ndarray) and photo.ndim == axes else photo


def original_of(item: Any, seen: Seen | None) -> Whole:
    """A whole picture with the box of what was seen."""
    picture = as_image(item)
    if isinstance(picture, Tensor):
        picture = Image.fromarray((picture.movedim(0, -1).cpu().numpy() * 255).round().astype(np.uint8))
    return Whole.kept(picture, None if seen is None else seen.box)


# -- files and notebooks --------------------------------------------------------------------------


def save(e: Explanation, i: int, k: int, path: Path, dpi: float | None, scale: float | None, **view: Any) -> Path:
    """Write one panel; `view` as it takes it."""
    return save_image(e.panel(i, k, scale=_scale(path.suffix, dpi, scale), **view), path, dpi=dpi)


def _scale(suffix: str, dpi: float | None, scale: float | None) -> float:
    sharp = suffix.lower() == ".pdf" if dpi is None else isinstance(dpi, (int, float)) and dpi >= _SHARP
    return scale if scale is not None else 2 if sharp else 1


def save_all(e: Explanation, folder: Path, suffix: str, dpi: float | None, scale: float | None) -> list[Path]:
    """Write all panels, each under a name of its own."""
    if suffix.lower() not in FORMATS:
        raise InputError(f"suffix must be one of {', '.join(FORMATS)}, got {suffix!r}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"Could not make the folder {quote(folder)}: {error.strerror or type(error).__name__}.") from error
    names = _names(e, suffix)
    places = [(i, k) for i in range(len(e)) for k in range(e.targets.shape[1])]
    return [save(e, i, k, folder / name, dpi, scale) for (i, k), name in zip(places, names, strict=True)]


def _names(e: Explanation, suffix: str) -> list[str]:
    """A file name for each image and target, no two alike."""
    wide = len(str(max(len(e) - 1, 0)))
    pictures = file_parts(e.titles or [f"{_KINDS.get(e.inputs.ndim - 2, ('input',))[0]}-{i:0{wide}}" for i in range(len(e))])
    asked = {*e.targets.flatten().tolist(), *([] if e.contrast is None else e.contrast.flatten().tolist())}
    numbers = sorted(asked if e.at is not None or e.class_names is None else asked | set(range(len(e.class_names))))
    parts = dict(zip(numbers, file_parts([e.label(c) for c in numbers]), strict=True))
    found, taken = [], set[str]()
    for i, picture in enumerate(pictures):
        for k in range(e.targets.shape[1]):
            part = parts[int(e.targets[i, k])]
            other = None if e.contrast is None else parts[int(e.contrast[i, k])]
            name = panel_name(picture, part, other, suffix)
            while disk_key(name) in taken:  # one class is asked for twice, or dots stand in titles and in names of classes
                part += f"-{i}-{k}"
                name = panel_name(picture, part, other, suffix)
            taken.add(disk_key(name))
            found.append(name)
    return found


def notebook(e: Explanation) -> bytes | None:
    """The panel, or the first of several below each other under a line that says how many there are."""
    targets = e.targets.shape[1]
    places = [(i, k) for i in range(len(e)) for k in range(targets)]
    if not places:
        return None
    if len(places) == 1:
        return e.panel()._repr_png_()
    shown = places[:_MOST_PANELS]
    things = _things(e)
    count = f"{things} x {targets} classes" if targets > 1 else things
    first = f"All {len(places)}" if len(shown) == len(places) else f"The first {len(shown)} of {len(places)}"
    return sheet([e.panel(i, k) for i, k in shown], f"{first} explanations ({count}): panel(i, k) shows one")._repr_png_()


def summary(e: Explanation) -> str:
    """One line: how many of what, and how far the numbers add up."""
    shape, targets = " x ".join(map(str, e.inputs.shape[1:])), e.targets.shape[1]
    of = f"{targets} target{'' if targets == 1 else 's'}" + (" each" if len(e) > 1 else "")
    at = "" if e.at is None else f", of the output of {e.at!r}"
    largest = ""
    if e.values.numel() and not e.weights.is_meta:
        with torch.no_grad():
            worst = float(e.residual.detach().abs().max())
        largest = f", largest residual {worst:.0e}" if math.isfinite(worst) and worst else f", largest residual {worst:g}"
    return f"Explanation of {_things(e)} ({shape}), {of}{at}{largest}"


def _things(e: Explanation) -> str:
    """ "2 pictures"."""
    thing = _KINDS.get(e.inputs.ndim - 2, ("input",))[0]
    return f"{len(e)} {thing}" + ("" if len(e) == 1 else "s")
